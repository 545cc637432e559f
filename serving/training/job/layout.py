"""Where a training job finds its input and leaves what it made: SageMaker's ``/opt/ml``.

::

    input/config/hyperparameters.json   what to train; every value is text
    input/data/candles/<code>.npz       bars of one symbol: time (ms, open), open, high, low, close, volume (may lack)
    input/data/active/                  the bundle that serves now, or nothing
    checkpoints/                        kept while the job runs and after a kill: states of fits, progress.json
    model/<model id>/                   the bundle
    model/outcome.json                  how it compares with the active one, what its votes came to
    output/failure                      why there is no bundle, in words
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe

__all__ = ["CANDLES", "OUTCOME", "PROGRESS", "Layout"]

CANDLES, ACTIVE, OUTCOME, PROGRESS = "candles", "active", "outcome.json", "progress.json"
_MOST_REASON = 1024  # characters of a failure that SageMaker keeps


@dataclass(frozen=True)
class Layout:
    """The folder of one job."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """Survives an interruption."""
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        """Where bundles go."""
        return self.root / "model"

    @property
    def active(self) -> Path | None:
        """The bundle that serves now, None where none was given."""
        folder = self.root / "input" / "data" / ACTIVE
        return folder if folder.is_dir() and any(folder.iterdir()) else None

    def parameters(self) -> dict[str, str]:
        """Return the job's parameters; raises ValueError where they cannot be read."""
        path = self.root / "input" / "config" / "hyperparameters.json"
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path.name} cannot be read: {type(error).__name__}") from None
        if not isinstance(found, dict):
            raise ValueError(f"{path.name} is no JSON object")
        return {str(name): str(value) for name, value in found.items()}

    def frames(self, timeframe: Timeframe) -> list[CandleFrame]:
        """Return the bars of every symbol of the channel, by code.

        Raises
        ------
        ValueError
            If a file holds other arrays.
        fusiontrade.errors.BadCandles
            If bars break their own rules.
        """
        folder = self.root / "input" / "data" / CANDLES
        return [_frame(path, timeframe) for path in sorted(folder.glob("*.npz"))]

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Write how far the job is: whole or not at all."""
        self._write(self.checkpoints / PROGRESS, json.dumps(progress))

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Write what the job came to beside its bundle."""
        self._write(self.model / OUTCOME, json.dumps(outcome, indent=1, sort_keys=True, allow_nan=False) + "\n")

    def fail(self, reason: str) -> None:
        """Write why there is no bundle."""
        self._write(self.root / "output" / "failure", reason[:_MOST_REASON])

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.fresh")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)


def _frame(path: Path, timeframe: Timeframe) -> CandleFrame:
    code = path.name.removesuffix(".npz")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            prices = {name: np.asarray(arrays[name], np.float64) for name in ("open", "high", "low", "close")}
            volume = np.asarray(arrays["volume"], np.float64) if "volume" in arrays else None
            time = np.asarray(arrays["time"], np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path.name} holds no bars: {type(error).__name__}") from None
    return CandleFrame(code, timeframe, time, volume=volume, **prices).checked()
