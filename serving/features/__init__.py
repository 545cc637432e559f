"""Features: what the models see of the candles, the same in training and in serving.

Pure calculation over `fusiontrade.market.candles.CandleFrame`; no pandas, no files, no clock.
"""

from serving.features.activity import VOLATILITY, volatility_columns
from serving.features.bars import WINDOW
from serving.features.calendar import CALENDAR, calendar_columns
from serving.features.columns import FEATURE_VERSION, INDICATORS, Indicators, atr, indicators, unrest_of
from serving.features.inputs import (
    BARS_NEEDED,
    CANDLE_CHANNELS,
    LSTM_LENGTH,
    PATCHTST_BARS_NEEDED,
    PATCHTST_LENGTH,
    CandleWindows,
    LstmWindows,
    gather,
)
from serving.features.newest import NewestInputs, lstm_inputs, patchtst_inputs
from serving.features.season import activity, slots, slots_a_week, usual_activity, usual_week
from serving.features.volume import VOLUME_COLUMNS

__all__ = [
    "BARS_NEEDED",
    "CALENDAR",
    "CANDLE_CHANNELS",
    "FEATURE_VERSION",
    "INDICATORS",
    "LSTM_LENGTH",
    "PATCHTST_BARS_NEEDED",
    "PATCHTST_LENGTH",
    "VOLATILITY",
    "VOLUME_COLUMNS",
    "WINDOW",
    "CandleWindows",
    "Indicators",
    "LstmWindows",
    "NewestInputs",
    "activity",
    "atr",
    "calendar_columns",
    "gather",
    "indicators",
    "lstm_inputs",
    "patchtst_inputs",
    "slots",
    "slots_a_week",
    "unrest_of",
    "usual_activity",
    "usual_week",
    "volatility_columns",
]
