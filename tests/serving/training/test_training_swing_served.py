"""The daily bundle over HTTP: bars of many stocks in one body, a forecast or an error for each back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from invented_stocks import CONFIG, invented, stock, tiny_networks
from tiny_bundles import Program, build_bundle, serving

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import CandleColumns
from fusiontrade.inference.swing import DAILY_BARS_NEEDED, HORIZONS, SWING, SwingRequest, SwingResponse
from serving.companions import Companions
from serving.features.bars import WINDOW
from serving.models.swing import HORIZONS as LEARNED
from serving.swing import load_swing
from serving.swing.desk import answered, ranked
from serving.training.swing import train_swing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("served")
    build_bundle(out, "lstm", "1h")
    with tiny_networks():
        train_swing(invented(), CONFIG, out)
    return out


@pytest.fixture(scope="module")
def program(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with serving(folder, tmp_path_factory.mktemp("log") / "program.log") as running:
        yield running


def item(symbol: str, seed: int, bars: int = 620) -> dict[str, Any]:
    return {"symbol": symbol, "candles": CandleColumns.of(stock(symbol, seed, bars=bars).frame).model_dump()}


def asked(program: Program, body: Any) -> httpx.Response:
    headers = {"Content-Type": SWING}
    return httpx.post(f"{program.url}/invocations", content=json.dumps(body), headers=headers, timeout=30)


def test_every_stock_is_answered_and_what_is_wrong_stays_with_one(program: Program, folder: Path) -> None:
    broken = item("BROKEN", 3)
    broken["candles"]["high"][5] = -1.0
    answer = asked(program, {"items": [item("S0", 1), broken, item("YOUNG", 2, bars=100), item("S0", 1)]})
    assert answer.status_code == 200
    response = SwingResponse.model_validate_json(answer.content)
    bundle = load_swing(folder / "swing-1d")
    assert (response.model, response.encoder) == (bundle.card.reference, None)
    assert [one.symbol for one in response.items] == ["S0", "BROKEN", "YOUNG", "S0"]
    assert [one.error and one.error.code for one in response.items] == [None, "bad_candles", "too_few_bars", None]
    own = bundle.answer({"it": stock("S0", 1, bars=620).frame}).forecasts["it"]
    for one in (response.items[0], response.items[3]):
        assert one.returns == pytest.approx(own.returns, abs=1e-6)
        assert one.veto == pytest.approx(own.veto, abs=1e-5)
        assert (one.signal, one.abstains, one.bar_close) == (own.signal, own.abstains, own.bar_close)


def test_the_program_tells_which_daily_model_serves_and_where_it_abstains(program: Program, folder: Path) -> None:
    told = {one["kind"]: one for one in httpx.get(f"{program.url}/models").json()["models"]}
    card = load_swing(folder / "swing-1d").card
    assert told["swing"]["version"] == card.version
    assert told["swing"]["abstains"] == {"invented": card.universes["invented"].abstains}
    assert told["swing"]["encoder"] is None


def test_a_body_that_breaks_the_contract_is_refused_by_its_place(program: Program) -> None:
    for body, place in (({"items": []}, "/items"), ({"items": [{"symbol": "S0"}]}, "/items/0/candles")):
        answer = asked(program, body)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == place


def test_a_daily_bundle_is_exchanged_kept_when_spoiled_and_withdrawn(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "bundles"
    shutil.copytree(folder, place)
    first = Companions.read(place, device="cpu", threads=1)
    assert first.swing is not None
    (place / "swing-1d" / "veto.txt").write_text("other trees")
    spoiled = Companions.read(place, device="cpu", threads=1, before=first)
    assert spoiled.swing is first.swing
    assert [one.folder for one in spoiled.refused] == ["swing-1d"]
    shutil.rmtree(place / "swing-1d")
    assert Companions.read(place, device="cpu", threads=1, before=spoiled).swing is None


def test_the_contract_and_the_models_mean_the_same_horizons_and_bars() -> None:
    assert (HORIZONS, DAILY_BARS_NEEDED) == (LEARNED, WINDOW)


def test_stocks_are_ranked_among_all_of_the_request_whatever_their_order_or_parts(folder: Path) -> None:
    bundle = load_swing(folder / "swing-1d")
    assert bundle.card.ranker is not None
    items = [item(f"S{number}", number) for number in range(5)]
    items += [items[2], item("S1", 9), item("YOUNG", 2, bars=100)]
    request = SwingRequest.model_validate({"items": items})
    whole = answered(request, bundle, None).items
    assert [one.ranker is not None for one in whole] == [True, False, True, True, True, True, False, False]
    assert whole[5] == whole[2]
    assert [whole[place].abstains for place in (1, 6)] == [True, True]  # two histories of one symbol: neither is ranked
    scores = ranked(request, bundle)
    parts = [request.model_copy(update={"items": request.items[start : start + 3]}) for start in (0, 3, 6)]
    told = [
        one
        for part, start in zip(parts, (0, 3, 6), strict=True)
        for one in answered(part, bundle, None, scores[start : start + 3]).items
    ]
    for one, other in zip(whole, told, strict=True):
        assert other.ranker == one.ranker
        assert other.returns == (None if one.returns is None else pytest.approx(one.returns, abs=1e-6))
    turned = answered(request.model_copy(update={"items": request.items[::-1]}), bundle, None).items
    assert [one.ranker for one in turned[::-1]] == [one.ranker for one in whole]


def test_few_stocks_and_one_without_the_newest_bar_fall_back_and_abstain(program: Program) -> None:
    late = item("S4", 4, bars=619)
    response = asked(program, {"items": [item(f"S{number}", number) for number in range(3)] + [late]})
    *others, last = SwingResponse.model_validate_json(response.content).items
    assert all(one.ranker is not None for one in others)
    assert (last.ranker, last.abstains, last.signal, last.confidence) == (None, True, "HOLD", 0.0)
    assert last.returns is not None
    assert last.stockformer is not None
    assert last.tft is not None
    networks = [0.525 * one + 0.475 * other for one, other in zip(last.stockformer, last.tft, strict=True)]
    assert last.returns == pytest.approx(networks, abs=1e-9)
    two = asked(program, {"items": [item("S0", 0), item("S1", 1)]})
    assert [one.ranker for one in SwingResponse.model_validate_json(two.content).items] == [None, None]


def test_bars_that_leap_over_every_bound_cost_their_stock_alone(folder: Path) -> None:
    bundle = load_swing(folder / "swing-1d")
    wild, leap = item("WILD", 3), np.where(np.arange(620) % 50 == 0, 1e300, 1e-300).tolist()
    wild["candles"] |= dict.fromkeys(("open", "high", "low", "close"), leap)
    items = [item("S0", 0), wild, item("S1", 1)]
    first, broken, last = answered(SwingRequest.model_validate({"items": items}), bundle, None).items
    assert (first.error, last.error) == (None, None)
    assert broken.error is not None
    assert (broken.error.code, broken.signal) == ("bad_candles", None)
    assert "WILD: prices or volumes leap" in broken.error.detail


def test_ranks_of_other_columns_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.swing.bundle.CROSS_SECTION_VERSION", "2")
    with pytest.raises(BundleRefused, match="ranker of swing-1d asks for version 1 of 47 columns, this is version 2"):
        load_swing(folder / "swing-1d")
