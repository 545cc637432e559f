"""The stand-in: what it is trained on, that two trainings are one, and what its bundle says and weighs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.kronos.encoder import load_encoder
from serving.kronos.network import DecoderConfig, TokenizerConfig, read_decoder, read_tokenizer
from serving.kronos.training.__main__ import main
from serving.kronos.training.config import Recipe
from serving.kronos.training.fit import fit_tokenizer, rounded
from serving.kronos.training.run import train_encoder
from serving.kronos.training.windows import Drawn, Pool, Windows, pool_of
from serving.kronos.windows import windows_of

DAY = 86_400_000
FIRST = 1_500_000_000_000 // DAY * DAY
RECIPE = Recipe(
    tokenizer=TokenizerConfig(
        d_model=16, n_heads=2, ff_dim=16, n_enc_layers=2, n_dec_layers=2, s1_bits=3, s2_bits=3, group_size=3
    ),
    decoder=DecoderConfig(s1_bits=3, s2_bits=3, n_layers=1, d_model=32, n_heads=2, ff_dim=16),
    sequence=12,
    timeframes=(("1d", 1.0),),
    until="2018-06-01T00:00:00Z",
    validation=0.2,
    tokenizer_steps=4,
    decoder_steps=4,
    batch=4,
    judged=8,
)


def frame(symbol: str, bars: int, seed: int) -> CandleFrame:
    random = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.02, bars)))
    opened = close * (1 + random.normal(0, 0.005, bars))
    high, low = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.99
    time = FIRST + DAY * np.arange(bars)
    return CandleFrame(symbol, Timeframe.parse("1d"), time, opened, high, low, close, random.uniform(1, 9, bars))


FRAMES = {"1d": [frame("A", 500, 1), frame("B", 400, 2), frame("SHORT", 15, 3)]}


def silent(*_: object) -> None:
    """Nobody listens."""


def trained(out: Path, frames: dict[str, list[CandleFrame]] = FRAMES, recipe: Recipe = RECIPE) -> Path:
    return train_encoder(pool_of(frames, recipe), recipe, out, model_id="tiny", told=silent, checkpoint=out / "torch")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("bundles"))


def test_the_same_data_and_seed_give_the_same_manifest_and_another_seed_another(bundle: Path, tmp_path: Path) -> None:
    manifest = (bundle / "manifest.json").read_bytes()
    assert (trained(tmp_path / "again") / "manifest.json").read_bytes() == manifest
    other = trained(tmp_path / "other", recipe=replace(RECIPE, seed=1))
    assert (other / "manifest.json").read_bytes() != manifest


class Killed(Exception):
    """Stands for the end of the program."""


def dying(pool: Pool, *, fit: int, draw: int) -> Pool:
    """Return a pool whose training ends at a draw of its first or second fit."""
    fits = iter(range(2))

    class Dying(Windows):
        def batches(self, count: int, size: int, seed: int) -> Iterator[Drawn]:
            number = next(fits)
            for turn, drawn in enumerate(super().batches(count, size, seed)):
                if (number, turn) == (fit, draw):
                    raise Killed
                yield drawn

    train = pool.train
    return replace(pool, train=Dying(train.runs, train.ends, train.shares, train.sequence))


def test_an_interrupted_training_goes_on_to_the_same_manifest(bundle: Path, tmp_path: Path) -> None:
    pool = pool_of(FRAMES, RECIPE)
    kept = tmp_path / ".checkpoints"

    def begun(pool: Pool, recipe: Recipe = RECIPE) -> list[tuple[str, int]]:
        steps: list[tuple[str, int]] = []
        train_encoder(
            pool, recipe, tmp_path, model_id="tiny", every=2, told=lambda name, step, *_: steps.append((name, step))
        )
        return steps

    for fit, draw, files in ((0, 3, ["tiny-tokenizer"]), (1, 3, ["tiny-decoder", "tiny-tokenizer"])):
        with pytest.raises(Killed):
            begun(dying(pool, fit=fit, draw=draw))
        assert sorted(path.stem for path in kept.iterdir()) == files
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert begun(pool) == [("decoder", 4)]
    assert (tmp_path / "tiny" / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()
    assert not kept.exists()
    kept.mkdir()
    for name, content in before.items():
        (kept / name).write_bytes(content)
    assert begun(pool, replace(RECIPE, seed=1)) == [("tokenizer", 4), ("decoder", 4)]
    kept.mkdir()
    (kept / "tiny-tokenizer.safetensors").write_bytes(before["tiny-tokenizer.safetensors"][:-9])
    assert begun(pool) == [("tokenizer", 4), ("decoder", 4)]


def test_no_bar_from_the_end_on_is_seen(bundle: Path, tmp_path: Path) -> None:
    until = 1_527_811_200_000
    changed = {
        "1d": [replace(one, close=np.where(one.time >= until, one.close * 1.005, one.close)) for one in FRAMES["1d"]]
    }
    assert not np.array_equal(changed["1d"][0].close, FRAMES["1d"][0].close)
    again = trained(tmp_path, changed)
    assert (again / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()


def test_what_judges_shares_no_bar_with_what_is_learned_from() -> None:
    pool = pool_of(FRAMES, RECIPE)
    assert [series.symbol for series in pool.data.series] == ["A 1d", "B 1d"]
    for place, run in enumerate(pool.train.runs):
        learned = [row for series, row in pool.train.ends[0].tolist() if series == place]
        judging = [row for series, row in pool.judged.ends[0].tolist() if series == place]
        assert (min(learned), max(learned) + 1) == (11, run.judged_from)
        assert min(judging) - 11 == run.judged_from
        assert max(judging) + 1 == len(run.columns)
        known = FRAMES["1d"][place].time[: len(run.columns)]
        assert known[-1] < 1_527_811_200_000 <= FRAMES["1d"][place].time[len(run.columns)]


def test_drawn_windows_are_those_that_serving_makes() -> None:
    bars, stamps = pool_of(FRAMES, RECIPE).train.draw(6, np.random.default_rng(5))
    served = [windows_of(one, 12, np.arange(11, len(one))) for one in FRAMES["1d"][:2]]
    everything = np.concatenate([bars for bars, _ in served])
    for row in range(6):
        matches = np.flatnonzero((everything == bars[row].numpy()).all(axis=(1, 2)))
        assert matches.size == 1
        stamped = np.concatenate([stamps for _, stamps in served])[matches[0]]
        np.testing.assert_array_equal(stamps[row].numpy(), stamped)


def test_the_bundle_is_of_bytes_and_says_what_it_is(bundle: Path) -> None:
    card, report = (json.loads((bundle / name).read_text()) for name in ("model.json", "report.json"))
    assert (card["kind"], card["stand_in"], card["precision"], card["width"]) == ("kronos", True, "int8", 32)
    assert card["source"]["how"] == "trained"
    assert report["agreement"]["largest_difference"] <= 1e-4
    assert report["recipe"]["until"] == RECIPE.until
    figures = report["figures"]["pooled"]
    assert {name: metric["value"] for name, metric in card["metrics"].items()} == figures
    assert 0 < figures["s1_usual"] <= np.log(8) + 1e-6
    graph = onnx.load(bundle / "model.onnx")
    floats = sum(int(np.prod(one.dims)) for one in graph.graph.initializer if one.data_type == onnx.TensorProto.FLOAT)
    whole = sum(int(np.prod(one.dims)) for one in graph.graph.initializer if one.data_type == onnx.TensorProto.INT8)
    assert whole > 5 * floats


def test_the_bundle_gives_the_embeddings_of_its_torch_weights(bundle: Path) -> None:
    tokenizer, decoder = (
        read(bundle.parent / "torch" / name) for read, name in ((read_tokenizer, "tokenizer"), (read_decoder, "model"))
    )
    bars, stamps = windows_of(FRAMES["1d"][0], 12, [100, 200, 300])
    with torch.no_grad():
        wanted = decoder.context(*tokenizer.encode(torch.from_numpy(bars)), torch.from_numpy(stamps)).mean(dim=1)
    np.testing.assert_allclose(load_encoder(bundle).embed(bars, stamps), wanted, atol=1e-4)


def test_the_tokenizer_learns_to_reconstruct() -> None:
    recipe = replace(RECIPE, tokenizer_steps=40, batch=8, learning_rate=5e-3)
    pool = pool_of(FRAMES, recipe)
    bars, _ = pool.judged.draw(32, np.random.default_rng(1))
    errors = []
    for steps in (1, 40):
        tokenizer = fit_tokenizer(pool.train, replace(recipe, tokenizer_steps=steps), silent)
        with torch.no_grad():
            errors.append(float((tokenizer.decode(*tokenizer.encode(bars)) - bars).square().mean()))
    assert errors[1] < 0.7 * errors[0]


def test_rounding_leaves_whole_multiples_close_by() -> None:
    linear = torch.nn.Linear(7, 3)
    with torch.no_grad():
        linear.weight[1] = 0.0
    before, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
    rounded(linear)
    step = before.abs().amax(dim=1, keepdim=True) / 127
    assert ((linear.weight - before).abs() <= step / 2 + 1e-9).all()
    assert torch.equal(linear.bias, bias)
    multiples = linear.weight[[0, 2]] / step[[0, 2]]
    torch.testing.assert_close(multiples, multiples.round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"until": "2018-06-01"}, "no instant with a zone"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"validation": 1.0}, "validation must lie between 0 and 1"),
        ({"timeframes": (("1d", 0.0),)}, "positive share"),
        ({"decoder": DecoderConfig(s1_bits=4, s2_bits=3)}, "of the same bits"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(RECIPE, **change)


def test_too_few_bars_before_the_end_are_said() -> None:
    with pytest.raises(ValueError, match="no 1d series has two windows of 12 bars before 2017"):
        pool_of(FRAMES, replace(RECIPE, until="2017-07-20T00:00:00Z"))


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "instruments.toml").write_text("")
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "training stopped: no 1d series has two windows of 120 bars" in capsys.readouterr().err
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--batch", "0"]) == 2
    assert not (tmp_path / "out").exists()
