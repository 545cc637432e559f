"""The JSON of a small study, made up: what `serving.evaluation.study.running.study` returns."""

from __future__ import annotations

from typing import Any


def figure(value: float, half: float = 0.01, n: int = 6000) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def error(value: float, floor: float) -> dict[str, Any]:
    return {"value": value, "noise_floor": floor, "n": 6000}


def lstm_figures(pinball: float = 0.94) -> dict[str, Any]:
    return {
        "pinball_ratio": figure(pinball),
        "coverage_90": figure(0.901),
        "either_touch_auc": figure(0.755),
        "either_touch_skill_over_climatology": figure(0.055),
        "touch_up_1_auc": figure(0.65),
        "touch_down_1_auc": figure(0.64),
        "touch_either_1_ece": error(0.012, 0.006),
        "direction_log_loss_skill": figure(0.001, 0.002),
        "direction_ece": error(0.005, 0.004),
        "baseline_climatology_either_touch_auc": figure(0.71),
    }


def bins(offset: float = 0.0) -> list[dict[str, Any]]:
    return [
        {
            "forecast": place / 10 + offset,
            "observed": place / 10,
            "low": place / 10 - 0.02,
            "high": place / 10 + 0.02,
            "joint_low": place / 10 - 0.04,
            "joint_high": place / 10 + 0.04,
            "n": 100,
        }
        for place in range(1, 10)
    ]


def lstm_part() -> dict[str, Any]:
    curve = [0.0, 0.5, 1.0]
    return {
        "figures": {
            "all": lstm_figures(0.95),
            "reference_five": lstm_figures(),
            "by_symbol": {"BTC-USD": lstm_figures(), "EURUSD=X": lstm_figures(0.96)},
        },
        "against": [
            {
                "loss": "pinball, next bar",
                "baseline": "rolling",
                "by_symbol": {
                    "BTC-USD": {"difference": -0.1, "p_better": 0.001, "adjusted": 0.002},
                    "EURUSD=X": {"difference": 0.1, "p_better": 0.99, "adjusted": 0.99},
                },
            }
        ],
        "reliability": {"win_long": bins(), "win_short": bins(0.03)},
        "coverage": {
            "by_quintile": [figure(0.9)] * 5,
            "quintile_spread": figure(0.02),
            "by_symbol": {"BTC-USD": {"by_quintile": [figure(0.91)] * 5, "quintile_spread": figure(0.03)}},
            "by_month": {"BTC-USD": [{"month": "2024-11"} | figure(0.9), {"month": "2024-12"} | figure(0.91)]},
        },
        "curves": {
            "roc": {"direction": {"false_positive_rate": curve, "true_positive_rate": curve}},
            "pr": {"direction": {"recall": curve, "precision": curve}},
            "sweep": {
                "direction": {"share": curve, "half_width": curve, "accuracy": curve, "standard_error": curve},
                "win_long": dict.fromkeys(("threshold", "share", "precision", "recall", "f1", "accuracy"), curve),
            },
        },
    }


def timeframe_part() -> dict[str, Any]:
    return {
        "timeframe": "1h",
        "data": {
            "same": False,
            "series": [
                {
                    "symbol": "BTC-USD",
                    "status": "same",
                    "rows": 47440,
                    "first": "2020-01-01T00:00:00Z",
                    "last": "2025-05-31T23:00:00Z",
                    "sha256": "0" * 64,
                    "judged_rows": 6000,
                },
                {
                    "symbol": "EURUSD=X",
                    "status": "missing",
                    "rows": 0,
                    "first": None,
                    "last": None,
                    "sha256": None,
                    "judged_rows": 0,
                },
            ],
        },
        "judged": {
            "rows": 6000,
            "series": ["BTC-USD", "EURUSD=X"],
            "from": "2024-11-01T00:00:00Z",
            "to": "2025-05-31T00:00:00Z",
            "cuts": [],
        },
        "lstm": lstm_part(),
        "walk_forward": [
            {"from": f"202{year}-01-01T00:00:00Z", "to": f"202{year}-07-01T00:00:00Z", "rows": 500, "trained_on": 900}
            | {"figures": {"baseline_lightgbm_pinball_ratio": figure(0.95 + year / 1000)}}
            for year in (2, 3)
        ],
        "left_out": {
            "by_symbol": {
                "BTC-USD": {
                    "either_touch_auc": {
                        "full": figure(0.75),
                        "left_out": figure(0.7),
                        "difference": figure(-0.05, 0.01),
                    }
                }
            }
        },
    }


def sample_study() -> dict[str, Any]:
    from serving.evaluation.study.acceptance import acceptance

    timeframes = {"1h": timeframe_part()}
    return {
        "schema": 1,
        "run": {
            "started": "2026-11-21T15:00:00Z",
            "seconds": 61.0,
            "seconds_by_part": {"1h": 60.0},
            "cores": 2,
            "processes": 2,
            "python": "3.11.2",
            "system": "Linux x86_64",
            "command": "python -m serving.evaluation --data candles --bundles b --out o",
        },
        "settings": {
            "seed": 1,
            "resamples": 10,
            "until": None,
            "reference_five": ["BTC-USD"],
            "fusiontrade": "0.1.0",
            "libraries": {"numpy": "2.4.6"},
        },
        "bundles": [
            {
                "model_id": "lstm-1h",
                "version": "0123456789ab",
                "kind": "lstm",
                "timeframe": "1h",
                "universe": ["BTC-USD", "EURUSD=X"],
                "trained_from": "2020-02-01T00:00:00Z",
                "trained_until": "2023-02-01T00:00:00Z",
                "calibrated_until": "2024-10-29T00:00:00Z",
                "judged_from": "2024-11-01T00:00:00Z",
                "seed": 20240,
                "code_version": "0.1.0",
                "data_fingerprint": "f" * 64,
            }
        ],
        "warnings": ["1h: not in the folder, or too few bars: EURUSD=X."],
        "acceptance": acceptance(timeframes),
        "timeframes": timeframes,
    }
