"""A function of our own kind for tests of the floor: things that are made once, listed, and belong to a user."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel
from starlette.responses import Response

from fusiontrade.accounts.admission.tokens import SigningKeys, Tokens
from fusiontrade.accounts.identity import Identity
from fusiontrade.clock import system_clock
from fusiontrade.cloud.tables import Condition, Put, Table, Update
from fusiontrade.errors import Conflict
from fusiontrade.settings import Settings
from fusiontrade.web import create_app, handler_of
from fusiontrade.web.answering.idempotency import Once, OnceOfAddress, once_of
from fusiontrade.web.application import LambdaHandler
from fusiontrade.web.asking.authentication import CurrentUser, caller_with, require
from fusiontrade.web.asking.rate_limits import counted_as, counted_by_address
from fusiontrade.web.framework import APIRouter, Depends, FastAPI, Request

__all__ = ["app_of", "bearer", "handler", "identity"]

router = APIRouter(prefix="/things", tags=["things"])
with_predict = caller_with("predict")


class Wanted(BaseModel):
    """What to make; ``fault`` is where the process is killed or the route fails."""

    name: str
    fault: str = ""


class Thing(BaseModel):
    id: str
    name: str
    number: int


def things(request: Request) -> Table:
    return Table(request.app.state.settings.need("models_table"))


Things = Annotated[Table, Depends(things)]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@router.post("", operation_id="make", status_code=201, response_model=Thing)
def make(wanted: Wanted, user: CurrentUser, once: Once, table: Things) -> Response:
    """Make a thing and count it: two writes that a repeated effect would show in."""
    if wanted.fault == "raise":
        raise Conflict("on purpose")
    if wanted.fault == "kill before":
        _die()
    name = once.id("thing")
    key = {"pk": f"THING#{user.user_id}", "sk": name}
    answer = once.done(
        Thing(id=name, name=wanted.name, number=1),
        status=201,
        headers={"Location": f"/things/{name}"},
        writes=[
            table.placed(Put({**key, "name": wanted.name}, Condition("attribute_not_exists(pk)"))),
            table.placed(Update({"pk": f"COUNT#{user.user_id}", "sk": "COUNT"}, add={"made": 1})),
        ],
    )
    if wanted.fault == "kill after":
        _die()
    return answer


@router.post("/late", operation_id="late", response_model=Thing)
def late(wanted: Wanted, user: CurrentUser, once: Once) -> Response:
    """Answer without having kept the answer."""
    return Response(status_code=204)


@router.post("/anonymous", operation_id="anonymous", response_model=Thing)
def anonymous(wanted: Wanted, once: OnceOfAddress, table: Things) -> Response:
    name = once.id("thing")
    write = table.placed(Update({"pk": "COUNT#", "sk": "COUNT"}, add={"made": 1}))
    return once.done(Thing(id=name, name=wanted.name, number=1), writes=[write])


@router.post("/programs", operation_id="byKey", response_model=Thing)
def by_key(
    wanted: Wanted,
    user: Annotated[Identity, Depends(with_predict)],
    once: Annotated[object, Depends(once_of(with_predict))],
) -> Response:
    return once.done(Thing(id=once.id("thing"), name=user.user_id, number=1))  # type: ignore[attr-defined]


@router.get("/mine", operation_id="mine")
def mine(user: CurrentUser) -> str:
    return user.user_id


@router.get("/heavy", operation_id="heavy")
@counted_as("heavy")
def heavy(user: CurrentUser) -> str:
    return user.user_id


@router.get("/pro", operation_id="pro")
def pro(user: Annotated[Identity, Depends(require(tier="pro"))]) -> str:
    return user.user_id


@router.get("/program", operation_id="program")
def program(user: Annotated[Identity, Depends(with_predict)]) -> str:
    return user.user_id


@router.get("/anybody", operation_id="anybody", dependencies=[Depends(counted_by_address("mail"))])
def anybody() -> str:
    return "anybody"


@router.get("/{number}", operation_id="show")
def show(user: CurrentUser, number: int) -> int:
    return number


def app_of(settings: Settings, service: str = "things") -> FastAPI:
    return create_app(service, [router], settings)


def handler(settings: Settings, change: Callable[[FastAPI], None] = lambda app: None) -> LambdaHandler:
    app = app_of(settings)
    change(app)
    return handler_of(app)


def identity(**changed: object) -> Identity:
    given = {"user_id": "u1", "email": "a@x", "tier": "free", "session_id": "s1", "is_verified": True, **changed}
    return Identity(**given)  # type: ignore[arg-type]


def bearer(keys: SigningKeys, settings: Settings, of: Identity | None = None) -> dict[str, str]:
    """The header of a signed-in user."""
    tokens = Tokens(
        lambda: keys, issuer=settings.token_issuer, audience=settings.token_audience, seconds=60, clock=system_clock
    )
    return {"Authorization": f"Bearer {tokens.issue(of or identity()).text}"}
