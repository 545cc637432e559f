"""Forecasts written before the outcome and settled against the market."""
