"""Cursors of pages: where the next page starts, in a text that its reader can neither make nor change.

Always true here: a cursor works for the user and the purpose that it was made for and for no other; anything else is
an `InvalidInput` of ``query/cursor`` in the same words, whatever is wrong with it.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from fusiontrade.derivation import Derivation
from fusiontrade.errors import InvalidInput
from fusiontrade.web.asking.derived import derivation_of
from fusiontrade.web.framework import Request

__all__ = ["Cursors", "cursors_of"]

_MAC_BYTES = 16
_MOST_CHARACTERS = 2048


class Cursors:
    """Seals and opens cursors."""

    def __init__(self, derivation: Derivation) -> None:
        self._derivation = derivation

    def seal(self, position: dict[str, Any], purpose: str, user: str) -> str:
        """Return the cursor of ``position``, a document of text and whole numbers.

        Parameters
        ----------
        position : dict
            Where the next page starts.
        purpose : str
            What is paged through, with all that the list was asked for: a cursor of another filter is refused.
        user : str
            Whose list it is.
        """
        text = json.dumps(position, separators=(",", ":"), sort_keys=True)
        return base64.urlsafe_b64encode(self._mac(text, purpose, user) + text.encode()).rstrip(b"=").decode()

    def open(self, cursor: str, purpose: str, user: str) -> dict[str, Any]:
        """Return the position that was sealed; raises `InvalidInput`."""
        try:
            if len(cursor) > _MOST_CHARACTERS:
                raise ValueError("length")
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            text = sealed[_MAC_BYTES:].decode()
            if not hmac.compare_digest(sealed[:_MAC_BYTES], self._mac(text, purpose, user)):
                raise ValueError("mac")
            position: dict[str, Any] = json.loads(text)
        except ValueError:
            raise InvalidInput(
                "query/cursor", "this cursor is not one of this list; leave it out to start at the first page"
            ) from None
        return position

    def _mac(self, text: str, purpose: str, user: str) -> bytes:
        return self._derivation.mac("cursor", purpose, user, text)[:_MAC_BYTES]


def cursors_of(request: Request) -> Cursors:
    """Return the cursors of a function: a FastAPI dependency."""
    return Cursors(derivation_of(request.app.state.settings))
