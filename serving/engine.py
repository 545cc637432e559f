"""The engine: one request with many symbols and timeframes in, one answer in the same order out.

Always true here: what goes wrong with an item (its bars, its model, a NaN) stays with that item; items of one model
ride in one batch, and an item's numbers do not depend on what else rode in it; a request is answered by the bundles
that were loaded when it began. `Engine.answer` may be called from several threads at once. No I/O but reading
bundles in `load_engine`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles, BundleRefused
from fusiontrade.inference.contract import (
    ForecastItem,
    ForecastRequest,
    ForecastResponse,
    ItemError,
    ItemForecast,
    LstmForecast,
    ModelKind,
    PatchTstForecast,
)
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import MANIFEST, Bundle, load_bundle
from serving.card import ModelCard
from serving.features import (
    BARS_NEEDED,
    PATCHTST_BARS_NEEDED,
    WINDOW,
    atr,
    lstm_inputs,
    patchtst_inputs,
    usual_week,
    volatility_columns,
)
from serving.forecasting import lstm_forecast, patchtst_forecasts
from serving.markets import row_of

__all__ = ["Engine", "RefusedBundle", "load_engine"]

_log = logging.getLogger(__name__)

KINDS: tuple[ModelKind, ...] = ("lstm", "patchtst")
_BARS: dict[ModelKind, int] = {"lstm": BARS_NEEDED, "patchtst": PATCHTST_BARS_NEEDED}
_LAST_INSTANT = 4_102_444_800_000  # 2100-01-01: calendars end somewhere
_LEAST_PRICE, _MOST_PRICE = 1e-15, 1e15  # beyond what is traded; the square of none overflows or vanishes

Inputs = dict[str, NDArray[np.float32]]
Forecast = LstmForecast | PatchTstForecast


@dataclass(frozen=True)
class RefusedBundle:
    """A folder whose bundle must not serve, and why."""

    folder: str
    reason: str


class _NotFinite(ValueError):
    """A model answered NaN or infinity; the message names its outputs."""


@dataclass(eq=False)
class _Window:
    """One item on its way: what was read from it, and what has been answered so far."""

    item: ForecastItem
    frame: CandleFrame | None = None
    close: float = float("nan")
    atr: float = float("nan")
    error: ItemError | None = None
    activity: dict[tuple[float, ...], NDArray[np.float32]] = field(default_factory=dict)
    answers: dict[ModelKind, Forecast] = field(default_factory=dict)
    failures: list[ItemError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Engine:
    """The loaded bundles, at most one of each kind and timeframe.

    Parameters
    ----------
    bundles
        By kind and timeframe.
    refused
        What was found and not loaded.
    """

    bundles: dict[tuple[ModelKind, Timeframe], Bundle]
    refused: tuple[RefusedBundle, ...] = ()

    def answer(self, request: ForecastRequest) -> ForecastResponse:
        """Return one answer per item, in the order of ``request``; never raises for what is wrong with an item."""
        windows = [_window(item) for item in request.items]
        for key in dict.fromkeys((kind, window.item.timeframe) for kind in KINDS for window in windows):
            riding = [window for window in windows if window.frame is not None and window.item.timeframe == key[1]]
            self._answer_kind(*key, riding)
        return ForecastResponse(items=[_told(window) for window in windows])

    def _answer_kind(self, kind: ModelKind, timeframe: Timeframe, windows: Sequence[_Window]) -> None:
        """Ask the model of one kind and timeframe for all of ``windows`` at once and note answers and failures."""
        bundle = self.bundles.get((kind, timeframe))
        if bundle is None:
            for window in windows:
                window.failures.append(_failure("no_model", f"no {kind} model is loaded for {timeframe}"))
            return
        ready: list[tuple[_Window, Inputs]] = []
        for window in windows:
            inputs = _inputs(bundle, window)
            if inputs is not None:
                ready.append((window, inputs))
        if ready:
            _run(bundle, ready)


def load_engine(folder: Path, *, device: str = "cpu", threads: int = 1) -> Engine:
    """Load every bundle of ``folder`` (or the one bundle that ``folder`` itself is).

    A bundle that must not serve is logged and listed in `Engine.refused`; the others serve.

    Raises
    ------
    BundleRefused
        If nothing at all can serve.
    """
    folders = [folder] if (folder / MANIFEST).is_file() else _subfolders(folder)
    bundles: dict[tuple[ModelKind, Timeframe], Bundle] = {}
    refused: list[RefusedBundle] = []
    for place in folders:
        try:
            bundle = load_bundle(place, device=device, threads=threads)
            if other := bundles.get((bundle.card.kind, bundle.card.timeframe)):
                raise BundleRefused(f"{other.folder.name} already serves {bundle.card.kind} {bundle.card.timeframe}")
        except (BundleRefused, OSError) as error:
            _log.error("bundle refused", extra={"bundle": place.name, "reason": str(error)})
            refused.append(RefusedBundle(place.name, str(error)))
            continue
        bundles[bundle.card.kind, bundle.card.timeframe] = bundle
        _log.info("bundle loaded", extra={"bundle": bundle.card.model_id, "version": bundle.card.version})
    if not bundles:
        found = "; ".join(f"{one.folder}: {one.reason}" for one in refused) or "there is none in it"
        raise BundleRefused(f"no bundle of {folder} can serve: {found}")
    return Engine(bundles, tuple(refused))


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BundleRefused(f"the bundle folder {folder} does not exist")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))


def _failure(code: str, detail: str) -> ItemError:
    return ItemError.model_validate({"code": code, "detail": detail})


def _window(item: ForecastItem) -> _Window:
    """Return the item with its checked bars, last close and ATR, or with its error."""
    try:
        frame = item.frame()
        if len(frame) and not (frame.time[0] >= 0 and frame.time[-1] < _LAST_INSTANT):
            raise BadCandles(["open times must lie between 1970 and 2100, in ms since 1970-01-01 UTC"])
        if len(frame) and not (frame.low.min() >= _LEAST_PRICE and frame.high.max() <= _MOST_PRICE):
            raise BadCandles([f"prices must lie between {_LEAST_PRICE:g} and {_MOST_PRICE:g}"])
    except BadCandles as error:
        return _Window(item, error=_failure("bad_candles", str(error)))
    except OverflowError:
        return _Window(item, error=_failure("bad_candles", "an open time does not fit 64 bits"))
    if len(frame) < min(_BARS.values()):
        return _Window(item, error=_failure("too_few_bars", f"needs {max(_BARS.values())} bars, got {len(frame)}"))
    frame = frame.tail(max(_BARS.values()))
    return _Window(item, frame, close=float(frame.close[-1]), atr=float(atr(frame)[-1]))


def _inputs(bundle: Bundle, window: _Window) -> Inputs | None:
    """Return the window as the graph takes it, (1, ...) each; None (and a noted failure) where that is impossible."""
    card, frame = bundle.card, window.frame
    if frame is None or len(frame) < _BARS[card.kind]:
        have = 0 if frame is None else len(frame)
        window.failures.append(_failure("too_few_bars", f"{card.model_id} needs {_BARS[card.kind]} bars, got {have}"))
        return None
    try:
        return _features(bundle, window, frame)
    except Exception as error:  # whatever these bars broke, the other items have to be answered
        _note_failure(bundle, window, error)
        return None


def _features(bundle: Bundle, window: _Window, frame: CandleFrame) -> Inputs:
    card = bundle.card
    volatility = card.volatility_scaler.apply(_activity(card, window, frame))
    if card.scaler is not None:
        features, calendar = lstm_inputs(frame)
        return {"features": card.scaler.apply(features), "calendar": calendar, "volatility": volatility}
    candles, calendar = patchtst_inputs(frame)
    return {"candles": candles, "calendar": calendar, "volatility": volatility}


def _activity(card: ModelCard, window: _Window, frame: CandleFrame) -> NDArray[np.float32]:
    """Return (1, V) volatility columns of the newest bar; bundles that know the same season share them."""
    key = row_of(card.season, window.item.symbol, window.item.market)
    if key not in window.activity:
        usual = usual_week(card.season, frame, window.item.market)
        window.activity[key] = volatility_columns(frame.tail(WINDOW), usual)[-1:]
    return window.activity[key]


def _run(bundle: Bundle, ready: Sequence[tuple[_Window, Inputs]]) -> None:
    """Run one batch; where it raises, run its windows one by one, so that only the guilty ones fail."""
    batch = {name: np.concatenate([inputs[name] for _, inputs in ready]) for name in ready[0][1]}
    try:
        outputs = bundle.graph.run(batch)
    except Exception as error:
        if len(ready) == 1:
            _note_failure(bundle, ready[0][0], error)
            return
        for one in ready:
            _run(bundle, [one])
        return
    for row, (window, _) in enumerate(ready):
        _compose(bundle, window, {name: values[row : row + 1] for name, values in outputs.items()})


def _compose(bundle: Bundle, window: _Window, outputs: Inputs) -> None:
    """Turn one window's raw outputs into its answer; one that is not finite is a failure of this item alone."""
    card = bundle.card
    broken = [name for name, values in outputs.items() if not np.isfinite(values).all()]
    if broken:
        _note_failure(bundle, window, _NotFinite(f"{', '.join(broken)} is not a finite number"))
        return
    try:
        if card.kind == "lstm":
            window.answers["lstm"] = lstm_forecast(card, outputs, window.close, window.atr, window.item)
        else:
            window.answers["patchtst"] = patchtst_forecasts(card, outputs)[0]
    except Exception as error:
        _note_failure(bundle, window, error)
        return
    if window.item.symbol not in card.universe:
        window.warnings.append(
            f"{card.model_id} was not trained on {window.item.symbol}: its measured accuracy is of other symbols"
        )


def _note_failure(bundle: Bundle, window: _Window, error: Exception) -> None:
    card, item = bundle.card, window.item
    _log.error(
        "model failed",
        extra={"bundle": card.model_id, "symbol": item.symbol, "timeframe": item.timeframe, "reason": str(error)[:500]},
    )
    why = str(error) if isinstance(error, _NotFinite) else type(error).__name__  # others' own words stay in the log
    window.failures.append(_failure("model_failed", f"{card.model_id} failed: {why}"))


def _told(window: _Window) -> ItemForecast:
    """Return the item's answer; an item that no model answered carries the gravest of its failures as error."""
    item, error = window.item, window.error
    if error is None and not window.answers:
        gravity = ("model_failed", "too_few_bars", "no_model")
        error = min(window.failures, key=lambda failure: gravity.index(failure.code))
    if error is not None:
        return ItemForecast(symbol=item.symbol, timeframe=item.timeframe, error=error)
    lstm, patchtst = window.answers.get("lstm"), window.answers.get("patchtst")
    frame = window.frame
    return ItemForecast(
        symbol=item.symbol,
        timeframe=item.timeframe,
        bar_close=None if frame is None else int(frame.close_time[-1]),
        current_price=window.close,
        atr=window.atr,
        lstm=lstm if isinstance(lstm, LstmForecast) else None,
        patchtst=patchtst if isinstance(patchtst, PatchTstForecast) else None,
        warnings=[failure.detail for failure in window.failures] + window.warnings,
    )
