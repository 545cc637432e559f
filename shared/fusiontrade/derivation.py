"""Values that follow from one kept secret: the same inputs always give the same value, and nobody else can make it.

Always true here: a value says what it is for, so that one made for a cursor is never a refresh token; the parts go in
with their lengths, so that ``("ab", "c")`` and ``("a", "bc")`` differ. HMAC with SHA-256 (RFC 2104).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from fusiontrade.errors import StateUnavailable

__all__ = ["FEWEST_CHARACTERS", "Derivation"]

FEWEST_CHARACTERS = 32


class Derivation:
    """Derives values from the secret that ``read`` gives; it is called for every value, so it should be cached."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    def mac(self, purpose: str, *parts: str) -> bytes:
        """Return the 32 bytes that belong to ``parts`` for ``purpose``.

        Raises
        ------
        StateUnavailable
            If the secret cannot be read, or is too short to keep anything.
        """
        secret = self._read()
        if len(secret) < FEWEST_CHARACTERS:
            raise StateUnavailable(f"the derivation secret has fewer than {FEWEST_CHARACTERS} characters")
        encoded = [part.encode() for part in (purpose, *parts)]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
        return hmac.digest(secret.encode(), message, hashlib.sha256)
