"""What a training run may be told about precision."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["SETTINGS", "Setting"]

Setting = Literal["auto", "f32", "int8", "bf16", "f16"]
"""``auto`` leaves the choice to `serving.training.precision.choosing`."""

SETTINGS: tuple[Setting, ...] = get_args(Setting)
