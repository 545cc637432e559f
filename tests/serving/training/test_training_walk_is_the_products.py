"""Training's walk and the product's are one: the same forecasts and bars move the same things by the same amounts."""

from __future__ import annotations

import numpy as np
import pytest
from training_data import candles

from fusiontrade.fusion.calibration_states import Tracked, issued, settled
from fusiontrade.inference.contract import CHANCES, CalibrationState, ItemForecast, LstmForecast, ModelReference
from fusiontrade.inference.probabilities import logits, moved
from fusiontrade.journal.outcomes import HORIZON_BARS, touches, wins
from fusiontrade.market.timeframes import Timeframe
from serving.forecasting import consistent
from serving.training.judging.walking import STILL, Lived, walked

H1 = Timeframe.H1
FIRST, LAST = 50, 250
BARS = candles("BTC-USD", LAST + HORIZON_BARS + 1, 7)


def told(row: int, chances: np.ndarray, leans: np.ndarray, atr: float, state: CalibrationState) -> ItemForecast:
    """The container's answer at the close of a bar: these probabilities moved by ``state``."""
    close = float(BARS.close[row])
    said = consistent(moved(chances, leans, state.offsets, state.slopes, state.bends)[None])[0].tolist()
    lstm = LstmForecast(
        model=ModelReference(id="lstm-1h", version="a"),
        probability_up=0.5,
        abstain_below=0.0,
        abstain_above=1.0,
        direction_accuracy=None,
        change=0.0,
        change_scale=1.0,
        predicted_price=close,
        interval_90=(close - atr, close + atr),
        interval_raw=(close - atr, close + atr),
        state=state,
        horizon_bars=HORIZON_BARS,
        expected_range=atr,
        touch_up=said[:5],
        touch_down=said[5:10],
        touch_either=said[10:15],
        win_long=said[15],
        win_short=said[16],
        leans=tuple(leans.tolist()),
    )
    return ItemForecast(
        symbol="BTC-USD",
        timeframe=H1,
        bar_close=int(BARS.close_time[row]),
        current_price=close,
        atr=atr,
        lstm=lstm,
    )


def test_the_product_moves_forecasts_as_training_and_evaluation_do() -> None:
    rng, rows = np.random.default_rng(11), np.arange(FIRST, LAST)
    chances = consistent(rng.uniform(0.05, 0.95, (len(rows), CHANCES)))
    leans = logits(chances) - logits(chances).mean(axis=0)
    atr = rng.uniform(0.1, 0.6, len(rows))
    ahead = rows[:, None] + 1 + np.arange(HORIZON_BARS)
    entry, (opened, high, low) = BARS.close[rows], (price[ahead] for price in (BARS.open, BARS.high, BARS.low))
    came = np.concatenate((touches(entry, atr, high, low), wins(entry, atr, opened, high, low)), axis=1)
    path = walked(
        Lived(
            low=entry - atr,
            high=entry + atr,
            outcome=BARS.close[rows + 1],
            chances=chances,
            leans=leans,
            came=came.astype(np.float64),
            made_at=BARS.close_time[rows],
            known_at=BARS.close_time[rows + HORIZON_BARS],
        ),
        STILL,
    )
    own = CalibrationState(**dict(STILL), version="a", revision=0, as_of=0)
    states: dict[Timeframe, Tracked] = {}
    for place, row in enumerate(rows.tolist()):
        states = settled(states, {H1: BARS.rows(slice(0, row + 1))})
        state = states[H1].state if states else own
        assert (state.lower, state.upper) == pytest.approx((path.lower[place], path.upper[place]), abs=1e-12)
        assert state.offsets == pytest.approx(path.offsets[place], abs=1e-12)
        assert state.slopes == pytest.approx(path.slopes[place], abs=1e-12)
        assert state.bends == pytest.approx(path.bends[place], abs=1e-12)
        states = issued(states, {H1: told(row, chances[place], leans[place], float(atr[place]), state)})
    assert np.abs(path.offsets[-1]).max() > 0.05
    assert np.abs(path.slopes[-1]).max() > 0.05
    assert np.abs(path.bends[-1]).max() > 0.025
    assert len(states[H1].waiting) == HORIZON_BARS
