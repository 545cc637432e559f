"""``Idempotency-Key`` for routes that create or send.

A route asks for the claim, does nothing lasting by itself, and hands its effect to `Claimed.done`::

    @router.post("/things", status_code=201, response_model=Thing)
    def make(wanted: Wanted, user: CurrentUser, once: Once, ...) -> Response:
        thing = Thing(id=once.id("thing"), ...)
        return once.done(thing, status=201, writes=[Put(...)])

Always true here: what a key means is bound to the caller, the method and the path; `fusiontrade.accounts.claims` says
what holds for effect and answer. A route that raises lets its request be repeated at once. Where the effect is not a
write of ours (a message to a queue), it carries an id of `Claimed.id` that makes its repetition harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, StringConstraints
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from fusiontrade.accounts.identity import Identity
from fusiontrade.errors import Conflict
from fusiontrade.web.asking.authentication import current_user
from fusiontrade.web.asking.callers import client_address_hash
from fusiontrade.web.asking.derived import accounts_of, derivation_of
from fusiontrade.web.framework import Depends, Header, Request
from fusiontrade.web.problems import AlreadyAnswered

if TYPE_CHECKING:
    from fusiontrade.accounts.claims import Answer, Claim, Unnamed
    from fusiontrade.cloud.tables import Placed, Table, Write

__all__ = ["REPLAYED", "Claimed", "Once", "OnceOfAddress", "once_of"]

REPLAYED = "Idempotent-Replayed"
"""Header of an answer that was given before."""

Key = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[!-~]+$")] | SkipJsonSchema[None],
    Header(
        alias="Idempotency-Key",
        description="Makes a repeated request harmless: the same key and body get the first answer.",
        examples=["7f0c2a5e-2c5b-4f0e-9a41-0f6f2d2f8f11"],
    ),
]


class Claimed:
    """The claim of the request that runs now."""

    def __init__(self, claim: Claim | Unnamed, table: Table) -> None:
        self._claim = claim
        self._table = table
        self._is_kept = False

    def id(self, purpose: str) -> str:
        """Return the id of what this request makes for ``purpose``; the same one when the request is repeated."""
        return self._claim.id(purpose)

    def kept(
        self, content: BaseModel | None, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> tuple[Response, list[Placed]]:
        """Return an answer and the writes that keep it, for a transaction that somebody else makes.

        Parameters
        ----------
        content : BaseModel or None
            The answer's body; None for none.
        headers : mapping
            Headers of the answer, such as ``Location``; cookies are not kept.
        """
        from fusiontrade.accounts.claims import Answer

        answer = Answer(status, "" if content is None else content.model_dump_json(), dict(headers or {}))
        writes = self._claim.kept(answer)
        self._is_kept = True
        return _response_of(answer), writes

    def done(
        self,
        content: BaseModel | None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        writes: Sequence[Write | Placed] = (),
    ) -> Response:
        """Do ``writes`` and keep the answer, both or neither; return the answer.

        Parameters
        ----------
        content, status, headers
            As of `kept`.
        writes : sequence
            The effect, on the Accounts table but where it is `Table.placed` elsewhere; 99 at most.

        Raises
        ------
        ConditionFailed
            If a condition of ``writes`` did not hold.
        Conflict
            If a later request with the same key took over; nothing was written.
        StateUnavailable
            If the database did not answer.
        """
        from fusiontrade.cloud.tables import ConditionFailed

        response, record = self.kept(content, status=status, headers=headers)
        try:
            if writes or record:
                self._table.transact(*writes, *record)
        except ConditionFailed as refused:
            if refused.index < len(writes):
                raise
            raise Conflict("another request with this Idempotency-Key took over; repeat it for its answer") from None
        return response

    def end(self, *, failed: bool) -> None:
        """Let the request be tried again at once where it failed, or kept no answer."""
        if failed or not self._is_kept:
            self._claim.release()


def _response_of(answer: Answer, **more: str) -> Response:
    headers = {**answer.headers, **more}
    return Response(answer.body or None, answer.status, headers, media_type="application/json" if answer.body else None)


async def raw_body(request: Request) -> bytes:
    """Return the bytes of the body: a FastAPI dependency."""
    return await request.body()


RawBody = Annotated[bytes, Depends(raw_body)]


def _claimed(request: Request, key: str | None, body: bytes, caller: Callable[[], str]) -> Iterator[Claimed]:
    from fusiontrade.accounts import claims

    state = request.app.state
    table = accounts_of(state.settings)
    if key is None:
        yield Claimed(claims.Unnamed(), table)
        return
    sent = request.scope.get("query_string", b"") + b"\n" + body
    asked = claims.Request(caller(), f"{request.method} {request.scope['path']}", key, sent)
    found = claims.Claims(table, derivation_of(state.settings), state.clock).begin(asked)
    if isinstance(found, claims.Answer):
        raise AlreadyAnswered(_response_of(found, **{REPLAYED: "true"}))
    claimed = Claimed(found, table)
    try:
        yield claimed
    except BaseException:
        claimed.end(failed=True)
        raise
    claimed.end(failed=False)


def once_of(user: Callable[..., Identity]) -> Callable[..., Iterator[Claimed]]:
    """Return a dependency that claims a request for the caller that the dependency ``user`` returns."""

    def claimed(
        request: Request,
        body: RawBody,
        caller: Identity = Depends(user),  # noqa: B008 - an annotation could not name `user`, which is no global
        key: Key = None,
    ) -> Iterator[Claimed]:
        yield from _claimed(request, key, body, lambda: f"user {caller.user_id}")

    return claimed


def _of_address(request: Request, body: RawBody, key: Key = None) -> Iterator[Claimed]:
    yield from _claimed(request, key, body, lambda: f"address {client_address_hash(request)}")


Once = Annotated[Claimed, Depends(once_of(current_user))]
"""Type of a route's parameter that is the claim of a signed-in user's request."""

OnceOfAddress = Annotated[Claimed, Depends(_of_address)]
"""Type of a route's parameter that is the claim of a request of a caller without a token."""
