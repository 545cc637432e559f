"""The member that ranks: what it is fitted to, what it is worth, and how it goes into the ensemble."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from invented_stocks import CONFIG, invented, stock
from pydantic import ValidationError

from serving.evaluation.cross_section.ranks import rank_correlations
from serving.evaluation.significance import long_run_variance
from serving.features.swing import CROSS_SECTION_NAMES, Market, cross_section
from serving.instants import instant_of
from serving.swing.card import ANY, Ranked, Ranker, SwingCard, Universe
from serving.swing.ranking import Ranking, rank_scores
from serving.training.precision.daily import reader_of
from serving.training.swing import RankerConfig
from serving.training.swing.config import PURGE_SESSIONS
from serving.training.swing.daily import returns_ahead
from serving.training.swing.forward import main, walked
from serving.training.swing.paths import ranked_paths
from serving.training.swing.ranker import RankRows, fitted, rank_rows, ranker_of, ranking_of, worth_of
from serving.training.swing.table import table_of
from serving.training.swing.worth import proven, rank_skill

WIDTH = len(CROSS_SECTION_NAMES)
DAY = 86_400_000
CONFIGURED = RankerConfig(fewest=3)
FAR = 2**62


def planted(sessions: int, weights: dict[int, float], seed: int, stocks: int = 40) -> RankRows:
    """Ranks of stocks whose outcomes follow some columns, and noise."""
    random = np.random.default_rng(seed)
    columns = random.uniform(-0.5, 0.5, (sessions * stocks, WIDTH)).astype(np.float32)
    known = sum(weight * columns[:, place] * np.sqrt(12) for place, weight in weights.items())
    target = np.asarray(known + random.normal(0, 1, len(columns)), np.float64)
    return RankRows(
        closes=DAY * np.arange(sessions + 50, dtype=np.int64),
        session=np.repeat(np.arange(sessions), stocks).astype(np.intp),
        stock=np.tile(np.arange(stocks), sessions).astype(np.intp),
        columns=columns,
        target=target,
    )


def test_weights_follow_what_was_planted_and_scores_have_a_deviation_of_one() -> None:
    rows = planted(400, {2: 0.5, 5: -0.25}, 1)
    found = np.array(fitted({"it": rows}, CONFIGURED, FAR)["it"])
    assert np.argsort(-np.abs(found))[:2].tolist() == [2, 5]
    assert found[2] / found[5] == pytest.approx(-2, abs=0.15)
    assert (rows.columns @ found).std() == pytest.approx(1, abs=1e-6)


def test_a_universe_with_little_of_its_own_goes_by_the_others() -> None:
    large, small = planted(400, {2: 0.5}, 1), planted(5, {7: 0.5}, 2)
    found = fitted({"large": large, "small": small}, CONFIGURED, FAR)
    alone = fitted({"small": small}, CONFIGURED, FAR)["small"]
    assert set(found) == {"large", "small", ANY}
    assert found["small"][2] > 0.2 > abs(alone[2])
    assert found["small"][7] > found["large"][7]
    assert found[ANY] == pytest.approx(found["large"], abs=0.2)


def test_what_ends_after_the_instant_is_not_learned_from() -> None:
    rows, until = planted(200, {2: 0.5}, 3), 150 * DAY
    late = rows.session >= 150 - PURGE_SESSIONS
    spoiled = replace(
        rows, target=np.where(late, -100.0, rows.target), columns=np.where(late[:, None], 0, rows.columns)
    )
    assert fitted({"it": rows}, CONFIGURED, until) == fitted({"it": spoiled}, CONFIGURED, until)
    assert fitted({"it": rows}, CONFIGURED, FAR) != fitted({"it": spoiled}, CONFIGURED, FAR)
    assert fitted({"it": rows}, CONFIGURED, PURGE_SESSIONS * DAY) == {}


def test_rows_are_ranked_stocks_whose_returns_are_known_before_the_instant() -> None:
    series = invented()
    until = int(series[0].frame.close_time[800])
    found = rank_rows(series, CONFIGURED, until)["invented"]
    assert found.session.max() == 799
    assert found.stock[found.session == 700].tolist() == list(range(len(series)))
    own = np.flatnonzero(found.session == 700)
    assert len(own) == len(series)
    assert np.array_equal(found.columns[own], cross_section(Market.of([one.frame for one in series]), 700, fewest=3)[1])
    came = np.array([returns_ahead(one)[700] for one in series])
    assert found.target[own].argmax() == (came[:, 0].argsort().argsort() + came[:, 1].argsort().argsort()).argmax()
    assert found.target[own].mean() == pytest.approx(0, abs=1e-6)
    assert rank_rows(series, RankerConfig(fewest=6), until) == {}


def test_walking_forward_finds_what_was_planted_and_nothing_in_noise() -> None:
    series = invented()
    years = (2022, 2023)
    closes = series[0].frame.close_time
    rows = rank_rows(series, CONFIGURED, int(closes[-1]))["invented"]
    noise = walked({"invented": rows}, series, CONFIGURED, years)["invented"]
    assert abs(noise[5].statistic) < 3
    came = np.array([returns_ahead(one)[:, 1] for one in series]).T
    told = replace(rows, columns=rows.columns.copy())
    told.columns[:, 0] = came[rows.session, rows.stock] * 5
    known = walked({"invented": told}, series, CONFIGURED, years)["invented"]
    assert known[5].mean > 0.4  # five stocks and 46 columns of noise beside it
    sessions = np.unique(rows.session[closes[rows.session] > instant_of("2023-01-01T00:00:00Z", "it")])
    assert known[3].n == noise[3].n == len(sessions)  # nothing is known before 2022


def drawn(share: float, worth: float, networks: float) -> tuple[Any, np.ndarray, dict[str, Ranked]]:
    """Sessions whose outcomes follow a score and what networks say; what was learned of both."""
    random = np.random.default_rng(4)
    sessions, stocks = 200, 20
    count = sessions * stocks
    ranks = random.uniform(-0.5, 0.5, (count, WIDTH)).astype(np.float32)
    said = random.normal(0, 0.003, (count, 3))
    score = ranks[:, 0].astype(np.float64)
    returns = worth * score[:, None] + networks * said + random.normal(0, 0.01, (count, 3))
    group = np.repeat(np.arange(sessions), stocks).astype(np.intp)
    table = SimpleNamespace(
        universes=("it",),
        universe=np.zeros(count, np.intp),
        ranks=ranks,
        ranked=np.ones(count, np.bool_),
        returns=returns,
        groups=lambda rows: np.unique(group[rows], return_inverse=True)[1],
    )
    weights = {"it": (1.0,) + (0.0,) * (WIDTH - 1)}
    rows = np.arange(count)
    return table, said, worth_of(table, rows, weights, said, RankerConfig(share=share))  # type: ignore[arg-type]


def test_a_score_is_worth_its_slope_and_the_parts_have_their_shares_of_the_spread() -> None:
    table, said, worth = drawn(0.75, 0.02, 1.0)
    one, rows = worth["it"], np.arange(4000)
    assert one.slope == pytest.approx((0.02, 0.02, 0.02), abs=0.001)
    ranking = ranking_of(table, rows, {"it": one.weights}, worth)
    joined = ranking.joined(said)
    of_networks, of_ranker = one.networks * said, one.share * ranking.returns
    assert joined == pytest.approx(of_networks + of_ranker)
    assert of_ranker.std(axis=0) / of_networks.std(axis=0) == pytest.approx([3, 3, 3], rel=0.02)
    slope = (joined * table.returns).sum(axis=0) / (joined**2).sum(axis=0)
    assert slope == pytest.approx([1, 1, 1], abs=0.02)


def test_the_order_is_kept_where_scores_were_worth_nothing_and_networks_say_nothing() -> None:
    _, said, worth = drawn(0.75, -0.02, 0.0)
    one = worth["it"]
    assert one.slope == (1e-6,) * 3
    assert min(one.share) > 0
    ranking = Ranking.of(np.array([1.0, -1.0, np.nan]), [one, one, one])
    joined = ranking.joined(np.zeros((3, 3)))
    assert (joined[0] > joined[1]).all()
    assert np.isfinite(ranking.returns[:, 0]).tolist() == [True, True, False]
    assert np.array_equal(ranking.joined(said[:3])[2], said[2])


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_the_t_by_which_a_universe_abstains_is_what_it_was_when_the_shipped_bundle_was_proven(stride: int) -> None:
    table, said, _ = drawn(0.75, 0.02, 1.0)
    rows = np.arange(4000)
    for place, (days, one) in enumerate(zip((3, 5, 10), rank_skill(said, table, rows, stride), strict=True)):
        by_day = (said[:, place].reshape(200, 20), table.returns[:, place].reshape(200, 20))
        daily = rank_correlations(*by_day)
        variance = long_run_variance(daily, -(-days // stride))
        assert one.t == float(daily.mean()) / float(np.sqrt(variance / 200))
        assert (one.mean, one.days, one.rows) == (float(daily.mean()), 200, 4000)
        assert (one.high - one.low) / 2 == pytest.approx(1.96 * one.mean / one.t)


def test_days_that_are_few_or_never_differ_prove_nothing() -> None:
    table, _, _ = drawn(0.75, 0.02, 1.0)
    few = rank_skill(table.returns, table, np.arange(40), 1)[0]
    same = rank_skill(table.returns, table, np.arange(4000), 1)[0]
    assert [few.as_dict()[name] for name in ("mean", "low", "t", "ratio")] == [None] * 4
    assert [same.as_dict()[name] for name in ("mean", "low", "t", "ratio")] == [1, None, None, None]
    assert proven({"few": [few], "same": [same]}) == {"few": False, "same": False}


def test_purged_paths_rank_every_session_before_the_instant_by_what_is_far_from_it() -> None:
    series = invented()
    until = int(series[0].frame.close_time[890])
    found = ranked_paths(series, CONFIGURED, until, every=2)["invented"]
    sessions = np.searchsorted(series[0].frame.close_time, found.closes)
    assert (sessions.min(), np.unique(np.diff(sessions)).tolist()) == (600, [2])
    assert 890 - PURGE_SESSIONS - 2 <= sessions.max() < 890 - PURGE_SESSIONS
    assert found.symbols == tuple(one.symbol for one in series)
    assert found.scores.shape == (5, len(sessions), 5)
    assert np.isfinite(found.scores).all()
    short = ranked_paths([one.until(until - 1) for one in series], CONFIGURED, until, every=2)["invented"]
    assert np.array_equal(short.scores, found.scores)
    assert ranked_paths(series, CONFIGURED, until, every=5) == {}  # too few sessions for the folds
    assert ranked_paths(series, CONFIGURED, 0) == {}


def test_few_stocks_leave_the_networks_alone() -> None:
    config = replace(CONFIG, ranker=RankerConfig(fewest=6))
    table = table_of(invented(), config)
    rows = np.arange(len(table.day))
    assert not table.ranked.any()
    assert not table.ranks.any()
    weights = {"invented": (1.0,) * WIDTH}
    assert worth_of(table, rows, weights, np.zeros((len(rows), 3)), config.ranker) == {}
    assert ranker_of(weights, {}, config.ranker) is None
    assert not np.isfinite(ranking_of(table, rows, {}, {}).returns).any()


def test_settings_and_cards_that_cannot_be_are_refused() -> None:
    for settings in ({"penalty": 0.0}, {"share": 1.5}, {"fewest": 2}):
        with pytest.raises(ValueError, match="fewest at least 3"):
            RankerConfig(**settings)  # type: ignore[arg-type]
    one = Ranked(weights=(1.0, 2.0), slope=(1.0,) * 3, networks=(1.0,) * 3, share=(1.0,) * 3)
    with pytest.raises(ValidationError, match="it has 2 weights for 3 columns"):
        Ranker(features="1", columns=("a", "b", "c"), fewest=3, universes={"it": one})


def card_of(**universes: bool) -> SwingCard:
    """A card that ranks the stocks of ``it`` and of no universe; which universe abstains."""
    weights = tuple(np.linspace(-1, 1, WIDTH).tolist())
    one = Ranked(weights=weights, slope=(1.0,) * 3, networks=(1.0,) * 3, share=(1.0,) * 3)
    return SwingCard.model_construct(
        ranker=Ranker(features="1", columns=CROSS_SECTION_NAMES, fewest=3, universes={"it": one, ANY: one}),
        universes={name: Universe(symbols=(name.upper(),), abstains=told) for name, told in universes.items()},
    )


def test_a_stock_of_no_universe_gets_no_signal_though_another_universe_was_proven() -> None:
    card = card_of(it=False, other=True)
    assert [card.abstains(symbol) for symbol in ("IT", "OTHER", "ELSE")] == [False, True, True]


def test_a_card_whose_universe_has_the_name_of_stocks_of_none_is_refused() -> None:
    card = card_of(it=False).model_copy(update={"universes": {ANY: Universe(symbols=("IT",), abstains=False)}})
    with pytest.raises(ValueError, match="a universe is called 'any', which stands for the stocks of none"):
        card._apart()


def test_a_stock_with_two_histories_is_not_ranked_whatever_their_order_and_a_copy_is() -> None:
    card = card_of(it=False)
    frames = {f"{number}": stock(f"S{number}", number, bars=620).frame for number in range(5)}
    alone = rank_scores(card, frames)
    assert set(alone) == set(frames)
    assert rank_scores(card, frames | {"copy": frames["2"].rows(slice(5, None))}) == alone | {"copy": alone["2"]}
    volume = frames["2"].volume.copy()
    volume[-1] += 1
    for two in ({"other": stock("S2", 9, bars=620).frame}, {"other": replace(frames["2"], volume=volume)}):
        found = rank_scores(card, frames | two)
        assert set(found) == {"0", "1", "3", "4"}
        assert rank_scores(card, two | frames) == found


def test_stocks_without_a_common_calendar_are_not_laid_side_by_side() -> None:
    frames = {}
    for number in range(48):
        one = stock(f"S{number}", number, bars=601).frame
        late = one.time + number
        late[-1] = one.time[-1]
        frames[str(number)] = replace(one, time=late)
    tracemalloc.start()
    try:
        found = rank_scores(card_of(it=False), frames)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == {}
    assert peak < 16 * 2**20


def test_a_year_after_the_newest_bar_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("serving.training.swing.forward.read_daily", lambda _: invented())
    for before in ("2023-03-01T00:00:00Z", "2040-01-01T00:00:00Z"):
        assert main(["--data", str(tmp_path), "--before", before, "--first", "2030"]) == 2
        said = capsys.readouterr()
        assert (said.out, "first is 2030, but bars end in 2023: name an earlier year" in said.err) == ("", True)
    assert main(["--data", str(tmp_path), "--before", "2020-01-01T00:00:00Z"]) == 2
    assert "no bars" in capsys.readouterr().err


def test_a_walk_that_ranks_nobody_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series = invented()
    monkeypatch.setattr("serving.training.swing.forward.read_daily", lambda _: series)
    asked = ["--data", str(tmp_path), "--before", "2023-06-01T00:00:00Z"]
    assert main([*asked, "--first", "2022"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "invented: not walked, no session from 2022 on has 25 stocks that can be ranked" in said.err
    monkeypatch.setattr("serving.training.swing.forward.RankerConfig", lambda: CONFIGURED)
    series.append(stock("ALONE", 9, "few"))
    assert main([*asked, "--first", "2023"]) == 0
    said = capsys.readouterr()
    assert said.out.count("invented") == 3
    assert said.err.startswith("few: not walked, no session from 2023 on has 3 stocks")


def test_a_network_decides_who_rises_and_who_is_in_the_better_half_of_the_day() -> None:
    scores = np.array([[0.3, -1, 0], [0.1, 0, 0], [0.2, 2, 1], [-5, 1, 0], [-6, 1, 0]], np.float32)
    found = reader_of((0.15, 0.0, 0.5), np.array([0, 0, 0, 1, 1]))({"returns": scores}).decisions
    assert {name: values.tolist() for name, values in found.items()} == {
        "rises_3d": [1, 0, 1, 0, 0],
        "better_half_3d": [1, 0, 0, 1, 0],
        "rises_5d": [0, 0, 1, 1, 1],
        "better_half_5d": [0, 0, 1, 0, 0],
        "rises_10d": [0, 0, 1, 0, 0],
        "better_half_10d": [0, 0, 1, 0, 0],
    }
