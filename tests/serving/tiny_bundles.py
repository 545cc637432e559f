"""Valid bundles of a few hundred bytes, candles to ask them with, and the program to serve them: for tests.

The graphs are written node by node, so no torch is needed. What an LSTM graph answers depends on the mean of its
scaled rsi column over the window: calm candles keep it near 0, rising ones bring it above 0.2, where a graph that is
told to misbehave does so. Neutral self-test windows are 0 and pass.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fusiontrade.inference.contract import CHANCES, TOUCH_LEVELS, CandleColumns
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import GRAPH, REPORT, write_card, write_manifest
from serving.card import HEADS, ModelCard
from serving.features import CALENDAR, CANDLE_CHANNELS, FEATURE_VERSION, INDICATORS, VOLATILITY, WINDOW

ROOT = Path(__file__).resolve().parents[2]
Behaviour = Literal["calm", "nan", "raises", "slow"]
TIMEFRAMES = ("15m", "30m", "1h", "4h")
MONDAY = 1_704_067_200_000

LSTM_WIDTHS = {"direction": 0, "change": 0, "quantiles": 5, "touch": 3 * len(TOUCH_LEVELS), "win": 2, "log_range": 0}


def lstm_graph(
    behaviour: Behaviour = "calm", *, widths: dict[str, int] | None = None, volatility: int = len(VOLATILITY)
) -> bytes:
    """An LSTM's inputs and outputs; every output is affine in the mean of the rsi column."""
    rsi = INDICATORS.index("rsi")
    constants = {
        "rsi": np.array([rsi], np.int64),
        "last_axis": np.array([2], np.int64),
        "all_but_batch": np.array([1, 2], np.int64),
        "column_axis": np.array([1], np.int64),
        "threshold": np.array(0.2, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["features", "rsi"], ["picked"], axis=2),
        helper.make_node("ReduceMean", ["picked", "all_but_batch"], ["mean"], keepdims=0),
        helper.make_node("ReduceMean", ["calendar", "all_but_batch"], ["season"], keepdims=0),
        helper.make_node("ReduceMean", ["volatility", "column_axis"], ["activity"], keepdims=0),
        helper.make_node("Add", ["season", "activity"], ["unused"]),
        helper.make_node("Add", ["mean", "unused"], ["both"]),
        helper.make_node("Sub", ["both", "unused"], ["raw_signal"]),
        *_misbehaviour(behaviour, constants),
        helper.make_node("Unsqueeze", ["signal", "column_axis"], ["column"]),
    ]
    for name, width in (widths or LSTM_WIDTHS).items():
        slope = np.linspace(-0.5, 0.5, width or 1).astype(np.float32)[None, :]
        constants[f"{name}_slope"] = slope if width else np.array(0.3, np.float32)
        constants[f"{name}_bias"] = np.linspace(-1.0, 1.0, width).astype(np.float32) if width else np.float32(0.1)
        nodes.append(
            helper.make_node(
                "MatMul" if width else "Mul", ["column" if width else "signal", f"{name}_slope"], [f"{name}_raw"]
            )
        )
        nodes.append(helper.make_node("Add", [f"{name}_raw", f"{name}_bias"], [name]))
    inputs = {"features": (60, len(INDICATORS)), "calendar": (60, len(CALENDAR)), "volatility": (volatility,)}
    return _model(nodes, inputs, widths or LSTM_WIDTHS, constants)


def patchtst_graph(channels: int = 5) -> bytes:
    """A PatchTST's inputs and outputs; classes lean up where the window's closes lie below the last."""
    constants = {
        "close": np.array([3], np.int64),
        "all_but_batch": np.array([1, 2], np.int64),
        "column_axis": np.array([1], np.int64),
        "slope": np.array([[-0.3, 0.0, 0.3]], np.float32),
        "no_season": np.zeros((len(CALENDAR), 3), np.float32),
        "no_activity": np.zeros((len(VOLATILITY), 3), np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["candles", "close"], ["closes"], axis=2),
        helper.make_node("ReduceMean", ["closes", "all_but_batch"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "column_axis"], ["column"]),
        helper.make_node("MatMul", ["column", "slope"], ["leaning"]),
        helper.make_node("MatMul", ["calendar", "no_season"], ["season"]),
        helper.make_node("MatMul", ["volatility", "no_activity"], ["activity"]),
        helper.make_node("Add", ["leaning", "season"], ["seasonal"]),
        helper.make_node("Add", ["seasonal", "activity"], ["classes"]),
    ]
    inputs = {"candles": (120, channels), "calendar": (len(CALENDAR),), "volatility": (len(VOLATILITY),)}
    return _model(nodes, inputs, {"classes": 3}, constants)


def _misbehaviour(behaviour: Behaviour, constants: dict[str, Any]) -> list[onnx.NodeProto]:
    """From ``raw_signal`` to ``signal``, through whatever goes wrong where the signal exceeds the threshold."""
    if behaviour == "nan":
        return [
            helper.make_node("Sub", ["threshold", "raw_signal"], ["room"]),
            helper.make_node("Sqrt", ["room"], ["signal"]),
        ]
    if behaviour == "raises":
        constants["table"], constants["far"] = np.zeros(1, np.float32), np.array(100, np.int64)
        return [
            helper.make_node("Greater", ["raw_signal", "threshold"], ["above"]),
            helper.make_node("Cast", ["above"], ["one"], to=TensorProto.INT64),
            helper.make_node("Mul", ["one", "far"], ["place"]),
            helper.make_node("Gather", ["table", "place"], ["nothing"]),
            helper.make_node("Add", ["raw_signal", "nothing"], ["signal"]),
        ]
    if behaviour == "slow":
        return _slow(constants)
    return [helper.make_node("Identity", ["raw_signal"], ["signal"])]


def _slow(constants: dict[str, Any]) -> list[onnx.NodeProto]:
    """Half a second of work, or more, where any window of the batch exceeds the threshold."""
    constants["rounds"] = np.array(40_000, np.int64)
    constants["go_on"] = np.array(True)
    constants["work"] = np.full((96, 96), 1.0 / 96, np.float32)
    work_type = helper.make_tensor_value_info("w_in", TensorProto.FLOAT, [96, 96])
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["w_in", "w_in"], ["w_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            work_type,
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w_out", TensorProto.FLOAT, [96, 96]),
        ],
    )
    constants["batch_axis"], constants["nothing"] = np.array([0], np.int64), np.array(0.0, np.float32)
    constants["both_axes"] = np.array([0, 1], np.int64)
    return [
        helper.make_node("ReduceMax", ["raw_signal", "batch_axis"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "threshold"], ["above"]),
        helper.make_node("Cast", ["above"], ["one"], to=TensorProto.INT64),
        helper.make_node("Mul", ["one", "rounds"], ["turns"]),
        helper.make_node("Loop", ["turns", "go_on", "work"], ["worked"], body=body),
        helper.make_node("ReduceMean", ["worked", "both_axes"], ["result"], keepdims=0),
        helper.make_node("Mul", ["result", "nothing"], ["silence"]),
        helper.make_node("Add", ["raw_signal", "silence"], ["signal"]),
    ]


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, int],
    constants: dict[str, Any],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width] if width else ["batch"])
            for name, width in outputs.items()
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def card_content(kind: str, timeframe: str) -> dict[str, Any]:
    """A valid card as JSON values, to be changed by tests."""
    is_lstm = kind == "lstm"
    columns = INDICATORS if is_lstm else CANDLE_CHANNELS
    plain: dict[str, Any] = {"kind": "identity"} if is_lstm else {"kind": "temperature", "t": 2.0}
    return {
        "schema_version": 2,
        "model_id": f"{kind}-{timeframe}",
        "kind": kind,
        "timeframe": timeframe,
        "universe": ["EURUSD=X", "BTC-USD"],
        "horizon_bars": 4,
        "features": {
            "name": "indicators" if is_lstm else "candles",
            "version": FEATURE_VERSION,
            "window": WINDOW,
            "columns": list(columns),
            "calendar": list(CALENDAR),
            "volatility": list(VOLATILITY),
            "sequence": 60 if is_lstm else 120,
        },
        "config": {"layers": [1]},
        "scaler": {"center": [0.0] * len(columns), "scale": [1.0] * len(columns), "clip": 5.0} if is_lstm else None,
        "calibration": dict.fromkeys(HEADS[kind], plain),
        "season": {"any": [1.0] * (7 * 86_400_000 // Timeframe(timeframe).milliseconds)},
        "volatility_scaler": {"center": [0.0] * len(VOLATILITY), "scale": [1.0] * len(VOLATILITY), "clip": 5.0},
        "directions": {
            market: {"calibration": {"kind": "identity"}, "abstain_below": 0.48, "abstain_above": 0.52}
            for market in ("fx", "crypto", "EURUSD=X", "BTC-USD")
        }
        | {"any": {"calibration": {"kind": "platt", "a": 0.0, "b": 0.1}, "abstain_below": 0.0, "abstain_above": 1.0}}
        if is_lstm
        else {},
        "centres": [0.0] * CHANCES if is_lstm else [],
        "adjustments": {"any": {"lower": 0.05, "upper": 0.1, "offsets": [0.0] * CHANCES, "slopes": [0.0] * CHANCES}}
        if is_lstm
        else {},
        "thresholds": {"change_scale": 0.4} if is_lstm else None,
        "metrics": {"direction_accuracy": {"value": 0.53, "low": 0.5, "high": 0.56, "n": 1000}},
        "data": {
            "fingerprint": "tiny",
            "series": [{"symbol": "EURUSD=X", "rows": 1, "first": 0, "last": 1, "sha256": "0" * 64}],
        },
        "windows": {"train": [0, 1], "calibration": [1, 2], "test": [2, 3]},
        "code_version": "test",
        "seed": 1,
        "libraries": {"onnx": onnx.__version__},
    }


def report_content(card: dict[str, Any]) -> dict[str, Any]:
    """The least report that a bundle with this card may have."""
    return {
        "model_id": card["model_id"],
        "timeframe": card["timeframe"],
        "data_fingerprint": card["data"]["fingerprint"],
        "figures": {"pooled": {"rows": {"value": 1.0}} | card["metrics"]},
    }


def build_bundle(
    folder: Path,
    kind: str = "lstm",
    timeframe: str = "1h",
    *,
    graph: bytes | None = None,
    behaviour: Behaviour = "calm",
    **changes: Any,
) -> Path:
    """Write a bundle ``folder/<kind>-<timeframe>`` and return it; ``changes`` replace fields of its card."""
    content = card_content(kind, timeframe) | changes
    place = folder / f"{kind}-{timeframe}"
    place.mkdir(parents=True)
    if graph is None:
        graph = lstm_graph(behaviour) if kind == "lstm" else patchtst_graph()
    (place / GRAPH).write_bytes(graph)
    (place / REPORT).write_text(json.dumps(report_content(content)))
    write_card(place, ModelCard.model_validate_json(json.dumps(content)))
    write_manifest(place)
    return place


def candles(
    symbol: str = "EURUSD=X",
    timeframe: str = "1h",
    *,
    seed: int = 1,
    drift: float = 0.0,
    bars: int = 720,
    volume: bool = False,
) -> CandleFrame:
    """A random walk around ``drift`` per bar (in units of its volatility); 2 is a market that only rises."""
    random = np.random.default_rng(seed)
    log_close = np.cumsum((random.standard_normal(bars) * (0.2 if drift else 1.0) + drift) * 1e-4)
    close = 1.1 * np.exp(log_close)
    open_ = np.concatenate([close[:1], close[:-1]])
    length = Timeframe(timeframe).milliseconds
    return CandleFrame(
        symbol,
        Timeframe(timeframe),
        MONDAY + np.arange(bars, dtype=np.int64) * length,
        open_,
        np.maximum(open_, close) + 1e-5,
        np.minimum(open_, close) - 1e-5,
        close,
        random.uniform(1.0, 9.0, bars) if volume else None,
    )


def item(frame: CandleFrame) -> dict[str, Any]:
    """The frame as an item of a request, JSON values."""
    columns = CandleColumns.of(frame).model_dump()
    return {"symbol": frame.symbol, "timeframe": frame.timeframe.value, "candles": columns}


@dataclass
class Program:
    """A serving program that runs."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self, seconds: float = 30.0) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def wait_for(condition: Any, seconds: float = 30.0) -> Any:
    """Return the condition's first true value."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain")


@contextlib.contextmanager
def serving(
    bundles: Path,
    log: Path,
    *arguments: str,
    ready: bool = True,
    command: tuple[str, ...] = (sys.executable, "-m", "serving.server"),
    environ: dict[str, str] | None = None,
    cwd: Path = ROOT,
) -> Iterator[Program]:
    """Run the program on a free port until the block ends."""
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--bundles", str(bundles), "--port", "0", "--processes", "1", *arguments],
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            env=dict(os.environ) if environ is None else environ,
            cwd=cwd,
            text=True,
        )
    try:

        def port() -> int:
            assert process.poll() is None, log.read_text()
            said = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
            return next((line["port"] for line in said if line["message"] == "listening"), 0)

        program = Program(process, wait_for(port), log)
        if ready:

            def answers() -> bool:
                assert process.poll() is None, log.read_text()
                return httpx.get(program.url + "/ping").status_code == 200

            wait_for(answers)
        yield program
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
