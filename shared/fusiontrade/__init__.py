"""FusionTrade: market forecasts that are journaled before the outcome and settled against the market."""

__version__ = "0.1.0"
