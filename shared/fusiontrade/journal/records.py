"""The short form of an entry that statistics need, and the daily digests that keep it.

A digest is one document for an owner, day of opening, symbol and interval; each entry of that day is one attribute of
it, ``e_<opened_at>_<hash>``, whose text is ``status[ outcome_at pips[ probability]]``. It is written in the transaction
that writes the entry, so a range is told from its digests alone: a tenth of the bytes, exact to the entry.

===================  ==============================  =======================================================
owner                id                              attributes
===================  ==============================  =======================================================
``DIGEST#<owner>``   ``<yyyy-mm-dd>#<symbol>#<tf>``  ``owner_symbol`` (``DIGEST#<owner>#<symbol>``), ``e_…``,
                                                     ``entries`` (how many there are)
===================  ==============================  =======================================================

A document holds 400 KB: an entry takes about 90 bytes of it once it is settled, so a day has room for `MOST_OF_A_DAY`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from fusiontrade.clock import iso
from fusiontrade.journal.entries import HOLD, Entry
from fusiontrade.journal.settlement import Status
from fusiontrade.journal.statistics import Record

__all__ = ["COUNT", "MOST_OF_A_DAY", "day_of", "digest_key", "digest_owner", "mark_name", "mark_of", "records_in"]

COUNT = "entries"
"""The attribute that says how many entries a digest tells of."""
MOST_OF_A_DAY = 3000
"""Entries of one owner, symbol and interval that are opened on one day."""

_PREFIX = "e_"
_HOLD_MARK = "H"
_LETTERS = {Status.PENDING: "P", Status.WIN: "W", Status.LOSS: "L", Status.EXPIRED: "E"}
_STATUS = {letter: status for status, letter in _LETTERS.items()}


def digest_owner(owner: str) -> str:
    """Return the partition that the digests of ``owner`` are in."""
    return f"DIGEST#{owner}"


def day_of(opened_at: int) -> str:
    """Return the UTC day of an instant (ms), as digests are named by."""
    return iso(opened_at)[:10]


def digest_key(entry: Entry) -> dict[str, str]:
    """Return the key of the digest that ``entry`` is told in."""
    return {
        "owner": digest_owner(entry.owner),
        "id": f"{day_of(entry.opened_at)}#{entry.symbol}#{entry.interval}",
    }


def mark_name(entry: Entry) -> str:
    """Return the attribute that tells ``entry``."""
    return _PREFIX + entry.id.replace("-", "_")


def mark_of(entry: Entry) -> str:
    """Return the text of that attribute."""
    if entry.signal == HOLD:
        return _HOLD_MARK
    letter = _LETTERS[entry.status]
    if entry.outcome_at is None:
        return letter
    told = f"{letter} {entry.outcome_at} {entry.pips:f}"
    return told if entry.probability is None else f"{told} {entry.probability:f}"


def records_in(digest: Mapping[str, Any]) -> Iterator[Record]:
    """Return what a digest tells, one record an entry, in no order."""
    _, symbol, interval = digest["id"].split("#")
    for name, text in digest.items():
        if not name.startswith(_PREFIX):
            continue
        opened_at, _, tail = name[len(_PREFIX) :].partition("_")
        letter, *more = text.split(" ")
        yield Record(
            id=f"{opened_at}-{tail}",
            opened_at=int(opened_at),
            symbol=symbol,
            interval=interval,
            status=None if letter == _HOLD_MARK else _STATUS[letter],
            outcome_at=int(more[0]) if more else None,
            pips=Decimal(more[1]) if more else None,
            probability=Decimal(more[2]) if len(more) > 2 else None,
        )
