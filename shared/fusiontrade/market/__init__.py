"""Market data: symbols, timeframes, candles, calendars, providers, and the source that stands in front of them."""
