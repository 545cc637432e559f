"""Where a request comes from, as the gateway saw it; what the request says about itself is not believed.

Always true here: the address is the one the gateway's context names, never a ``Forwarded`` header's; it leaves this
module as a hash, but for the counters that hash it themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fusiontrade.web.asking.cookies import DEVICE
from fusiontrade.web.asking.derived import addresses_of
from fusiontrade.web.framework import Depends, Request

if TYPE_CHECKING:
    from fusiontrade.accounts.admission.sessions import Device

__all__ = ["ClientDevice", "client_address", "client_address_hash", "client_device"]

_MOST_CHARACTERS = 256


def client_address(request: Request) -> str:
    """Return the caller's network address: a FastAPI dependency."""
    return request.client.host if request.client is not None else ""


def client_address_hash(request: Request) -> str:
    """Return what is stored of the caller's network address: a FastAPI dependency."""
    return addresses_of(request).hashed(client_address(request))


def client_device(request: Request) -> Device:
    """Return what the caller is recognised by: a FastAPI dependency."""
    from fusiontrade.accounts.admission.sessions import Device

    # Latin-1 is what headers are decoded as: whatever a client sends, it is text that can be stored
    user_agent = "".join(c if c.isprintable() else " " for c in request.headers.get("User-Agent", ""))
    token = request.cookies.get(DEVICE, "")
    return Device(user_agent[:_MOST_CHARACTERS], client_address_hash(request), token)


ClientDevice = Annotated["Device", Depends(client_device)]
