"""The veto's trees as a graph: LightGBM's own probabilities, whatever is missing."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pytest

from serving.models.veto import VetoConfig, converted, grown

ROWS = 1200


def table(seed: int, *, zeros: bool = False, holes: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Eight columns, an outcome that depends on three of them; some values 0, some unknown."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((ROWS, 8)).astype(np.float32)
    if zeros:
        rows[random.random(rows.shape) < 0.3] = 0.0
    if holes:
        rows[random.random(rows.shape) < 0.2] = np.nan
    lean = np.nan_to_num(rows[:, 0] - rows[:, 1] * (np.nan_to_num(rows[:, 2]) > 0.1)) + np.isnan(rows[:, 3])
    return rows, (random.random(ROWS) < 1 / (1 + np.exp(-lean))).astype(np.float64)


def probabilities(graph: bytes, rows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(["probability"], {"features": rows})[0]


def booster(rows: np.ndarray, wins: np.ndarray, **settings: Any) -> lightgbm.Booster:
    given = VetoConfig(fewest=20).parameters() | {"feature_fraction": 1.0} | settings
    return lightgbm.train(given, lightgbm.Dataset(rows, wins, params=given), 25)


def asked(seed: int) -> np.ndarray:
    """Rows with every special value: unknown, 0 of both signs, below and above LightGBM's zero, far away."""
    rows, _ = table(seed, zeros=True, holes=True)
    special = np.array([0.0, -0.0, np.nan, 1e-36, -1e-36, 1e-34, -1e-34, 1e30, -1e30], np.float32)
    place = np.random.default_rng(seed).random(rows.shape) < 0.3
    rows[place] = np.random.default_rng(seed + 1).choice(special, int(place.sum()))
    return rows


@pytest.mark.parametrize(
    ("settings", "holes"),
    [
        ({}, False),
        ({}, True),
        ({"zero_as_missing": True}, False),
        ({"zero_as_missing": True}, True),
        ({"use_missing": False}, True),
        ({"sigmoid": 0.5}, True),
    ],
    ids=["nothing missing", "nan", "zero as missing", "zero and nan as missing", "missing unused", "other slope"],
)
def test_the_graph_gives_lightgbms_probabilities(settings: dict[str, Any], holes: bool) -> None:
    rows, wins = table(1, zeros=True, holes=holes)
    trees = booster(rows, wins, **settings)
    graph, others = converted(trees), asked(2)
    for given in (rows, others):
        expected = trees.predict(given.astype(np.float64))
        assert expected.std() > 0.02
        assert np.abs(probabilities(graph, given) - expected).max() <= 1e-6


def test_values_at_a_threshold_fall_on_lightgbms_side() -> None:
    rows, wins = table(3)
    trees = booster(rows, wins)
    edges: list[tuple[int, float]] = []
    waiting = [tree["tree_structure"] for tree in trees.dump_model()["tree_info"]]
    while waiting:
        node = waiting.pop()
        if "split_feature" in node:
            edges.append((node["split_feature"], node["threshold"]))
            waiting += [node["left_child"], node["right_child"]]
    at = np.zeros((3 * len(edges), 8), np.float32)
    for place, (feature, threshold) in enumerate(edges):
        near = np.float32(threshold)
        for step, value in enumerate((near, np.nextafter(near, np.float32(-9)), np.nextafter(near, np.float32(9)))):
            at[3 * place + step, feature] = value
    expected = trees.predict(at.astype(np.float64))
    assert np.abs(probabilities(converted(trees), at) - expected).max() <= 1e-6


def test_a_tree_without_a_split_answers_the_base_rate() -> None:
    rows, wins = table(4)
    trees = booster(rows, wins, min_data_in_leaf=ROWS)
    assert np.abs(probabilities(converted(trees), rows) - trees.predict(rows)).max() <= 1e-6


def test_other_objectives_and_categories_are_refused() -> None:
    rows, wins = table(5)
    given = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    regression = lightgbm.train(given, lightgbm.Dataset(rows, wins, params=given), 2)
    with pytest.raises(ValueError, match="regression"):
        converted(regression)
    rows[:, 0] = np.random.default_rng(5).integers(0, 5, ROWS)
    given = VetoConfig(fewest=20).parameters() | {"feature_fraction": 1.0, "min_data_per_group": 5, "cat_smooth": 1.0}
    wins = (rows[:, 0] % 2).astype(np.float64)
    data = lightgbm.Dataset(rows, wins, params=given, categorical_feature=[0])
    with pytest.raises(ValueError, match="=="):
        converted(lightgbm.train(given, data, 5))


def test_growth_ends_where_the_held_rows_gain_nothing_and_is_repeatable() -> None:
    rows, wins = table(6, holes=True)
    config = VetoConfig(fewest=30, features=1.0, rounds=200, patience=5)
    names = tuple(f"column_{place}" for place in range(8))
    first = grown(rows[:800], wins[:800], rows[800:], wins[800:], config=config, names=names)
    again = grown(rows[:800], wins[:800], rows[800:], wins[800:], config=config, names=names)
    assert first.model_to_string() == again.model_to_string()
    assert 1 <= first.num_trees() < 200
    assert first.feature_name() == list(names)
    assert converted(first) == converted(again)
