"""What a request may carry: bounds that keep one item from costing the others."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fusiontrade.inference.contract import ForecastItem

COLUMNS = {"time": [0], "open": [1.0], "high": [1.0], "low": [1.0], "close": [1.0]}


@pytest.mark.parametrize("symbol", ["", "X" * 65])
def test_a_symbol_without_or_with_too_many_characters_is_refused(symbol: str) -> None:
    with pytest.raises(ValidationError, match="symbol"):
        ForecastItem.model_validate({"symbol": symbol, "timeframe": "1h", "candles": COLUMNS})
