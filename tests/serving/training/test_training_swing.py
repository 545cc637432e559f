"""The daily models from tables of daily bars to a bundle that serves; tiny sizes, invented stocks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from invented_stocks import BARS, CONFIG, STOCKS, invented, stock, tiny_networks

from fusiontrade.errors import BundleRefused, InvalidInput
from serving.bundle import kind_of
from serving.engine import folders_of
from serving.evaluation.study import swing as study
from serving.kronos.windows import windows_of
from serving.models import stockformer, tft
from serving.swing import SwingBundle, load_swing
from serving.training.__main__ import main as command
from serving.training.swing import DailySeries, SwingConfig, read_daily, train_swing
from serving.training.swing.config import PURGE_SESSIONS
from serving.training.swing.daily import returns_ahead
from serving.training.swing.embedding import embedded
from serving.training.swing.judging import judged
from serving.training.swing.paths import Paths
from serving.training.swing.ranker import ranking_of
from serving.training.swing.table import SwingSlices, SwingTable, scores_of, split, table_of
from serving.training.swing.worth import rank_skill


@pytest.fixture(scope="module")
def series() -> list[DailySeries]:
    return invented()


@pytest.fixture(scope="module", autouse=True)
def _tiny_networks() -> Iterator[None]:
    with tiny_networks():
        yield


@pytest.fixture(scope="module")
def table(series: list[DailySeries]) -> SwingTable:
    return table_of(series, CONFIG)


@pytest.fixture(scope="module")
def slices(table: SwingTable, series: list[DailySeries]) -> SwingSlices:
    return split(table, series, CONFIG)


@pytest.fixture(scope="module")
def folder(series: list[DailySeries], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_swing(series, CONFIG, tmp_path_factory.mktemp("swing"))


@pytest.fixture(scope="module")
def bundle(folder: Path) -> SwingBundle:
    return load_swing(folder)


def test_returns_begin_at_the_next_open_and_end_with_the_session(series: list[DailySeries]) -> None:
    one = series[0]
    found, frame = returns_ahead(one), one.frame
    for place, days in enumerate((3, 5, 10)):
        assert found[700, place] == pytest.approx(frame.close[700 + days] / frame.open[701] - 1)
        assert np.isnan(found[BARS - days :, place]).all()
        assert np.isfinite(found[: BARS - days, place]).all()


def test_dividends_count_and_a_flagged_day_is_no_return(series: list[DailySeries]) -> None:
    jumps = np.zeros(BARS, np.bool_)
    jumps[704] = True
    factor = np.where(np.arange(BARS) < 702, 0.9, 1.0)
    found = returns_ahead(replace(series[0], jumps=jumps, factor=factor))
    frame = series[0].frame
    assert found[700, 0] == pytest.approx(frame.close[703] / (0.9 * frame.open[701]) - 1)
    assert np.isnan(found[701:704, 0]).all()
    assert np.isfinite(found[704, 0])
    assert np.isnan(found[699:704, 1]).all()
    assert np.isfinite(found[[698, 704], 1]).all()


def test_scores_are_normal_ranks_of_the_day_alone() -> None:
    returns = np.array([[0.1], [-0.2], [0.0], [5.0], [4.0], [6.0]])
    found = scores_of(returns, np.array([0, 0, 0, 1, 1, 1]))
    assert found[:, 0] == pytest.approx([0.9674, -0.9674, 0, 0, -0.9674, 0.9674], abs=1e-4)


def test_a_row_knows_no_later_bar(series: list[DailySeries], table: SwingTable) -> None:
    cut = 780
    early = slice(0, cut)
    short = [
        replace(one, frame=one.frame.rows(early), factor=one.factor[early], jumps=one.jumps[early]) for one in series
    ]
    before = table_of(short, CONFIG)
    known = np.isin(table.day, before.day)
    assert len(before.day) == known.sum() > 0
    for name in ("prices", "context", "ranks", "ranked", "returns", "score"):
        assert np.array_equal(getattr(before, name), getattr(table, name)[known]), name


def test_slices_follow_each_other_with_a_purge_between(table: SwingTable, slices: SwingSlices) -> None:
    parts = [slices.train, slices.validation, slices.stack, slices.calibration, slices.test]
    for before, after in pairwise(parts):
        gap = table.session[after].min() - table.session[before].max()
        assert gap > PURGE_SESSIONS
    assert table.day[slices.test].min() >= slices.cuts[-1] > table.day[slices.calibration].max()


def test_the_same_series_give_the_same_manifest(series: list[DailySeries], folder: Path, tmp_path: Path) -> None:
    again = train_swing(series, CONFIG, tmp_path)
    assert (again / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    names = {"model.json", "model.onnx", "tft.onnx", "veto.onnx", "veto.txt", "report.json"}
    weights = {"stockformer.safetensors", "tft.safetensors"}
    assert set(json.loads((folder / "manifest.json").read_text())["files"]) == names | weights
    assert not (tmp_path / ".checkpoints").exists()


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ([("S1", "second")], "symbol S1 stands in the universes invented and second: take it out of one table"),
        ([("S1", "invented")], "symbol S1 stands twice in invented: name its table once"),
        ([("T0", "any")], "universe 'any' is that of stocks of none: give its table another name"),
    ],
)
def test_stocks_that_no_card_can_name_are_refused_before_anything_is_fitted(
    series: list[DailySeries], others: list[tuple[str, str]], told: str, tmp_path: Path
) -> None:
    lines: list[str] = []
    given = [*series, *(stock(symbol, 9, universe) for symbol, universe in others)]
    with pytest.raises(InvalidInput, match=told) as refused:
        train_swing(given, CONFIG, tmp_path, told=lines.append)
    assert refused.value.field == "universes"
    assert (lines, list(tmp_path.iterdir())) == ([], [])


def test_the_bundle_answers_each_symbol_and_one_failure_is_its_own(
    bundle: SwingBundle, series: list[DailySeries]
) -> None:
    frames = {one.symbol: one.frame for one in series}
    told = bundle.answer({**frames, "YOUNG": stock("YOUNG", 9, bars=300).frame})
    assert list(told.forecasts) == list(frames)
    assert list(told.failures) == ["YOUNG"]
    assert "300" in told.failures["YOUNG"]
    for symbol, one in told.forecasts.items():
        alone = bundle.answer({symbol: frames[symbol]}).forecasts[symbol]
        assert (alone.stockformer, alone.tft) == (pytest.approx(one.stockformer, abs=1e-6), pytest.approx(one.tft))
        assert one.bar_close == frames[symbol].close_time[-1]
        assert all(low < middle < high for low, middle, high in zip(one.p10, one.p50, one.p90, strict=True))
        assert sum(one.attention) == pytest.approx(1, abs=1e-5)
        mean = [(first + second) / 2 for first, second in zip(one.stockformer, one.tft, strict=True)]
        parts = zip(one.stockformer, one.tft, mean, strict=True)
        networks = [0.35 * first + 0.30 * second + 0.35 * both for first, second, both in parts]
        assert (alone.returns, alone.ranker) == (pytest.approx(networks, abs=1e-6), None)
        worth = bundle.card.ranked(symbol)
        assert worth is not None
        assert one.ranker is not None
        joined = zip(worth.networks, networks, worth.share, one.ranker, strict=True)
        wanted = [own * both + share * ranked for own, both, share, ranked in joined]
        assert one.returns == pytest.approx(wanted, abs=1e-12)
        assert (alone.abstains, alone.signal, alone.confidence) == (True, "HOLD", 0.0)
        assert (one.signal == "HOLD") == (one.confidence == 0.0)
        assert one.signal == "HOLD" or one.confidence >= bundle.card.threshold


def test_what_is_served_is_what_was_judged(bundle: SwingBundle, series: list[DailySeries], table: SwingTable) -> None:
    newest = np.flatnonzero(table.day == table.day.max())
    cut = {one.symbol: one.frame.finished_by(int(table.day.max())) for one in series}
    worth = bundle.card.ranker.universes
    ranking = ranking_of(table, newest, {name: one.weights for name, one in worth.items()}, worth)
    returns, veto = bundle.run(table.prices[newest], table.embedding[newest], table.context[newest], ranking)
    assert np.isfinite(ranking.returns).all()
    told = bundle.answer(cut).forecasts
    for row, place in enumerate(table.stock[newest]):
        one = told[table.stocks[place]]
        assert one.returns == pytest.approx(tuple(returns.ensemble[row]), abs=1e-6)
        assert one.ranker == pytest.approx(tuple(returns.ranker[row]), abs=1e-9)
        assert one.veto == pytest.approx(veto[row], abs=1e-4)


def test_noise_is_told_as_noise(folder: Path, bundle: SwingBundle) -> None:
    report = json.loads((folder / "report.json").read_text())
    of_universe = report["figures"]["by_universe"]["invented"]
    skill = of_universe["rank_ic"]["ensemble"]["3d"]
    assert skill["low"] < skill["mean"] < skill["high"]
    assert {"stockformer", "tft", "equal_weights", "baseline_context_trees"} <= set(of_universe["rank_ic"])
    assert bundle.card.metrics["rank_ic_invented_3d"].value == skill["mean"]
    t = report["before_judging"]["invented"][0]["t"]
    assert bundle.card.universes["invented"].abstains == (t < 1.645)


def test_stocks_that_were_not_ranked_have_no_rank(bundle: SwingBundle, table: SwingTable, slices: SwingSlices) -> None:
    rows = slices.test
    ranker = table.returns[rows].copy()
    ranker[table.stock[rows] == 0] = np.nan
    assert rank_skill(ranker, table, rows, 2)[0].mean == pytest.approx(1)
    assert rank_skill(ranker, table, rows, 2)[0].rows == np.isfinite(ranker[:, 0]).sum() < len(rows)
    returns, veto = bundle.run(table.prices[rows], table.embedding[rows], table.context[rows])
    told = judged(bundle.card, table, slices, CONFIG, returns=returns, veto=veto, rates={})["invented"]
    assert "ranker" not in told["rank_ic"]
    assert "ensemble" in told["rank_ic"]
    assert told["veto"]["brier_skill"] is None


def test_the_skill_of_the_veto_is_over_the_trades_of_before(
    bundle: SwingBundle, table: SwingTable, slices: SwingSlices
) -> None:
    rows = slices.test
    said, _ = bundle.run(table.prices[rows], table.embedding[rows], table.context[rows])
    always, rates = np.full(len(rows), 0.37), {"invented": 0.37}
    told = judged(bundle.card, table, slices, CONFIG, returns=said, veto=always, rates=rates)["invented"]["veto"]
    assert told["brier_skill"] == 0


def test_the_report_says_how_much_lower_precision_would_decide_otherwise(folder: Path, slices: SwingSlices) -> None:
    report = json.loads((folder / "report.json").read_text())["precision"]
    assert set(report) == {"stockformer", "tft"}
    decided = {f"{what}_{days}d" for what in ("rises", "better_half") for days in (3, 5, 10)}
    for one in report.values():
        assert (one["slice"], one["windows"], one["required_agreement"]) == (
            "calibration",
            len(slices.calibration),
            0.995,
        )
        assert set(one["windows_by_decision"]) == decided
        assert one["chosen"] == "f32"
        for name in ("int8", "bf16", "f16"):
            assert 0.5 < one["variants"][name]["agreement"] <= 1
            assert set(one["variants"][name]["agreement_by_decision"]) == decided


def test_an_encoder_that_the_bundle_never_saw_is_refused(bundle: SwingBundle) -> None:
    class Other:
        class card:  # as the protocol calls it
            model_id, version, sequence = "kronos-other", "abc", 120

    with pytest.raises(BundleRefused, match="encoder None, this is kronos-other@abc"):
        bundle.answer({}, Other())  # type: ignore[arg-type]


def test_the_intraday_engine_passes_a_swing_bundle_over(folder: Path) -> None:
    assert kind_of(folder) == "swing"
    assert folders_of(folder.parent) == []


def test_tables_are_read_with_their_adjustments_and_flags(tmp_path: Path) -> None:
    one = stock("AAA", 3, bars=20).frame
    columns = {name: getattr(one, name) for name in ("open", "high", "low", "close", "volume")}
    columns |= {"timestamp": one.time.astype("datetime64[ms]"), "symbol": ["AAA"] * 20, "adj_close": one.close / 2}
    columns |= {"jump_flag": np.arange(20) == 7}
    pq.write_table(pa.table(columns), tmp_path / "few_1d.parquet")
    (tmp_path / "instruments.toml").write_text('[[tables]]\npath = "few_1d.parquet"\ntimeframe = "1d"\nsuffix = ".X"\n')
    (found,) = read_daily(tmp_path)
    assert (found.symbol, found.universe) == ("AAA.X", "few")
    assert np.array_equal(found.frame.close, one.close)
    assert found.factor == pytest.approx(np.full(20, 0.5))
    assert np.flatnonzero(found.jumps).tolist() == [7]
    with pytest.raises(InvalidInput, match="no daily table of other"):
        read_daily(tmp_path, ("other",))


@pytest.mark.parametrize(
    ("kind", "preset", "least", "most"),
    [
        (stockformer, "full", 7.5e6, 8.5e6),
        (tft, "full", 5.5e6, 6.5e6),
        (stockformer, "small", 0, 1e6),
        (tft, "small", 0, 1e6),
    ],
)
def test_presets_have_the_published_sizes(kind: object, preset: str, least: float, most: float) -> None:
    made = stockformer.StockformerModel if kind is stockformer else tft.TftModel
    count = sum(one.numel() for one in made(kind.PRESETS[preset]).parameters())  # type: ignore[attr-defined]
    assert least < count < most


def test_the_study_judges_the_same_slice_as_training_and_finds_the_same(
    bundle: SwingBundle, folder: Path, series: list[DailySeries], tmp_path: Path
) -> None:
    names = ("timestamp", "symbol", "open", "high", "low", "close", "volume")
    columns: dict[str, list[object]] = {name: [] for name in names}
    for one in series:
        for name in ("open", "high", "low", "close", "volume"):
            columns[name] += getattr(one.frame, name).tolist()
        columns["timestamp"] += list(one.frame.time.astype("datetime64[ms]"))
        columns["symbol"] += [one.symbol] * len(one.frame)
    pq.write_table(pa.table(columns), tmp_path / "invented_1d.parquet")
    (tmp_path / "instruments.toml").write_text('[[tables]]\npath = "invented_1d.parquet"\ntimeframe = "1d"\n')
    before = series[0].frame.close_time[600:640:5]
    paths = Paths(before, tuple(one.symbol for one in series), np.random.default_rng(1).normal(size=(5, 8, STOCKS)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "FEWEST", 3)
        patch.setattr(study, "ranked_paths", lambda *_: {"invented": paths})
        found = study.study_swing(folder, tmp_path, stride=CONFIG.judged_stride)
    assert study.swing_folder(folder.parent) == folder
    assert list(found) == ["invented"]
    assert found["invented"]["abstains"] == bundle.card.universes["invented"].abstains
    report = json.loads((folder / "report.json").read_text())["figures"]["by_universe"]["invented"]["rank_ic"]
    judged, known = found["invented"]["horizons"]["10"]["models"], 0
    for name in ("stockformer", "tft", "ranker", "ensemble"):  # over 10 days both know the same rows
        mean = judged[name]["rank_ic"]["mean"]
        assert mean == pytest.approx(report[name]["10d"]["mean"], abs=1e-6)  # None in both where nothing is forecast
        known += mean is not None
    assert known
    assert judged["ranker"]["paths"]["n"] == 5
    assert found["invented"]["notes"][-1].startswith("purged paths: the ranker on every 5th session from 2022-08-24")


def test_the_command_of_all_models_trains_the_daily_ones_too(
    series: list[DailySeries], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, SwingConfig] = {}

    def noted(_series: object, config: SwingConfig, out: Path, **_others: object) -> Path:
        asked["config"] = config
        return out / "swing-1d"

    monkeypatch.setattr("serving.training.swing.read_daily", lambda *_, **__: series)
    monkeypatch.setattr("serving.training.swing.train_swing", noted)
    arguments = ["--models", "swing", "--epochs", "7", "--judged-from", "2023-05-01T00:00:00Z", "--seed", "5"]
    assert command(["--data", str(tmp_path), "--out", str(tmp_path), *arguments]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'swing-1d'}\n"
    config = asked["config"]
    assert (config.fitting.epochs, config.judged_from, config.fitting.seed, config.trees.seed) == (
        7,
        "2023-05-01T00:00:00Z",
        5,
        5,
    )
    assert command(["--data", str(tmp_path), "--out", str(tmp_path), "--models", "rnn"]) == 2
    assert "use one of lstm, patchtst, gru, cnn, transformer, swing" in capsys.readouterr().err


class Plain:
    """An encoder that tells the newest bar of a window, and how many it has seen."""

    def __init__(self) -> None:
        self.card = SimpleNamespace(model_id="kronos-plain", version="0123456789ab", sequence=32)

    def embed(self, bars: np.ndarray, stamps: np.ndarray) -> np.ndarray:
        assert bars.shape[1:] == (32, 6)
        assert stamps.shape[1:] == (32, 5)
        return np.tile(bars[:, -1], (1, 86))[:, :512].astype(np.float32)


def test_embeddings_are_kept_by_encoder_stock_and_bar_and_made_anew_where_they_cannot_be_read(tmp_path: Path) -> None:
    frame, encoder, asked = stock("S0", 1).frame, Plain(), []
    plain = encoder.embed

    def counted(bars: np.ndarray, stamps: np.ndarray) -> np.ndarray:
        asked.append(len(bars))
        return plain(bars, stamps)

    encoder.embed = counted  # type: ignore[method-assign]
    first = embedded(frame, np.array([700, 702]), encoder, tmp_path)
    both = embedded(frame, np.array([701, 700, 702, 700]), encoder, tmp_path)
    assert asked == [2, 1]
    assert np.array_equal(both[[1, 2]], first)
    assert np.array_equal(both, plain(*windows_of(frame, 32, [701, 700, 702, 700])))
    embedded(frame.rows(slice(0, 800)), np.array([700]), encoder, tmp_path)
    encoder.card.version = "other"
    embedded(frame, np.array([700]), encoder, tmp_path)
    assert asked == [2, 1, 1, 1]
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:99])
    assert np.array_equal(embedded(frame, np.array([700]), encoder, tmp_path), first[:1])
    assert asked == [2, 1, 1, 1, 1]


def test_the_embeddings_of_an_encoder_are_learned_from_and_asked_for_again(
    series: list[DailySeries], tmp_path: Path
) -> None:
    encoder = Plain()
    bundle = load_swing(train_swing(series, CONFIG, tmp_path, encoder=encoder))
    assert bundle.card.encoder == "kronos-plain@0123456789ab"
    frames = {one.symbol: one.frame for one in series}
    told = bundle.answer(frames, encoder)
    assert list(told.forecasts) == list(frames)
    with pytest.raises(BundleRefused, match="learned from encoder kronos-plain@0123456789ab, this is None"):
        bundle.answer(frames)
