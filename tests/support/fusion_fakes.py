"""Fakes of our own ports, for tests of the fusion: candles, an endpoint that answers the contract, states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, StateUnavailable
from fusiontrade.fusion.calibration_states import Kept
from fusiontrade.inference import wire
from fusiontrade.inference.contract import (
    CHANCES,
    CalibrationState,
    ForecastItem,
    ForecastRequest,
    ForecastResponse,
    ItemError,
    ItemForecast,
    LstmForecast,
    ModelReference,
    PatchTstForecast,
)
from fusiontrade.inference.intervals import corrected
from fusiontrade.inference.probabilities import logits, moved
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.source import CandleAnswer
from fusiontrade.market.symbols import Symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe

NOON = 1_753_963_200_000  # 2025-07-31T12:00:00Z

OWN_STATE = CalibrationState(
    version="aaaaaaaaaaaa",
    lower=0.0,
    upper=0.0,
    offsets=(0.0,) * CHANCES,
    slopes=(0.0,) * CHANCES,
    bends=(0.0,) * CHANCES,
    revision=0,
    as_of=NOON - 30 * 86_400_000,
)
"""The calibration state that the fake bundles were shipped with."""

BASE_CHANCES = (
    0.5, 0.3, 0.2, 0.1, 0.05,  # touches above
    0.4, 0.25, 0.15, 0.08, 0.04,  # below
    0.7, 0.5, 0.33, 0.17, 0.09,  # on either side
    0.42, 0.38,  # a long's win, a short's
)  # fmt: skip
"""The probabilities of the fake bundles before anything moved them."""
BASE_LEANS = tuple((logits(BASE_CHANCES) + 1.0).tolist())
"""Their leans: to the fake bundles a logit of -1 is usual."""

CLASSES = {1: (0.5, 0.25, 0.25), 0: (0.25, 0.5, 0.25), -1: (0.25, 0.25, 0.5)}


def bars(symbol: str, timeframe: Timeframe, *, end: int = NOON, count: int = 720) -> CandleFrame:
    """Bars whose last one closes at ``end`` and at a price that names the timeframe: 1.15, 1.3, 2 and 5."""
    length = timeframe.milliseconds
    time = np.arange(end - count * length, end, length, dtype=np.int64)
    close = np.full(count, 1.0 + length / 3_600_000) if timeframe in (Timeframe.H1, Timeframe.H4) else None
    close = np.full(count, 1.0 + int(timeframe.value[:-1]) / 100) if close is None else close
    return CandleFrame(symbol, timeframe, time, close, close + 0.01, close - 0.01, close, np.full(count, 7.0))


def answer(frame: CandleFrame, *warnings: str, source: str = "files", market_open: bool = True) -> CandleAnswer:
    return CandleAnswer(frame, source, False, warnings, market_open, NOON)


@dataclass
class FakeCandles:
    """Answers with `bars` up to ``now``, or what ``replies`` says for a timeframe."""

    replies: Mapping[Timeframe, CandleAnswer | FusionTradeError] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    now: int = NOON

    def many(
        self, symbol: Symbol, timeframes: Iterable[Timeframe], *, count: int, as_of: int | None, deadline: Deadline
    ) -> dict[Timeframe, CandleAnswer | FusionTradeError]:
        self.asked.append({"symbol": symbol.code, "count": count, "as_of": as_of, "seconds": deadline.remaining()})
        end = as_of or self.now
        return {
            timeframe: self.replies.get(timeframe)
            or answer(bars(symbol.code, timeframe, end=end - end % timeframe.milliseconds, count=count))
            for timeframe in timeframes
        }


def forecast(
    item: ForecastItem, lstm: int | None, patchtst: int | None, own: CalibrationState = OWN_STATE
) -> ItemForecast:
    """The container's answer to ``item`` with these votes; ATR is 1 % of the close, ``own`` the bundle's state."""
    close = item.candles.close[-1]
    atr = close / 100
    votes = lstm or 0
    raw = (close - 1.5 * atr, close + 1.5 * atr)
    state = item.state if item.state and item.state.version == own.version else own
    chances = moved(BASE_CHANCES, BASE_LEANS, state.offsets, state.slopes, state.bends).tolist()
    return ItemForecast(
        symbol=item.symbol,
        timeframe=item.timeframe,
        bar_close=item.candles.time[-1] + item.timeframe.milliseconds,
        current_price=close,
        atr=atr,
        lstm=None
        if lstm is None
        else LstmForecast(
            model=ModelReference(id=f"lstm-{item.timeframe}", version=own.version),
            probability_up=0.5 + votes / 8,
            abstain_below=0.45,
            abstain_above=0.55,
            direction_accuracy=51.5,
            change=votes / 4,
            change_scale=0.5,
            predicted_price=close + votes / 4 * atr,
            interval_90=corrected(*raw, state.lower, state.upper),
            interval_raw=raw,
            state=state,
            horizon_bars=4,
            expected_range=2 * atr,
            touch_up=chances[:5],
            touch_down=chances[5:10],
            touch_either=chances[10:15],
            win_long=chances[15],
            win_short=chances[16],
            leans=BASE_LEANS,
        ),
        patchtst=None
        if patchtst is None
        else PatchTstForecast(
            model=ModelReference(id=f"patchtst-{item.timeframe}", version="bbbbbbbbbbbb"),
            **dict(zip(("up", "flat", "down"), CLASSES[patchtst], strict=True)),
            abstains=False,
        ),
    )


Votes = Mapping[Timeframe, tuple[int | None, int | None] | ItemError]


def received(body: bytes) -> ForecastRequest:
    """The request in a binary body, its columns as lists."""
    return ForecastRequest(
        items=[
            ForecastItem.model_validate(
                vars(item)
                | {
                    "candles": {
                        name: None if value is None else value.tolist() for name, value in vars(item.candles).items()
                    }
                }
            )
            for item in wire.decode(body).items
        ]
    )


@dataclass
class FakeEndpoint:
    """Our Endpoint port, answering the contract; ``change`` may spoil the bytes on their way."""

    votes: Votes = field(default_factory=lambda: dict.fromkeys(INTRADAY, (1, 1)))
    change: Callable[[bytes], bytes] = bytes
    requests: list[ForecastRequest] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    own: CalibrationState = OWN_STATE

    def invoke(self, body: bytes, *, content_type: str, timeout: float) -> bytes:
        assert content_type == wire.NPY
        request = received(body)
        self.requests.append(request)
        self.timeouts.append(timeout)
        response = ForecastResponse(items=[self._item(item) for item in request.items])
        return self.change(response.model_dump_json().encode())

    def _item(self, item: ForecastItem) -> ItemForecast:
        said = self.votes[item.timeframe]
        if isinstance(said, ItemError):
            return ItemForecast(symbol=item.symbol, timeframe=item.timeframe, error=said)
        return forecast(item, *said, own=self.own)


@dataclass
class FakeCalibrationStates:
    """Our CalibrationStates port in memory; it counts what it is asked and does not answer while ``down``."""

    items: dict[str, Kept] = field(default_factory=dict)
    down: bool = False
    reads: int = 0
    writes: int = 0

    def read(self, symbol: Symbol) -> Kept:
        self.reads += 1
        self._answer()
        return self.items.get(symbol.code, Kept())

    def write(self, symbol: Symbol, kept: Kept) -> None:
        self.writes += 1
        self._answer()
        if self.items.get(symbol.code, Kept()).revision == kept.revision:
            self.items[symbol.code] = replace(kept, revision=kept.revision + 1)

    def _answer(self) -> None:
        if self.down:
            raise StateUnavailable("the database did not answer: ConnectTimeoutError", retry_after=5)
