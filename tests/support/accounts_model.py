"""What the rules of accounts say of an address, its codes and its sessions."""

from __future__ import annotations

from dataclasses import dataclass, field

from fusiontrade.accounts.admission.sessions import Device


@dataclass
class ModelCode:
    """A code that was mailed: good until it is used, replaced, too old or tried too often."""

    text: str
    until: int
    tries: int = 0


@dataclass
class ModelSession:
    """A family of refresh tokens, the newest last."""

    id: str
    opened_at: int
    used_at: int
    rotated_by: Device
    tokens: list[str]
    is_over: bool = False


@dataclass
class ModelUser:
    """What the rules say of one address."""

    password: str
    id: str = ""
    is_verified: bool = False
    is_disputed: bool = False
    attempts: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By counter: how many, and when the last one was, ms."""
    device_tokens: list[tuple[str, int]] = field(default_factory=list)
    """What devices are known by, and until when, s."""
    codes: dict[str, ModelCode] = field(default_factory=dict)
    dead_codes: list[str] = field(default_factory=list)
    sessions: list[ModelSession] = field(default_factory=list)
