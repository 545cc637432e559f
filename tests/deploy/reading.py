"""How tests read resources and policies of a template that was transformed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.deploy.conftest import Resources


def of_type(resources: Resources, kind: str) -> Resources:
    return {name: resource for name, resource in resources.items() if resource["Type"] == kind}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(resources: Resources) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of every policy document, with the name of the resource it stands in."""
    for name, resource in resources.items():
        for found in _policy_documents(resource.get("Properties", {})):
            for statement in as_list(found["Statement"]):
                for inner in statement["Fn::If"][1:] if "Fn::If" in statement else [statement]:
                    if "Effect" in inner:
                        yield name, inner


def _policy_documents(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "Statement" in value:
            yield value
        else:
            for inner in value.values():
                yield from _policy_documents(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _policy_documents(inner)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def named_by(resource: Any) -> str:
    """The resource of the template that an ARN speaks of, with what follows its ARN."""
    match resource:
        case {"Fn::GetAtt": [name, "Arn"]} | {"Ref": name}:
            return str(name)
        case {"Fn::Sub": text}:
            return str(re.sub(r"\$\{(\w+)\.Arn\}", r"\1", text).rpartition(":")[2])
    raise AssertionError(resource)


def keys_of(thing: dict[str, Any]) -> list[str]:
    return [key["AttributeName"] for key in thing["KeySchema"]]
