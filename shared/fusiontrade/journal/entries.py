"""Journal entries: what a forecast said before anyone could know the outcome, and what became of it.

Always true of an `Entry`: prices are finite, positive decimals, never binary fractions; a BUY or SELL has its entry,
first target and stop on the right sides of each other and an expiry after its opening; a HOLD makes no claim and has
none of them. Its id sorts by the bar's time and names symbol, interval and bundle: one forecast is there once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from fusiontrade.clock import iso
from fusiontrade.errors import InvalidInput
from fusiontrade.journal.settlement import Direction, Settlement, Status
from fusiontrade.market.symbols import Symbol, parse_symbol
from fusiontrade.market.timeframes import Timeframe

__all__ = [
    "HOLD",
    "IMPORTED",
    "PLATFORM",
    "SHARDS",
    "Entry",
    "Model",
    "Signal",
    "Source",
    "bundle_of",
    "decimal_of",
    "entry_from",
    "entry_id",
    "first_id",
    "item_of",
    "pips_of",
    "shard_of",
]

PLATFORM = "PLATFORM"
"""The owner of every fused forecast that the platform itself made."""
HOLD = "HOLD"
IMPORTED = "imported"
"""The data source of entries from an older log, which did not say whose prices it used."""
SHARDS = 16
"""Parts that what is pending is kept in; all entries of one symbol are in one."""

Signal = Literal["BUY", "SELL", "HOLD"]
ModelSignal = Literal["BUY", "SELL", "HOLD", "N/A"]
Source = Literal["manual", "daily", "agent", "webhook"]

_LAST_INSTANT = 10**13 - 1  # ms; in the year 2286
_LEAST_PRICE, _MOST_PRICE = Decimal("1e-12"), Decimal("1e12")
_PIP_PLACES = Decimal("0.01")
_NUMBERS = (
    "fusion_score", "probability", "entry_price", "tp1", "tp2", "tp3", "stop_loss", "atr", "outcome_price", "pips",
)  # fmt: skip
_PLAIN = (
    "owner", "source", "symbol", "interval", "signal", "opened_at", "expires_at", "data_source", "verdict",
    "lstm_signal", "patchtst_signal", "outcome_at", "bundle", *_NUMBERS,
)  # fmt: skip


class Model(NamedTuple):
    """One bundle that a forecast was made with."""

    timeframe: str
    id: str
    version: str


def decimal_of(number: float | str | Decimal | int) -> Decimal:
    """Return the decimal that Python shows for ``number``: 0.1 is 0.1, not its binary fraction.

    Raises
    ------
    ValueError
        If it is no number, or not finite.
    """
    try:
        value = Decimal(repr(number) if isinstance(number, float) else number)
    except ArithmeticError:
        raise ValueError(f"{number!r} is no number") from None
    if not value.is_finite():
        raise ValueError(f"{number!r} is not a finite number")
    return value


def bundle_of(models: Iterable[Model]) -> str:
    """Return the name of what made a forecast: every model with its version, whatever their order."""
    return ",".join(sorted(f"{model.timeframe}:{model.id}@{model.version}" for model in models))


def entry_id(opened_at: int, symbol: str, interval: str, bundle: str) -> str:
    """Return the id of the forecast of this bar by this bundle; it sorts by ``opened_at`` (ms)."""
    digest = hashlib.sha256("\n".join((symbol, interval, bundle)).encode()).hexdigest()[:16]
    return f"{opened_at:013d}-{digest}"


def first_id(instant: int) -> str:
    """Return what sorts before every id of ``instant`` (ms) or later and after every earlier one."""
    return f"{min(max(instant, 0), _LAST_INSTANT):013d}"


def shard_of(symbol: str) -> str:
    """Return the part that pending entries of ``symbol`` are kept in: all of one symbol are in one."""
    return f"{int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:4]) % SHARDS:02d}"


def pips_of(symbol: Symbol, direction: str, entry: Decimal, outcome: Decimal) -> Decimal:
    """Return the pips gained (negative: lost) from ``entry`` to ``outcome``, to two places.

    Less than one pip has three digits: of a coin that costs a fraction of a pip, two places would leave nothing.
    """
    sign = 1 if direction == Direction.BUY else -1
    pips = sign * (outcome - entry) / decimal_of(symbol.pip_size)
    return pips.quantize(min(_PIP_PLACES, Decimal(1).scaleb(pips.adjusted() - 2)) if pips else _PIP_PLACES)


@dataclass(frozen=True)
class Entry:
    """One forecast of one owner.

    Parameters
    ----------
    owner
        A user's id, or `PLATFORM`.
    source
        What made it.
    symbol, interval
        Yahoo's code, and the timeframe that the targets come from.
    signal
        What it claims; the verdict's direction.
    opened_at
        Close of the newest bar used, ms since 1970-01-01 UTC: bars that open then or later decide it.
    expires_at
        Last instant it lives, ms; `fusiontrade.journal.horizons.expiry` says when.
    data_source
        Whose prices it was made from, and is settled by.
    due_at
        From when on it is worth looking at, ms: its expiry where nothing is said. None where it is settled or a HOLD.
    verdict, lstm_signal, patchtst_signal, fusion_score
        The fused verdict's words, each model's vote, and the score, 0 to 100.
    probability
        ``p_win``: the calibrated chance that ``tp1`` is touched before ``stop_loss`` before expiry.
    entry_price, tp1, tp2, tp3, stop_loss, atr
        In the quote currency.
    status, outcome_price, outcome_at, pips
        What became of it; a HOLD is EXPIRED with nothing more.
    models
        What it was made with.
    bundle
        The same as one name; made from ``models`` where it is empty.
    """

    owner: str
    source: Source
    symbol: str
    interval: str
    signal: Signal
    opened_at: int
    expires_at: int
    data_source: str
    due_at: int | None = None
    verdict: str | None = None
    lstm_signal: str | None = None
    patchtst_signal: str | None = None
    fusion_score: Decimal | None = None
    probability: Decimal | None = None
    entry_price: Decimal | None = None
    tp1: Decimal | None = None
    tp2: Decimal | None = None
    tp3: Decimal | None = None
    stop_loss: Decimal | None = None
    atr: Decimal | None = None
    status: Status = Status.PENDING
    outcome_price: Decimal | None = None
    outcome_at: int | None = None
    pips: Decimal | None = None
    models: tuple[Model, ...] = ()
    bundle: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.opened_at <= _LAST_INSTANT:
            raise InvalidInput("opened_at", f"opened_at is {self.opened_at}: milliseconds since 1970 are meant")
        Timeframe.parse(self.interval, field="interval")
        if parse_symbol(self.symbol).code != self.symbol:
            raise InvalidInput("symbol", f"{self.symbol!r} is written {parse_symbol(self.symbol).code!r} here")
        if not self.bundle:
            object.__setattr__(self, "bundle", bundle_of(self.models))
        if self.probability is not None and not (self.probability.is_finite() and 0 <= self.probability <= 1):
            raise InvalidInput("probability", f"probability is {self.probability}: it lies between 0 and 1")
        if self.signal == HOLD:
            self._check_hold()
        else:
            self._check_claim()

    def _check_hold(self) -> None:
        claims = (self.tp1, self.tp2, self.tp3, self.stop_loss, self.outcome_price, self.pips, self.due_at)
        if any(claim is not None for claim in claims):
            raise InvalidInput("signal", "a HOLD makes no claim: it has no targets, no stop and no outcome")
        object.__setattr__(self, "status", Status.EXPIRED)

    def _check_claim(self) -> None:
        if self.signal not in (Direction.BUY, Direction.SELL):
            raise InvalidInput("signal", f"{self.signal!r} is no signal: use BUY, SELL or HOLD")
        entry, target, stop = map(float, self.levels)
        sign = 1 if self.signal == Direction.BUY else -1
        if not sign * stop < sign * entry < sign * target:
            told = f"a {self.signal} at {entry} cannot have the first target {target} and the stop {stop}"
            raise InvalidInput("tp1", f"{told}: one is on the wrong side")
        if self.expires_at <= self.opened_at:
            raise InvalidInput("expires_at", "expires_at has to lie after opened_at")
        if (self.status is Status.PENDING) != (self.outcome_at is None):
            raise InvalidInput("outcome_at", f"an entry that is {self.status} says when exactly if it is settled")
        if self.is_pending and self.due_at is None:
            object.__setattr__(self, "due_at", self.expires_at)

    @property
    def id(self) -> str:
        """The id: bar time and a hash of symbol, interval and bundle."""
        return entry_id(self.opened_at, self.symbol, self.interval, self.bundle)

    @property
    def levels(self) -> tuple[Decimal, Decimal, Decimal]:
        """Entry, first target and stop of a BUY or SELL; raises `InvalidInput` where one is no positive price."""
        return tuple(self._price(name) for name in ("entry_price", "tp1", "stop_loss"))  # type: ignore[return-value]

    def _price(self, name: str) -> Decimal:
        price: Decimal | None = getattr(self, name)
        if price is None or not price.is_finite() or not _LEAST_PRICE <= price <= _MOST_PRICE:
            raise InvalidInput(name, f"{name} is {price}: a {self.signal} needs a positive price")
        return price

    @property
    def is_pending(self) -> bool:
        """Whether the market has still to decide it."""
        return self.status is Status.PENDING

    def settled(self, settlement: Settlement) -> Entry:
        """Return this entry as ``settlement`` leaves it; raises ValueError where that says PENDING."""
        if not self.is_pending or settlement.status is Status.PENDING or settlement.price is None:
            raise ValueError(f"the entry {self.id}, {self.status}, cannot be settled as {settlement}")
        price = self._filled_at(settlement.price)
        return replace(
            self,
            status=settlement.status,
            outcome_price=price,
            outcome_at=settlement.at,
            pips=pips_of(parse_symbol(self.symbol), self.signal, self.levels[0], price),
            due_at=None,
        )

    def _filled_at(self, price: float) -> Decimal:
        """Return the price as a decimal: the level itself, to its last digit, where it was filled at one."""
        return next((level for level in self.levels if float(level) == price), decimal_of(price))

    def to_json(self) -> dict[str, Any]:
        """Return the *JournalEntry* of the API: numbers as JSON numbers, instants as ISO-8601."""
        return {
            "id": self.id,
            "user_id": None if self.owner == PLATFORM else self.owner,
            "source": self.source,
            "symbol": self.symbol,
            "interval": self.interval,
            "signal": self.signal,
            "verdict": self.verdict,
            "lstm_signal": self.lstm_signal,
            "patchtst_signal": self.patchtst_signal,
            **{name: _number(getattr(self, name)) for name in _NUMBERS},
            "status": self.status.value,
            "outcome_at": None if self.outcome_at is None else iso(self.outcome_at),
            "opened_at": iso(self.opened_at),
            "expires_at": iso(self.expires_at),
            "models": [model._asdict() for model in self.models],
            "data_source": self.data_source,
        }


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def item_of(entry: Entry) -> dict[str, Any]:
    """Return the entry as a document of the table ``Journal``; what is None is left out."""
    known = {name: getattr(entry, name) for name in _PLAIN}
    item = {name: value for name, value in known.items() if value is not None}
    item |= {"id": entry.id, "owner_symbol": f"{entry.owner}#{entry.symbol}", "status": entry.status.value}
    item["models"] = [list(model) for model in entry.models]
    if entry.is_pending:
        item |= {"pending_shard": shard_of(entry.symbol), "due_at": entry.due_at}
    return item


def entry_from(item: Mapping[str, Any]) -> Entry:
    """Return the entry that a document of the table holds."""
    plain: dict[str, Any] = {name: item[name] for name in _PLAIN if name in item}
    plain |= {name: Decimal(item[name]) for name in _NUMBERS if name in item}
    return Entry(
        **plain,
        due_at=item.get("due_at"),
        status=Status(item["status"]),
        models=tuple(Model(*each) for each in item["models"]),
    )
