"""Which precision a bundle is served with: every variant against the f32 graph, and the first reason against each.

Always true of a choice: it is the same in every run over the same graph and windows, since what is measured with a
clock takes no part in it; anything but f32 answered every window with finite numbers, the same alone as with others,
and agrees with f32 on at least `REQUIRED` of all decisions, and of each kind of decision. Which decisions those are is
the reader's business: nothing here knows a network.

``auto`` takes the variant of the least counted cost if that is well below f32's; else one that stores the weights in
half the bytes, where that is worth having; else f32. A named precision is taken whatever it costs, if it agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BundleRefused
from serving.card import Precision
from serving.training.precision.cost import counted, session_of
from serving.training.precision.settings import Setting
from serving.training.precision.variants import VARIANTS, NoVariant

__all__ = ["REQUIRED", "Choice", "Reader", "Reading", "choose"]

REQUIRED = 0.995
"""Least share of decisions that a variant must have in common with f32."""

_CHEAPER = 0.9  # of the counted cost of f32, at every batch
_WORTH_STORING = 1 << 20  # bytes
_ALONE = 64  # windows that are run one by one as well
_SAME = 1e-5  # relative and absolute, as in the self-test of a bundle that takes over
_BATCH = 256

Inputs = Mapping[str, NDArray[np.float32]]
Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Reading:
    """What n windows come to.

    Parameters
    ----------
    decisions
        Whole numbers by kind of decision, one for each window that has such a decision to make.
    values
        (n, ...) numbers of which the largest difference is reported, by name.
    """

    decisions: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, NDArray[np.float64]]


Reader = Callable[[Mapping[str, NDArray[np.float32]]], Reading]
"""From raw outputs to what is decided by them."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The precision that was chosen, its graph, all figures behind it, and every graph that could be made, f32 too."""

    precision: Precision
    graph: bytes
    report: dict[str, Any]
    graphs: Mapping[str, bytes]


def choose(
    f32: bytes,
    windows: Inputs,
    reader: Reader,
    *,
    setting: Setting = "auto",
    accept: Callable[[bytes, Precision], None] | None = None,
    variants: Mapping[Precision, Callable[[bytes], bytes]] = VARIANTS,
) -> Choice:
    """Return the precision a graph is served with.

    Parameters
    ----------
    f32
        The serialised graph.
    windows
        Its inputs for n held-out windows, (n, ...) each; two or more.
    reader
        What is decided from its outputs.
    setting
        ``auto``, or the precision that is wanted.
    accept
        Raises `BundleRefused` for a graph that serving would not open.
    variants
        What makes each variant.
    """
    window = {name: values[:1] for name, values in windows.items()}
    outputs = _run(f32, windows)
    expected = reader(outputs)
    base = {"bytes": len(f32), "counted_microseconds": counted(f32, window)}
    made: dict[Precision, bytes] = {}
    judged: dict[Precision, dict[str, Any]] = {}
    for name, make in variants.items():
        try:
            made[name] = make(f32)
        except NoVariant as error:
            judged[name] = {"refused": str(error)}
            continue
        if accept is not None and (reason := _not_accepted(accept, made[name], name)):
            judged[name] = {"bytes": len(made[name]), "refused": reason}
            continue
        judged[name] = _judged(made[name], windows, reader, expected, base)
    chosen = _chosen(setting, judged, base)
    for name, one in judged.items():
        one["chosen"] = name == chosen
        if "refused" not in one:
            one["refused"] = None if name == chosen else _why_not(chosen, setting, one, base)
    report = {
        "setting": setting,
        "chosen": chosen,
        "windows": len(next(iter(windows.values()))),
        "windows_by_decision": {name: len(values) for name, values in expected.decisions.items()},
        "required_agreement": REQUIRED,
        "f32": base,
        "variants": judged,
    }
    return Choice(chosen, made.get(chosen, f32), report, {"f32": f32} | {str(name): one for name, one in made.items()})


def _not_accepted(accept: Callable[[bytes, Precision], None], graph: bytes, name: Precision) -> str | None:
    try:
        accept(graph, name)
    except BundleRefused as error:
        return f"serving refuses it: {error}"
    return None


def _judged(
    graph: bytes, windows: Inputs, reader: Reader, expected: Reading, base: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of a variant, with ``refused`` where a gate does not let it pass."""
    window = {name: values[:1] for name, values in windows.items()}
    found: dict[str, Any] = {"bytes": len(graph), "counted_microseconds": counted(graph, window)}
    found["counted_ratio"] = {
        batch: round(cost / base["counted_microseconds"][batch], 3)
        for batch, cost in found["counted_microseconds"].items()
    }
    outputs = _run(graph, windows)
    broken = [name for name, values in outputs.items() if not np.isfinite(values).all()]
    if broken:
        return found | {"refused": f"{', '.join(sorted(broken))} is not finite for every window"}
    reading = reader(outputs)
    found |= _agreement(expected, reading)
    found["largest_difference"] = {
        name: float(f"{np.abs(values - expected.values[name]).max(initial=0.0):.3g}")
        for name, values in reading.values.items()
    }
    found["largest_difference_alone"] = _alone(graph, windows, outputs)
    if not found["largest_difference_alone"]["same"]:
        return found | {"refused": "what it says of a window depends on what rides with it"}
    if min(found["agreement"], found["least_agreement"]) < REQUIRED:
        said = f"{found['agreement']:.4%} of all decisions agree with f32, {found['least_agreement']:.4%} of "
        return found | {"refused": f"{said}{found['least_agreed']}: {REQUIRED:.1%} are required of each"}
    return found


def _run(graph: bytes, windows: Inputs) -> Outputs:
    """Return the outputs for all windows, in batches."""
    session = session_of(graph)
    names = [one.name for one in session.get_outputs()]
    count = len(next(iter(windows.values())))
    parts = [
        session.run(names, {name: values[start : start + _BATCH] for name, values in windows.items()})
        for start in range(0, count, _BATCH)
    ]
    return {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(names)}


def _agreement(expected: Reading, reading: Reading) -> dict[str, Any]:
    same = {name: reading.decisions[name] == values for name, values in expected.decisions.items()}
    shares = {name: float(one.mean()) for name, one in same.items()}
    least = min(shares, key=lambda name: shares[name])
    return {
        "agreement": _floored(float(np.concatenate(list(same.values())).mean())),
        "least_agreement": _floored(shares[least]),
        "least_agreed": least,
        "agreement_by_decision": {name: _floored(share) for name, share in shares.items()},
    }


def _floored(share: float) -> float:
    """Return six digits of a share, never rounded up to one that would pass."""
    return float(np.floor(share * 1e6) / 1e6)


def _alone(graph: bytes, windows: Inputs, outputs: Outputs) -> dict[str, Any]:
    """Return how far the answers to single windows lie from the same windows' answers in a batch."""
    session = session_of(graph)
    count = len(next(iter(windows.values())))
    worst, same = 0.0, True
    for row in np.unique(np.linspace(0, count - 1, _ALONE).astype(np.intp)):
        answers = session.run(list(outputs), {name: values[row : row + 1] for name, values in windows.items()})
        for alone, among in zip(answers, outputs.values(), strict=True):
            worst = max(worst, float(np.abs(alone[0] - among[row]).max(initial=0.0)))
            same = same and np.allclose(alone[0], among[row], rtol=_SAME, atol=_SAME)
    return {"value": float(f"{worst:.1e}"), "same": bool(same)}


def _chosen(setting: Setting, judged: Mapping[Precision, Mapping[str, Any]], base: Mapping[str, Any]) -> Precision:
    passed = {name: one for name, one in judged.items() if "refused" not in one}
    if setting != "auto":
        return setting if setting in passed else "f32"
    faster = {name: one for name, one in passed.items() if max(one["counted_ratio"].values()) <= _CHEAPER}
    if faster:
        return min(faster, key=lambda name: max(faster[name]["counted_ratio"].values()))
    smaller = {name: one for name, one in passed.items() if base["bytes"] - one["bytes"] >= _WORTH_STORING}
    smaller = {name: one for name, one in smaller.items() if max(one["counted_ratio"].values()) <= 1.0}
    if smaller:
        return max(smaller, key=lambda name: smaller[name]["agreement"])
    return "f32"


def _why_not(chosen: Precision, setting: Setting, one: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """Return why a variant that passed every gate of correctness was not taken."""
    if setting != "auto":
        return f"agrees, but {setting} was asked for"
    if chosen != "f32":
        return f"agrees, but {chosen} is better"
    costs = ", ".join(f"{ratio:g} at {batch}" for batch, ratio in one["counted_ratio"].items())
    saved = base["bytes"] - one["bytes"]
    return (
        f"agrees, but is not cheaper: counted cost against f32 {costs} (at most {_CHEAPER:g} is worth it), "
        f"{saved:,} bytes saved ({_WORTH_STORING:,} are worth it)"
    )
