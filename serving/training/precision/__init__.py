"""Graphs of lower precision: made, set against the f32 graph on held-out windows, and taken only where that is proven.

Training does it for each new bundle; `python -m serving.training.precision --help` for bundles that exist. `choosing`,
`variants` and `cost` know no network, `intraday` knows what is decided from the intraday models, `daily` from the daily
ones.
"""
