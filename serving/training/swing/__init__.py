"""The daily models from daily bars: read, label, split by date, fit, calibrate, judge once, write one bundle."""

from serving.training.swing.config import RankerConfig, SwingConfig
from serving.training.swing.daily import DailySeries, has_daily, read_daily
from serving.training.swing.pipeline import train_swing

__all__ = ["DailySeries", "RankerConfig", "SwingConfig", "has_daily", "read_daily", "train_swing"]
