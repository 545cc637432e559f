"""The journal as a file: CSV for a spreadsheet, JSON for a program.

Always true here: no cell of the CSV starts as a formula does. Text that would is put behind an apostrophe, after which
every spreadsheet takes it for text (OWASP, CSV injection); a number stays a number, minus sign and all. What was
exported can be imported again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from fusiontrade.journal.entries import Entry

__all__ = ["COLUMNS", "csv_of", "json_of", "unguarded"]

COLUMNS = (
    "id", "source", "symbol", "interval", "signal", "verdict", "lstm_signal", "patchtst_signal", "fusion_score",
    "probability", "entry_price", "tp1", "tp2", "tp3", "stop_loss", "atr", "status", "outcome_price", "outcome_at",
    "pips", "opened_at", "expires_at", "models", "data_source",
)  # fmt: skip

_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
_GUARD = "'"


def csv_of(entries: Iterable[Entry]) -> str:
    """Return the entries as CSV (RFC 4180), a row each below the names of the columns."""
    written = io.StringIO()
    rows = csv.writer(written)
    rows.writerow(COLUMNS)
    for entry in entries:
        told = _exact(entry)
        rows.writerow([_cell(told[name]) for name in COLUMNS])
    return written.getvalue()


def json_of(entries: Iterable[Entry]) -> str:
    """Return the entries as a JSON array of *JournalEntry*."""
    return json.dumps([entry.to_json() for entry in entries], separators=(",", ":"), allow_nan=False)


def unguarded(cell: str) -> str:
    """Return the text that `csv_of` guarded."""
    return cell[1:] if cell.startswith(_GUARD) and cell[1:].startswith(_STARTS_A_FORMULA) else cell


def _exact(entry: Entry) -> Mapping[str, Any]:
    """Return the entry's columns with its decimals as they are, to the last digit."""
    told = entry.to_json()
    told |= {name: value for name in told if isinstance(value := getattr(entry, name, None), Decimal)}
    told["models"] = " ".join(f"{model.timeframe}:{model.id}@{model.version}" for model in entry.models)
    return told


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return format(value, "f")
    return _GUARD + value if value.startswith(_STARTS_A_FORMULA) else value
