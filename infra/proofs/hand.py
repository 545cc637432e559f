"""What a walk does beside the API, with an operator's hand in the tables and the bucket of a laptop stack."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from fusiontrade.clock import iso, parse_iso, system_clock
from fusiontrade.cloud.storage import Storage
from fusiontrade.cloud.tables import Table
from fusiontrade.journal.entries import PLATFORM, Entry, Model
from fusiontrade.journal.settlement import Status
from fusiontrade.journal.store import Journal
from fusiontrade.registry.bundles import MANIFEST, Bundles
from fusiontrade.registry.versions import Registry
from infra.local.template import Template
from infra.proofs.laptop import Client, WalkFailure
from serving.bundle import CARD, GRAPH
from serving.card import ModelCard

__all__ = ["another_day", "damaged", "forget_the_drift", "journal_of_a_drift", "span_of"]

_DAY, _HOUR = 86_400_000, 3_600_000
_TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"
_LEAST_BYTES = 64


def damaged(model_id: str, version: str) -> str:
    """Archive and register a copy of a version that answers NaN; return the copy's version.

    Its manifest and its card fit the graph, so that nothing but its self-test can notice.
    """
    storage = Storage(_name("ArtifactsBucket"))
    bundles, source = Bundles(storage), Bundles.prefix(model_id, version)
    files = {key.removeprefix(source): storage.get(key) or b"" for key in storage.keys(source)}
    files[GRAPH] = _poisoned(files[GRAPH], files["weights.safetensors"])
    card = ModelCard.model_validate_json(files[CARD]).stamped(files[GRAPH])
    files[CARD] = card.model_dump_json().encode()
    manifest = json.loads(files[MANIFEST])
    manifest["files"] = {name: hashlib.sha256(files[name]).hexdigest() for name in manifest["files"]}
    files[MANIFEST] = json.dumps(manifest).encode()
    prefix = f"training/damaged-{card.version}/"
    for name, content in files.items():
        storage.put(prefix + name, content)
    registry = Registry(Table(_name("ModelsTable")), system_clock)
    registry.register(bundles.take_in(prefix, created_at=system_clock()))
    return card.version


def _poisoned(graph: bytes, weights: bytes) -> bytes:
    """Return the graph with the first of the weights that it holds as they are made NaN."""
    length = int.from_bytes(weights[:8], "little")
    for told in json.loads(weights[8 : 8 + length]).values():
        first, last = told.get("data_offsets", (0, 0))
        values = weights[8 + length + first : 8 + length + last]
        if len(values) >= _LEAST_BYTES and values in graph:
            return graph.replace(values, b"\x00\x00\xc0\x7f" * (len(values) // 4))
    raise WalkFailure("the graph holds none of the weights as they are: choose a version of the precision f32")


def span_of(client: Client, symbol: str, *, days: int) -> tuple[str, str]:
    """Return the last ``days`` before the newest bar of a symbol, as instants."""
    last = parse_iso(client.expect(200, "GET", f"/api/v1/fusion/{symbol}?include_sentiment=false")["as_of"])
    return iso(last - days * _DAY), iso(last)


def another_day() -> str:
    """Return an instant of a day on which no check was made: one is made a day."""
    return f"{datetime.now(UTC) + timedelta(days=400 + uuid.uuid4().int % 30_000):%Y-%m-%dT05:00:00Z}"


def journal_of_a_drift(model_id: str, version: str, symbol: str, interval: str) -> None:
    """Write entries of the platform whose chances of 90 % came true until two weeks ago, and not since."""
    journal().add_many(_entries(model_id, version, symbol, interval))


def forget_the_drift(model_id: str, version: str, symbol: str, interval: str) -> None:
    """Take those entries away, and the mark that they led to."""
    journal().remove(_entries(model_id, version, symbol, interval))
    Registry(Table(_name("ModelsTable")), system_clock).restore(model_id, version)


def journal() -> Journal:
    """Return the stack's journal."""
    return Journal(Table(_name("JournalTable")), system_clock)


def _entries(model_id: str, version: str, symbol: str, interval: str) -> list[Entry]:
    today = system_clock() // _DAY * _DAY
    recent = [today - (1 + number % 12) * _DAY - number * 60_000 for number in range(120)]
    before = [today - (16 + number % 40) * _DAY - number * 60_000 for number in range(200)]
    known: dict[str, Any] = {
        "owner": PLATFORM, "source": "daily", "symbol": symbol, "interval": interval, "signal": "BUY",
        "data_source": "walk", "probability": Decimal("0.9"), "entry_price": Decimal(100), "tp1": Decimal(102),
        "stop_loss": Decimal(99), "models": (Model(interval, model_id, version),),
    }  # fmt: skip
    made = []
    for at, won in [(at, False) for at in recent] + [(at, number % 10 != 0) for number, at in enumerate(before)]:
        outcome: dict[str, Any] = {
            "status": Status.WIN if won else Status.LOSS,
            "outcome_price": Decimal(102 if won else 99),
            "outcome_at": at + _HOUR,
            "pips": Decimal(200 if won else -100),
        }
        made.append(Entry(**known, **outcome, opened_at=at, expires_at=at + 4 * _HOUR))
    return made


def _name(logical_id: str) -> str:
    return Template(_TEMPLATE, stack="fusiontrade-local").physical_name(logical_id)
