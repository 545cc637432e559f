"""Where the command keeps who is signed in: one file, readable by its owner only, one entry for each API.

A token is sent to no other API than the one that gave it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusiontrade.cli.api import DEMO_EMAIL, DEMO_PASSWORD, NOT_SIGNED_IN, Api, CommandFailure

__all__ = ["Session", "Sessions", "folder_of", "sign_in", "token_for"]

_SECONDS_TO_SPARE = 30


@dataclass(frozen=True)
class Session:
    """An access token, whose it is, and until when (seconds since 1970) it is good."""

    email: str
    access_token: str
    expires_at: float


class Sessions:
    """The sessions kept in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "sessions.json"

    @property
    def file(self) -> Path:
        """The file they are in."""
        return self._file

    def of(self, url: str) -> Session | None:
        """Return the session of an API, expired or not; None where nobody signed in there."""
        kept = self._all().get(url)
        try:
            return Session(**kept) if kept else None
        except TypeError:
            return None

    def keep(self, url: str, session: Session) -> None:
        """Keep the session of an API; the file is never readable by others, not even for a moment."""
        sessions = self._all() | {url: asdict(session)}
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(sessions, file, indent=1)
        fresh.replace(self._file)

    def _all(self) -> dict[str, Any]:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return kept if isinstance(kept, dict) else {}


def folder_of(environ: Mapping[str, str]) -> Path:
    """Return the command's folder: ``FUSIONTRADE_CONFIG``, else ``fusiontrade`` in the user's configuration folder."""
    if chosen := environ.get("FUSIONTRADE_CONFIG"):
        return Path(chosen).expanduser()
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "fusiontrade"


def sign_in(api: Api, sessions: Sessions, email: str, password: str, *, now: float) -> Session:
    """Sign in, keep the session and return it."""
    answer = api.login(email, password)
    session = Session(email, str(answer["access_token"]), now + float(answer["expires_in"]))
    sessions.keep(api.url, session)
    return session


def token_for(
    api: Api, sessions: Sessions, *, now: float, tell: Callable[[str], None], refused: str | None = None
) -> str:
    """Return a token that is good now, and is not the one that the API ``refused``.

    On this machine's own stack the published demo account is used where nobody signed in; ``tell`` is told so.

    Raises
    ------
    CommandFailure
        If nobody is signed in, or the session has ended.
    """
    session = sessions.of(api.url)
    if session and session.access_token != refused and session.expires_at > now + _SECONDS_TO_SPARE:
        return session.access_token
    if api.is_local and (session is None or session.email == DEMO_EMAIL):
        token = sign_in(api, sessions, DEMO_EMAIL, DEMO_PASSWORD, now=now).access_token
        tell(f"signed in as the demo account {DEMO_EMAIL}")
        return token
    ended = f"the session of {session.email} has ended" if session else f"nobody is signed in at {api.url}"
    raise CommandFailure(f"{ended}; run: fusiontrade login --api {api.url}", NOT_SIGNED_IN)
