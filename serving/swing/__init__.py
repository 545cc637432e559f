"""Daily forecasts as they are served: two models of returns, a veto, and what their bundle says of itself. No torch."""

from serving.swing.bundle import Encoding, SwingBundle, load_swing
from serving.swing.card import HORIZONS, SwingCard
from serving.swing.forecasting import SwingForecast

__all__ = ["HORIZONS", "Encoding", "SwingBundle", "SwingCard", "SwingForecast", "load_swing"]
