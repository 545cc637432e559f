"""An older log of predictions, read row by row and imported whole or not at all.

Always true here: a file with a faulty row imports nothing, and the report names the faulty rows; a row that is in the
journal already is skipped, so the same file twice is the same journal; an import that the database breaks off is taken
back as far as it answers. What a killed process had written stays, as does what was written when the time ran out, and
the same file again adds the rest: a row's id follows from what it says, so that no row and no count is there twice.

Columns are known by several names (`ALIASES`), in any order; what else a file holds is ignored. Instants without a zone
are UTC; they are cut to the minute. Without ``expires_at`` a row lives for four of its intervals by the clock, with it
for 92 days at most: what is pending is settled by every bar of its life, fetched at once.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, cast, get_args

from fusiontrade.clock import parse_iso
from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, InvalidInput, StateUnavailable
from fusiontrade.journal.entries import HOLD, IMPORTED, Entry, Model, Signal, Source, decimal_of, pips_of
from fusiontrade.journal.exports import unguarded
from fusiontrade.journal.settlement import Status
from fusiontrade.journal.store import Journal
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe

__all__ = ["ALIASES", "MOST_FAULTS", "MOST_ROWS", "Fault", "import_log", "read_log"]

MOST_ROWS = 5000
MOST_FAULTS = 200
"""Faults that a report names; ``failed`` counts all of them."""
_MOST_AT_ONCE = 40
_MINUTE = 60_000
_TO_SPARE = 2.0  # s that are left when no more is begun
_HORIZON_BARS = 4
_LONGEST_LIFE = 92 * Timeframe.D1.milliseconds
_EARLIEST = parse_iso("2000-01-03T00:00:00Z")
_MOST_TEXT = 64

ALIASES: Mapping[str, tuple[str, ...]] = {
    "opened_at": ("opened_at", "timestamp", "created_at", "datetime", "date", "time"),
    "symbol": ("symbol", "pair", "ticker", "instrument"),
    "interval": ("interval", "timeframe"),
    "signal": ("signal", "direction", "prediction", "verdict", "final_signal"),
    "entry_price": ("entry_price", "entry", "price", "current_price"),
    "tp1": ("tp1", "take_profit", "take_profit_1", "target", "tp"),
    "tp2": ("tp2", "take_profit_2"),
    "tp3": ("tp3", "take_profit_3"),
    "stop_loss": ("stop_loss", "sl", "stop"),
    "atr": ("atr",),
    "status": ("status", "outcome", "result"),
    "outcome_price": ("outcome_price", "exit_price", "close_price"),
    "outcome_at": ("outcome_at", "exit_time", "closed_at", "verified_at"),
    "expires_at": ("expires_at", "expiry"),
    "probability": ("probability", "p_win"),
    "fusion_score": ("fusion_score", "master_fusion_score", "score"),
    "lstm_signal": ("lstm_signal", "lstm"),
    "patchtst_signal": ("patchtst_signal", "patchtst"),
    "verdict": ("verdict",),
    "source": ("source",),
    "models": ("models",),
    "data_source": ("data_source",),
}
"""Our name of each column, and the names it is known by, ours first."""

_REQUIRED = ("opened_at", "symbol", "interval", "signal")
_WORDS: Mapping[str, Signal] = {
    "BUY": "BUY", "LONG": "BUY", "UP": "BUY", "SELL": "SELL", "SHORT": "SELL", "DOWN": "SELL",
    "HOLD": "HOLD", "NEUTRAL": "HOLD", "NONE": "HOLD", "(HOLD)": "HOLD", "FLAT": "HOLD",
}  # fmt: skip
_STATUSES: Mapping[str, Status] = {
    "": Status.PENDING, "PENDING": Status.PENDING, "OPEN": Status.PENDING, "ACTIVE": Status.PENDING,
    "WIN": Status.WIN, "WON": Status.WIN, "TP": Status.WIN, "TP_HIT": Status.WIN, "TP1_HIT": Status.WIN,
    "LOSS": Status.LOSS, "LOST": Status.LOSS, "SL": Status.LOSS, "SL_HIT": Status.LOSS,
    "EXPIRED": Status.EXPIRED, "TIMEOUT": Status.EXPIRED,
}  # fmt: skip
_VOTES = ("BUY", "SELL", "HOLD", "N/A")
_MODEL = re.compile(r"([0-9a-z]{1,4}):([\w.\-]{1,64})@([\w.\-]{1,64})")
_PROVIDER = re.compile(r"[a-z0-9_\-]{1,32}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,24}(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?")

Row = Mapping[str, str]


@dataclass(frozen=True)
class Fault:
    """Why a row cannot be imported; row 1 is the first one below the names of the columns."""

    row: int
    field: str
    message: str


def import_log(
    journal: Journal, owner: str, body: bytes, now: int, *, deadline: Deadline | None = None
) -> dict[str, Any]:
    """Import a log into the journal of ``owner`` and return the report.

    Raises
    ------
    InvalidInput
        If it is no CSV, lacks a column, or has no row or more than `MOST_ROWS`.
    StateUnavailable
        If the database does not answer, or has not taken all rows by ``deadline``: the same file again goes on.
    """
    entries, faults = read_log(body, owner, now)
    rows = len(entries) + len(faults)
    added = [] if faults else _added(journal, entries, deadline or Deadline(math.inf))
    named = faults[:MOST_FAULTS]
    return {
        "rows": rows,
        "imported": len(added),
        "skipped": 0 if faults else rows - len(added),
        "failed": len(faults),
        "errors": [{"row": fault.row, "field": fault.field, "message": fault.message} for fault in named],
    }


def _added(journal: Journal, entries: Sequence[Entry], deadline: Deadline) -> list[Entry]:
    added: list[Entry] = []
    try:
        for start in range(0, len(entries), _MOST_AT_ONCE):
            if deadline.remaining() < _TO_SPARE:
                told = f"{start} of {len(entries)} rows are there; the same file again adds the rest"
                raise StateUnavailable(told, retry_after=1)
            added += journal.add_many(entries[start : start + _MOST_AT_ONCE])
    except (InvalidInput, StateUnavailable):
        _take_back(journal, added, deadline)
        raise
    return added


def _take_back(journal: Journal, added: Sequence[Entry], deadline: Deadline) -> None:
    """Remove what was added, as far as there is time: it takes as long as adding, never into the function's end."""
    for start in range(0, len(added), _MOST_AT_ONCE):
        if deadline.remaining() < _TO_SPARE:
            return
        journal.remove(added[start : start + _MOST_AT_ONCE])


def read_log(body: bytes, owner: str, now: int) -> tuple[list[Entry], list[Fault]]:
    """Return the entries of a log, and one fault of each row that is none; raises as `import_log`."""
    entries: list[Entry] = []
    faults: list[Fault] = []
    for number, row in enumerate(_rows(body), start=1):
        try:
            entries.append(_entry(row, owner, now))
        except InvalidInput as error:
            faults.append(Fault(number, error.field, str(error)))
        except FusionTradeError as error:
            faults.append(Fault(number, "symbol", str(error)))
    return entries, faults


def _rows(body: bytes) -> list[Row]:
    """Return the rows by our names of the columns, every cell stripped and without its guard."""
    lines = _lines(body)
    if not lines:
        raise InvalidInput("body", "the file is empty: send CSV with the names of the columns in the first line")
    columns = _columns(lines[0])
    rows = [cells for cells in lines[1:] if any(cell.strip() for cell in cells)]
    if not 1 <= len(rows) <= MOST_ROWS:
        raise InvalidInput("body", f"the file has {len(rows)} rows: send 1 to {MOST_ROWS} at a time")
    return [{name: _cell(cells, index) for name, index in columns.items()} for cells in rows]


def _lines(body: bytes) -> list[list[str]]:
    try:
        text = body.decode("utf-8-sig")
        head = text.partition("\n")[0]
        delimiter = max(",;\t", key=head.count)
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except UnicodeDecodeError:
        raise InvalidInput("body", "the file is not UTF-8") from None
    except csv.Error as error:
        raise InvalidInput("body", f"the file is no CSV: {error}") from None


def _columns(head: Sequence[str]) -> dict[str, int]:
    named = {re.sub(r"[\s\-]+", "_", name.strip().lower()): index for index, name in reversed(list(enumerate(head)))}
    columns: dict[str, int] = {}
    for field, names in ALIASES.items():
        found = next((named[name] for name in names if name in named), None)
        if found is not None:
            columns[field] = found
    if missing := [field for field in _REQUIRED if field not in columns]:
        told = "; ".join(f"{field} (or {', '.join(ALIASES[field][1:])})" for field in missing)
        raise InvalidInput("body", f"the file lacks the column {told}")
    return columns


def _cell(cells: Sequence[str], index: int) -> str:
    return unguarded(cells[index].strip()) if index < len(cells) else ""


def _entry(row: Row, owner: str, now: int) -> Entry:
    """Return the entry of a row; raises `InvalidInput` that names the column, `UnknownSymbol`."""
    opened_at = _instant(row, "opened_at")
    if opened_at is None or not _EARLIEST <= opened_at <= now:
        raise InvalidInput("opened_at", f"{row['opened_at']!r} is not a moment between 2000 and now")
    opened_at -= opened_at % _MINUTE
    symbol = parse_symbol(row["symbol"])
    interval = Timeframe.parse(row["interval"], field="interval")
    signal = _signal(row["signal"])
    models = _models(row)
    common: dict[str, Any] = {
        "owner": owner,
        "source": _source(row),
        "symbol": symbol.code,
        "interval": interval.value,
        "signal": signal,
        "opened_at": opened_at,
        "data_source": _data_source(row),
        "verdict": _text(row, "verdict") or row["signal"][:_MOST_TEXT],
        "lstm_signal": _vote(row, "lstm_signal"),
        "patchtst_signal": _vote(row, "patchtst_signal"),
        "fusion_score": _number(row, "fusion_score", most=100),
        "entry_price": _number(row, "entry_price"),
        "atr": _number(row, "atr"),
        "models": models,
        "bundle": "" if models else IMPORTED,
    }
    expires_at = _expiry(row, opened_at, interval)
    if signal == HOLD:
        return Entry(**common, expires_at=expires_at)
    common |= {name: _number(row, name) for name in ("tp1", "tp2", "tp3", "stop_loss")}
    common |= {"probability": _number(row, "probability", most=1), "due_at": opened_at + interval.milliseconds}
    return _with_outcome(Entry(**common, expires_at=expires_at), row, now)


def _expiry(row: Row, opened_at: int, interval: Timeframe) -> int:
    """Return when a row's life ends; settling one that never ends would fetch more bars from run to run."""
    expires_at = _instant(row, "expires_at")
    if expires_at is None:
        return opened_at + _HORIZON_BARS * interval.milliseconds
    if not opened_at < expires_at <= opened_at + _LONGEST_LIFE:
        raise InvalidInput("expires_at", f"{row['expires_at']!r} is no moment of the 92 days after opened_at")
    return expires_at


def _with_outcome(pending: Entry, row: Row, now: int) -> Entry:
    status = _STATUSES.get(row.get("status", "").upper().replace(" ", "_"))
    if status is None:
        raise InvalidInput("status", f"{row['status']!r} is no outcome: use {', '.join(Status)}")
    if status is Status.PENDING:
        return pending
    entry, target, stop = pending.levels
    said = _number(row, "outcome_price")
    price = {Status.WIN: target, Status.LOSS: stop}.get(status) if said is None else said
    at = _instant(row, "outcome_at")
    if at is None and status is Status.EXPIRED:
        at = _instant(row, "expires_at")
    if price is None or price <= 0:
        raise InvalidInput("outcome_price", f"a row that is {status} needs the price it ended at")
    if at is None or not pending.opened_at <= at <= now:
        raise InvalidInput(
            "outcome_at", f"a row that is {status} needs the moment, not before opened_at and not to come"
        )
    pips = pips_of(parse_symbol(pending.symbol), pending.signal, entry, price)
    if (status is Status.WIN and pips <= 0) or (status is Status.LOSS and pips >= 0):
        raise InvalidInput("outcome_price", f"a {pending.signal} at {entry} that ended at {price} is no {status}")
    return replace(pending, status=status, outcome_price=price, outcome_at=at, pips=pips, due_at=None)


def _instant(row: Row, name: str) -> int | None:
    text = row.get(name, "")
    if not text:
        return None
    try:
        if re.fullmatch(r"[0-9]{10}|[0-9]{13}", text):
            return int(text) * (1000 if len(text) == 10 else 1)
        moment = datetime.fromisoformat(text)
        return parse_iso((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat())
    except (ValueError, OverflowError):
        raise InvalidInput(name, f"{text[:_MOST_TEXT]!r} is no moment: write e.g. 2025-07-31T12:00:00Z") from None


def _number(row: Row, name: str, most: int | None = None) -> Decimal | None:
    text = row.get(name, "")
    if not text or text.lower() in ("nan", "none", "null"):
        return None
    if not _NUMBER.fullmatch(text):
        raise InvalidInput(name, f"{text[:_MOST_TEXT]!r} is no number: write e.g. 1.0850")
    value = decimal_of(text)
    if value < 0 or (most is not None and value > most):
        raise InvalidInput(name, f"{name} is {text}: it lies between 0 and {'any price' if most is None else most}")
    return value


def _signal(text: str) -> Signal:
    word = _WORDS.get((text.upper().split() or [""])[-1])
    if word is None:
        raise InvalidInput("signal", f"{text[:_MOST_TEXT]!r} is no signal: use BUY, SELL or HOLD")
    return word


def _vote(row: Row, name: str) -> str | None:
    vote = row.get(name, "").upper()
    return vote if vote in _VOTES else None


def _source(row: Row) -> Source:
    text = row.get("source", "").lower()
    return cast(Source, text) if text in get_args(Source) else "manual"


def _data_source(row: Row) -> str:
    text = row.get("data_source", "")
    return text if _PROVIDER.fullmatch(text) else IMPORTED


def _text(row: Row, name: Literal["verdict"]) -> str | None:
    return row.get(name, "")[:_MOST_TEXT] or None


def _models(row: Row) -> tuple[Model, ...]:
    found = (_MODEL.fullmatch(part) for part in row.get("models", "").split()[:16])
    return tuple(Model(*match.groups()) for match in found if match)
