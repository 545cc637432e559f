"""Calibration maps: bounded, monotone, and equal to their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from serving.calibration import CalibrationMap, Identity, Isotonic, Maps, Platt, Temperature, sigmoid, softmax

LOGITS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
ADAPTER: TypeAdapter[CalibrationMap] = TypeAdapter(CalibrationMap)
MAPS = [
    Identity(),
    Platt(a=0.7, b=-0.2),
    Platt(a=0.0, b=3.0),
    Isotonic(x=(-1.0, 0.0, 2.0), y=(0.1, 0.4, 0.9)),
    Isotonic(x=(0.0,), y=(0.5,)),
]


def test_identity_is_the_sigmoid() -> None:
    assert Identity().apply([0.0, math.log(3.0)]).tolist() == pytest.approx([0.5, 0.75])


def test_platt_scales_and_shifts_the_logit() -> None:
    assert Platt(a=2.0, b=1.0).apply([0.5])[0] == pytest.approx(1 / (1 + math.exp(-2.0)))


def test_isotonic_interpolates_between_knots_and_is_flat_outside() -> None:
    fitted = Isotonic(x=(-1.0, 0.0, 2.0), y=(0.1, 0.4, 0.9))
    assert fitted.apply([-9.0, -1.0, -0.5, 1.0, 9.0]).tolist() == pytest.approx([0.1, 0.1, 0.25, 0.65, 0.9])


def test_temperature_two_halves_the_logits_before_softmax() -> None:
    assert Temperature(t=2.0).apply([[2.0, 0.0, -2.0]])[0] == pytest.approx(softmax([1.0, 0.0, -1.0]))


@pytest.mark.parametrize("chosen", MAPS, ids=lambda m: m.kind)
@given(logits=LOGITS)
def test_every_map_is_bounded_and_never_falls(chosen: Identity, logits: list[float]) -> None:
    probabilities = chosen.apply(sorted(logits))
    assert probabilities.min() >= 0.0
    assert probabilities.max() <= 1.0
    assert (np.diff(probabilities) >= 0).all()


@given(logits=st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 3), min_size=1, max_size=10), t=st.floats(0.05, 20))
def test_temperature_gives_distributions(logits: list[tuple[float, float, float]], t: float) -> None:
    probabilities = Temperature(t=t).apply(logits)
    assert probabilities.min() >= 0.0
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(logits)))


@given(value=st.floats(-50, 50))
def test_sigmoid_is_symmetric(value: float) -> None:
    assert sigmoid(value) + sigmoid(-value) == pytest.approx(1.0)


@pytest.mark.parametrize("chosen", [*MAPS, Temperature(t=1.5)], ids=lambda m: m.kind)
def test_a_map_survives_json(chosen: Identity) -> None:
    assert ADAPTER.validate_json(chosen.model_dump_json()) == chosen


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "magic"},
        {"kind": "platt", "a": -1.0, "b": 0.0},
        {"kind": "platt", "a": float("nan"), "b": 0.0},
        {"kind": "temperature", "t": 0.0},
        {"kind": "isotonic", "x": [0.0, 0.0], "y": [0.1, 0.2]},
        {"kind": "isotonic", "x": [0.0, 1.0], "y": [0.2, 0.1]},
        {"kind": "isotonic", "x": [0.0, 1.0], "y": [0.2]},
        {"kind": "isotonic", "x": [0.0], "y": [1.2]},
        {"kind": "identity", "more": 1},
    ],
    ids=str,
)
def test_a_map_that_could_answer_nonsense_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(content)


def test_maps_applied_together_are_each_heads_own() -> None:
    random = np.random.default_rng(4)
    maps = [
        Identity(),
        *(Platt(a=float(a), b=float(b)) for a, b in random.normal(size=(6, 2)) ** 2),
        Isotonic(x=(-1.0, 0.0, 2.0), y=(0.1, 0.4, 0.9)),
        Platt(a=0.0, b=-0.2),
        Isotonic(x=(0.5,), y=(0.3,)),
    ]
    logits = random.normal(0.0, 3.0, (50, len(maps)))
    together = Maps.of(maps)
    expected = np.stack([one.apply(logits[:, place]) for place, one in enumerate(maps)], axis=1)
    assert together.apply(logits) == pytest.approx(expected, abs=1e-15)
    places = random.integers(0, len(maps), len(logits))
    assert together.apply_each(logits[:, 0], places) == pytest.approx(
        np.array([maps[place].apply(logit) for place, logit in zip(places, logits[:, 0], strict=True)]), abs=1e-15
    )
