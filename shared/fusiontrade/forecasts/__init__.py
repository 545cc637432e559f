"""Forecasts that nobody waits for: jobs, runs over many symbols, and the worker that does both."""
