"""Documents in one DynamoDB table: get, put, update, delete, query, and all-or-nothing writes.

Always true here: a write with a condition either happens or raises `ConditionFailed`, which carries the item that was
in the way; a table that does not answer raises `StateUnavailable` and nothing is assumed about the write. Reads are
consistent unless asked otherwise. Conditions are DynamoDB condition expressions; an attribute is written ``#name``
and a value ``:name``, and every ``#name`` is resolved by itself. A transaction that is sent again, because its answer
got lost, is done once: botocore gives each a token, and sends the same one again.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from fusiontrade.cloud.failures import code_of, state_errors
from fusiontrade.cloud.session import client
from fusiontrade.cloud.values import Item, decode_item, encode, encode_item
from fusiontrade.deadline import Deadline
from fusiontrade.errors import Conflict, FusionTradeError, StateUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = [
    "Check",
    "Condition",
    "ConditionFailed",
    "Delete",
    "ItemRefused",
    "Key",
    "Page",
    "Placed",
    "Put",
    "Table",
    "Update",
    "Write",
    "transact",
]

Key = Mapping[str, str | int]
_NAME = re.compile(r"#(\w+)")
_MOST_WRITES = 100
_WAITS_SECONDS = (0.01, 0.03, 0.1, 0.2)
_MOST_READ = 100  # items of one BatchGetItem
_READ_STEPS = (8.0, 4.0, 2.0, 1.0)  # s; a client is kept for each time-out, so there are few
Answer = TypeVar("Answer")


class ConditionFailed(Conflict):
    """A conditional write did not happen; ``item`` is what stood there, None where there was nothing.

    Of a transaction, ``indexes`` are all the writes whose conditions failed, and ``index`` and ``item`` the first's.
    """

    def __init__(self, item: Item | None, indexes: Sequence[int] = (0,)) -> None:
        super().__init__("it was changed by another request; read it again")
        self.item = item
        self.indexes = tuple(indexes)
        self.index = self.indexes[0]


class ItemRefused(FusionTradeError):
    """A write that the database never takes, however often: an item would be larger than 400 KB, say."""


class _Held(Conflict):
    """A transaction of another request holds the item now."""

    def __init__(self) -> None:
        super().__init__("another request is changing the same thing; try again")


@dataclass(frozen=True)
class Condition:
    """A condition expression and its ``:values``: ``Condition("#due <= :now", {"now": 7})``."""

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Put:
    """Write a whole item, replacing one with the same key."""

    item: Item
    condition: Condition | None = None


@dataclass(frozen=True)
class Update:
    """Change attributes of one item, making it where it is absent; ``add`` adds to numbers and sets atomically."""

    key: Key
    assign: Mapping[str, Any] = field(default_factory=dict)
    add: Mapping[str, int | Decimal | frozenset[str]] = field(default_factory=dict)
    remove: Sequence[str] = ()
    condition: Condition | None = None


@dataclass(frozen=True)
class Delete:
    """Remove one item."""

    key: Key
    condition: Condition | None = None


@dataclass(frozen=True)
class Check:
    """Write nothing, but let the transaction happen only if the condition holds."""

    key: Key
    condition: Condition


Write = Put | Update | Delete | Check


@dataclass(frozen=True)
class Placed:
    """A write and the table it goes to, for a transaction over several."""

    table: str
    write: Write


@dataclass(frozen=True)
class Page:
    """Some items of a query; ``next_key`` is where the next page starts, None at the end."""

    items: list[Item]
    next_key: Item | None


class Table:
    """The documents of the table ``name``; a call has ``attempts``, each of which may take ``read_seconds``."""

    def __init__(self, name: str, *, read_seconds: float = 3.0, attempts: int = 2) -> None:
        self._name = name
        self._read_seconds = read_seconds
        self._attempts = attempts

    @property
    def _client(self) -> DynamoDBClient:
        return client("dynamodb", read_seconds=self._read_seconds, attempts=self._attempts)  # type: ignore[no-any-return]

    def until(self, deadline: Deadline) -> Table:
        """Return this table with calls that end by ``deadline``; raises `StateUnavailable` without a second left."""
        left = deadline.remaining()
        if left < _READ_STEPS[-1]:
            raise StateUnavailable("the database did not answer in time", retry_after=5)
        attempts = self._attempts if left >= self._attempts * _READ_STEPS[-1] else 1
        fits = [step for step in (self._read_seconds, *_READ_STEPS) if step * attempts <= left]
        return Table(self._name, read_seconds=min(fits[0], self._read_seconds), attempts=attempts)

    def get(self, key: Key, *, consistent: bool = True) -> Item | None:
        """Return the item, or None where there is none; raises `StateUnavailable`."""
        with state_errors("the database"):
            answer = self._client.get_item(TableName=self._name, Key=encode_item(key), ConsistentRead=consistent)
        found = answer.get("Item")
        return None if found is None else decode_item(found)

    def get_many(self, keys: Sequence[Key]) -> list[Item]:
        """Return those of the items that there are, a hundred a round trip, in no order; raises `StateUnavailable`."""
        found: list[Item] = []
        with state_errors("the database"):
            for start in range(0, len(keys), _MOST_READ):
                wanted: Any = [encode_item(key) for key in keys[start : start + _MOST_READ]]
                for wait in (*_WAITS_SECONDS, None):
                    asked: Any = {self._name: {"Keys": wanted, "ConsistentRead": True}}
                    answer: Any = self._client.batch_get_item(RequestItems=asked)
                    found += map(decode_item, answer["Responses"].get(self._name, ()))
                    wanted = answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys")
                    if not wanted:
                        break
                    if wait is None:
                        raise StateUnavailable("the database gives too little at a time", retry_after=5)
                    time.sleep(wait)
        return found

    def put(self, item: Item, *, condition: Condition | None = None) -> None:
        """Write one item; raises `ConditionFailed`, `StateUnavailable`."""
        self._write("put_item", Put(item, condition))

    def delete(self, key: Key, *, condition: Condition | None = None) -> None:
        """Remove one item; one that is absent is no error; raises `ConditionFailed`, `StateUnavailable`."""
        self._write("delete_item", Delete(key, condition))

    def update(self, change: Update) -> Item:
        """Change one item and return it as it is then; raises `ConditionFailed`, `StateUnavailable`."""
        answer = self._write("update_item", change, ReturnValues="ALL_NEW")
        return decode_item(answer["Attributes"])

    def _write(self, operation: str, write: Write, **more: Any) -> Any:
        from botocore.exceptions import ClientError

        def send() -> Any:
            try:
                return getattr(self._client, operation)(**_request(self._name, write), **more)
            except ClientError as error:
                if code_of(error) == "ConditionalCheckFailedException":
                    raise ConditionFailed(_item_in(error.response)) from None
                if code_of(error) == "TransactionConflictException":
                    raise _Held from None
                raise

        with state_errors("the database"):
            return _unless_held(send)

    def query(
        self, condition: Condition, *, index: str | None = None, limit: int = 50, newest_first: bool = False,
        start: Item | None = None, filter: Condition | None = None, names: Sequence[str] = (),
    ) -> Page:  # fmt: skip
        """Return items whose key fits ``condition``, in key order; raises `StateUnavailable`.

        Parameters
        ----------
        condition : Condition
            On the key.
        limit : int
            Most items that are looked at; ``filter`` leaves fewer of them.
        names : sequence of str
            Attributes to return; none means all.
        """
        request: dict[str, Any] = {
            "TableName": self._name,
            "KeyConditionExpression": condition.text,
            "Limit": limit,
            "ScanIndexForward": not newest_first,
        }
        if index is not None:
            request["IndexName"] = index
        return self._page("query", request | _selected(condition, filter, names), start)

    def scan(self, *, condition: Condition | None = None, names: Sequence[str] = (), start: Item | None = None) -> Page:
        """Return a megabyte's worth of the table's items that fit ``condition``; not consistent; for small tables."""
        request = {"TableName": self._name, **_selected(None, condition, names)}
        return self._page("scan", request, start)

    def _page(self, operation: str, request: dict[str, Any], start: Item | None) -> Page:
        if start is not None:
            request["ExclusiveStartKey"] = encode_item(start)
        with state_errors("the database"):
            answer = getattr(self._client, operation)(**request)
        last = answer.get("LastEvaluatedKey")
        return Page([decode_item(item) for item in answer["Items"]], None if last is None else decode_item(last))

    def placed(self, write: Write) -> Placed:
        """Return ``write`` as one of this table, for a transaction over several."""
        return Placed(self._name, write)

    def transact(self, *writes: Write | Placed, token: str | None = None) -> None:
        """Do all of ``writes`` or none of them, on this table but where they are placed elsewhere; see `transact`."""
        placed = [write if isinstance(write, Placed) else self.placed(write) for write in writes]
        transact(*placed, token=token, read_seconds=self._read_seconds, attempts=self._attempts)


def transact(*writes: Placed, token: str | None = None, read_seconds: float = 3.0, attempts: int = 2) -> None:
    """Do all of ``writes`` or none of them; the same ``token`` within ten minutes is done once.

    Where another request holds one of the items for a moment, it is tried again a few times.

    Raises
    ------
    ConditionFailed
        If a condition did not hold; ``index`` says which write's.
    Conflict
        If other requests held one of the items for longer than that.
    ItemRefused
        If the database never takes one of them.
    StateUnavailable
        If the database did not answer, or takes no more at the moment.
    """
    from botocore.exceptions import ClientError

    if not 1 <= len(writes) <= _MOST_WRITES:
        raise ValueError(f"a transaction takes 1 to {_MOST_WRITES} writes, not {len(writes)}")
    request: dict[str, Any] = {"TransactItems": [_operation(placed) for placed in writes]}
    if token is not None:
        request["ClientRequestToken"] = token
    dynamodb: DynamoDBClient = client("dynamodb", read_seconds=read_seconds, attempts=attempts)

    def send() -> None:
        try:
            dynamodb.transact_write_items(**request)
        except ClientError as error:
            if code_of(error) == "TransactionCanceledException":
                raise _cancelled(error.response) from None
            raise

    with state_errors("the database"):
        _unless_held(send)


def _request(table: str, write: Write) -> dict[str, Any]:
    request: dict[str, Any] = {"TableName": table, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    texts: list[str] = []
    values: dict[str, Any] = {}
    if isinstance(write, Put):
        request["Item"] = encode_item(write.item)
    else:
        request["Key"] = encode_item(write.key)
    if isinstance(write, Update):
        request["UpdateExpression"], values = _change(write)
        texts.append(request["UpdateExpression"])
    if write.condition is not None:
        request["ConditionExpression"] = write.condition.text
        texts.append(write.condition.text)
        values = values | dict(write.condition.values)
    return request | _bindings(" ".join(texts), values)


def _change(update: Update) -> tuple[str, dict[str, Any]]:
    values = {f"set_{name}": value for name, value in update.assign.items()}
    values |= {f"add_{name}": value for name, value in update.add.items()}
    parts = {
        "SET": [f"#{name} = :set_{name}" for name in update.assign],
        "ADD": [f"#{name} :add_{name}" for name in update.add],
        "REMOVE": [f"#{name}" for name in update.remove],
    }
    return " ".join(f"{verb} {', '.join(changes)}" for verb, changes in parts.items() if changes), values


def _bindings(text: str, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {f"#{name}": name for name in _NAME.findall(text)}
    bound: dict[str, Any] = {"ExpressionAttributeNames": names} if names else {}
    if values:
        bound["ExpressionAttributeValues"] = {f":{name}": encode(value) for name, value in values.items()}
    return bound


def _selected(key: Condition | None, filter: Condition | None, names: Sequence[str]) -> dict[str, Any]:
    """Return the part of a request that says what is wanted of the items that its key finds."""
    selected: dict[str, Any] = {}
    if filter is not None:
        selected["FilterExpression"] = filter.text
    if names:
        selected["ProjectionExpression"] = ", ".join(f"#{name}" for name in names)
    conditions = [condition for condition in (key, filter) if condition is not None]
    texts = [*(condition.text for condition in conditions), selected.get("ProjectionExpression", "")]
    values = {name: value for condition in conditions for name, value in condition.values.items()}
    return selected | _bindings(" ".join(texts), values)


def _item_in(response: Any) -> Item | None:
    found = response.get("Item")
    return decode_item(found) if found else None


def _cancelled(response: Any) -> FusionTradeError:
    """Return why a transaction did not happen; a condition that failed says more than an item that was held."""
    reasons = response.get("CancellationReasons", [])
    codes = [reason.get("Code") for reason in reasons]
    failed = [n for n, code in enumerate(codes) if code == "ConditionalCheckFailed"]
    if failed:
        return ConditionFailed(_item_in(reasons[failed[0]]), failed)
    for code, reason in zip(codes, reasons, strict=True):
        if code in ("ValidationError", "ItemCollectionSizeLimitExceeded"):
            return ItemRefused(f"the database refuses a write: {reason.get('Message', code)}")
    if "TransactionConflict" in codes or not codes:
        return _Held()
    throttled = ", ".join(sorted({code for code in codes if code not in (None, "None")}))
    return StateUnavailable(f"the database did not answer: {throttled}", retry_after=5)


def _unless_held(send: Callable[[], Answer]) -> Answer:
    """Return what ``send`` returns; where a transaction of others holds an item, nothing was done, so send again."""
    for wait in _WAITS_SECONDS:
        try:
            return send()
        except _Held:
            time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311 - spreads callers, keeps no secret
    return send()


def _operation(placed: Placed) -> Any:
    name = "ConditionCheck" if isinstance(placed.write, Check) else type(placed.write).__name__
    return {name: _request(placed.table, placed.write)}
