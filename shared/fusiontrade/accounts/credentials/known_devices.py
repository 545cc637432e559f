"""Devices that signed in before: a token that each keeps, so that strangers' attempts do not count against it.

A token reads ``<device>.<end, s>.<mac>``; the mac is derived from both and from the address that signed in, so a token
says something for that address alone, and nothing is stored of it (OWASP, *Slow Down Online Guessing Attacks with
Device Cookies*).

A reset of the password makes strangers of all devices: the e-mail item says from when on tokens are good, and the write
that counts an attempt asks (`fusiontrade.accounts.credentials.attempts`).

Always true here: a token opens nothing, it only has attempts counted apart; a token that is ours costs no look at the
database to tell from one that is not; a token for an address without an account cannot exist.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets

from fusiontrade.clock import Clock
from fusiontrade.derivation import Derivation

__all__ = ["LIFE_SECONDS", "KnownDevices"]

LIFE_SECONDS = 180 * 24 * 3600
"""From the last time that the device signed in."""

_TOKEN = re.compile(r"([0-9a-f]{32})\.([0-9]{1,12})\.([0-9A-Za-z_-]{43})", re.ASCII)


class KnownDevices:
    """Makes the tokens and knows them again."""

    def __init__(self, derivation: Derivation, clock: Clock) -> None:
        self._derivation = derivation
        self._clock = clock

    def token(self, address: str, presented: str = "", *, after: int = -1) -> str:
        """Return the token of a device that just signed in as the normal ``address``; a known one keeps its name.

        ``after`` is the second up to which tokens are no good any more.
        """
        device = self.known(address, presented) or secrets.token_hex(16)
        return self._token(address, device, str(max(self._clock() // 1000, after + 1) + LIFE_SECONDS))

    def known(self, address: str, presented: str) -> str | None:
        """Return the name of the device that signed in as the normal ``address`` before, None for any other."""
        parts = _TOKEN.fullmatch(presented)
        if parts is None or int(parts[2]) <= self._clock() // 1000:
            return None
        is_ours = hmac.compare_digest(self._token(address, parts[1], parts[2]), presented)
        return parts[1] if is_ours else None

    @staticmethod
    def made_at(token: str) -> int:
        """Return the second at which a token that is ours was made."""
        return int(token.split(".")[1]) - LIFE_SECONDS

    def _token(self, address: str, device: str, end: str) -> str:
        mac = self._derivation.mac("known device", address, device, end)
        return f"{device}.{end}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
