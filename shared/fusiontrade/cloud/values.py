"""Python values to DynamoDB's typed ones and back.

Always true here: a number is written as the decimal text that Python shows for it, never as a binary fraction's
expansion (0.1 is stored as 0.1); whole numbers come back as int, all others as `decimal.Decimal`; a number that is
not finite is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

__all__ = ["Item", "Value", "decode", "decode_item", "encode", "encode_item"]

Value = str | int | float | Decimal | bool | bytes | None | list[Any] | dict[str, Any] | frozenset[str]
Item = dict[str, Any]
"""One document: text, numbers, booleans, bytes, None, lists, dicts, and sets of text as frozenset."""


def encode(value: Any) -> dict[str, Any]:
    """Return ``value`` as DynamoDB wants it.

    Raises
    ------
    ValueError
        If a number is not finite or has more than 38 digits.
    TypeError
        If the type has no counterpart there.
    """
    match value:
        case bool():
            encoded: dict[str, Any] = {"BOOL": value}
        case int() | float() | Decimal():
            encoded = {"N": _number(value)}
        case str():
            encoded = {"S": value}
        case bytes():
            encoded = {"B": value}
        case None:
            encoded = {"NULL": True}
        case list() | tuple():
            encoded = {"L": [encode(each) for each in value]}
        case dict():
            encoded = {"M": encode_item(value)}
        case frozenset() if value and all(isinstance(each, str) for each in value):
            encoded = {"SS": sorted(value)}
        case _:
            raise TypeError(f"a {type(value).__name__} cannot be stored in a table")
    return encoded


def _number(value: int | float | Decimal) -> str:
    number = Decimal(repr(value) if isinstance(value, float) else value)
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a finite number and cannot be stored")
    if len(number.as_tuple().digits) > 38:
        raise ValueError(f"{value!r} has more than the 38 digits that a table keeps")
    return format(number, "f") if abs(number.adjusted()) < 38 else str(number)


def decode(value: Mapping[str, Any]) -> Any:
    """Return the Python value of one typed value."""
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return int(content) if content.lstrip("-").isdigit() else Decimal(content)
        case "NULL":
            return None
        case "L":
            return [decode(each) for each in content]
        case "M":
            return decode_item(content)
        case "SS":
            return frozenset(content)
    return content


def encode_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document's attributes, each encoded."""
    return {name: encode(value) for name, value in item.items()}


def decode_item(attributes: Mapping[str, Any]) -> Item:
    """Return the document of encoded attributes."""
    return {name: decode(value) for name, value in attributes.items()}
