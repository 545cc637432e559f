"""The veto: LightGBM over 551 values, and its trees as an ONNX graph of our own making.

The graph gives LightGBM's probabilities without LightGBM. Splits are decided on the same side to the last bit: inputs
are float32, so a double threshold may be rounded down to float32 without any value changing sides. What LightGBM does
with missing values is kept: a feature whose ``missing_type`` is NaN sends NaN its default way; with None NaN is 0; with
Zero, 0 (within 1e-35) and NaN both go the default way, so zeros of such features become NaN in front of the trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["VetoConfig", "converted", "grown"]

_ZERO = 1e-35  # LightGBM's kZeroThreshold
_OPSET, _TREES = 18, 3
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class VetoConfig:
    """How the trees are grown.

    Parameters
    ----------
    rounds, patience
        At most so many trees, and how many without a better held loss end the growth.
    leaves, fewest, learning_rate, features
        Of a tree: its leaves, the rows each holds at least, its weight, the share of columns it may look at.
    seed, threads
        Fixed, so that a run can be repeated.
    """

    rounds: int = 300
    patience: int = 30
    leaves: int = 15
    fewest: int = 300
    learning_rate: float = 0.03
    features: float = 0.3
    seed: int = 20240
    threads: int = 1

    def parameters(self) -> dict[str, Any]:
        """Return LightGBM's own names for the settings."""
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.fewest,
            "feature_fraction": self.features,
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 10.0,
            "max_bin": 63,
            "num_threads": self.threads,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


def grown(
    rows: Rows,
    wins: NDArray[np.floating],
    held_rows: Rows,
    held_wins: NDArray[np.floating],
    *,
    config: VetoConfig,
    names: tuple[str, ...] = (),
) -> Any:
    """Return the ``lightgbm.Booster`` that tells wins from losses.

    Parameters
    ----------
    rows, wins
        (n, 551) float32 to learn from, and 1 where the trade won, else 0.
    held_rows, held_wins
        The same of rows that decide how many trees are kept.
    names
        Of the columns.
    """
    import lightgbm

    given = config.parameters()
    table = lightgbm.Dataset(rows, wins, params=given, feature_name=list(names) if names else "auto")
    held = table.create_valid(held_rows, held_wins, params=given)
    stop = lightgbm.early_stopping(config.patience, verbose=False)
    booster = lightgbm.train(given, table, config.rounds, valid_sets=[held], callbacks=[stop])
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    return lightgbm.Booster(model_str=text)


def converted(booster: Any) -> bytes:
    """Return the graph of a booster: ``features`` (N, F) float32 to ``probability`` (N) float32.

    Raises
    ------
    ValueError
        If it was not grown for one binary outcome, or a tree has categories or linear leaves.
    """
    model = booster.dump_model()
    words = str(model.get("objective", "")).split()
    if not words or words[0] != "binary" or model.get("average_output"):
        raise ValueError(f"the trees answer {model.get('objective')!r}: one binary outcome is known here")
    slope = next((float(word.partition(":")[2]) for word in words if word.startswith("sigmoid:")), 1.0)
    trees = _Trees()
    for number, tree in enumerate(model["tree_info"]):
        trees.add(number, tree["tree_structure"])
    width = int(model["max_feature_idx"]) + 1
    nodes, constants = _prepared(trees.zero_is_missing, width)
    attributes = trees.attributes() | {"n_targets": 1, "post_transform": "NONE", "aggregate_function": "SUM"}
    nodes.append(helper.make_node("TreeEnsembleRegressor", ["known"], ["sum"], domain="ai.onnx.ml", **attributes))
    constants |= {"slope": np.array(slope, np.float32), "column": np.array([1], np.int64)}
    nodes += [
        helper.make_node("Mul", ["sum", "slope"], ["scaled"]),
        helper.make_node("Sigmoid", ["scaled"], ["likely"]),
        helper.make_node("Squeeze", ["likely", "column"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "veto",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _TREES)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))


class _Trees:
    """The columns of a TreeEnsembleRegressor in the making."""

    def __init__(self) -> None:
        self.zero_is_missing: set[int] = set()
        self._nodes: list[dict[str, Any]] = []
        self._leaves: list[tuple[int, int, float]] = []

    def add(self, number: int, root: Mapping[str, Any]) -> None:
        """Add tree ``number``; raises ValueError where it is of a kind that is not known here."""
        waiting, used = [(0, root)], 1
        while waiting:
            place, node = waiting.pop()
            if "split_feature" not in node:
                if "leaf_coeff" in node:
                    raise ValueError("a tree has linear leaves")
                self._nodes.append(_leaf(number, place))
                self._leaves.append((number, place, float(node["leaf_value"])))
                continue
            left, right = used, used + 1
            used += 2
            self._nodes.append(self._split(number, place, node, left, right))
            waiting += [(right, node["right_child"]), (left, node["left_child"])]

    def _split(self, number: int, place: int, node: Mapping[str, Any], left: int, right: int) -> dict[str, Any]:
        if node["decision_type"] != "<=":
            raise ValueError(f"a tree splits by {node['decision_type']!r}: only <= is known here")
        feature, missing, threshold = int(node["split_feature"]), node["missing_type"], float(node["threshold"])
        if missing == "Zero":
            self.zero_is_missing.add(feature)
        tracks = threshold >= 0.0 if missing == "None" else bool(node["default_left"])
        return {
            "treeids": number,
            "nodeids": place,
            "modes": "BRANCH_LEQ",
            "featureids": feature,
            "values": _not_above(threshold),
            "truenodeids": left,
            "falsenodeids": right,
            "missing_value_tracks_true": int(tracks),
            "hitrates": 1.0,
        }

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the operator."""
        named = {f"nodes_{key}": [node[key] for node in self._nodes] for key in self._nodes[0]}
        trees, places, values = zip(*self._leaves, strict=True)
        return named | {
            "target_treeids": list(trees),
            "target_nodeids": list(places),
            "target_ids": [0] * len(trees),
            "target_weights": [float(np.float32(value)) for value in values],
        }


def _leaf(number: int, place: int) -> dict[str, Any]:
    nothing = ("featureids", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    node: dict[str, Any] = {"treeids": number, "nodeids": place, "modes": "LEAF", **dict.fromkeys(nothing, 0)}
    return node | {"values": 0.0, "hitrates": 1.0}


def _not_above(threshold: float) -> float:
    """Return the largest float32 that is not above ``threshold``."""
    most = float(np.finfo(np.float32).max)
    rounded = np.float32(min(max(threshold, -most), most))
    return float(rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-np.inf)))


def _prepared(zeros: set[int], width: int) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]:
    """Return the nodes that make zeros of some features NaN, from ``features`` to ``known``, and their constants."""
    if not zeros:
        return [helper.make_node("Identity", ["features"], ["known"])], {}
    chosen = np.zeros((1, width), np.bool_)
    chosen[0, sorted(zeros)] = True
    constants: dict[str, NDArray[Any]] = {
        "of_zero": chosen,
        "tiny": np.array(_ZERO, np.float32),
        "unknown": np.array(np.nan, np.float32),
    }
    return [
        helper.make_node("Abs", ["features"], ["size"]),
        helper.make_node("LessOrEqual", ["size", "tiny"], ["is_zero"]),
        helper.make_node("And", ["is_zero", "of_zero"], ["is_missing"]),
        helper.make_node("Where", ["is_missing", "unknown", "features"], ["known"]),
    ], constants
