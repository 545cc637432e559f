"""A fused forecast recomputed from Parquet files alone, by another way than the product's.

Bars are read with pandas and resampled with pandas; features are computed once over the whole history, as training
does, and the window of the moment is cut out of them; graphs run in a session of their own. Shared with the product
are the definitions themselves: indicators, calibration, agreement.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pandas as pd

from fusiontrade.clock import iso
from fusiontrade.fusion.agreement import Fusion, LstmView, PatchTstView, TimeframeView, fuse
from fusiontrade.inference.contract import (
    TOUCH_LEVELS,
    CandleColumns,
    ForecastItem,
    LstmForecast,
    Market,
    PatchTstForecast,
)
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import INTRADAY, Timeframe
from serving.card import ModelCard
from serving.features import CandleWindows, LstmWindows, atr, unrest_of, usual_week, volatility_columns
from serving.forecasting import Newest, lstm_forecast, patchtst_forecasts

LONG_PAST = 5000
WITHOUT_VOLUME = ("=X", "=F")
COLUMNS = ["open", "high", "low", "close", "volume"]


@dataclass(frozen=True)
class Model:
    """One bundle: its card, and its graph in a session of its own."""

    card: ModelCard
    session: ort.InferenceSession

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read the bundle in ``folder`` without any of the serving program's checks."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        return cls(ModelCard.model_validate_json((folder / "model.json").read_bytes()), session)

    def run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the raw outputs by name."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, inputs), strict=True))


@dataclass(frozen=True, eq=False)
class Series:
    """All bars of one symbol and timeframe, with the features of every row computed at once."""

    frame: CandleFrame

    @cached_property
    def lstm(self) -> LstmWindows:
        """Indicators and calendar of the whole history."""
        return LstmWindows.of(self.frame)

    @cached_property
    def patchtst(self) -> CandleWindows:
        """Candle windows of the whole history."""
        return CandleWindows.of(self.frame)

    @cached_property
    def atr(self) -> np.ndarray:
        """ATR(14) of the whole history."""
        return atr(self.frame)

    @cached_property
    def market(self) -> Market:
        """Kind of market."""
        return parse_symbol(self.frame.symbol).asset_class.value

    def volatility(self, model: Model, row: int) -> np.ndarray:
        """Return (1, V) scaled season-adjusted volatility of ``row``, from far more history than is served."""
        past = self.frame.rows(slice(max(0, row + 1 - LONG_PAST), row + 1))
        usual = usual_week(model.card.season, past, self.market)
        return model.card.volatility_scaler.apply(volatility_columns(past, usual)[-1:])

    def row(self, instant: int) -> int:
        """Return the newest row that was finished at ``instant``."""
        return int(np.searchsorted(self.frame.close_time, instant, side="right")) - 1


def read_series(folder: Path, symbol: str) -> dict[Timeframe, Series]:
    """Return the four intraday timeframes of ``symbol`` from the folder's Parquet files."""
    files = tomllib.loads((folder / "instruments.toml").read_text())["symbols"][symbol]["files"]
    tables = {name: pd.read_parquet(folder / path).set_index("timestamp") for name, path in files.items()}
    if "30m" not in tables:
        tables["30m"] = resampled(tables["15m"], "30min", "UTC", "start_day")
    crypto = symbol.endswith("-USD")
    zone, origin = ("UTC", "start_day") if crypto else ("America/New_York", "17:00")
    tables["4h"] = resampled(tables["1h"], "4h", zone, origin)
    return {timeframe: Series(_frame(symbol, timeframe, tables[timeframe.value])) for timeframe in INTRADAY}


def resampled(table: pd.DataFrame, rule: str, zone: str, origin: str) -> pd.DataFrame:
    """Return coarser bars on the wall clock of ``zone``, counted from ``origin``."""
    local = table.tz_localize("UTC") if pd.DatetimeIndex(table.index).tz is None else table
    wall = local.tz_convert(zone).tz_localize(None)
    start = pd.Timestamp("2000-01-01 17:00") if origin == "17:00" else origin
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    bars = wall[COLUMNS].resample(rule, origin=start).agg(rules).dropna(subset=["open"])
    return bars.tz_localize(zone).tz_convert("UTC")


def _frame(symbol: str, timeframe: Timeframe, table: pd.DataFrame) -> CandleFrame:
    index = pd.DatetimeIndex(table.index)
    index = index if index.tz is None else index.tz_localize(None)
    time = index.to_numpy().astype("datetime64[ms]").astype(np.int64)
    columns = {name: table[name].to_numpy(np.float64) for name in COLUMNS}
    frame = CandleFrame(symbol, timeframe, time, **columns)
    return replace(frame, volume=None) if symbol.endswith(WITHOUT_VOLUME) else frame


def expected(
    series: dict[Timeframe, Series], models: dict[tuple[str, Timeframe], Model], instant: int
) -> dict[str, Any]:
    """Return the numbers of the *FusionResponse* that ``instant`` should give, in its own field names."""
    views, blocks, outlooks = [], {}, {}
    for timeframe, one in series.items():
        row = one.row(instant)
        lstm, patchtst = _lstm(one, models["lstm", timeframe], row), _patchtst(one, models["patchtst", timeframe], row)
        blocks[timeframe.value] = _block(one, row, lstm, patchtst)
        outlooks[timeframe] = lstm
        views.append(
            TimeframeView(
                timeframe,
                LstmView(lstm.probability_up, lstm.abstain_below, lstm.abstain_above, lstm.change, lstm.change_scale),
                PatchTstView(patchtst.up, patchtst.flat, patchtst.down, patchtst.abstains),
            )
        )
    fusion = fuse(views)
    newest = max(series.values(), key=lambda one: int(one.frame.close_time[one.row(instant)]))
    row = newest.row(instant)
    return {
        "master_fusion_score": fusion.score,
        "verdict": fusion.text,
        "as_of": iso(int(newest.frame.close_time[row])),
        "timeframes": blocks,
        "targets": _targets(fusion, blocks, outlooks, float(newest.frame.close[row])),
    }


def _lstm(one: Series, model: Model, row: int) -> LstmForecast:
    features, calendar = one.lstm.gather([row])
    scaler = model.card.scaler
    if scaler is None:
        raise ValueError(f"{model.card.model_id} has no scaler")
    volatility = one.volatility(model, row)
    outputs = model.run({"features": scaler.apply(features), "calendar": calendar, "volatility": volatility})
    frame = one.frame
    item = ForecastItem(
        symbol=frame.symbol, timeframe=frame.timeframe, candles=CandleColumns.of(frame.tail(1)), market=one.market
    )
    newest = Newest([frame.close[row]], [one.atr[row]], unrest_of(features[:, -1]))
    return lstm_forecast(model.card, outputs, newest, item)


def _patchtst(one: Series, model: Model, row: int) -> PatchTstForecast:
    candles, calendar = one.patchtst.gather([row])
    inputs = {"candles": candles, "calendar": calendar, "volatility": one.volatility(model, row)}
    return patchtst_forecasts(model.card, model.run(inputs))[0]


def _block(one: Series, row: int, lstm: LstmForecast, patchtst: PatchTstForecast) -> dict[str, Any]:
    return {
        "current_price": float(one.frame.close[row]),
        "bar_close": iso(int(one.frame.close_time[row])),
        "atr": float(one.atr[row]),
        "predicted_price": lstm.predicted_price,
        "calibrated_prob_up": lstm.probability_up,
        "interval_90": list(lstm.interval_90),
        "expected_range": lstm.expected_range,
        "patchtst_prob_up": patchtst.up,
        "patchtst_prob_flat": patchtst.flat,
        "patchtst_prob_down": patchtst.down,
        "touch": {"up": _levels(lstm.touch_up), "down": _levels(lstm.touch_down)},
    }


def _levels(probabilities: list[float]) -> dict[str, float]:
    return {f"{level:g}": chance for level, chance in zip(TOUCH_LEVELS, probabilities, strict=True)}


def _targets(
    fusion: Fusion, blocks: dict[str, Any], outlooks: dict[Timeframe, LstmForecast], entry: float
) -> dict[str, float | None]:
    side = {"BUY": 1, "SELL": -1}.get(fusion.text.split()[-1], 0)
    if not side:
        return {"tp1": None, "tp2": None, "tp3": None, "sl": None, "p_win": None}
    voting = [t for t in INTRADAY if any(v.timeframe is t and side in (v.lstm, v.patchtst) for v in fusion.votes)]
    chosen = voting[-1]
    unit, lstm = blocks[chosen.value]["atr"], outlooks[chosen]
    distances = {"tp1": 2.0, "tp2": 3.0, "tp3": 4.0, "sl": -1.5}
    prices: dict[str, float | None] = {name: entry + side * k * unit for name, k in distances.items()}
    return prices | {"atr": unit, "p_win": lstm.win_long if side > 0 else lstm.win_short}
