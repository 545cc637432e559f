"""Who a caller is, once a token has said so; apart from the tokens, whose libraries not every request needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Identity", "Tier"]

Tier = Literal["free", "pro", "admin"]


@dataclass(frozen=True)
class Identity:
    """Who a valid access token speaks for."""

    user_id: str
    email: str
    tier: Tier
    session_id: str
    is_verified: bool
