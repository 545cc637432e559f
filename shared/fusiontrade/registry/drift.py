"""The job ``drift``: do the models' forecasts still look and hold as they did? Asked of the platform's own journal.

Two signs, each of the last `RECENT_DAYS` beside the `BEFORE_DAYS` before them, by model version: the population
stability index of the chances that were given, less what chance alone makes of it, and the Brier score of those that
were settled, its difference beside its standard error over days. Past its limit a version is DEGRADED, and a training
on the symbols it serves is asked for, once a version. Too few entries say nothing, and nothing changes. The same
reading of the journal tells what the registry shows as a version's win rate and profit factor.

The index and its customary limit of 0.25: Siddiqi, Credit Risk Scorecards (2006); the mean of the index without any
change is (bins - 1)(1/n + 1/m): Yurdakul and Naranjo, J. Risk Model Validation 14 (2020).
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

from fusiontrade.forecasts.jobs import JobOrder
from fusiontrade.journal.entries import PLATFORM
from fusiontrade.registry.record import Tallies
from fusiontrade.registry.turns import Again, Done

if TYPE_CHECKING:
    from fusiontrade.journal.entries import Entry
    from fusiontrade.registry.versions import ModelVersion, Registry

__all__ = ["KIND", "Drift", "Sign", "brier_change", "ordered", "signs_of", "stability_index"]

KIND = "drift"
RECENT_DAYS, BEFORE_DAYS = 14, 60
FEWEST = 100
MOST_STABILITY = 0.25
MOST_ERRORS = 4.0
"""A rise of so many standard errors has a chance of one in a thousand with the days of two weeks; it is asked daily."""
MOST_RISE = 0.02
"""Of the Brier score: less is no trouble, however certain."""
_BINS = 10
_INVENTED = "simulated"  # what the market was made up for says nothing of a model
_DAY = 86_400_000
_SETTLED = frozenset({"WIN", "LOSS", "EXPIRED"})

Chance = tuple[int, float, float | None]
"""When it was given (ms), the chance, and 1 or 0 for what came of it, None where that is open."""


@dataclass(frozen=True)
class Sign:
    """What the journal says of one model version; a figure is None where there are too few entries."""

    recent: int
    before: int
    stability: float | None
    brier_recent: float | None
    brier_before: float | None
    brier_errors: float | None

    @property
    def brier_rise(self) -> float:
        """By how much the Brier score has risen, 0 where one is missing."""
        if self.brier_recent is None or self.brier_before is None:
            return 0.0
        return self.brier_recent - self.brier_before

    @property
    def trouble(self) -> str | None:
        """Why the version's forecasts are not what they were, in words; None where nothing says so."""
        said = []
        if self.stability is not None and self.stability > MOST_STABILITY:
            said.append(f"its chances are distributed otherwise than before (stability index {self.stability:.2f})")
        if self.brier_errors is not None and self.brier_errors > MOST_ERRORS and self.brier_rise > MOST_RISE:
            said.append(
                f"its chances came true less well than before (Brier {self.brier_recent:.3f} after "
                f"{self.brier_before:.3f}, {self.brier_errors:.1f} standard errors)"
            )
        return f"over the last {RECENT_DAYS} days {' and '.join(said)}" if said else None

    def told(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Entries(Protocol):
    """Who has the platform's journal."""

    def __call__(self, since: int) -> Iterable[Entry]:
        """Return its entries that were opened then (ms) or later."""
        ...


def ordered(at: int) -> JobOrder:
    """Return the order of the day of ``at`` (ms): the same one all day."""
    return JobOrder(f"drift{at // _DAY}", PLATFORM, KIND, {"at": at}, at)


class Drift:
    """Does jobs of this kind.

    Parameters
    ----------
    registry
        The versions.
    entries
        What the platform said, and what came of it.
    clock
        The present, ms.
    retrain
        Asks for a training of a version's successor under an id of its own; returns the id of that job.
    """

    def __init__(
        self,
        registry: Registry,
        entries: Entries,
        retrain: Callable[[ModelVersion, str], str],
        clock: Callable[[], int],
    ) -> None:
        self._registry, self._entries, self._retrain, self._clock = registry, entries, retrain, clock

    def turn(self, order: JobOrder, kept: Mapping[str, Any], *, cancelled: bool) -> Again | Done:  # noqa: ARG002
        """Check every version that serves."""
        now = self._clock()
        since = now - (RECENT_DAYS + BEFORE_DAYS) * _DAY
        tallies = Tallies()
        real = (entry for entry in self._entries(since) if entry.data_source != _INVENTED)
        found = signs_of(tallies.passing(real), now)
        told = {}
        for model_id, version in self._registry.active().items():
            if (record := tallies.told(model_id, version, since, now)) is not None:
                self._registry.recorded(model_id, version, record)
            sign = found.get((model_id, version))
            told[model_id] = {"version": version, **self._judged(model_id, version, sign)}
        return Done({"models": told})

    def abandon(self, order: JobOrder, kept: Mapping[str, Any]) -> None:
        """Nothing is held."""

    def _judged(self, model_id: str, version: str, sign: Sign | None) -> dict[str, Any]:
        if sign is None:
            return {"checked": False}
        trouble = sign.trouble
        if trouble is None:
            changed = self._registry.restore(model_id, version) if sign.brier_errors is not None else False
            return {"checked": True, "degraded": False, "restored": changed, **sign.told()}
        identity = hashlib.sha256(f"retrain {model_id} {version}".encode()).hexdigest()[:32]
        retraining = self._retrain(self._registry.of(model_id, version), identity)
        self._registry.degrade(model_id, version, trouble, retraining=retraining or None)
        return {"checked": True, "degraded": True, "reason": trouble, "retraining": retraining, **sign.told()}


def signs_of(entries: Iterable[Entry], now: int) -> dict[tuple[str, str], Sign]:
    """Return what entries say of each model version (id, version) as of ``now`` (ms)."""
    given: dict[tuple[str, str], list[Chance]] = defaultdict(list)
    for entry in entries:
        if entry.probability is None:
            continue
        won = None
        if entry.status.value in _SETTLED:
            won = 1.0 if entry.status.value == "WIN" else 0.0
        for model in entry.models:
            if model.timeframe == entry.interval:
                given[model.id, model.version].append((entry.opened_at, float(entry.probability), won))
    return {version: _sign(chances, now) for version, chances in given.items()}


def _sign(chances: Sequence[Chance], now: int) -> Sign:
    cut = now - RECENT_DAYS * _DAY
    recent = [one for one in chances if one[0] >= cut]
    before = [one for one in chances if one[0] < cut]
    stability = errors = None
    if min(len(recent), len(before)) >= FEWEST:
        stability = stability_index([one[1] for one in before], [one[1] for one in recent])
    settled = [one for one in recent if one[2] is not None], [one for one in before if one[2] is not None]
    if min(map(len, settled)) >= FEWEST:
        errors = brier_change(*settled)
    scores = [fmean((p - (won or 0.0)) ** 2 for _, p, won in part) if part else None for part in settled]
    return Sign(len(recent), len(before), stability, scores[0], scores[1], errors)


def stability_index(before: Sequence[float], recent: Sequence[float]) -> float:
    """Return the population stability index of ``recent`` over tenths of ``before``, less its mean without a change."""
    ranked = sorted(before)
    edges = sorted({ranked[len(ranked) * place // _BINS] for place in range(1, _BINS)})
    was, now = _shares(before, edges), _shares(recent, edges)
    index = sum((b - a) * math.log(b / a) for a, b in zip(was, now, strict=True))
    return index - len(edges) * (1 / len(before) + 1 / len(recent))


def _shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    """Return the share of ``values`` in each bin; half a value is added to each, so that none is empty."""
    counts = [0.5] * (len(edges) + 1)
    for value in values:
        counts[bisect_right(edges, value)] += 1
    return [count / (len(values) + 0.5 * len(counts)) for count in counts]


def brier_change(recent: Sequence[Chance], before: Sequence[Chance]) -> float | None:
    """Return by how many standard errors the Brier score has risen; days, not entries, are taken as independent."""
    late, early = _daily(recent), _daily(before)
    if min(len(late), len(early)) < 5:
        return None
    error = math.sqrt(_variance_of_mean(late) + _variance_of_mean(early))
    difference = fmean(late) - fmean(early)
    if error == 0:
        return 0.0 if difference == 0 else math.copysign(99.0, difference)
    return difference / error


def _daily(chances: Sequence[Chance]) -> list[float]:
    days: dict[int, list[float]] = defaultdict(list)
    for at, chance, won in chances:
        days[at // _DAY].append((chance - (won or 0.0)) ** 2)
    return [fmean(scores) for scores in days.values()]


def _variance_of_mean(values: Sequence[float]) -> float:
    middle = fmean(values)
    return sum((value - middle) ** 2 for value in values) / (len(values) - 1) / len(values)
