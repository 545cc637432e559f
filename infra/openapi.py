"""``python -m infra.openapi``: one OpenAPI 3.1 document of all functions, and the pages made from it.

Always true here: what two functions both define must be the same or the merge stops; every operation has an id of its
own, a tag and a summary. ``--check`` writes nothing and fails where the committed files are not current.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infra import reference

__all__ = ["FOLDER", "MergeError", "files", "main", "merged"]

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "functions" / "docs"
INTRODUCTION = (
    "Market forecasts with their calibrated ranges and chances. "
    "Sign in with POST /api/v1/auth/login and send the access token as `Authorization: Bearer <token>`. "
    "Every error is a *Problem* (RFC 9457); quote its request_id when you ask about it."
)
LICENSE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
TAGS = {
    "auth": "Accounts: registering, signing in, sessions, machine keys, and what access tokens verify with.",
    "fusion": "One forecast from all models over four timeframes.",
    "journal": "Your forecasts, each settled against the market, and what they were worth.",
    "ml": "Model versions, what serves, trainings, exchanges, backtests, forecasts in the background, and their jobs.",
    "docs": "This document, and health.",
}


class MergeError(ValueError):
    """Two functions disagree, or an operation lacks what the document needs."""


def merged(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one document of the documents of all functions, by function name.

    Raises
    ------
    MergeError
        If a path and method, an operation id or a component is defined twice and differently, or an operation has
        no tag or summary.
    """
    first = next(iter(documents.values()))
    paths: dict[str, dict[str, Any]] = {}
    components: dict[str, dict[str, Any]] = {}
    owners: dict[str, str] = {}
    for function, document in sorted(documents.items()):
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _claim(owners, f"{method.upper()} {path}", function)
                _claim(owners, operation.get("operationId", ""), function)
                if not operation.get("tags") or not operation.get("summary"):
                    raise MergeError(f"{method.upper()} {path} of {function} has no tag or no summary")
                paths.setdefault(path, {})[method] = operation
        for kind, entries in document.get("components", {}).items():
            _add(components.setdefault(kind, {}), entries, f"{function}: components/{kind}")
    return {
        "openapi": first["openapi"],
        "info": {**first["info"], "description": INTRODUCTION, "license": LICENSE},
        "servers": [{"url": "/", "description": "The stack that serves this document"}],
        "tags": [{"name": name, "description": TAGS.get(name, "")} for name in _tags(paths)],
        "paths": dict(sorted(paths.items())),
        "components": {kind: dict(sorted(entries.items())) for kind, entries in sorted(components.items())},
    }


def _claim(owners: dict[str, str], thing: str, function: str) -> None:
    if not thing or thing in owners:
        raise MergeError(f"{thing or 'an operation without an id'} of {function} is taken by {owners.get(thing)}")
    owners[thing] = function


def _add(known: dict[str, Any], entries: Mapping[str, Any], where: str) -> None:
    for name, entry in entries.items():
        if known.setdefault(name, entry) != entry:
            raise MergeError(f"{where}/{name} differs from another function's; give one of them another name")


def _tags(paths: Mapping[str, Mapping[str, Any]]) -> list[str]:
    used = {tag for operations in paths.values() for operation in operations.values() for tag in operation["tags"]}
    return sorted(used, key=lambda tag: (list(TAGS).index(tag) if tag in TAGS else len(TAGS), tag))


def _functions() -> Iterable[tuple[str, Any]]:
    os.environ.setdefault("STAGE", "local")
    for source in sorted((ROOT / "functions").glob("*/app.py")):
        application = getattr(importlib.import_module(f"functions.{source.parent.name}.app"), "app", None)
        if application is not None:
            yield source.parent.name, application


def files() -> dict[str, str]:
    """Return the files of the docs function as they should be, by name."""
    document = merged({name: application.openapi() for name, application in _functions()})
    return {
        "openapi.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n",
        "docs.html": reference.operations_page(document),
        "redoc.html": reference.reference_page(document),
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with ``--check`` say which are not current."""
    stale = []
    for name, text in files().items():
        target = FOLDER / name
        if target.exists() and target.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            target.write_text(text, encoding="utf-8")
    if "--check" in arguments and stale:
        print(f"not current: {', '.join(stale)}; run make openapi", file=sys.stderr)
        return 1
    print(f"{', '.join(stale) or 'nothing'} changed in {FOLDER.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
