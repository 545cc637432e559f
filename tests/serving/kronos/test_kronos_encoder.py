"""From a checkpoint to a bundle that serves: exported, proven, verified, and the same numbers as torch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import kronos_parts as parts
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from fusiontrade.errors import BundleRefused, InvalidInput
from serving.bringing.kronos import exported, import_kronos, proof_of, proof_windows
from serving.bundle import write_manifest
from serving.kronos.encoder import load_encoder
from serving.kronos.network import (
    DecoderConfig,
    EmbeddingGraph,
    KronosDecoder,
    KronosTokenizer,
    TokenizerConfig,
    write_checkpoint,
)
from serving.training.export import ExportFailure

LENGTH = 14


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer, decoder = parts.networks()
    write_checkpoint(tokenizer, folder / "tokenizer")
    write_checkpoint(decoder, folder / "model")
    return folder


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_kronos(
        checkpoint / "tokenizer",
        checkpoint / "model",
        tmp_path_factory.mktemp("bundles"),
        sequence=LENGTH,
        repository="owner/name",
        revision="0123abc",
    )


def embedded(bars: torch.Tensor, stamps: torch.Tensor) -> np.ndarray:
    tokenizer, decoder = parts.networks()
    with torch.no_grad():
        return np.asarray(decoder.context(*tokenizer.encode(bars), stamps).mean(dim=1))


def test_the_bundle_gives_the_embeddings_of_torch_whatever_rides_along(bundle: Path) -> None:
    encoder = load_encoder(bundle)
    bars, stamps = parts.bars(11, LENGTH, seed=8)
    wanted = embedded(bars, stamps)
    together = encoder.embed(bars.numpy(), stamps.numpy())
    np.testing.assert_allclose(together, wanted, atol=1e-4)
    fresh = load_encoder(bundle)
    alone = np.concatenate([fresh.embed(bars.numpy()[[row]], stamps.numpy()[[row]]) for row in range(11)])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    assert encoder.embed(bars.numpy()[:0], stamps.numpy()[:0]).shape == (0, 24)


def test_equal_windows_are_computed_once_while_they_are_remembered(bundle: Path) -> None:
    class Counting:
        def __init__(self, session: object) -> None:
            self.session, self.windows = session, 0

        def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> object:
            self.windows += len(inputs["bars"])
            return self.session.run(outputs, inputs)  # type: ignore[attr-defined]

    encoder = load_encoder(bundle)
    counting = Counting(encoder.session)
    object.__setattr__(encoder, "session", counting)
    bars, stamps = (one.numpy() for one in parts.bars(3, LENGTH))
    twice = encoder.embed(bars[[0, 1, 0, 2]], stamps[[0, 1, 0, 2]])
    assert counting.windows == 3
    np.testing.assert_array_equal(twice[0], twice[2])
    later = stamps.copy()
    later[1, -1, 0] = (later[1, -1, 0] + 1) % 60
    changed = encoder.embed(bars, later)
    assert counting.windows == 4
    np.testing.assert_array_equal(changed[[0, 2]], twice[[0, 3]])
    assert not np.array_equal(changed[1], twice[1])


def test_what_is_no_normalised_window_is_refused(bundle: Path) -> None:
    encoder = load_encoder(bundle)
    bars, stamps = (one.numpy() for one in parts.bars(2, LENGTH))
    spoiled = bars.copy()
    spoiled[1, 3, 2] = np.nan
    wrong = stamps.copy()
    wrong[0, 0, 1] = 24
    for given, told in (
        ((spoiled, stamps), "finite and within ±5"),
        ((bars * 9, stamps), "finite and within ±5"),
        ((bars, wrong), "minute, hour, weekday"),
        ((bars[:, 1:], stamps), r"\(n, 14, 6\)"),
        ((bars, stamps[:1]), r"\(n, 14, 5\)"),
    ):
        with pytest.raises(InvalidInput, match=told):
            encoder.embed(*given)


def test_card_and_report_say_what_was_read_and_how_far_the_graph_is_from_torch(bundle: Path) -> None:
    card, report = (json.loads((bundle / name).read_text()) for name in ("model.json", "report.json"))
    assert (card["kind"], card["sequence"], card["width"], card["stand_in"]) == ("kronos", LENGTH, 24, False)
    assert card["source"]["repository"] == "owner/name"
    assert set(card["source"]["files"]) == {
        "tokenizer/config.json", "tokenizer/model.safetensors", "decoder/config.json", "decoder/model.safetensors",
    }  # fmt: skip
    assert report["agreement"]["largest_difference"] <= 1e-4
    assert report["agreement"]["windows"] >= 6
    assert len(card["version"]) == 12


def test_the_same_checkpoint_gives_the_same_manifest(checkpoint: Path, bundle: Path, tmp_path: Path) -> None:
    again = import_kronos(
        checkpoint / "tokenizer", checkpoint / "model", tmp_path, sequence=LENGTH, repository="owner/name",
        revision="0123abc",
    )  # fmt: skip
    assert (again / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()


def test_a_bundle_that_was_changed_is_refused(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kronos"
    shutil.copytree(bundle, folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(BundleRefused, match=r"model\.onnx has sha256"):
        load_encoder(folder)
    write_manifest(folder)
    with pytest.raises(BundleRefused, match=r"its content is version"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sequence": 15}, "has to be tensor"),
        ({"precision": "int8"}, "the graph is f32, its card says int8"),
        ({"kind": "sentiment"}, "kind: Input should be 'kronos'"),
        ({"schema_version": 2}, "schema_version"),
    ],
)
def test_a_card_that_does_not_fit_its_graph_is_refused(
    bundle: Path, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    from serving.kronos.encoder import EncoderCard

    folder = tmp_path / "kronos"
    shutil.copytree(bundle, folder)
    card = json.loads((folder / "model.json").read_text()) | change
    try:
        files = {"model.onnx": (folder / "model.onnx").read_bytes()}
        card["version"] = EncoderCard.model_validate(card).stamped(files).version
    except ValueError:
        pass
    (folder / "model.json").write_text(json.dumps(card))
    write_manifest(folder)
    with pytest.raises(BundleRefused, match=told):
        load_encoder(folder)


def test_a_graph_that_gives_other_numbers_is_no_proof() -> None:
    network = EmbeddingGraph(*parts.networks(), LENGTH)
    graph = onnx.load_from_string(exported(network).graph)
    for one in graph.graph.initializer:
        if one.name.endswith("norm.weight"):
            one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) * np.float32(1.01), one.name))
    with pytest.raises(ExportFailure, match="differs from torch"):
        proof_of(network, graph.SerializeToString())


def test_a_code_at_the_edge_of_two_tokens_is_left_out_of_the_proof() -> None:
    tokenizer, decoder = parts.networks()
    with torch.no_grad():
        tokenizer.quant_embed.weight[0] = 0.0
        tokenizer.quant_embed.bias[0] = 1e-7
    with pytest.raises(ExportFailure, match="nothing can be compared"):
        exported(EmbeddingGraph(tokenizer, decoder, LENGTH))


def test_tokens_of_other_bits_are_refused() -> None:
    tokenizer, _ = parts.networks()
    other = KronosDecoder(DecoderConfig(s1_bits=4, s2_bits=4, n_layers=1, d_model=16, n_heads=2, ff_dim=8))
    with pytest.raises(InvalidInput, match=r"3 \+ 4 bits, the decoder takes 4 \+ 4"):
        EmbeddingGraph(tokenizer, other, LENGTH)


def test_proof_windows_are_normalised_and_seeded() -> None:
    bars, stamps = proof_windows(30)
    np.testing.assert_array_equal(bars, proof_windows(30)[0])
    assert np.abs(bars.mean(axis=1)).max() < 1e-2
    assert stamps[0, 0].tolist() == [0, 0, 0, 1, 1]


def test_the_published_small_size_exports_and_agrees() -> None:
    torch.manual_seed(0)
    tokenizer, decoder = KronosTokenizer(TokenizerConfig()), KronosDecoder(DecoderConfig())
    decoder.initialise()
    assert sum(value.numel() for value in tokenizer.parameters()) == 3_958_042
    assert sum(value.numel() for value in decoder.parameters()) == 24_741_376
    proven = exported(EmbeddingGraph(tokenizer, decoder, 12))
    assert proven.proof.largest_difference <= 1e-4
    assert proven.proof.windows >= 4
