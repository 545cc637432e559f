"""A bundle against itself and against the data it says it was made of.

Without data: the card's slices, the report's figures, the markets whose rollover hours were left out. With data: the
fingerprint of each series; then, on equal bars, the dataset checks, everything that was fitted on the training slice,
and the number of rows of each slice. The graph's answers are checked on real bars where there are any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BundleRefused
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.rollover import rolls_over
from fusiontrade.market.symbols import parse_symbol
from serving.bundle import REPORT, Bundle, load_bundle
from serving.card import ModelCard
from serving.features import BARS_NEEDED, WINDOW, lstm_inputs, patchtst_inputs, usual_week, volatility_columns
from serving.lookahead.checks.answering import Answers, RowModel, check_model
from serving.lookahead.checks.findings import Check, Finding
from serving.lookahead.checks.suspicions import check_figures
from serving.lookahead.checks.windows import check_windows

__all__ = ["bundle_model", "check_answers", "check_card", "check_counts", "check_data", "cut_like", "opened"]

Inputs = dict[str, NDArray[np.float32]]


def opened(folder: Path) -> tuple[Bundle | None, Check]:
    """Return the bundle in ``folder`` and the check of its files; None where serving would refuse it."""
    name = f"{folder.name}: files"
    try:
        bundle = load_bundle(folder)
    except BundleRefused as refusal:
        remedy = "restore the folder, or train it anew with this version (make train)"
        return None, Check.judged(name, [Finding(folder.name, f"serving refuses it: {refusal}", remedy)], proved="")
    return bundle, Check.judged(name, (), proved=f"version {bundle.card.version}, every file as its manifest says")


def check_card(bundle: Bundle, *, embargo: int) -> Iterator[Check]:
    """Yield what the card and the report tell by themselves."""
    card = bundle.card
    spans = {name: tuple(span) if span else None for name, span in card.windows.model_dump().items()}
    yield check_windows(
        spans,
        horizon=card.horizon_bars,
        embargo=embargo,
        bar=card.timeframe.milliseconds,
        name=f"{card.model_id}: windows",
    )
    report = json.loads((bundle.folder / REPORT).read_bytes())
    yield check_figures(report, name=f"{card.model_id}: figures")
    yield _rollover(card, report)


def check_data(card: ModelCard, frames: Sequence[CandleFrame], digest: Callable[[CandleFrame], str]) -> Check:
    """Return the check that the data are those the bundle was made of; ``frames`` as `cut_like` returns them."""
    by_symbol = {frame.symbol: frame for frame in frames}
    findings = []
    for series in card.data.series:
        frame = by_symbol.get(series.symbol)
        if frame is None or digest(frame) != series.sha256:
            told = "is not in the data" if frame is None else f"has other bars: {_apart(frame, series)}"
            remedy = "give --data the folder it was trained on; on other bars its scaler and slices cannot be judged"
            findings.append(Finding(series.symbol, told, remedy))
    proved = f"{len(card.data.series)} series equal those it was trained on, bar by bar"
    return Check.judged(f"{card.model_id}: data", findings, proved=proved)


def cut_like(card: ModelCard, frames: Sequence[CandleFrame]) -> list[CandleFrame]:
    """Return the series of a card, without the bars that came after it was trained."""
    last = {series.symbol: series.last for series in card.data.series}
    cut = [frame.rows(frame.time <= last[frame.symbol]) for frame in frames if frame.symbol in last]
    return [frame for frame in cut if len(frame)]


def check_answers(
    bundle: Bundle, frames: Sequence[CandleFrame], *, moments: int, seed: int, advance: Callable[[], None]
) -> list[Check]:
    """Return the checks that the graph's answers for a bar stay the same whatever comes after it."""
    name = f"{bundle.card.model_id}: answers"
    model = bundle_model(bundle)
    return check_model(name, model, frames, first=BARS_NEEDED, moments=moments, seed=seed, advance=advance)


def bundle_model(bundle: Bundle) -> RowModel:
    """Return a bundle as a model: its raw outputs for a row, its inputs computed as training computes them."""

    def answered(frame: CandleFrame, row: int) -> Answers:
        outputs = bundle.graph.run(_inputs(bundle.card, frame, row))
        return {name: np.asarray(values, np.float64) for name, values in outputs.items()}

    return answered


def check_counts(card: ModelCard, report: Mapping[str, Any], counted: Mapping[str, int]) -> Check:
    """Return the check that the report's slices have as many rows as those made of the data anew."""
    name = f"{card.model_id}: rows"
    parts = {slice_: part for slice_, part in report.get("slices", {}).items() if isinstance(part, dict)}
    told = {slice_: rows for slice_, part in parts.items() if isinstance(rows := part.get("rows"), int)}
    if not told:
        return Check.skipped(name, "the report does not say how many rows each slice has")
    findings = [
        Finding(
            slice_,
            f"the report has {told[slice_]} rows, the data give {count} after purge and without rollover hours",
            "train it anew with this version; where other rules made the rows, check them with --rows",
            size=float(told[slice_] - count),
        )
        for slice_, count in counted.items()
        if told.get(slice_, count) != count
    ]
    return Check.judged(name, findings, proved="the report's slices have the rows the data give")


def _rollover(card: ModelCard, report: Mapping[str, Any]) -> Check:
    name = f"{card.model_id}: rollover hours in the report"
    left_out = report.get("rollover_hours_left_out")
    if not isinstance(left_out, list):
        return Check.skipped(name, "the report does not say of which series rollover hours were left out")
    rests = [code for code in card.universe if rolls_over(parse_symbol(code))]
    findings = [
        Finding(
            code,
            "entries from 16:00 to 18:59 New York were kept: a direction seems to be known there",
            "leave those entries out of every slice, and train anew",
        )
        for code in rests
        if code not in left_out
    ]
    return Check.judged(name, findings, proved=f"left out for each of {len(rests)} FX and metal series")


def _inputs(card: ModelCard, frame: CandleFrame, row: int) -> Inputs:
    window = frame.rows(slice(max(0, row + 1 - WINDOW), row + 1))
    usual = usual_week(card.season, window, parse_symbol(frame.symbol).asset_class)
    past = frame.rows(slice(max(0, row + 1 - 2 * WINDOW), None))
    last = [row - (len(frame) - len(past))]
    volatility = card.volatility_scaler.apply(volatility_columns(past, usual)[last])
    if card.scaler is not None:
        features, calendar = lstm_inputs(past, last)
        return {"features": card.scaler.apply(features), "calendar": calendar, "volatility": volatility}
    candles, calendar = patchtst_inputs(past, last)
    return {"candles": candles, "calendar": calendar, "volatility": volatility}


def _apart(frame: CandleFrame, series: Any) -> str:
    if len(frame) != series.rows:
        return f"{len(frame):,} rows instead of {series.rows:,}"
    if int(frame.time[0]) != series.first or int(frame.time[-1]) != series.last:
        return "another first or last bar"
    return "as many, between the same instants, but with other prices or volumes"
