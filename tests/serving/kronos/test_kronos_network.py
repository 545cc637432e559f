"""The torch module against the same arithmetic in numpy, causality, and the published layout of checkpoints."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import kronos_parts as parts
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fusiontrade.errors import InvalidInput
from serving.kronos.network import EmbeddingGraph, read_decoder, read_tokenizer, write_checkpoint


@pytest.fixture(scope="module")
def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    tokenizer, _ = parts.networks()
    with torch.no_grad():
        return tokenizer.encode(parts.bars(2, 9)[0])


def test_tokens_are_those_of_the_arithmetic_in_numpy() -> None:
    tokenizer, _ = parts.networks()
    values, _ = parts.bars(3, 11)
    with torch.no_grad():
        s1, s2 = tokenizer.encode(values)
        assert tokenizer.on_sphere(values).norm(dim=-1).allclose(torch.ones(3, 11))
    for row in range(3):
        wanted = parts.tokens(parts.weights_of(tokenizer), tokenizer.config, values[row].double().numpy())
        np.testing.assert_array_equal(s1[row].numpy(), wanted[0])
        np.testing.assert_array_equal(s2[row].numpy(), wanted[1])
    assert set(s1.flatten().tolist()) <= set(range(8))
    assert set(s2.flatten().tolist()) <= set(range(16))
    assert min(s1.unique().numel(), s2.unique().numel()) > 3


def test_a_component_of_exactly_zero_is_a_zero_bit() -> None:
    tokenizer, _ = parts.networks()
    with torch.no_grad():
        tokenizer.quant_embed.weight.zero_()
        tokenizer.quant_embed.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 2.0]))
        s1, s2 = tokenizer.encode(parts.bars(1, 2)[0])
    assert s1.tolist() == [[2, 2]]
    assert s2.tolist() == [[8, 8]]


def test_reconstructions_are_those_of_the_arithmetic_in_numpy(tokens: tuple[torch.Tensor, torch.Tensor]) -> None:
    tokenizer, _ = parts.networks()
    weights = parts.weights_of(tokenizer)
    with torch.no_grad():
        both, coarse = tokenizer.decode(*tokens), tokenizer.decode_coarse(tokens[0])
    for row in range(2):
        s1, s2 = (one[row].numpy() for one in tokens)
        np.testing.assert_allclose(both[row], parts.decoded(weights, tokenizer.config, s1, s2), atol=1e-5)
        np.testing.assert_allclose(coarse[row], parts.decoded(weights, tokenizer.config, s1, None), atol=1e-5)


@pytest.mark.parametrize("learned", [True, False])
def test_contexts_and_logits_are_those_of_the_arithmetic_in_numpy(
    tokens: tuple[torch.Tensor, torch.Tensor], *, learned: bool
) -> None:
    _, decoder = parts.networks(decoder=replace(parts.DECODER, learn_te=learned))
    weights, (_, stamps) = parts.weights_of(decoder), parts.bars(2, 9)
    with torch.no_grad():
        context = decoder.context(*tokens, stamps)
        coarse, fine = decoder.s1_logits(context), decoder.s2_logits(context, tokens[0])
        last = coarse[:, -1:].argmax(dim=-1)
        following = decoder.s2_logits(context, last)[:, -1]
    for row in range(2):
        s1, s2 = (one[row].numpy() for one in tokens)
        wanted = parts.context(weights, decoder.config, s1, s2, stamps[row].numpy())
        np.testing.assert_allclose(context[row], wanted, atol=2e-5)
        np.testing.assert_allclose(coarse[row], parts.linear(weights, "head.proj_s1", wanted), atol=2e-5)
        np.testing.assert_allclose(fine[row], parts.s2_logits(weights, wanted, s1), atol=2e-5)
        np.testing.assert_allclose(following[row], parts.s2_logits(weights, wanted, last[row].numpy())[-1], atol=2e-5)


def test_the_dependency_sees_no_later_bar_in_training_and_all_bars_in_evaluation(
    tokens: tuple[torch.Tensor, torch.Tensor],
) -> None:
    _, decoder = parts.networks()
    _, stamps = parts.bars(2, 9)
    changed = tokens[1].clone()
    changed[:, -1] ^= 1
    for training in (True, False):
        decoder.train(training)
        with torch.no_grad():
            before, after = (
                decoder.s2_logits(decoder.context(tokens[0], fine, stamps), tokens[0])[:, :-1]
                for fine in (tokens[1], changed)
            )
        assert torch.equal(before, after) == training


def test_a_context_knows_no_later_bar_of_the_window() -> None:
    tokenizer, decoder = parts.networks()
    values, stamps = parts.bars(2, 12)
    later, later_stamps = parts.bars(2, 12, seed=99)
    with torch.no_grad():
        whole = decoder.context(*tokenizer.encode(values), stamps)
        for known in (1, 5, 11):
            mixed = torch.cat((values[:, :known], later[:, known:]), dim=1)
            mixed_stamps = torch.cat((stamps[:, :known], later_stamps[:, known:]), dim=1)
            other = decoder.context(*tokenizer.encode(mixed), mixed_stamps)
            cut = decoder.context(*tokenizer.encode(values[:, :known]), stamps[:, :known])
            torch.testing.assert_close(other[:, :known], whole[:, :known], atol=1e-5, rtol=0)
            torch.testing.assert_close(cut, whole[:, :known], atol=1e-5, rtol=0)
            assert not torch.allclose(other[:, known:], whole[:, known:], atol=1e-3)


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path) -> None:
    for learned in (True, False):
        tokenizer, decoder = parts.networks(decoder=replace(parts.DECODER, learn_te=learned))
        write_checkpoint(tokenizer, tmp_path / "tokenizer")
        write_checkpoint(decoder, tmp_path / "model")
        for own, read in (
            (tokenizer, read_tokenizer(tmp_path / "tokenizer")),
            (decoder, read_decoder(tmp_path / "model")),
        ):
            assert read.config == own.config
            assert not read.training
            assert all(torch.equal(value, read.state_dict()[name]) for name, value in own.state_dict().items())
    assert "time_emb.month_embed.emb.weight" in load_file(tmp_path / "model" / "model.safetensors")


def test_weights_in_half_precision_become_float32(tmp_path: Path) -> None:
    _, decoder = parts.networks()
    write_checkpoint(decoder, tmp_path / "model")
    place = tmp_path / "model" / "model.safetensors"
    save_file({name: value.bfloat16() for name, value in load_file(place).items()}, place)
    for name, value in read_decoder(tmp_path / "model").state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, decoder.state_dict()[name].bfloat16().float())


def test_a_tokenizer_of_other_columns_than_bars_have_is_refused() -> None:
    tokenizer, decoder = parts.networks(tokenizer=replace(parts.TOKENIZER, d_in=5))
    with pytest.raises(InvalidInput, match="reads 5 columns, bars have 6"):
        EmbeddingGraph(tokenizer, decoder, 10)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(parts.networks()[1], tmp_path / "model")
    return tmp_path / "model"


def rewritten(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    held: dict[str, torch.Tensor | None] = {**load_file(folder / "model.safetensors"), **change}
    save_file({name: value for name, value in held.items() if value is not None}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"transformer.1.ffn.w2.weight": None}, r"lacks the tensor transformer\.1\.ffn\.w2\.weight \(24, 20\)"),
        ({"transformer.0.self_attn.rotary.inv_freq": None}, r"lacks the tensor transformer\.0\.self_attn\.rotary"),
        ({"transformer.2.norm1.weight": torch.ones(24)}, r"holds the tensor transformer\.2\.norm1\.weight \(24\)"),
        ({"norm.weight": torch.ones(25)}, r"norm\.weight is \(25\), this network needs \(24\)"),
        ({"head.proj_s2.bias": torch.ones(16, dtype=torch.int64)}, r"head\.proj_s2\.bias is torch\.int64"),
        ({"norm.weight": torch.full((24,), torch.nan)}, r"norm\.weight holds a number that is not finite"),
    ],
)
def test_a_tensor_that_is_missing_extra_or_of_another_shape_is_refused_by_name(
    checkpoint: Path, change: dict[str, torch.Tensor | None], told: str
) -> None:
    rewritten(checkpoint, change)
    with pytest.raises(InvalidInput, match=told) as refusal:
        read_decoder(checkpoint)
    assert refusal.value.field == "model/model.safetensors"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n_layers": None}, "lacks n_layers"),
        ({"n_layers": "2"}, "n_layers '2', which is no int"),
        ({"learn_te": 1}, "learn_te 1, which is no bool"),
        ({"n_heads": 5}, "d_model must be an even multiple of 5 heads"),
        ({"n_layers": 0}, "n_layers must lie between 1 and 128, got 0"),
        ({"n_layers": 10**9}, "n_layers must lie between 1 and 128, got 1000000000"),
        ({"ffn_dropout_p": -3}, "ffn_dropout_p must lie between 0 and 1, got -3"),
        ({"token_dropout_p": 1.5}, "token_dropout_p must lie between 0 and 1, got 1.5"),
        ({"attn_dropout_p": math.nan}, "attn_dropout_p nan, which is no finite float"),
        ({"attn_dropout_p": 10**400}, "attn_dropout_p must lie between 0 and 1"),
        ({"s1_bits": 40}, "s1_bits must lie between 1 and 20, got 40"),
        ({"s1_bits": 20, "d_model": 65520}, r"is \(24\), this network needs \(65520\)"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_with_the_reason(
    checkpoint: Path, change: dict[str, object], told: str
) -> None:
    said = json.loads((checkpoint / "config.json").read_text())
    changed = {name: value for name, value in {**said, **change}.items() if value is not None}
    (checkpoint / "config.json").write_text(json.dumps(changed))
    with pytest.raises(InvalidInput, match=told):
        read_decoder(checkpoint)


def test_a_tokenizers_configuration_holds_finite_numbers(tmp_path: Path) -> None:
    write_checkpoint(parts.networks()[0], tmp_path / "tokenizer")
    place = tmp_path / "tokenizer" / "config.json"
    said = json.loads(place.read_text())
    for change, told in (
        ({"zeta": math.inf}, "zeta inf, which is no finite"),
        ({"ffn_dropout_p": 2}, "between 0 and 1"),
    ):
        place.write_text(json.dumps({**said, **change}))
        with pytest.raises(InvalidInput, match=told):
            read_tokenizer(tmp_path / "tokenizer")


def test_files_that_are_missing_or_something_else_are_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"\x80\x04 a pickle, perhaps")
    with pytest.raises(InvalidInput, match="is no safetensors file"):
        read_decoder(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"there is no model/model\.safetensors: take a revision with"):
        read_decoder(checkpoint)
    (checkpoint / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InvalidInput, match=r"pytorch_model\.bin is a pickle, which is never opened"):
        read_decoder(checkpoint)
    (checkpoint / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InvalidInput, match="the weights come in several files"):
        read_decoder(checkpoint)
    (checkpoint / "config.json").write_text("[")
    with pytest.raises(InvalidInput, match="is no JSON"):
        read_decoder(checkpoint)
    (checkpoint / "config.json").unlink()
    with pytest.raises(InvalidInput, match=r"model/config\.json cannot be read"):
        read_decoder(checkpoint)
