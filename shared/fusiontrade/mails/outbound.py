"""The port through which the product sends security mails: what to say to whom goes to the mail queue.

Always true here: a mail is asked for by what it is about, never by its words, so the same message delivered twice reads
the same, with the same code. Sending is at least once; nothing about a mail is logged but its kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, get_args

__all__ = ["KINDS", "WITH_CODE", "BadMail", "Kind", "Mail", "Outbound", "Sends"]

Kind = Literal["verification", "reset", "password_changed", "new_sign_in", "already_registered", "nobody"]
"""``nobody`` is for requests about addresses that get nothing: they send one message like all others, so that neither
the time nor the number of calls tells whether an address has an account; the worker lets it drop."""

KINDS: tuple[Kind, ...] = get_args(Kind)
WITH_CODE: frozenset[Kind] = frozenset({"verification", "reset"})

_MOST_CHARACTERS = 2048


class BadMail(ValueError):
    """What cannot be a mail of ours: an unknown kind, a code that is missing or too many, a value of another type."""


@dataclass(frozen=True)
class Mail:
    """One mail to one user.

    Attributes
    ----------
    kind : Kind
        What it is about.
    to : str
        The address as the user wrote it.
    name : str
        The user's name as the user wrote it; greeted by where it can be.
    code : str or None
        The code of a verification or a reset; None for every other kind (anything for ``nobody``).
    at : int
        When it happened, ms since 1970-01-01 UTC.
    device : str or None
        What signed in, for ``new_sign_in``: its user agent as it was sent.

    Raises
    ------
    BadMail
        If it is none.
    """

    kind: Kind
    to: str
    name: str
    code: str | None
    at: int
    device: str | None = None

    def __post_init__(self) -> None:
        """Check every part."""
        if self.kind not in KINDS:
            raise BadMail(f"kind is {self.kind!r}: it is one of {', '.join(KINDS)}")
        if self.kind != "nobody" and (self.kind in WITH_CODE) != bool(self.code):
            raise BadMail(f"a mail of kind {self.kind} {'needs a' if self.kind in WITH_CODE else 'has no'} code")
        for name in ("to", "name", "code", "device"):
            _check_text(name, getattr(self, name), optional=name in ("code", "device"))
        if not isinstance(self.at, int) or isinstance(self.at, bool) or self.at < 0:
            raise BadMail("at is no instant in milliseconds since 1970")

    def to_body(self) -> dict[str, Any]:
        """Return it as the body of a queued message."""
        return asdict(self)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Mail:
        """Return the mail that `to_body` wrote; raises `BadMail`."""
        try:
            return cls(**body)
        except TypeError as error:
            raise BadMail(f"not the parts of a mail: {', '.join(sorted(map(str, body)))[:200]}") from error


def _check_text(name: str, value: object, *, optional: bool) -> None:
    if value is None and optional:
        return
    if not isinstance(value, str):
        raise BadMail(f"{name} is of type {type(value).__name__}: it is text")
    if len(value) > _MOST_CHARACTERS:
        raise BadMail(f"{name} has {len(value)} characters: at most {_MOST_CHARACTERS}")


class Sends(Protocol):
    """As much of `fusiontrade.cloud.queues.Queue` as is used here."""

    def send(self, body: Mapping[str, Any], *, request_id: str | None = None) -> None:
        """Send one message; raises `StateUnavailable`."""


class Outbound:
    """Sends mails by way of ``queue``."""

    def __init__(self, queue: Sends) -> None:
        self._queue = queue

    def send(self, mail: Mail, *, request_id: str | None = None) -> None:
        """Ask for ``mail``; when this returns, it goes out at least once, sooner or later.

        Raises
        ------
        StateUnavailable
            If the queue does not take it.
        """
        self._queue.send(mail.to_body(), request_id=request_id)
