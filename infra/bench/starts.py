"""Fresh interpreters: a light handler until its first answer, and the serving program until it is ready.

A handler is measured twice: from the source tree under the project's Python, and from the folders that ``make build``
made, under Lambda's Python and without site-packages, as in the cloud. Both sides find the same packages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from infra import environment
from infra.bench.rows import ROOT, Paired, Row, fresh, paired
from infra.local.functions import AWS_VARIABLES
from infra.local.template import Template

__all__ = ["rows"]

PLAIN = "from infra.bench.handlers import plain_first_answer; plain_first_answer()"
TARGET = 1 / 1.6
ROUNDS = 15
_VARIABLES = {**AWS_VARIABLES, "STAGE": "local", "HOME": "/tmp"}  # noqa: S108
_WHAT = "handler, fresh interpreter to first answer"
_PLAIN = "FastAPI + Mangum alone"

_LAYERS = ("SharedLayer", "ApiLayer")
_BUILT = (
    ("AuthFunction", "/api/v1/auth/me", 401, ("dynamodb",)),
    ("JournalFunction", "/api/v1/journal/stats", 401, ("dynamodb",)),
    ("DocsFunction", "/api/health", 200, ()),
)


def rows() -> Iterator[Row]:
    """Measure handlers from both places, then the serving program."""
    yield from _from_sources()
    yield from _from_build()
    yield _serving()


def _answer(module: str, path: str, status: int, *services: str) -> str:
    arguments = ", ".join(map(repr, (module, path, status, *services)))
    return f"from infra.bench.handlers import first_answer; first_answer({arguments})"


def _from_sources() -> Iterator[Row]:
    python = environment.interpreter("dev")
    variables = {**_VARIABLES, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "shared")])}
    plain = fresh(python, PLAIN, variables)
    auth, journal, docs = "functions.auth.app", "functions.journal.app", "functions.docs.app"
    measured = {
        f"auth {_WHAT}": (_answer(auth, "/api/v1/auth/me", 401, "dynamodb"), TARGET, "botocore client included"),
        f"journal {_WHAT}": (
            _answer(journal, "/api/v1/journal/stats", 401, "dynamodb"), TARGET, "botocore client included"
        ),
        f"docs {_WHAT}": (_answer(docs, "/api/health", 200), TARGET, ""),
        "auth handler, first request with a token": (
            f"from infra.bench.handlers import token_answer; token_answer({auth!r}, '/api/v1/auth/me')", None,
            "two clients, a token signed and checked: joserfc and cryptography included",
        ),
    }  # fmt: skip
    for what, (code, target, note) in measured.items():
        yield Row.of(what, _PLAIN, paired(fresh(python, code, variables), plain, rounds=ROUNDS), target, note)


def _from_build() -> Iterator[Row]:
    python, template = environment.find_python((3, 13)), _built()
    runtime = environment.folder("lambda") / "lib" / "python3.13" / "site-packages"  # botocore, which Lambda brings
    if python is None or template is None or not runtime.is_dir():
        print(
            "    not measured as built: needs Python 3.13, `make test`, and `make build` for this machine's processor"
        )
        return
    layers = {name: template.path.parent / template.properties(name)["ContentUri"] / "python" for name in _LAYERS}
    for function, path, status, services in _BUILT:
        places = [template.functions[function].code, *layers.values(), runtime, ROOT / "infra" / "bench"]
        variables = {**_VARIABLES, "PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONDONTWRITEBYTECODE": "1"}
        code = _answer("app", path, status, *services).replace("infra.bench.handlers", "handlers")
        plain = fresh(python, PLAIN.replace("infra.bench.handlers", "handlers"), variables, "-S")
        found = paired(fresh(python, code, variables, "-S"), plain, rounds=ROUNDS)
        title = template.functions[function].title
        yield Row.of(f"{title} handler as built, Python 3.13", _PLAIN, found, TARGET, "bytecode of the build")


def _built() -> Template | None:
    """Return the newest build for this machine's processor."""
    native = {"aarch64": [".aws-sam/build", "build/tested/build"], "arm64": [".aws-sam/build", "build/tested/build"]}
    places = native.get(os.uname().machine, ["build/x86_64/build", "build/tested/build"])
    found = [ROOT / place / "template.yaml" for place in places if (ROOT / place / "template.yaml").is_file()]
    return Template(max(found, key=lambda path: path.stat().st_mtime)) if found else None


def _serving() -> Row:
    from infra.load.program import Program, serving_python

    def ours() -> float:
        with Program(serving_python()) as program:
            return program.seconds_to_ready

    torch = fresh(environment.interpreter("dev"), "import torch, transformers", _VARIABLES)

    def theirs() -> float:
        begun = time.perf_counter()
        torch()
        return time.perf_counter() - begun

    ours(), theirs()
    own, other = zip(*((ours(), theirs()) for _ in range(7)), strict=True)
    found = Paired.of(own, other)
    note = "process started to /ping 200, the fused bundles verified, opened and warmed up"
    return Row.of("serving program, start to ready", "import torch, transformers", found, 3.0, note)
