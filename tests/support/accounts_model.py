"""What the rules of accounts say of an address, its codes and its sessions; ``now`` is ms."""

from __future__ import annotations

from dataclasses import dataclass, field

from fusiontrade.accounts.admission.sessions import FAMILY_SECONDS, REFRESH_SECONDS, Device
from fusiontrade.accounts.credentials.attempts import counter_of, seconds_to_wait
from fusiontrade.accounts.credentials.codes import MOST_TRIES
from fusiontrade.accounts.credentials.known_devices import LIFE_SECONDS


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

    def lives(self, now: int) -> bool:
        ends = min(self.used_at // 1000 + REFRESH_SECONDS, self.opened_at // 1000 + FAMILY_SECONDS)
        return not self.is_over and now // 1000 < ends


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
    devices_after: int = -1
    """The second up to which a device that signed in is a stranger now."""
    codes: dict[str, ModelCode] = field(default_factory=dict)
    dead_codes: list[str] = field(default_factory=list)
    sessions: list[ModelSession] = field(default_factory=list)

    def code_works(self, kind: str, text: str, now: int) -> bool:
        """Whether a code works; counts the try as the rules do."""
        code = self.codes.get(kind)
        if code is None or now // 1000 >= code.until or code.tries >= MOST_TRIES:
            return False
        code.tries += 1
        return text == code.text

    def spend(self, kind: str) -> None:
        code = self.codes.pop(kind, None)
        if code is not None:
            self.dead_codes.append(code.text)

    def attempt_allowed(self, counter: str, now: int) -> bool:
        """Whether a password may be tried; counts the try as the rules do."""
        attempts, attempted_at = self.attempts.get(counter, (0, 0))
        if seconds_to_wait(attempts, (now - attempted_at) / 1000) > 0:
            return False
        self.attempts[counter] = attempts + 1, now
        return True

    def counter(self, token: str, now: int) -> str:
        """Which counter counts for who presents ``token``: it has to be one of this very user, and of now."""
        until = dict(self.device_tokens).get(token, 0)
        is_known = until > max(now // 1000, self.devices_after + LIFE_SECONDS)
        return counter_of(token[:32] if is_known else None)

    def device_known_by(self, token: str, now: int) -> None:
        self.device_tokens.append((token, max(now // 1000, self.devices_after + 1) + LIFE_SECONDS))

    def end_all(self, keep: str | None = None) -> None:
        for session in self.sessions:
            session.is_over = session.is_over or session.id != keep
