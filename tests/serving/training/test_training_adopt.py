"""A symbol that training never saw: what a bundle learns of it afterwards, from which bars, and what stays."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_data import candles, two_series, write_folder

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import Bundle, load_bundle
from serving.features import slots
from serving.training import TrainingConfig, pool_of, prepare, train_bundle
from serving.training.adopt import adopted, main
from serving.training.dataset import Pool

CONFIG = TrainingConfig(batch=128, epochs=1, rows_per_epoch=256, bootstrap=10)
COIN = candles("ETH-USD", 3300, 5)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles")
    prepared = prepare(pool_of(Timeframe.H1, two_series()), CONFIG)
    train_bundle(prepared, "lstm", CONFIG, out, keep_weights=False)
    train_bundle(prepared, "patchtst", CONFIG, out, keep_weights=False)
    return out


@pytest.fixture(scope="module")
def lstm(bundles: Path) -> Bundle:
    return load_bundle(bundles / "lstm-1h")


def pool(*frames: CandleFrame) -> Pool:
    return pool_of(Timeframe.H1, [(frame, frame.symbol.endswith("=X")) for frame in frames])


def altered(frame: CandleFrame, since: int) -> CandleFrame:
    """The same candles, and others from the instant ``since`` on."""
    late = frame.time >= since
    columns = {
        name: np.where(late, 3 * getattr(frame, name), getattr(frame, name)) for name in ("open", "low", "close")
    }
    return replace(frame, **columns, high=np.where(late, 4 * frame.high, frame.high))


def test_a_symbol_gets_a_week_and_adjustments_of_its_own(lstm: Bundle) -> None:
    card = adopted(lstm, pool(COIN))
    assert set(card.season) == {*lstm.card.season, "ETH-USD"}
    assert set(card.adjustments) == {*lstm.card.adjustments, "ETH-USD"}
    assert card.adjustments["ETH-USD"] != card.adjustments["crypto"]
    assert [one.symbol for one in card.adopted] == ["ETH-USD"]
    week = np.asarray(card.season["ETH-USD"])
    busiest = week[(slots(COIN.time, Timeframe.H1))[np.argsort(COIN.high - COIN.low)[-300:]]]
    assert busiest.mean() > week.mean()


def test_everything_else_of_the_card_stays(lstm: Bundle) -> None:
    card = adopted(lstm, pool(COIN))
    before, after = (one.model_dump(exclude={"season", "adjustments", "adopted"}) for one in (lstm.card, card))
    assert after == before
    for table in ("season", "adjustments"):
        assert {name: getattr(card, table)[name] for name in getattr(lstm.card, table)} == getattr(lstm.card, table)
    assert "ETH-USD" not in card.universe
    assert "ETH-USD" not in card.directions


def test_no_bar_of_the_judged_slice_is_read(lstm: Bundle) -> None:
    """The last calibration rows look four bars ahead, which the purge keeps out of the judged slice."""
    before = adopted(lstm, pool(COIN))
    after = adopted(lstm, pool(altered(COIN, lstm.card.windows.test[0])))
    assert before.season["ETH-USD"] == after.season["ETH-USD"]
    assert before.adjustments["ETH-USD"] == after.adjustments["ETH-USD"]


def test_the_week_is_learned_before_the_calibration_slice(lstm: Bundle) -> None:
    after = adopted(lstm, pool(altered(COIN, lstm.card.windows.calibration[0])))
    assert after.season["ETH-USD"] == adopted(lstm, pool(COIN)).season["ETH-USD"]
    assert after.adjustments["ETH-USD"] != adopted(lstm, pool(COIN)).adjustments["ETH-USD"]


def test_a_known_symbol_is_left_as_it_is_and_alone_is_an_error(lstm: Bundle) -> None:
    known = candles("BTC-USD", 3300, 2)
    assert adopted(lstm, pool(COIN, known)).season["BTC-USD"] == lstm.card.season["BTC-USD"]
    with pytest.raises(ValueError, match="lstm-1h knows BTC-USD already"):
        adopted(lstm, pool(known))


def test_too_young_a_symbol_is_an_error_that_names_the_slice(lstm: Bundle) -> None:
    young = candles("ETH-USD", 3300, 5, start=lstm.card.windows.calibration[0])
    with pytest.raises(ValueError, match="ETH-USD: no 1h bars before the calibration slice of lstm-1h"):
        adopted(lstm, pool(young))
    dead = COIN.rows(slice(0, int(np.searchsorted(COIN.time, lstm.card.windows.calibration[0]))))
    with pytest.raises(ValueError, match="ETH-USD: no 1h bars in the calibration slice of lstm-1h"):
        adopted(lstm, pool(dead))


def test_the_command_writes_bundles_that_serve(
    bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_folder(tmp_path / "data", COIN)
    options = ["--bundles", str(bundles), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*options, "--symbols", "ETH-USD"]) == 0
    for name in ("lstm-1h", "patchtst-1h"):
        bundle = load_bundle(tmp_path / "out" / name)
        assert "ETH-USD" in bundle.card.season
        assert bundle.card.version != load_bundle(bundles / name).card.version
        report = json.loads((bundle.folder / "report.json").read_text())
        assert [(one["symbol"], one["judged"]) for one in report["adopted"]] == [("ETH-USD", False)]
    told = capsys.readouterr().out.splitlines()
    assert told == [f"wrote {tmp_path / 'out' / name}" for name in ("lstm-1h", "patchtst-1h")]
    again = ["--bundles", str(tmp_path / "out"), *options[2:]]
    assert main([*again, "--symbols", "ETH-USD"]) == 2
    told = capsys.readouterr()
    assert told.out.splitlines() == ["lstm-1h knows ETH-USD already", "patchtst-1h knows ETH-USD already"]
    assert "nothing adopted: no bundle" in told.err


def test_a_bundle_that_knows_the_symbol_is_passed_over_and_the_next_adopts_it(
    bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a coin of the 1h bundles alone: the 30m ones come after them."""
    data, mixed = write_folder(tmp_path / "data", COIN), tmp_path / "mixed"
    options = ["--data", str(data), "--symbols", "ETH-USD"]
    assert main([*options, "--bundles", str(bundles), "--out", str(mixed)]) == 0
    shutil.rmtree(mixed / "patchtst-1h")
    shutil.copytree(bundles / "patchtst-1h", mixed / "patchtst-1h")
    capsys.readouterr()
    assert main([*options, "--bundles", str(mixed), "--out", str(tmp_path / "out")]) == 0
    written = tmp_path / "out" / "patchtst-1h"
    assert capsys.readouterr().out.splitlines() == ["lstm-1h knows ETH-USD already", f"wrote {written}"]
    assert "ETH-USD" in load_bundle(written).card.season


def test_what_was_written_before_a_failure_is_said(
    bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_folder(tmp_path / "data", COIN)
    both = shutil.copytree(bundles, tmp_path / "both")
    (both / "patchtst-1h" / "model.onnx").write_bytes(b"no graph")
    assert (
        main(["--bundles", str(both), "--data", str(data), "--symbols", "ETH-USD", "--out", str(tmp_path / "out")]) == 2
    )
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"wrote {tmp_path / 'out' / 'lstm-1h'}"]
    assert told.err.startswith("stopped after 1: ")


def test_a_symbol_without_bars_is_said(bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_folder(tmp_path / "data", COIN)
    options = ["--bundles", str(bundles), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*options, "--symbols", "XRP-USD"]) == 2
    told = capsys.readouterr()
    assert f"lstm-1h: {data} has too few bars of XRP-USD" in told.out
    assert "nothing adopted: no bundle" in told.err
    assert not (tmp_path / "out").exists()
