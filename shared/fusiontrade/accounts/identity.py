"""Who a caller is, once a token or a key has said so; apart from the tokens, whose libraries not everybody needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Identity", "Scope", "Tier"]

Tier = Literal["free", "pro", "admin"]
Scope = Literal["predict", "read"]


@dataclass(frozen=True)
class Identity:
    """Who a valid access token or API key speaks for."""

    user_id: str
    email: str
    tier: Tier
    session_id: str
    """The session of a token; empty for an API key."""
    is_verified: bool
    issued_at: int = field(default=0, compare=False)
    """When the token was signed, s since 1970-01-01 UTC."""
    key_made_at: int = field(default=0, compare=False)
    """When the API key was made, ms since 1970-01-01 UTC; 0 for a token."""
    scopes: frozenset[Scope] | None = field(default=None, compare=False)
    """What an API key may do; None is a user who signed in and may do everything."""
