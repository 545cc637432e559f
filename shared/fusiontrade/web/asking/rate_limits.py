"""How often a caller may ask, said on every answer of a route that is counted.

Always true here: who has a token is counted at the gate item, in the update that also tells whether the token still
lives (`fusiontrade.web.asking.authentication`); who has none is counted by address. What was counted is said in
``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-10), also on errors. The group of a route
is its function's name, or what `counted_as` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from fusiontrade.accounts.admission.limits import Allowance
from fusiontrade.web.asking.callers import client_address
from fusiontrade.web.asking.derived import addresses_of
from fusiontrade.web.framework import Request

if TYPE_CHECKING:
    from starlette.types import Scope

__all__ = ["counted", "counted_as", "counted_by_address", "group_of", "headers_of", "show"]

_ALLOWANCES = "fusiontrade.allowances"
_GROUP = "__rate_limit_group__"
Route = TypeVar("Route", bound=Callable[..., object])


def counted_as(group: str) -> Callable[[Route], Route]:
    """Return a decorator that puts a route into ``group``; it stands below the route's own decorator."""

    def mark(route: Route) -> Route:
        setattr(route, _GROUP, group)
        return route

    return mark


def group_of(request: Request) -> str:
    """Return the group that a request is counted in."""
    return str(getattr(request.scope.get("endpoint"), _GROUP, request.app.state.service))


def show(request: Request, allowance: Allowance) -> None:
    """Let the answer to ``request`` say what is left."""
    request.scope.setdefault(_ALLOWANCES, {})[allowance.group] = allowance


def counted(request: Request, count: Callable[[], Allowance]) -> None:
    """Count the request by ``count`` and let its answer say so, also where it was one too many."""
    from fusiontrade.accounts.admission.gate import LimitReached

    try:
        show(request, count())
    except LimitReached as refused:
        show(request, refused.allowance)
        raise


def counted_by_address(group: str) -> Callable[[Request], None]:
    """Return a dependency that counts a request of ``group`` by the caller's address; it raises `LimitReached`."""

    def count(request: Request) -> None:
        counted(request, lambda: addresses_of(request).count(client_address(request), group))

    return count


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers that say what the request of ``scope`` was counted for; none where it was not."""
    allowances: dict[str, Allowance] = scope.get(_ALLOWANCES, {})
    if not allowances:
        return {}
    left = [f'"{one.group}";r={one.remaining};t={one.reset_seconds}' for one in allowances.values()]
    policies = [f'"{one.group}";q={one.limit.requests};w={one.limit.seconds}' for one in allowances.values()]
    return {"RateLimit": ", ".join(left), "RateLimit-Policy": ", ".join(policies)}
