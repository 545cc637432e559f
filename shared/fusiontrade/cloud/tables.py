"""Documents in one DynamoDB table: get, put, update, delete, query, and all-or-nothing writes.

Always true here: a write with a condition either happens or raises `ConditionFailed`, which carries the item that was
in the way; a table that does not answer raises `StateUnavailable` and nothing is assumed about the write. Reads are
consistent unless asked otherwise. Conditions are DynamoDB condition expressions; an attribute is written ``#name``
and a value ``:name``, and every ``#name`` is resolved by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fusiontrade.cloud.failures import code_of, state_errors
from fusiontrade.cloud.session import client
from fusiontrade.cloud.values import Item, decode_item, encode, encode_item
from fusiontrade.errors import Conflict

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["Check", "Condition", "ConditionFailed", "Delete", "Key", "Page", "Put", "Table", "Update", "Write"]

Key = Mapping[str, str | int]
_NAME = re.compile(r"#(\w+)")
_MOST_WRITES = 100


class ConditionFailed(Conflict):
    """A conditional write did not happen; ``item`` is what stood there, None where there was nothing."""

    def __init__(self, item: Item | None, index: int = 0) -> None:
        super().__init__("it was changed by another request; read it again")
        self.item = item
        self.index = index


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
    """Change attributes of one item, making it where it is absent; ``add`` adds to numbers atomically."""

    key: Key
    assign: Mapping[str, Any] = field(default_factory=dict)
    add: Mapping[str, int] = field(default_factory=dict)
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

    def get(self, key: Key, *, consistent: bool = True) -> Item | None:
        """Return the item, or None where there is none; raises `StateUnavailable`."""
        with state_errors("the database"):
            answer = self._client.get_item(TableName=self._name, Key=encode_item(key), ConsistentRead=consistent)
        found = answer.get("Item")
        return None if found is None else decode_item(found)

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

        with state_errors("the database"):
            try:
                return getattr(self._client, operation)(**_request(self._name, write), **more)
            except ClientError as error:
                if code_of(error) == "ConditionalCheckFailedException":
                    raise ConditionFailed(_item_in(error.response)) from None
                raise

    def query(
        self, condition: Condition, *, index: str | None = None, limit: int = 50, newest_first: bool = False,
        start: Item | None = None,
    ) -> Page:  # fmt: skip
        """Return up to ``limit`` items whose key fits ``condition``, in key order; raises `StateUnavailable`."""
        request: dict[str, Any] = {
            "TableName": self._name,
            "KeyConditionExpression": condition.text,
            "Limit": limit,
            "ScanIndexForward": not newest_first,
            **_bindings(condition.text, condition.values),
        }
        if index is not None:
            request["IndexName"] = index
        if start is not None:
            request["ExclusiveStartKey"] = encode_item(start)
        with state_errors("the database"):
            answer = self._client.query(**request)
        last = answer.get("LastEvaluatedKey")
        return Page([decode_item(item) for item in answer["Items"]], None if last is None else decode_item(last))

    def transact(self, *writes: Write, token: str | None = None) -> None:
        """Do all of ``writes`` or none of them; the same ``token`` within ten minutes is done once.

        Raises
        ------
        ConditionFailed
            If a condition did not hold; ``index`` says which write's.
        Conflict
            If another transaction held one of the items.
        StateUnavailable
            If the database did not answer.
        """
        from botocore.exceptions import ClientError

        if not 1 <= len(writes) <= _MOST_WRITES:
            raise ValueError(f"a transaction takes 1 to {_MOST_WRITES} writes, not {len(writes)}")
        operations = [{type(write).__name__ if not isinstance(write, Check) else "ConditionCheck":
                       _request(self._name, write)} for write in writes]  # fmt: skip
        request: dict[str, Any] = {"TransactItems": operations}
        if token is not None:
            request["ClientRequestToken"] = token
        with state_errors("the database"):
            try:
                self._client.transact_write_items(**request)
            except ClientError as error:
                if code_of(error) == "TransactionCanceledException":
                    raise _cancelled(error.response) from None
                raise


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


def _item_in(response: Any) -> Item | None:
    found = response.get("Item")
    return decode_item(found) if found else None


def _cancelled(response: Any) -> Conflict:
    for index, reason in enumerate(response.get("CancellationReasons", [])):
        if reason.get("Code") == "ConditionalCheckFailed":
            return ConditionFailed(_item_in(reason), index)
    return Conflict("another request is changing the same thing; try again")
