"""Invented candles for models to answer before real ones: the warm-up of a start, the self-test of a new bundle.

A self-test says whether a bundle may take over from one that serves: every kind of market below is answered with
finite numbers, in time, and the same alone as with others. A start only warms up: there, some answers are better
than none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import BARS_NEEDED
from fusiontrade.market.candles import CandleFrame, Floats
from fusiontrade.market.timeframes import Timeframe
from serving.asked import Asked
from serving.bundle import Bundle
from serving.engine import Engine, run
from serving.graph import Stop
from serving.preparing import opened, prepare
from serving.windows import Inputs, ModelFault, Window, told

__all__ = ["invented", "self_test", "warm_up"]

_log = logging.getLogger(__name__)

_START = 1_704_067_200_000  # a Monday, 2024-01-01
_UNKNOWN = "WARM-UP"
_TOLERANCE = 1e-5


def warm_up(engine: Engine) -> None:
    """Ask every timeframe of ``engine`` once; what fails is logged, for requests will say so item by item."""
    timeframes = dict.fromkeys(timeframe for _, timeframe in engine.bundles)
    kinds = {at: tuple(kind for kind, of in engine.bundles if of == at) for at in timeframes}
    windows = opened([Asked(_UNKNOWN, at, _wave(_UNKNOWN, at), models=kinds[at]) for at in timeframes])
    for bundle, riding in engine.riders(windows):
        run(bundle, riding)
    for window in windows:
        if (error := told(window).error) is not None:
            _log.warning("warm-up failed", extra={"timeframe": window.asked.timeframe, "reason": error.detail})


def self_test(bundle: Bundle, *, slow_seconds: float) -> None:
    """Let ``bundle`` answer every invented market, alone and together.

    Parameters
    ----------
    slow_seconds
        A bundle that takes longer over one item, twice, is refused; a run is ended after twenty times that.

    Raises
    ------
    BundleRefused
        With the first reason why it must not take over.
    """
    alone: list[Mapping[str, object]] = []
    for name, asked in _markets(bundle):
        seconds = [_timed(bundle, [asked], 20 * slow_seconds)]
        if seconds[0][1] > slow_seconds:
            seconds.append(_timed(bundle, [asked], 20 * slow_seconds))
        answer, taken = min(seconds, key=lambda one: one[1])
        if fault := answer[0].failures.get(bundle.card.kind):
            raise BundleRefused(f"fails its self-test over {name} candles: {fault.detail}")
        if taken > slow_seconds:
            raise BundleRefused(
                f"is too slow: one item of {name} candles took {taken:.3g} s, {slow_seconds:g} s are allowed"
            )
        alone.append(_numbers(bundle, answer[0]))
    together, _ = _timed(bundle, [asked for _, asked in _markets(bundle)], 20 * slow_seconds)
    for one, window in zip(alone, together, strict=True):
        if not _close(one, _numbers(bundle, window)):
            raise BundleRefused("fails its self-test: an item's answer depends on what rides with it")


def _timed(bundle: Bundle, items: list[Asked], longest: float) -> tuple[list[Window], float]:
    """Return the answered windows, and how long the graph took; it is ended after ``longest`` seconds."""
    windows = opened(items)
    card, taken = bundle.card, 0.0
    prepare({(card.kind, card.timeframe): card}, windows)

    def watched(inputs: Inputs) -> Mapping[str, NDArray[np.float32]]:
        nonlocal taken
        stop, begun = Stop(), time.perf_counter()
        timer = threading.Timer(longest, stop.now)
        timer.start()
        try:
            return bundle.graph.run(inputs, stop)
        finally:
            timer.cancel()
            taken += time.perf_counter() - begun
            if stop.asked:
                raise ModelFault(f"a run did not end within {longest:g} s")

    if riding := [window for window in windows if card.kind in window.inputs]:
        run(bundle, riding, watched)
    return windows, taken


def invented(symbol: str, timeframe: Timeframe) -> Iterator[tuple[str, CandleFrame]]:
    """Yield markets of every temper by name: calm, rising, falling, still, wild, without volume."""
    steps = np.arange(BARS_NEEDED)
    random = np.random.default_rng(7)
    noise = np.cumsum(random.standard_normal(BARS_NEEDED))
    yield "calm", _wave(symbol, timeframe)
    yield "rising", _candles(symbol, timeframe, 1.1 * np.exp(2e-4 * steps + 2e-5 * noise), 1e-5)
    yield "falling", _candles(symbol, timeframe, 60_000.0 * np.exp(-2e-4 * steps + 2e-5 * noise), 0.5)
    yield "still", _candles(symbol, timeframe, np.full(BARS_NEEDED, 1.1), 0.0)
    yield "wild", _candles(symbol, timeframe, 100.0 * np.exp(0.03 * noise), 0.5)
    calm = _wave(symbol, timeframe)
    yield "volumeless", calm.without_volume()


def _markets(bundle: Bundle) -> Iterator[tuple[str, Asked]]:
    card = bundle.card
    for symbol in (card.universe[0], _UNKNOWN):
        for name, frame in invented(symbol, card.timeframe):
            yield name, Asked(symbol, card.timeframe, frame, models=(card.kind,))


def _wave(symbol: str, timeframe: Timeframe) -> CandleFrame:
    steps = np.arange(BARS_NEEDED)
    return _candles(symbol, timeframe, 100.0 + 5.0 * np.sin(steps / 17.0) + np.cos(steps / 3.0), 0.2)


def _candles(symbol: str, timeframe: Timeframe, close: Floats, wick: float) -> CandleFrame:
    steps = np.arange(BARS_NEEDED)
    opens = np.concatenate([close[:1], close[:-1]])
    high, low = np.maximum(opens, close) + wick, np.minimum(opens, close) - min(wick, close.min() / 2)
    time_ = np.asarray(_START + steps * timeframe.milliseconds, np.int64)
    return CandleFrame(symbol, timeframe, time_, opens, high, low, close, np.asarray(1000.0 + steps % 7, np.float64))


def _numbers(bundle: Bundle, window: Window) -> Mapping[str, object]:
    """Return what was forecast; nothing where there is no answer."""
    answer = window.answers.get(bundle.card.kind)
    return {} if answer is None else answer.model_dump(exclude={"model", "state"})


def _close(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    def numbers(value: object) -> Floats:
        if isinstance(value, dict):  # what sampled dropout says
            return np.concatenate([numbers(part).ravel() for part in value.values()])
        return np.asarray(np.nan if value is None else value, np.float64)

    return one.keys() == other.keys() and all(
        np.allclose(numbers(one[name]), numbers(other[name]), rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        for name in one
    )
