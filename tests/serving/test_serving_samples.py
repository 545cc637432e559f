"""How often dropout is sampled is the bundle's choice or the asker's, and no matter of who rides along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from tiny_bundles import build_bundle, candles, card_content, item, lstm_graph, report_content

from fusiontrade.inference import wire
from fusiontrade.inference.contract import MOST_SAMPLES, ForecastItem, ForecastRequest, Uncertainty
from serving import swapping
from serving.bundle import CARD, GRAPH, REPORT, Bundle, write_card, write_manifest
from serving.card import ModelCard
from serving.engine import Engine, load_engine
from serving.swapping import Reader

COLUMNS, USUAL = 4, 3


def sampled_graph() -> bytes:
    """An LSTM's graph whose samples are its signal times the mean of each mask."""
    model = onnx.load_from_string(lstm_graph())
    graph = model.graph
    last = [numpy_helper.from_array(np.array([2], np.int64), "mask_axis")]
    last.append(numpy_helper.from_array(np.ones((1, 1, 18), np.float32), "heads"))
    graph.initializer.extend(last)
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["masks", "mask_axis"], ["kept"], keepdims=1),
            helper.make_node("Unsqueeze", ["column", "mask_axis"], ["own"]),
            helper.make_node("Mul", ["kept", "own"], ["one"]),
            helper.make_node("Mul", ["one", "heads"], ["samples"]),
        ]
    )
    graph.input.append(helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["batch", "drawn", COLUMNS]))
    graph.output.append(helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", "drawn", 18]))
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sampled")
    place = folder / "transformer-1h"
    place.mkdir()
    content = card_content("lstm", "1h") | {"kind": "transformer", "model_id": "transformer-1h"}
    content["dropout"] = {"columns": COLUMNS, "rate": 0.5, "samples": USUAL, "seed": 7}
    (place / GRAPH).write_bytes(sampled_graph())
    (place / REPORT).write_text(json.dumps(report_content(content)))
    write_card(place, ModelCard.model_validate_json(json.dumps(content)))
    write_manifest(place)
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return load_engine(folder)


def asked(seed: int, samples: int | None = None) -> dict[str, Any]:
    return item(candles(seed=seed)) | {"models": ["transformer"], "samples": samples}


def told(engine: Engine, *items: dict[str, Any]) -> list[Uncertainty]:
    request = ForecastRequest.model_validate_json(json.dumps({"items": items}))
    found = [one.beside["transformer"].uncertainty for one in engine.answer(request).items]
    return [one for one in found if one is not None]


def test_each_item_is_sampled_as_often_as_it_asks_whoever_rides_along(engine: Engine) -> None:
    items = [asked(1), asked(2, 1), asked(3, 40), asked(4, 40), asked(5, USUAL)]
    together = told(engine, *items)
    assert [one.samples for one in together] == [USUAL, 1, 40, 40, USUAL]
    for one, own in zip(together, items, strict=True):
        (alone,) = told(engine, own)
        assert np.allclose(one.mean, alone.mean, atol=1e-6)
        assert np.allclose(one.std, alone.std, atol=1e-6)
    assert max(together[1].std) == 0


def test_another_engine_of_the_same_bundle_draws_the_same_masks(engine: Engine, folder: Path) -> None:
    assert told(load_engine(folder), asked(1, 40)) == told(engine, asked(1, 40))


def test_the_number_travels_in_both_forms_of_a_request_and_has_its_bounds() -> None:
    request = ForecastRequest.model_validate_json(json.dumps({"items": [asked(1, 9), asked(2)]}))
    for read in (wire.decode(wire.encode(request)), ForecastRequest.model_validate_json(request.model_dump_json())):
        assert [one.samples for one in read.items] == [9, None]
    for wrong in (0, MOST_SAMPLES + 1, 2.5, "many"):
        with pytest.raises(ValidationError, match="samples"):
            ForecastItem.model_validate(asked(1) | {"samples": wrong})


def test_a_bundle_that_samples_its_dropout_takes_over_at_a_reading(folder: Path, tmp_path: Path) -> None:
    bundles = shutil.copytree(folder, tmp_path / "bundles")
    reader = Reader(bundles, device="cpu", threads=1, slow_seconds=60)
    before = reader.first()
    place = bundles / "transformer-1h"
    card = ModelCard.model_validate_json((place / CARD).read_bytes())
    write_card(place, card.model_copy(update={"config": {"layers": [2]}}))
    write_manifest(place)
    after = reader.again(before)
    assert (reader.report.outcome, reader.report.failed) == ("changed", ())
    assert [bundle.card.config for bundle in after.bundles.values()] == [{"layers": [2]}]


def test_a_bundle_that_breaks_its_examination_keeps_no_other_from_being_read(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(bundle: Bundle, **_: object) -> None:
        if bundle.card.kind == "lstm":
            raise TypeError("nobody expected that")

    bundles = shutil.copytree(folder, tmp_path / "bundles")
    reader = Reader(bundles, device="cpu", threads=1, slow_seconds=60)
    before = reader.first()
    build_bundle(bundles, "lstm")
    build_bundle(bundles, "patchtst")
    monkeypatch.setattr(swapping, "self_test", breaks)
    after = reader.again(before)
    assert sorted(key[0] for key in after.bundles) == ["patchtst", "transformer"]
    assert [(one.folder, one.reason) for one in reader.report.failed] == [
        ("lstm-1h", "could not be examined: TypeError")
    ]
