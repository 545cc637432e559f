"""What could have been said without a sequence model: the references every figure is set against.

Each sees only what was known when it spoke: rates, seasons and fits come from the training span, quantiles from the
bars before.
"""

from serving.evaluation.baselines.boosting import Boosting, BoostingSettings
from serving.evaluation.baselines.rates import climatology, logistic, rates_by_series, rolling_quantiles
from serving.evaluation.baselines.season import seasonal_sizes, slots_to_come
from serving.evaluation.baselines.volatility import NextBar, ewma_quantiles, garch_quantiles

__all__ = [
    "Boosting",
    "BoostingSettings",
    "NextBar",
    "climatology",
    "ewma_quantiles",
    "garch_quantiles",
    "logistic",
    "rates_by_series",
    "rolling_quantiles",
    "seasonal_sizes",
    "slots_to_come",
]
