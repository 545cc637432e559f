"""Swing features: what the daily models see, the same in training and in serving.

`vectors` holds the layouts (29 of context, 541, 551); `alignment`, `smart_money` (on `structure`) and `technical` the
columns of the context, `price` the window of candles; `cross_section` ranks the stocks of a run among each other. Row t
is a function of the newest 600 daily bars; the first 599 rows are NaN. No frame is changed; no file, no clock.
"""

from serving.features.swing.alignment import ALIGNMENT, alignment
from serving.features.swing.cross_section import (
    CROSS_SECTION_NAMES,
    CROSS_SECTION_VERSION,
    Market,
    cross_section,
)
from serving.features.swing.price import PRICE_LENGTH, price_windows
from serving.features.swing.smart_money import SMART_MONEY, smart_money
from serving.features.swing.technical import TECHNICAL, technical
from serving.features.swing.vectors import (
    CONTEXT_NAMES,
    EMBEDDING_NAMES,
    PREDICTION_NAMES,
    SWING_NAMES,
    SWING_VERSION,
    UNCERTAINTY_NAMES,
    VETO_NAMES,
    context,
    swing_vectors,
    veto_vectors,
)

__all__ = [
    "ALIGNMENT",
    "CONTEXT_NAMES",
    "CROSS_SECTION_NAMES",
    "CROSS_SECTION_VERSION",
    "EMBEDDING_NAMES",
    "PREDICTION_NAMES",
    "PRICE_LENGTH",
    "SMART_MONEY",
    "SWING_NAMES",
    "SWING_VERSION",
    "TECHNICAL",
    "UNCERTAINTY_NAMES",
    "VETO_NAMES",
    "Market",
    "alignment",
    "context",
    "cross_section",
    "price_windows",
    "smart_money",
    "swing_vectors",
    "technical",
    "veto_vectors",
]
