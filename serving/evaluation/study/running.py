"""A whole study: find the bundles, judge each timeframe in a process of its own, put the parts together.

The parts depend on their inputs and the seed alone, not on how many processes made them; what differs between two
runs (dates, seconds) stands in ``run``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

import fusiontrade
from fusiontrade.errors import FusionTradeError, InvalidInput
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import CARD, ELSEWHERE, MANIFEST, kind_of, load_bundle
from serving.evaluation.study.acceptance import acceptance
from serving.evaluation.study.judged import REFERENCE_FIVE
from serving.evaluation.study.swing import has_daily, study_swing, swing_folder
from serving.evaluation.study.timeframe import Plan, study_timeframe
from serving.instants import iso_of

__all__ = ["SCHEMA", "find_bundles", "study", "warnings_of"]

SCHEMA = 1
"""Version of the JSON's form."""
Json = dict[str, Any]
Told = Callable[[Timeframe, str], None]

_LIBRARIES = (
    "arch",
    "lightgbm",
    "matplotlib",
    "numpy",
    "onnxruntime",
    "scikit-learn",
    "scipy",
    "statsmodels",
    "TA-Lib",
)
_queue: Any = None  # of a worker: where it tells its steps


def find_bundles(folder: Path, timeframes: Sequence[Timeframe] = ()) -> dict[Timeframe, list[Path]]:
    """Return the bundle folders below ``folder`` (or itself) by timeframe, shortest first; empty: every timeframe.

    Raises
    ------
    fusiontrade.errors.InvalidInput
        If there is none, or none of the timeframes asked for.
    """
    places = [folder] if (folder / MANIFEST).is_file() else sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
    found: dict[Timeframe, list[Path]] = {}
    for place in places:
        if kind_of(place) in ELSEWHERE:
            continue
        found.setdefault(_timeframe_of(place), []).append(place)
    chosen = {
        key: found[key] for key in sorted(found, key=lambda one: one.milliseconds) if key in (timeframes or found)
    }
    if not chosen and (set(timeframes) - {Timeframe.D1} or swing_folder(folder) is None):
        asked = f" for {', '.join(timeframes)}" if timeframes else ""
        raise InvalidInput("bundles", f"{folder} holds no bundle{asked}: give a folder that make train wrote")
    return chosen


def study(plan: Plan, command: str, told: Told, processes: int = 2) -> Json:
    """Return the whole study, ready for JSON.

    Parameters
    ----------
    command
        What a reader types to do it again.
    told
        Called with a timeframe and the step of it that is done.
    processes
        Timeframes judged at a time; 1: in this process.

    Raises
    ------
    fusiontrade.errors.FusionTradeError, ValueError
        If two bundles are of one kind and timeframe, ``until`` leaves none of them a row to judge, a bundle is
        refused, or the candles cannot be judged.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    bundles = [_described(folder) for folders in plan.bundles.values() for folder in folders]
    _check(bundles, plan.until_iso)
    seconds: dict[str, float] = {}
    parts = dict(_in_turn(plan, told, seconds) if processes == 1 else _side_by_side(plan, told, seconds, processes))
    timeframes = {str(name): parts[name] for name in plan.bundles}
    return {
        "schema": SCHEMA,
        "run": {
            "started": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "seconds": round(time.monotonic() - clock, 1),
            "seconds_by_part": {str(name): seconds[str(name)] for name in plan.bundles},
            "cores": os.cpu_count(),
            "processes": processes,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "command": command,
        },
        "settings": {
            "seed": plan.seed,
            "resamples": plan.resamples,
            "until": plan.until_iso,
            "reference_five": list(REFERENCE_FIVE),
            "fusiontrade": fusiontrade.__version__,
            "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        "bundles": bundles,
        "warnings": [*warnings_of(timeframes), *_without_daily(plan)],
        "acceptance": acceptance(timeframes),
        "timeframes": timeframes,
    } | _cross_sections(plan)


def _cross_sections(plan: Plan) -> Json:
    """Return what is said of the daily bundle, nothing where there is none or nothing to judge it on."""
    if plan.swing is None or not has_daily(plan.data):
        return {}
    choices: Json = {"stride": plan.daily_stride, "until": plan.until, "kept": plan.embeddings}
    return {"cross_sections": study_swing(plan.swing, plan.data, **choices)}


def _without_daily(plan: Plan) -> Iterator[str]:
    if plan.swing is not None and not has_daily(plan.data):
        yield f"1d: {plan.swing.name} was not judged, the folder of candles has no daily table."


def _in_turn(plan: Plan, told: Told, seconds: dict[str, float]) -> Iterator[tuple[Timeframe, Json]]:
    for timeframe in plan.bundles:
        clock = time.monotonic()
        yield timeframe, study_timeframe(timeframe, plan, lambda step, of=timeframe: told(of, step))  # type: ignore[misc]
        seconds[str(timeframe)] = round(time.monotonic() - clock, 1)


def _side_by_side(
    plan: Plan, told: Told, seconds: dict[str, float], processes: int
) -> Iterator[tuple[Timeframe, Json]]:
    """Yield the parts as they are done; the first failure ends the study, timeframes not begun are dropped."""
    context = get_context("spawn")
    queue = context.Queue()
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(queue,)) as pool:
        begun: dict[Future[tuple[Json | str, float]], Timeframe] = {
            pool.submit(_part, timeframe, plan): timeframe for timeframe in _longest_first(plan.bundles)
        }
        waiting = set(begun)
        while waiting:
            done, waiting = wait(waiting, timeout=0.2, return_when="FIRST_COMPLETED")
            _tell(queue, told)
            for future in done:
                part, seconds[str(begun[future])] = future.result()
                if isinstance(part, str):
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise InvalidInput("data", part)
                yield begun[future], part
    _tell(queue, told)  # a part may overtake its last step: only a process that has ended has told them all


def _longest_first(timeframes: Mapping[Timeframe, object]) -> list[Timeframe]:
    """Return the timeframes so that the ones with most series and rows begin first."""
    order = [Timeframe.H1, Timeframe.M15, Timeframe.M30]
    return sorted(timeframes, key=lambda one: order.index(one) if one in order else len(order))


def _begin(queue: Any) -> None:
    """Tell a worker where to tell its steps."""
    global _queue  # noqa: PLW0603 - a process pool hands its workers nothing else before their work
    _queue = queue


def _part(timeframe: Timeframe, plan: Plan) -> tuple[Json | str, float]:
    """Return the part, or why there is none (the product's errors do not travel between processes), and the seconds."""
    clock = time.monotonic()
    part: Json | str
    try:
        part = study_timeframe(timeframe, plan, lambda step: _queue.put((timeframe, step)))
    except (FusionTradeError, ValueError) as error:
        part = str(error)
    return part, round(time.monotonic() - clock, 1)


def _tell(queue: Any, told: Told) -> None:
    while True:
        try:
            told(*queue.get_nowait())
        except Empty:
            return


def _timeframe_of(folder: Path) -> Timeframe:
    """Return the timeframe of a bundle, its checks left to whoever loads it."""
    try:
        return Timeframe(json.loads((folder / CARD).read_bytes())["timeframe"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InvalidInput("bundles", f"{folder} has no readable {CARD}: train it anew, or take it away") from None


def _described(folder: Path) -> Json:
    card = load_bundle(folder).card
    return {
        "model_id": card.model_id,
        "version": card.version,
        "kind": card.kind,
        "timeframe": str(card.timeframe),
        "universe": list(card.universe),
        "trained_from": iso_of(card.windows.train[0]),
        "trained_until": iso_of(card.windows.train[1]),
        "calibrated_until": iso_of(card.windows.calibration[1]),
        "judged_from": iso_of(card.windows.test[0]),
        "seed": card.seed,
        "code_version": card.code_version,
        "data_fingerprint": card.data.fingerprint,
    }


def _check(bundles: Sequence[Json], until: str | None) -> None:
    """Refuse, before minutes of work, bundles of which one would hide another, and an end before their beginning."""
    first: dict[tuple[str, str], Json] = {}
    for one in bundles:
        known = first.setdefault((one["kind"], one["timeframe"]), one)
        if known is not one:
            raise InvalidInput(
                "bundles",
                f"{known['model_id']} {known['version']} and {one['model_id']} {one['version']} are both {one['kind']} "
                f"bundles of {one['timeframe']}: give a folder with one of them",
            )
        if until is not None and until <= one["judged_from"]:
            told = f"--until {until}: {one['model_id']} is judged from {one['judged_from']} on; name a later instant"
            raise InvalidInput("until", told)


def warnings_of(timeframes: Mapping[str, Json]) -> Iterator[str]:
    """Yield what a reader has to know before any figure."""
    for name, part in timeframes.items():
        series = part["data"]["series"]
        by_status = {
            status: [s["symbol"] for s in series if s["status"] == status] for status in ("differs", "missing")
        }
        if by_status["differs"] and len(by_status["differs"]) + len(by_status["missing"]) == len(series):
            yield (
                f"{name}: no series has the bars that the bundles were trained on: these figures are of other data, "
                "and not to be compared with published ones."
            )
        elif by_status["differs"]:
            listed = ", ".join(by_status["differs"])
            yield f"{name}: left out of pooled figures, their bars are not those of the bundles: {listed}."
        if not part["walk_forward"]:
            yield f"{name}: too little history before the judged slice for a walk-forward."
        if part.get("left_out", {"by_symbol": True})["by_symbol"] == {}:
            yield f"{name}: no LSTM bundle of --left-out was trained without a symbol that is judged here."
        if by_status["missing"]:
            yield f"{name}: not in the folder, or too few bars: {', '.join(by_status['missing'])}."
