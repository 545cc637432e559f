"""Requests that happen once: a claim while one runs, and its answer kept beside its effect.

Layout: (``ONCE#<mac of caller, route and key>``, ``ONCE``) with ``state`` (RUNNING, DONE), ``body`` (a mac of what was
sent), ``claim`` (who runs it), ``claimed_until`` and ``expires_at`` (s, TTL), ``answer`` (sealed).

Always true here: the record of an answer is written in the one transaction that has the request's effect, under the
condition that the claim is still held. So there is no instant at which the effect is there and the record is not: a
process killed before leaves a claim that runs out, one killed after leaves the answer. Neither the caller's key nor
the answer can be read from the table: the answer is sealed (AES-256-GCM) under the derivation secret and the key.
"""

from __future__ import annotations

import json
import secrets
import uuid
import zlib
from contextlib import suppress
from dataclasses import dataclass, field

from fusiontrade.clock import Clock
from fusiontrade.cloud.tables import Condition, ConditionFailed, Placed, Put, Table
from fusiontrade.cloud.values import Item
from fusiontrade.derivation import Derivation
from fusiontrade.errors import Conflict, InvalidInput, StateUnavailable

__all__ = ["CLAIM_SECONDS", "KEEP_SECONDS", "Answer", "Claim", "Claims", "Request", "Unnamed"]

CLAIM_SECONDS = 35
"""Longer than any request can run behind the gateway, which waits for 30 s."""

KEEP_SECONDS = 24 * 3600
_MOST_BYTES = 350_000  # an item ends at 400 kB
_NONCE_BYTES = 12
_MINE = "#claim = :claim AND #state = :running"


@dataclass(frozen=True)
class Answer:
    """An answer as it was first given."""

    status: int
    body: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What is to happen once: ``caller`` is a user or an address, ``body`` everything that was sent."""

    caller: str
    route: str
    key: str
    body: bytes


class Claim:
    """One request that runs now and was named by its caller."""

    def __init__(self, claims: Claims, request: Request, record: Item) -> None:
        self._claims = claims
        self._request = request
        self._record = record

    def id(self, purpose: str) -> str:
        """Return the id, 32 hexadecimal digits, of the thing that this request makes for ``purpose``.

        It follows from caller, route and key, so that a repeated request names the same thing.
        """
        return self._claims.derived("idempotency id", self._request, purpose).hex()[:32]

    def kept(self, answer: Answer) -> list[Placed]:
        """Return the write that keeps ``answer``, for the transaction of the effect.

        Its condition fails where the claim was lost to a later request with the same key.
        """
        record = self._claims.finished(self._request, self._record, answer)
        return [self._claims.table.placed(Put(record, _held(self._record)))]

    def release(self) -> None:
        """Let the request be tried again at once; does nothing where it is finished."""
        with suppress(ConditionFailed, StateUnavailable):
            self._claims.table.delete(_key_of(self._record), condition=_held(self._record))


class Unnamed:
    """One request that runs now and that nobody named: nothing of it is kept."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def id(self, purpose: str) -> str:
        """Return a random id, the same one for the same ``purpose``."""
        return self._ids.setdefault(purpose, uuid.uuid4().hex)

    def kept(self, answer: Answer) -> list[Placed]:  # noqa: ARG002 - as the other
        """Return no write."""
        return []

    def release(self) -> None:
        """Do nothing."""


class Claims:
    """The records on one Accounts table."""

    def __init__(self, table: Table, derivation: Derivation, clock: Clock) -> None:
        self.table = table
        self._derivation = derivation
        self._clock = clock

    def begin(self, request: Request) -> Claim | Answer:
        """Return the claim to run ``request``, or the answer that it was given; one round trip.

        Raises
        ------
        InvalidInput
            If the key was used for another body.
        Conflict
            If the first request with this key still runs.
        StateUnavailable
            If the database did not answer.
        """
        now = self._clock() // 1000
        record: Item = {
            "pk": f"ONCE#{self.derived('idempotency record', request).hex()}",
            "sk": "ONCE",
            "state": "RUNNING",
            "body": self._derivation.mac("idempotency body", request.caller, request.body.hex()).hex(),
            "claim": secrets.token_hex(16),
            "claimed_until": now + CLAIM_SECONDS,
            "expires_at": now + KEEP_SECONDS,
        }
        lost = "#state = :running AND #claimed_until <= :now AND #body = :body"
        free = Condition(
            f"attribute_not_exists(pk) OR #expires_at <= :now OR ({lost})",
            {"now": now, "running": "RUNNING", "body": record["body"]},
        )
        try:
            self.table.put(record, condition=free)
        except ConditionFailed as refused:
            return self._found(request, record, refused.item)
        return Claim(self, request, record)

    def _found(self, request: Request, record: Item, there: Item | None) -> Answer:
        if there is None:  # gone between the two looks of the database
            raise Conflict("a request with this Idempotency-Key just ended; try again")
        if there["body"] != record["body"]:
            raise InvalidInput(
                "header/Idempotency-Key", "this key was used for another request; give each request a key of its own"
            )
        if there["state"] == "RUNNING":
            raise Conflict("the first request with this Idempotency-Key still runs; try again shortly")
        if "answer" not in there:
            raise Conflict("this request was done before; its answer was too large to be kept")
        return self._opened(request, there["answer"])

    def finished(self, request: Request, record: Item, answer: Answer) -> Item:
        """Return the record of a request that was answered."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        plain = zlib.compress(json.dumps([answer.status, answer.headers, answer.body]).encode())
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + AESGCM(self.derived("idempotency answer", request)).encrypt(nonce, plain, None)
        done = {**record, "state": "DONE", "expires_at": self._clock() // 1000 + KEEP_SECONDS}
        return done if len(sealed) > _MOST_BYTES else {**done, "answer": sealed}

    def _opened(self, request: Request, sealed: bytes) -> Answer:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        cipher = AESGCM(self.derived("idempotency answer", request))
        plain = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        status, headers, body = json.loads(zlib.decompress(plain))
        return Answer(status, body, headers)

    def derived(self, purpose: str, request: Request, *more: str) -> bytes:
        """Return what belongs to the caller, route and key of ``request`` for ``purpose``."""
        return self._derivation.mac(purpose, request.caller, request.route, request.key, *more)


def _key_of(record: Item) -> dict[str, str]:
    return {"pk": record["pk"], "sk": record["sk"]}


def _held(record: Item) -> Condition:
    return Condition(_MINE, {"claim": record["claim"], "running": "RUNNING"})
