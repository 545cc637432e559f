"""Orders, positions and money: the same event loop for backtests and paper trading."""
