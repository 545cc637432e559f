"""Bars are checked and features computed for many items at once: at 659 bars, calling numpy costs more than counting.

Items whose windows have one length, all with or all without volume, form a group, whatever their symbol and
timeframe. Always true here: an item's numbers do not depend on its group; what breaks a group is found by trying its
items one by one, so it costs the guilty ones alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles
from fusiontrade.inference.contract import SEQUENCE_KINDS, ItemError, ModelKind
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.asked import Asked
from serving.card import ModelCard
from serving.features import BARS_NEEDED, PATCHTST_BARS_NEEDED, NewestInputs
from serving.features.season import Week
from serving.markets import row_of
from serving.windows import Inputs, Window, failure

__all__ = ["Cards", "opened", "prepare"]

_BARS: dict[ModelKind, int] = {**dict.fromkeys(SEQUENCE_KINDS, BARS_NEEDED), "patchtst": PATCHTST_BARS_NEEDED}
_LEAST, _MOST = min(_BARS.values()), max(_BARS.values())
_LAST_INSTANT = 4_102_444_800_000  # 2100-01-01: calendars end somewhere
_LEAST_PRICE, _MOST_PRICE = 1e-15, 1e15  # beyond what is traded; the square of none overflows or vanishes
_MOST_VOLUME = 1e30  # likewise: what a model is given of more may be no number

Cards = Mapping[tuple[ModelKind, Timeframe], ModelCard]
"""Who may ask for features: the card of each bundle, by kind and timeframe."""


_Framed = tuple[Window, CandleFrame]
_Season = tuple[Week, bool]


def opened(items: Sequence[Asked]) -> list[Window]:
    """Return each item with its checked newest bars and last close, or with its error."""
    windows: list[Window] = []
    framed: list[_Framed] = []
    for one in items:
        if isinstance(one.frame, ItemError):
            windows.append(Window(one, error=one.frame))
        else:
            windows.append(Window(one))
            framed.append((windows[-1], one.frame))
    for group in _grouped(framed, lambda frame: tuple(map(len, _columns(frame)))):
        for (window, frame), is_sound in zip(group, _sound([frame for _, frame in group]), strict=True):
            _open(window, frame, is_sound=is_sound)
    return windows


def prepare(cards: Cards, windows: Iterable[Window]) -> None:
    """Compute ATR and what the graphs of ``cards`` take of each window; what is impossible is noted in the window."""
    timeframes = {timeframe for _, timeframe in cards}
    framed = [(window, window.frame) for window in windows if window.frame is not None]
    for window, frame in framed:
        for kind in window.asked.models:
            if obstacle := _obstacle(cards.get((kind, window.asked.timeframe)), kind, frame):
                window.failures[kind] = obstacle
    usable = [(window, frame) for window, frame in framed if frame.timeframe in timeframes]
    for group in _grouped(usable, lambda frame: (len(frame), frame.volume is None)):
        _compute(cards, group)


def _grouped(framed: Iterable[_Framed], like: Callable[[CandleFrame], Hashable]) -> Iterable[list[_Framed]]:
    groups: dict[Hashable, list[_Framed]] = {}
    for window, frame in framed:
        groups.setdefault(like(frame), []).append((window, frame))
    return groups.values()


def _columns(frame: CandleFrame) -> list[NDArray[Any]]:
    volume = [] if frame.volume is None else [frame.volume]
    return [frame.time, frame.open, frame.high, frame.low, frame.close, *volume]


def _sound(frames: Sequence[CandleFrame]) -> NDArray[np.bool_]:
    """Return (B,) whether frames of one shape break no rule of `CandleFrame.checked` and keep our own bounds."""
    first = frames[0]
    if len({len(column) for column in _columns(first)}) > 1 or not len(first):
        return np.zeros(len(frames), np.bool_)
    time = np.array([frame.time for frame in frames])
    opens, high, low, close = (
        np.array([getattr(frame, name) for frame in frames]) for name in ("open", "high", "low", "close")
    )
    with np.errstate(invalid="ignore"):
        sound = (time[:, 0] >= 0) & (time[:, -1] < _LAST_INSTANT) & (time[:, 1:] > time[:, :-1]).all(axis=1)
        sound &= (low.min(axis=1) >= _LEAST_PRICE) & (high.max(axis=1) <= _MOST_PRICE)
        sound &= ((np.minimum(opens, close) >= low) & (np.maximum(opens, close) <= high)).all(axis=1)
        if first.volume is not None:
            volume = np.array([frame.volume for frame in frames])
            sound &= (volume.min(axis=1) >= 0) & (volume.max(axis=1) <= _MOST_VOLUME)
    return np.asarray(sound)


def _open(window: Window, frame: CandleFrame, *, is_sound: bool) -> None:
    try:
        if not is_sound:
            _refuse(frame)
    except BadCandles as error:
        window.error = failure("bad_candles", str(error))
        return
    if len(frame) < _LEAST:
        window.error = failure("too_few_bars", f"needs {_MOST} bars, got {len(frame)}")
        return
    window.frame = frame.tail(_MOST if len(frame) >= _MOST else _LEAST)
    window.close = float(frame.close[-1])


def _refuse(frame: CandleFrame) -> None:
    """Raise `BadCandles` with what is wrong with ``frame``, if it is not merely empty."""
    frame = frame.checked()
    if len(frame) and not (frame.time.min() >= 0 and frame.time.max() < _LAST_INSTANT):
        raise BadCandles(["open times must lie between 1970 and 2100, in ms since 1970-01-01 UTC"])
    if len(frame) and not (frame.low.min() >= _LEAST_PRICE and frame.high.max() <= _MOST_PRICE):
        raise BadCandles([f"prices must lie between {_LEAST_PRICE:g} and {_MOST_PRICE:g}"])
    if frame.volume is not None and len(frame) and not frame.volume.max() <= _MOST_VOLUME:
        raise BadCandles([f"volumes must not exceed {_MOST_VOLUME:g}"])


def _obstacle(card: ModelCard | None, kind: ModelKind, frame: CandleFrame) -> ItemError | None:
    if card is None:
        return failure("no_model", f"no {kind} model is loaded for {frame.timeframe}")
    if len(frame) < _BARS[kind]:
        return failure("too_few_bars", f"{card.model_id} needs {_BARS[kind]} bars, got {len(frame)}")
    return None


def _compute(cards: Cards, group: Sequence[_Framed]) -> None:
    """Compute a group's features, or each window's alone where that fails."""
    try:
        _fill(cards, group)
    except Exception as error:  # whatever these bars broke, the other items have to be answered
        if len(group) > 1:
            for one in group:
                _compute(cards, [one])
            return
        ((window, _),) = group
        for kind in window.asked.models:
            card = cards.get((kind, window.asked.timeframe))
            if card is not None and kind not in window.failures and kind not in window.inputs:
                window.fail(card, error)


def _fill(cards: Cards, group: Sequence[_Framed]) -> None:
    newest = NewestInputs([frame for _, frame in group])
    for (window, _), unit in zip(group, newest.atr.tolist(), strict=True):
        window.atr = unit
    seasons: list[_Season] = []
    volatility = np.empty(0, np.float32)
    for kind in dict.fromkeys(kind for window, _ in group for kind in window.asked.models):
        asked = [
            cards.get((kind, window.asked.timeframe)) if kind in window.asked.models else None for window, _ in group
        ]
        riding = [place for place, (window, _) in enumerate(group) if asked[place] and kind not in window.failures]
        if not riding:
            continue
        chosen = [
            (card or _any_card(cards, window.asked.timeframe), window)
            for card, (window, _) in zip(asked, group, strict=True)
        ]
        known = [_season(card, window.asked) for card, window in chosen]
        if known != seasons:
            usual = [
                newest.usual_week(card.weeks, window.asked.market, place) for place, (card, window) in enumerate(chosen)
            ]
            seasons, volatility = known, newest.volatility(usual)
        inputs = _inputs(newest, kind) | {"volatility": volatility}
        for place in riding:
            group[place][0].inputs[kind] = {name: values[place : place + 1] for name, values in inputs.items()}


def _any_card(cards: Cards, timeframe: Timeframe) -> ModelCard:
    return next(card for (_, of), card in cards.items() if of == timeframe)


def _season(card: ModelCard, asked: Asked) -> _Season:
    return row_of(card.weeks, asked.symbol, asked.market), asked.symbol in card.weeks


def _inputs(newest: NewestInputs, kind: ModelKind) -> Inputs:
    if kind in SEQUENCE_KINDS:
        features, calendar = newest.lstm()
        return {"features": features, "calendar": calendar}
    candles, calendar = newest.patchtst()
    return {"candles": candles, "calendar": calendar}
