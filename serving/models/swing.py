"""What the daily models share: three inputs, three horizons, and what they are fitted to.

They are fitted to a stock's rank among the others of its universe on the same day, as a normal score: how the market
moves as a whole is no business of theirs. What a score is worth as a return is learned on a slice of its own, after the
graph.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from serving.models.protocol import Exporter, Takes

__all__ = ["HORIZONS", "LEVELS", "SwingModel", "pinball"]

HORIZONS = (3, 5, 10)
"""Sessions ahead, from the next open to the close of the last of them."""
LEVELS = (0.1, 0.5, 0.9)


class SwingModel(nn.Module):  # type: ignore[misc]  # torch carries no types here
    """Takes price windows (N, 120, 5), embeddings (N, 512) and contexts (N, 29); has ``config`` and its losses."""

    takes: ClassVar[Takes] = "swing"
    inputs: ClassVar[tuple[str, ...]] = ("prices", "embedding", "context")
    exporter: ClassVar[Exporter] = "trace"
    slims: ClassVar[bool] = False
    sampled: ClassVar[tuple[str, ...]] = ()
    config: Any

    def example(self, rows: int) -> tuple[torch.Tensor, ...]:
        """Return zero-filled inputs of ``rows`` rows."""
        config = self.config
        return (
            torch.zeros(rows, config.bars, config.channels),
            torch.zeros(rows, config.embedding),
            torch.zeros(rows, config.context),
        )


def pinball(quantiles: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the mean pinball loss of (N, H, 3) quantiles at `LEVELS` against (N, H) outcomes."""
    levels = torch.tensor(LEVELS, dtype=quantiles.dtype, device=quantiles.device)
    miss = truth[:, :, None] - quantiles
    return torch.maximum(levels * miss, (levels - 1) * miss).mean()
