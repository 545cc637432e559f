"""What is wrong with this installation, and what to do about it.

Every check is one line: OK, WARN (works, but worth knowing) or FAIL (has to be put right), with the remedy. Checks
look and ask; they change nothing but the signed-in session of the demo account.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fusiontrade.cli.api import USAGE, Api, CommandFailure

__all__ = ["Finding", "Level", "Place", "examine"]

HOST = "127.0.0.1"
YAHOO = ("query1.finance.yahoo.com", 443)
ENVIRONMENTS = ("run", "emulator")
_PROBE_SECONDS = 2.0


class Level(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    check: str
    level: Level
    told: str
    remedy: str = ""


@dataclass(frozen=True)
class Place:
    """Where this installation is and where its parts listen; a folder that is None is not looked at."""

    root: Path | None
    bundles: Path | None
    environments: Path | None
    port: int = 2001
    serving_port: int = 8080
    emulator_port: int = 4566
    provider: tuple[str, int] = YAHOO

    @classmethod
    def of(cls, environ: Mapping[str, str], package: Path) -> Place:
        """Return the place of the installed ``package`` folder, with the ports that the laptop stack would use."""
        root = package.parents[1] if (package.parents[1] / "template.yaml").is_file() else None
        bundles, environments = environ.get("FUSIONTRADE_BUNDLES"), environ.get("FUSIONTRADE_VENVS")
        return cls(
            root=root,
            bundles=Path(bundles) if bundles else root and root / "serving" / "starter",
            environments=Path(environments) if environments else root and root / ".venv",
            port=_port_in(environ, "FUSIONTRADE_PORT", 2001),
            serving_port=_port_in(environ, "FUSIONTRADE_SERVING_PORT", 8080),
            emulator_port=_port_in(environ, "FUSIONTRADE_EMULATOR_PORT", 4566),
        )


def _port_in(environ: Mapping[str, str], variable: str, usual: int) -> int:
    text = environ.get(variable) or str(usual)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CommandFailure(f"{variable} is {text!r}: set it to a port between 1 and 65535", USAGE)
    return int(text)


def examine(place: Place, api: Api, token: Callable[[], str]) -> Iterator[Finding]:
    """Yield the findings one by one, cheapest first; ``token`` signs in where nobody is."""
    yield _python(sys.version_info[:2])
    yield from _environments(place)
    yield from _bundles(place)
    if api.is_local:
        yield _port("port of the API", "PORT", place.port, "/api/health", "FusionTrade AI")
        yield _port("port of the models", "SERVING_PORT", place.serving_port, "/models", '"models"')
        yield _port("port of the emulated AWS", "EMULATOR_PORT", place.emulator_port, "/_ministack/health", "services")
        yield from _serving(place)
        yield _provider(place.provider)
    yield from _platform(api, token)


def _python(version: tuple[int, ...]) -> Finding:
    told = ".".join(map(str, version))
    if (3, 11) <= version <= (3, 13):
        return Finding("python", Level.OK, told)
    return Finding("python", Level.FAIL, told, "use Python 3.11, 3.12 or 3.13")


def _environments(place: Place) -> Iterator[Finding]:
    if place.root is None or place.environments is None:
        yield Finding("environments", Level.OK, "installed as a package, without the repository")
        return
    for name in ENVIRONMENTS:
        folder, check = place.environments / name, f"environment {name}"
        if (folder / ".locked").is_file():
            yield Finding(check, Level.OK, str(folder))
        else:
            yield Finding(check, Level.WARN, "absent or half-made", "make run makes it (needs the network once)")


def _bundles(place: Place) -> Iterator[Finding]:
    if place.bundles is None:
        return
    folders = sorted(path.parent for path in place.bundles.glob("*/manifest.json"))
    if not folders:
        yield Finding("bundles", Level.FAIL, f"none in {place.bundles}", "check the clone, or make train")
    for folder in folders:
        yield _bundle(folder)


def _bundle(folder: Path) -> Finding:
    check = f"bundle {folder.name}"
    try:
        files = json.loads((folder / "manifest.json").read_bytes())["files"]
        wrong = [n for n, sha in files.items() if hashlib.sha256((folder / n).read_bytes()).hexdigest() != sha]
        card = json.loads((folder / "model.json").read_bytes())
        told = f"{card['model_id']} {card['version']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Finding(check, Level.FAIL, f"unreadable: {error}", "restore the folder, or make train")
    if wrong:
        return Finding(check, Level.FAIL, f"{', '.join(wrong)} changed", "restore the folder, or make train")
    return Finding(check, Level.OK, told)


def _port(check: str, variable: str, port: int, path: str, expected: str) -> Finding:
    if not _listens(HOST, port):
        return Finding(check, Level.OK, f"{port} is free")
    if expected in (_text_at(port, path) or ""):
        return Finding(check, Level.OK, f"{port} is the platform's")
    remedy = f"stop that program, or choose another port: make run FUSIONTRADE_{variable}=..."
    return Finding(check, Level.FAIL, f"{port} is used by another program", remedy)


def _serving(place: Place) -> Iterator[Finding]:
    text = _text_at(place.serving_port, "/models")
    if text is None:
        return
    with contextlib.suppress(ValueError, KeyError, TypeError):
        body = json.loads(text)
        names = [f"{model['id']} {model['version']}" for model in body["models"]]
        if names:
            yield Finding("models that answer", Level.OK, ", ".join(names))
        else:
            yield Finding("models that answer", Level.FAIL, "none", "look into the log for the reason")
        for refused in body.get("refused", []):
            told = f"{refused['folder']}: {refused['reason']}"
            yield Finding("refused bundle", Level.FAIL, told, "restore the folder, or make train")


def _provider(address: tuple[str, int]) -> Finding:
    if _listens(*address):
        return Finding("market data", Level.OK, f"{address[0]} can be reached")
    remedy = "MARKET_DATA=simulated or files answers without a network; make run chooses by itself"
    return Finding("market data", Level.WARN, f"{address[0]} cannot be reached", remedy)


def _platform(api: Api, token: Callable[[], str]) -> Iterator[Finding]:
    try:
        version = api.health().get("version", "?")
    except CommandFailure as failure:
        yield Finding("platform", Level.WARN if api.is_local else Level.FAIL, str(failure), "everything below it waits")
        return
    yield Finding("platform", Level.OK, f"{api.url}, version {version}")
    try:
        signed_in = token()
        profile = api.me(signed_in)
    except CommandFailure as failure:
        yield Finding("account", Level.FAIL, str(failure), f"fusiontrade login --api {api.url}")
        return
    yield Finding("account", Level.OK, f"{profile['email']} ({profile['subscription_tier']})")
    try:
        forecast = api.fusion("EURUSD=X", token=signed_in)
    except CommandFailure as failure:
        yield Finding("forecast of EURUSD=X", Level.FAIL, str(failure), "see the lines above and the log")
        return
    missing = [name for name, block in forecast["timeframes"].items() if "N/A" in (block["lstm"], block["patchtst"])]
    told = f"{forecast['verdict']}, data from {forecast['data_source']}, as of {forecast['as_of']}"
    if missing:
        yield Finding("forecast of EURUSD=X", Level.WARN, told, f"no full answer on {', '.join(missing)}")
    else:
        yield Finding("forecast of EURUSD=X", Level.OK, told)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_PROBE_SECONDS):
            return True
    except OSError:
        return False


def _text_at(port: int, path: str) -> str | None:
    """Return what a program on this machine answers at ``path``; None where it is no success."""
    import httpx

    try:
        answer = httpx.get(f"http://{HOST}:{port}{path}", timeout=_PROBE_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return answer.text if answer.is_success else None
