"""The tables of a cross-section's study, as the page and the documentation show them; all from its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from serving.evaluation.cross_section.study import ENSEMBLE
from serving.evaluation.page.tables import MISSING, Cell, Table

__all__ = ["cross_section_tables", "markdown"]

Json = Mapping[str, Any]


def markdown(name: str, study: Json) -> str:
    """Return the study of the universe ``name`` as Markdown: its tables, then what one has to know to read them."""
    lines = [line for table in cross_section_tables(name, study) for line in table.markdown()]
    return "\n".join([*lines, *(f"- {note}." for note in study["notes"]), ""])


def cross_section_tables(name: str, study: Json) -> Iterator[Table]:
    """Yield targets, rank correlations, portfolios, contests of the ensemble, and groups."""
    judged = study["judged"]
    words = (
        f"{name}: {judged['sessions']:,} sessions from {judged['from'][:10]} to {judged['to'][:10]}, "
        f"{judged['symbols']} symbols"
    )
    if study["acceptance"]:
        yield _acceptance(name, study["acceptance"])
    yield _ranks(words, study["horizons"])
    yield _portfolios(name, study)
    if any(part["contests"] for part in study["horizons"].values()):
        yield _contests(name, study["horizons"])
    yield _groups(name, study["horizons"])


def _acceptance(name: str, rows: list[Json]) -> Table:
    cells = []
    for row in rows:
        words = "unknown" if row["met"] is None else "missed" if not row["met"] else "met"
        words += ", aim too" if row["aim_met"] else ""
        tone = "unknown" if row["met"] is None else "good" if row["met"] else "bad"
        value = f"{_number(row['value'], 4)} (t {_number(row['statistic'], 1)})"
        cells.append((Cell(row["criterion"]), Cell(f"{row['aim']}"), Cell(f"{value} – {words}", tone)))
    return Table(f"{name}: targets, the ensemble", ("target", "aim", "reached"), tuple(cells))


def _ranks(words: str, horizons: Json) -> Table:
    rows = []
    for name in _names(horizons):
        for kind, told in (("rank_ic", "from the next open"), ("rank_ic_from_close", "from the close")):
            tests = [part["models"][name][kind] for part in horizons.values()]
            rows.append(_row(f"{name}, {told}", (_test(test) for test in tests)))
        if any("paths" in part["models"][name] for part in horizons.values()):
            rows.append(_row(f"{name}, purged paths", (_paths(part["models"][name]) for part in horizons.values())))
    caption = f"{words}. Rank correlation: mean (t, Newey-West), information ratio of a year (t over the root of years)"
    return Table(caption, ("model", *_columns(horizons)), tuple(rows))


def _portfolios(name: str, study: Json) -> Table:
    horizons = study["horizons"]
    rows = [
        _row(one, (_portfolio(part["models"][one]["deciles"]) for part in horizons.values()))
        for one in _names(horizons)
    ]
    overfit = [part["overfitting"] for part in horizons.values()]
    chances = (MISSING if one is None else f"{one['probability']:.0%} of {one['splits']} splits" for one in overfit)
    rows.append(_row("best by luck (CSCV)", chances))
    caption = (
        f"{name}: highest against lowest decile, bought at the next open, {study['cost_bps']:g} bps each way. A year's "
        f"mean, Sharpe net (gross), worst fall, turnover a session, deflated Sharpe over {_trials(study['trials'])}"
    )
    return Table(caption, ("model", *_columns(horizons)), tuple(rows))


def _contests(name: str, horizons: Json) -> Table:
    rivals = list(dict.fromkeys(rival for part in horizons.values() for rival in part["contests"]))
    rows = [
        _row(f"{ENSEMBLE} less {one}", (_test(part["contests"].get(one)) for part in horizons.values()))
        for one in rivals
    ]
    caption = f"{name}: rank correlation of the ensemble less that of each other, mean (t), ratio of a year"
    return Table(caption, ("contest", *_columns(horizons)), tuple(rows))


def _groups(name: str, horizons: Json) -> Table:
    chosen = ENSEMBLE if ENSEMBLE in _names(horizons) else _names(horizons)[-1]
    means = [part["models"][chosen]["deciles"]["mean_by_group"] for part in horizons.values()]
    rows = [_row(str(group + 1), (_percent(one[group]) for one in means)) for group in range(len(means[0]))]
    caption = f"{name}: mean return by decile of {chosen}, lowest predictions first, from the next open, gross"
    return Table(caption, ("decile", *_columns(horizons)), tuple(rows))


def _names(horizons: Json) -> list[str]:
    return list(next(iter(horizons.values()))["models"])


def _columns(horizons: Json) -> tuple[str, ...]:
    return tuple(f"{horizon} sessions" for horizon in horizons)


def _row(name: str, cells: Any) -> tuple[Cell, ...]:
    return (Cell(name), *(Cell(one) for one in cells))


def _test(test: Json | None) -> str:
    if test is None or test["mean"] is None:
        return MISSING
    return f"{test['mean']:+.4f} ({_number(test['statistic'], 1)}), {_number(test['ratio_a_year'], 2)}"


def _paths(model: Json) -> str:
    found = model.get("paths")
    if found is None:
        return MISSING
    positive = f"{found['above_zero']:.0%} of {found['n']} above 0"
    return f"median {found['median']:+.4f}, lowest {found['lowest']:+.4f}, {positive}"


def _portfolio(found: Json) -> str:
    one = found["long_short"]
    if one["mean_a_year"] is None:
        return MISSING
    ratios = f"{_number(one['sharpe'], 2)} ({_number(found['gross_sharpe'], 2)})"
    deflated = _number(found["deflated"]["probability"], 2)
    return (
        f"{_percent(one['mean_a_year'])}, {ratios}, -{_percent(one['max_drawdown'])}, "
        f"{_percent(found['turnover'])}, {deflated}"
    )


def _trials(count: int) -> str:
    return f"{count} trial{'s' if count > 1 else ''}"


def _number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2%}"
