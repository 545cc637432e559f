"""A published example of the answer, for the API's documentation; a test holds it to the model."""

from __future__ import annotations

from typing import Any

__all__ = ["FUSION_EXAMPLE"]


def _touch(*up: float) -> dict[str, dict[str, float]]:
    names = ("1", "1.5", "2", "3", "4")
    return {"up": dict(zip(names, up, strict=True)), "down": dict(zip(names, up, strict=True))}


def _timeframe(lstm: str, probability: float, atr: float, touch: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {
        "lstm": lstm,
        "patchtst": "BUY",
        "agreement": 1.0 if lstm == "BUY" else 0.5,
        "lstm_confidence": 0.31,
        "lstm_direction_confidence": probability,
        "lstm_direction_accuracy": 51.6,
        "patchtst_confidence": 0.18,
        "patchtst_prob_up": 0.45,
        "patchtst_prob_flat": 0.2,
        "patchtst_prob_down": 0.35,
        "current_price": 1.1432,
        "predicted_price": 1.1434,
        "interval_90": [1.1432 - 1.3 * atr, 1.1432 + 1.3 * atr],
        "calibrated_prob_up": probability,
        "atr": atr,
        "expected_range": 2.1 * atr,
        "horizon_bars": 4,
        "bar_close": "2025-07-31T12:00:00Z",
        "touch": touch,
    }


FUSION_EXAMPLE: dict[str, Any] = {
    "symbol": "EURUSD=X",
    "master_fusion_score": 61.9,
    "verdict": "MODERATE BUY",
    "logic": {"primary_lstm": "BUY", "secondary_patchtst": "BUY", "confluence": True},
    "timeframes": {
        "15m": _timeframe("HOLD", 0.502, 0.0006, _touch(0.44, 0.27, 0.17, 0.06, 0.02)),
        "30m": _timeframe("BUY", 0.521, 0.0009, _touch(0.45, 0.28, 0.17, 0.06, 0.02)),
        "1h": _timeframe("BUY", 0.534, 0.0013, _touch(0.46, 0.29, 0.18, 0.07, 0.02)),
        "4h": _timeframe("HOLD", 0.5, 0.0028, _touch(0.47, 0.3, 0.19, 0.08, 0.03)),
    },
    "targets": {
        "tp1": 1.1488,
        "tp2": 1.1516,
        "tp3": 1.1544,
        "sl": 1.139,
        "atr": 0.0028,
        "p_win": 0.16,
        "horizon_bars": 4,
        "entry": 1.1432,
        "timeframe": "4h",
        "touch": _touch(0.47, 0.3, 0.19, 0.08, 0.03),
    },
    "reasoning": "EURUSD=X: MODERATE BUY, score 62 of 100. The weighted votes of LSTM and PatchTST both say BUY.",
    "sentiment": None,
    "llm_analysis": None,
    "as_of": "2025-07-31T12:00:00Z",
    "market_open": True,
    "data_source": "yahoo",
    "models": [
        {"timeframe": "1h", "id": "lstm-1h", "version": "3f0c1c9e7c0f"},
        {"timeframe": "1h", "id": "patchtst-1h", "version": "a41be20d99c3"},
    ],
    "warnings": ["sentiment is null: no news source is configured"],
}
