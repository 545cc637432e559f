"""GRU, CNN and Transformer from candles to an answer: repeatable, served, sampled alike alone and together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import candles

from fusiontrade.inference import wire
from fusiontrade.inference.contract import CandleColumns, ForecastItem, ForecastRequest, ItemForecast, ModelKind
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import load_bundle
from serving.engine import Engine, load_engine
from serving.models import ARCHITECTURES
from serving.training import TrainingConfig, pool_of, prepare, train_bundle
from serving.training.beginning import begun_with
from serving.training.bundle import WEIGHTS
from serving.training.prepared import Prepared

CONFIG = TrainingConfig(batch=128, epochs=1, rows_per_epoch=256, rows_per_evaluation=128, bootstrap=5)
TINY: dict[ModelKind, dict[str, Any]] = {
    "gru": {"hidden": (8, 6, 4), "dense": (8, 6)},
    "cnn": {"channels": 6, "dense": (8, 6)},
    "transformer": {"width": 8, "attention_heads": 2, "feed_forward": 12, "dense": (8, 6), "samples": 5},
}


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(pool_of(Timeframe.H1, [(candles("BTC-USD", 1900, 2), False)]), CONFIG)


@pytest.fixture(scope="module")
def bundles(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kinds")
    for kind, sizes in TINY.items():
        train_bundle(prepared, kind, CONFIG, out, overrides=sizes)
    return out


@pytest.fixture(scope="module")
def engine(bundles: Path) -> Engine:
    return load_engine(bundles)


def manifest(folder: Path) -> dict[str, str]:
    return json.loads((folder / "manifest.json").read_text())["files"]


def item(symbol: str, seed: int, *models: ModelKind) -> ForecastItem:
    columns = CandleColumns.of(candles(symbol, 720, seed))
    asked = {"models": models} if models else {}
    return ForecastItem(symbol=symbol, timeframe=Timeframe.H1, candles=columns, market="crypto", **asked)


def answers(engine: Engine, *items: ForecastItem) -> list[ItemForecast]:
    return engine.answer(ForecastRequest(items=list(items))).items


@pytest.mark.parametrize("kind", TINY)
def test_training_again_gives_the_same_manifest(
    kind: ModelKind, prepared: Prepared, bundles: Path, tmp_path: Path
) -> None:
    again = train_bundle(prepared, kind, CONFIG, tmp_path, overrides=TINY[kind])
    assert manifest(again) == manifest(bundles / f"{kind}-1h")


@pytest.mark.parametrize("kind", TINY)
def test_the_graph_gives_what_torch_gives(kind: ModelKind, bundles: Path) -> None:
    bundle = load_bundle(bundles / f"{kind}-1h")
    made = ARCHITECTURES[kind]
    sizes: Any = bundle.card.config["model"]
    model = made(made.config_type(**sizes))
    model.load_state_dict(load_file(bundle.folder / WEIGHTS))
    model.eval()
    random = torch.Generator().manual_seed(3)
    inputs = [torch.randn(part.shape, generator=random) for part in model.example(3)]
    with torch.no_grad():
        expected = dict(zip(model.outputs, model(*inputs), strict=True))
    found = bundle.graph.run(dict(zip(model.inputs, (one.numpy() for one in inputs), strict=True)))
    assert found.keys() == expected.keys()
    assert all(np.abs(found[name] - values.numpy()).max() <= 1e-4 for name, values in expected.items())


def test_every_kind_that_is_asked_answers_beside_the_fused_ones(engine: Engine) -> None:
    (answer,) = answers(engine, item("BTC-USD", 5, "gru", "cnn", "transformer", "lstm"))
    assert list(answer.beside) == ["gru", "cnn", "transformer"]
    assert answer.lstm is None
    assert answer.warnings == ["no lstm model is loaded for 1h"]
    assert {kind: one.model.id for kind, one in answer.beside.items()} == {kind: f"{kind}-1h" for kind in TINY}
    assert all(0 < one.interval_90[0] < one.interval_90[1] for one in answer.beside.values())


def test_the_kinds_that_are_asked_travel_in_both_forms_of_a_request() -> None:
    request = ForecastRequest(items=[item("BTC-USD", 5, "gru", "transformer"), item("BTC-USD", 6)])
    for told in (wire.decode(wire.encode(request)), ForecastRequest.model_validate_json(request.model_dump_json())):
        assert [one.models for one in told.items] == [("gru", "transformer"), ("lstm", "patchtst")]


def test_who_asks_for_nothing_else_gets_the_fused_kinds_alone(engine: Engine) -> None:
    (answer,) = answers(engine, item("BTC-USD", 5))
    assert answer.beside == {}
    assert answer.error is not None
    assert answer.error.code == "no_model"


def test_sampled_dropout_is_told_and_is_the_same_alone_and_with_others(engine: Engine) -> None:
    asked = [item("BTC-USD", seed, "transformer") for seed in (5, 6, 7)]
    together = [one.beside["transformer"].uncertainty for one in answers(engine, *asked)]
    alone = [answers(engine, one)[0].beside["transformer"].uncertainty for one in asked]
    for one, other in zip(together, alone, strict=True):
        assert one is not None
        assert other is not None
        assert one.samples == 5
        assert np.allclose(one.mean, other.mean, atol=1e-5)
        assert np.allclose(one.std, other.std, atol=1e-5)
        mean = np.clip(np.asarray(one.mean), 1e-12, 1 - 1e-12)
        entropy = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean))
        assert np.allclose(one.entropy, entropy, atol=1e-4)
    assert max(max(one.std) for one in alone if one is not None) > 0


def test_kinds_without_sampled_dropout_tell_no_uncertainty(engine: Engine) -> None:
    (answer,) = answers(engine, item("BTC-USD", 5, "gru", "cnn"))
    assert [one.uncertainty for one in answer.beside.values()] == [None, None]


def test_masks_that_keep_everything_give_the_whole_network(bundles: Path) -> None:
    bundle = load_bundle(bundles / "transformer-1h")
    random = np.random.default_rng(4)
    shapes = {"features": (2, 60, 50), "calendar": (2, 60, 8), "volatility": (2, 28)}
    inputs = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    assert bundle.card.dropout is not None
    found = bundle.graph.run(inputs | {"masks": np.ones((2, 1, bundle.card.dropout.columns), np.float32)})
    whole = np.concatenate((found["direction"][:, None], found["touch"], found["win"]), axis=1)
    assert np.allclose(found["samples"][:, 0], whole, atol=1e-5)


def test_the_first_masks_do_not_depend_on_how_many_there_are(bundles: Path) -> None:
    dropout = load_bundle(bundles / "transformer-1h").card.dropout
    assert dropout is not None
    more = dropout.model_copy(update={"samples": 9})
    assert np.array_equal(more.masks[:5], dropout.masks)
    assert set(np.unique(more.masks)) == {np.float32(0), np.float32(1 / 0.9)}


def test_a_network_may_begin_with_the_weights_of_a_bundle(bundles: Path) -> None:
    bundle = load_bundle(bundles / "gru-1h")
    made = ARCHITECTURES["gru"]
    sizes: Any = bundle.card.config["model"]
    model = made(made.config_type(**sizes))
    assert begun_with(model, "gru", bundle.folder) == f"gru-1h@{bundle.card.version}"
    weights = load_file(bundle.folder / WEIGHTS)
    assert all(torch.equal(values, weights[name]) for name, values in model.state_dict().items())


@pytest.mark.parametrize(
    ("kind", "begin", "reason"),
    [
        ("cnn", "gru-1h", "gru-1h is a gru, a cnn cannot begin with it"),
        ("gru", "gru-1h", "has other sizes: dense_1.bias"),
    ],
)
def test_a_network_of_another_kind_or_size_is_no_beginning(
    kind: ModelKind, begin: str, reason: str, prepared: Prepared, bundles: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=reason):
        train_bundle(prepared, kind, CONFIG, tmp_path, begin_with=bundles / begin)
