"""Where candles come from: one small protocol, one module a provider."""
