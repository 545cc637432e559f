"""What is checked, in order: from what was asked for to one list of checks, with a reason for each left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import REPORT, Bundle
from serving.features import WINDOW
from serving.lookahead.bundles import check_answers, check_card, check_counts, check_data, cut_like, opened
from serving.lookahead.checks.altering import invented
from serving.lookahead.checks.answering import RowModel, check_model, row_model
from serving.lookahead.checks.findings import Check, Outcome, Unusable
from serving.lookahead.checks.futures import FeatureSet, check_features
from serving.lookahead.checks.scaling import Statistics, check_scaler_of_rows
from serving.lookahead.checks.slices import check_rows
from serving.lookahead.ours import our_features
from serving.lookahead.reading import UserRows, bundle_folders, frames_in, function_of, rows_in, scaler_in

if TYPE_CHECKING:
    from serving.training.dataset import Pool

__all__ = ["Advance", "Asked", "Step", "steps"]

Advance = Callable[[], None]

_BARS = 2400
_INVENTED = ("EURUSD=X", "BTC-USD")
_NO_TORCH = "slices are cut by the training code, which needs torch: use the environment train or dev"


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; ``--help`` has the meaning of each. ``now`` is in ms."""

    data: Path | None = None
    timeframe: Timeframe = Timeframe.H1
    symbols: tuple[str, ...] = ()
    bundles: tuple[Path, ...] = ()
    features: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    rows: Path | None = None
    scaler: Path | None = None
    window: int = WINDOW
    embargo: int = 60
    moments: int = 8
    seed: int = 1
    now: int = 2**62

    @property
    def names_something(self) -> bool:
        """Whether anything in particular is to be checked; nothing: the product's own features and dataset."""
        return bool(self.bundles or self.features or self.models or self.rows or self.scaler)


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work: what it is called while it runs, and what it returns; it calls back after each series."""

    told: str
    run: Callable[[Advance], Sequence[Check]]


def steps(asked: Asked) -> list[Step]:
    """Return the work, nothing of it done yet but names looked up.

    Raises
    ------
    Unusable
        If something that was named is not there; a step raises it too.
    """
    material = _Material(asked)
    return [
        *_features(asked, material),
        *_models(asked, material),
        *_datasets(asked, material),
        *_bundles(asked, material),
    ]


class _Material:
    """Bars, read when they are first needed and kept."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._read: dict[Timeframe, list[CandleFrame]] = {}
        self._pool: tuple[str, Pool] | None = None

    def history(self, timeframe: Timeframe) -> list[CandleFrame]:
        """Return the series of the folder at a timeframe, whole; none where it has no such bars."""
        if self._asked.data is None:
            return []
        if timeframe not in self._read:
            self._read[timeframe] = frames_in(self._asked.data, timeframe, self._asked.symbols)
        return self._read[timeframe]

    def recent(self, timeframe: Timeframe) -> list[CandleFrame]:
        """Return the newest bars of each series to try features and models on; invented ones without a folder."""
        bars, history = max(_BARS, 4 * self._asked.window), self.history(timeframe)
        if history:
            return [frame.tail(bars) for frame in history]
        return [invented(symbol, timeframe, bars, self._asked.seed + place) for place, symbol in enumerate(_INVENTED)]

    def pool(self, fingerprint: str, frames: Sequence[CandleFrame], timeframe: Timeframe) -> Pool:
        """Return the pool of a bundle's bars; the last one is kept, for the next bundle of the same bars."""
        from serving.lookahead.pools import pool_in

        if self._pool is None or self._pool[0] != fingerprint:
            self._pool = None  # free the last one first
            self._pool = fingerprint, pool_in(frames, timeframe)
        return self._pool[1]

    @cached_property
    def asked_for(self) -> list[CandleFrame]:
        """`recent` at the timeframe asked for; raises `Unusable` where the folder has none."""
        asked = self._asked
        if asked.data is not None and not self.history(asked.timeframe):
            raise Unusable(f"--data {asked.data}: no series has {asked.timeframe} bars; choose another --timeframe")
        return self.recent(asked.timeframe)


def _features(asked: Asked, material: _Material) -> Iterator[Step]:
    sets: Sequence[FeatureSet] = [
        FeatureSet(text, function_of(text, "--features"), asked.window) for text in asked.features
    ]
    if not asked.names_something:
        sets = our_features(asked.timeframe)
    if not sets:
        yield _left_out("features", "none named: --features package.module:function")
    option = "--features " if asked.features else ""
    for one in sets:
        yield Step(f"features: {one.name}", partial(_feature_set, asked, material, one, option))


def _feature_set(asked: Asked, material: _Material, features: FeatureSet, option: str, advance: Advance) -> list[Check]:
    try:
        return check_features(features, material.asked_for, moments=asked.moments, seed=asked.seed, advance=advance)
    except Unusable as error:
        raise Unusable(f"{option}{error}") from error


def _models(asked: Asked, material: _Material) -> Iterator[Step]:
    if not asked.models:
        yield _left_out("models", "none named: --model package.module:function, or --bundle FOLDER")
    for text in asked.models:
        model = row_model(f"--model {text}", function_of(text, "--model"))

        yield Step(f"model: {text}", partial(_model, asked, material, text, model))


def _model(asked: Asked, material: _Material, name: str, model: RowModel, advance: Advance) -> list[Check]:
    frames, first = material.asked_for, asked.window
    return check_model(name, model, frames, first=first, moments=asked.moments, seed=asked.seed, advance=advance)


def _datasets(asked: Asked, material: _Material) -> Iterator[Step]:
    if asked.scaler and not asked.rows:
        raise Unusable("--scaler: the rows it was fitted on are needed too: --rows FILE.npz with an array features")
    if asked.rows:
        yield Step(f"rows: {asked.rows.name}", partial(_user_rows, asked, asked.rows))
    elif asked.names_something:
        yield _left_out("dataset", "no rows named: --rows FILE.npz")
    elif asked.data is None:
        yield _left_out("dataset", "no bars to cut into slices: --data FOLDER, or your own rows with --rows FILE.npz")
    else:
        yield Step("dataset and scalers", partial(_our_dataset, asked, material))


def _bundles(asked: Asked, material: _Material) -> Iterator[Step]:
    if not asked.bundles:
        yield _left_out("bundles", "none named: --bundle FOLDER")
    for folder in (one for path in asked.bundles for one in bundle_folders(path)):
        yield Step(f"bundle: {folder.name}", partial(_bundle, asked, material, folder))


def _left_out(name: str, reason: str) -> Step:
    return Step(name, lambda _: [Check.skipped(name, reason)])


def _user_rows(asked: Asked, path: Path, _: Advance) -> list[Check]:
    found = rows_in(path, asked.timeframe)
    name = path.stem
    return [
        *check_rows(found.rows, embargo=asked.embargo, as_of=asked.now, name=name),
        _user_scaler(asked, found, name),
    ]


def _user_scaler(asked: Asked, found: UserRows, name: str) -> Check:
    name = f"{name}: scaler"
    if asked.scaler is None:
        return Check.skipped(name, "none named: --scaler FILE.json with center and scale")
    if found.features is None:
        raise Unusable(f"--scaler: {asked.rows} has no array features, (rows, columns), that it could be compared with")
    stored, kind = scaler_in(asked.scaler, len(found.columns))
    slices = list(found.rows.slices())
    seen = [
        (
            f"all slices up to {part}" if count else "the training slice",
            found.features[np.logical_or.reduce([mask for _, mask in slices[: count + 1]])],
        )
        for count, (part, _) in enumerate(slices)
    ]
    return check_scaler_of_rows(name, stored, seen, found.columns, kind=kind)


def _our_dataset(asked: Asked, material: _Material, _: Advance) -> list[Check]:
    try:
        from serving.lookahead import pools
        from serving.training.config import TrainingConfig
        from serving.training.prepared import prepare
    except ModuleNotFoundError:
        return [Check.skipped("dataset", _NO_TORCH)]
    pool = pools.pool_in(material.history(asked.timeframe), asked.timeframe)
    try:
        prepared = prepare(pool, TrainingConfig())
    except ValueError as error:
        raise Unusable(f"--data {asked.data}: {error}") from error
    rows = pools.rows_of_pool(pool, prepared.slices)
    return [
        *check_rows(rows, embargo=asked.embargo, as_of=asked.now),
        pools.check_known_at_entry("dataset: known at the entry", pool, prepared.slices, moments=asked.moments),
        *pools.check_pool_scalers(
            "dataset",
            pool,
            prepared.slices,
            scaler=Statistics(prepared.scaler.center, prepared.scaler.scale),
            season={name: usual.tolist() for name, usual in prepared.season.items()},
            volatility=Statistics(prepared.volatility_scaler.center, prepared.volatility_scaler.scale),
        ),
    ]


def _bundle(asked: Asked, material: _Material, folder: Path, advance: Advance) -> list[Check]:
    bundle, files = opened(folder)
    if bundle is None:
        return [files]
    timeframe = bundle.card.timeframe
    return [
        files,
        *check_card(bundle, embargo=asked.embargo),
        *_bundle_data(asked, bundle, material),
        *check_answers(bundle, material.recent(timeframe), moments=asked.moments, seed=asked.seed, advance=advance),
    ]


def _bundle_data(asked: Asked, bundle: Bundle, material: _Material) -> Iterator[Check]:
    name, history = bundle.card.model_id, material.history(bundle.card.timeframe)
    if asked.data is None:
        yield Check.skipped(f"{name}: data", "give the bars it was trained on: --data FOLDER")
        return
    if not history:
        yield Check.skipped(f"{name}: data", f"{asked.data} has no {bundle.card.timeframe} bars")
        return
    try:
        from serving.lookahead import pools
        from serving.training.dataset import fingerprint
    except ModuleNotFoundError:
        yield Check.skipped(f"{name}: data", _NO_TORCH)
        return
    card, frames = bundle.card, cut_like(bundle.card, history)
    data = check_data(card, frames, fingerprint)
    yield data
    if data.outcome is not Outcome.PASS:
        yield Check.skipped(f"{name}: dataset and scalers", "other bars than those it was trained on")
        return
    pool = material.pool(card.data.fingerprint, frames, card.timeframe)
    slices = pools.slices_like(card, pool)
    if slices is None:
        yield Check.skipped(
            f"{name}: dataset and scalers", "its windows leave a slice without rows, or name no validation"
        )
        return
    rows = pools.rows_of_pool(pool, slices)
    yield from check_rows(rows, embargo=asked.embargo, as_of=asked.now, name=name)
    yield pools.check_known_at_entry(f"{name}: known at the entry", pool, slices, moments=asked.moments)
    report = json.loads((bundle.folder / REPORT).read_bytes())
    yield check_counts(card, report, {part: int(mask.sum()) for part, mask in rows.slices()})
    scaler, volatility = card.scaler, card.volatility_scaler
    yield from pools.check_pool_scalers(
        name,
        pool,
        slices,
        scaler=None if scaler is None else Statistics(np.asarray(scaler.center), np.asarray(scaler.scale)),
        season=card.season,
        volatility=Statistics(np.asarray(volatility.center), np.asarray(volatility.scale)),
    )
