"""Bundles: what is valid loads and says its version; everything else is refused with the reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tiny_bundles import LSTM_WIDTHS, build_bundle, card_content, lstm_graph, patchtst_graph, report_content

from fusiontrade.errors import BundleRefused
from serving.bundle import CARD, MANIFEST, REPORT, load_bundle, write_card, write_manifest
from serving.card import ModelCard
from serving.features import CALENDAR, INDICATORS, VOLATILITY


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reseal(folder: Path, change: Callable[[dict[str, Any]], object], *, stamp: bool = True) -> None:
    """Change the card as its maker could have: manifest and, if ``stamp``, version fit again."""
    edit(folder / CARD, change)
    if stamp:
        write_card(folder, ModelCard.model_validate_json((folder / CARD).read_text()))
    write_manifest(folder)


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
def test_a_valid_bundle_loads_and_answers(tmp_path: Path, kind: str) -> None:
    folder = build_bundle(tmp_path, kind, "4h")
    (folder / "run.json").write_text("{}")
    bundle = load_bundle(folder)
    assert (bundle.card.model_id, bundle.card.kind, bundle.card.timeframe) == (f"{kind}-4h", kind, "4h")
    content = json.loads((folder / CARD).read_text())
    assert bundle.card.version == content["version"]
    assert len(content["version"]) == 12
    calendar = np.zeros((3, 60, len(CALENDAR)) if kind == "lstm" else (3, len(CALENDAR)), np.float32)
    first = (
        {"features": np.zeros((3, 60, len(INDICATORS)), np.float32)}
        if kind == "lstm"
        else {"candles": np.ones((3, 120, 5), np.float32)}
    )
    volatility = np.zeros((3, len(VOLATILITY)), np.float32)
    raw = bundle.graph.run(first | {"calendar": calendar, "volatility": volatility})
    assert {name: values.shape[0] for name, values in raw.items()} == dict.fromkeys(raw, 3)


def test_the_version_follows_from_graph_and_card_and_from_nothing_else(tmp_path: Path) -> None:
    one = load_bundle(build_bundle(tmp_path / "one")).card
    assert load_bundle(build_bundle(tmp_path / "same")).card.version == one.version
    assert load_bundle(build_bundle(tmp_path / "seed", seed=2)).card.version != one.version
    assert load_bundle(build_bundle(tmp_path / "graph", behaviour="nan")).card.version != one.version


def test_a_card_from_before_bends_and_the_exponent_keeps_its_version() -> None:
    older = card_content("lstm", "1h") | {"libraries": {}}
    card = ModelCard.model_validate_json(json.dumps(older))
    assert card.adjustments["any"].bends == (0.0,) * 17
    assert card.unrest_exponent == 0.0
    said = json.loads(card.model_dump_json())
    assert said["adjustments"] == older["adjustments"]
    for name in ("version", "unrest_exponent", "precision", "dropout"):  # as cards were before these fields
        del said[name]
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    assert card.digest(b"graph") == hashlib.sha256(b"graph" + canonical).hexdigest()
    adjustment = older["adjustments"]["any"]
    explicit = older | {"unrest_exponent": 0.0, "adjustments": {"any": adjustment | {"bends": [0.0] * 17}}}
    assert ModelCard.model_validate_json(json.dumps(explicit)).digest(b"graph") == card.digest(b"graph")


def test_a_bend_and_an_exponent_make_another_version_and_come_back_as_they_were() -> None:
    content = card_content("lstm", "1h")
    bends = {"any": content["adjustments"]["any"] | {"bends": [0.0] * 16 + [-0.1]}}
    changes: list[dict[str, Any]] = [{}, {"adjustments": bends}, {"unrest_exponent": 0.05}, {"unrest_exponent": -0.05}]
    cards = [ModelCard.model_validate_json(json.dumps(content | change)).stamped(b"graph") for change in changes]
    assert len({card.version for card in cards}) == 4
    for card in cards:
        assert ModelCard.model_validate_json(card.model_dump_json()) == card
    assert cards[1].adjustments["any"].bends == (0.0,) * 16 + (-0.1,)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path)
    (folder / MANIFEST).unlink()
    with pytest.raises(BundleRefused, match=r"lstm-1h has no manifest\.json"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["model.json", "model.onnx", "report.json"])
def test_one_changed_byte_is_refused_and_names_the_file(tmp_path: Path, name: str) -> None:
    folder = build_bundle(tmp_path)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleRefused, match=f"{name} has sha256"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["model.json", "model.onnx", "report.json"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = build_bundle(tmp_path)
    (folder / name).unlink()
    with pytest.raises(BundleRefused, match=f"{name} is in manifest.json but not a file"):
        load_bundle(folder)
    write_manifest(folder)
    with pytest.raises(BundleRefused, match=f"does not name {name}"):
        load_bundle(folder)


def test_an_extra_file_is_refused(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path)
    (folder / "weights.pkl").write_bytes(b"surprise")
    with pytest.raises(BundleRefused, match=r"weights\.pkl is not in manifest\.json"):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "a/b", "..", ".hidden", "C:\\x", "manifest.json", ""])
def test_a_manifest_that_points_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    folder = build_bundle(tmp_path)
    (tmp_path / "secret.txt").write_text("x")
    edit(folder / MANIFEST, lambda m: m["files"].update({name: "0" * 64}))
    with pytest.raises(BundleRefused, match="no plain file"):
        load_bundle(folder)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path)
    (folder / "report.json").rename(tmp_path / "elsewhere.json")
    (folder / "report.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleRefused, match=r"report\.json is in manifest\.json but not a file"):
        load_bundle(folder)


@pytest.mark.parametrize("content", [b"not json", b"[]", b'{"files": 1}', b"\xff\xfe", b"[" * 10**6])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = build_bundle(tmp_path)
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleRefused, match=r"manifest\.json"):
        load_bundle(folder)


def test_a_version_that_its_content_does_not_have_is_refused(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path)
    reseal(folder, lambda c: c.update(seed=99), stamp=False)
    with pytest.raises(BundleRefused, match="but its content is version"):
        load_bundle(folder)


REFUSED_CARDS: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("older schema", lambda c: c.update(schema_version=1), "schema version 1, this program reads 2: train it anew"),
    ("newer schema", lambda c: c.update(schema_version=3), "schema version 3, this program reads 2"),
    ("no schema", lambda c: c.pop("schema_version"), "schema version None"),
    ("field", lambda c: c.update(surprise=1), "surprise"),
    ("kind", lambda c: c.update(kind="rnn"), "kind"),
    ("timeframe", lambda c: c.update(timeframe="2h"), "timeframe"),
    ("scaler length", lambda c: c["scaler"].update(center=[0.0], scale=[1.0]), "scaler has 1 columns"),
    ("scaler halves", lambda c: c["scaler"].update(center=[0.0]), "one length"),
    ("scaler zero", lambda c: c["scaler"]["scale"].__setitem__(0, 0.0), "scaler.scale.0"),
    ("no scaler", lambda c: c.update(scaler=None), "needs scaler"),
    ("no thresholds", lambda c: c.update(thresholds=None), "needs thresholds"),
    ("volatility scaler", lambda c: c["volatility_scaler"]["center"].pop(), "one length"),
    (
        "volatility scaler length",
        lambda c: c.update(volatility_scaler={"center": [0.0], "scale": [1.0]}),
        "volatility_scaler has 1 columns, the features have 28",
    ),
    ("no volatility scaler", lambda c: c.pop("volatility_scaler"), "volatility_scaler"),
    ("no season", lambda c: c.pop("season"), "season"),
    ("season without any", lambda c: c.update(season={"fx": [1.0] * 168}), "season needs 'any' and one figure for"),
    ("season length", lambda c: c["season"].update(fx=[1.0] * 167), "one figure for each 1h slot of a week"),
    ("season of other bars", lambda c: c["season"].update(any=[1.0] * 42), "one figure for each 1h slot of a week"),
    ("season below 0", lambda c: c["season"]["any"].__setitem__(5, -0.1), "season.any.5"),
    ("no directions", lambda c: c.pop("directions"), "directions of an lstm needs 'any'"),
    ("directions without any", lambda c: c["directions"].update(fx=c["directions"].pop("any")), "directions of an"),
    ("no adjustments", lambda c: c.pop("adjustments"), "adjustments of an lstm needs 'any'"),
    (
        "adjustments without any",
        lambda c: c["adjustments"].update(fx=c["adjustments"].pop("any")),
        "adjustments of an lstm",
    ),
    ("offset out of range", lambda c: c["adjustments"]["any"]["offsets"].__setitem__(4, 2.5), "any.offsets.4"),
    ("slope out of range", lambda c: c["adjustments"]["any"]["slopes"].__setitem__(4, -0.6), "any.slopes.4"),
    ("bend out of range", lambda c: c["adjustments"]["any"].update(bends=[0.0] * 16 + [0.11]), "any.bends.16"),
    ("a bend missing", lambda c: c["adjustments"]["any"].update(bends=[0.0] * 16), "adjustments.any.bends"),
    ("exponent out of range", lambda c: c.update(unrest_exponent=-1.01), "unrest_exponent"),
    ("exponent unknown", lambda c: c.update(unrest_exponent=None), "unrest_exponent"),
    ("no slopes", lambda c: c["adjustments"]["any"].pop("slopes"), "adjustments.any.slopes"),
    ("a centre missing", lambda c: c["centres"].pop(), "centres of an lstm needs 17 numbers, got 16"),
    ("an offset missing", lambda c: c["adjustments"]["any"]["offsets"].pop(), "adjustments.any.offsets"),
    ("band range", lambda c: c["directions"]["fx"].update(abstain_above=1.5), "directions.fx.abstain_above"),
    ("band order", lambda c: c["directions"]["fx"].update(abstain_below=0.9), "abstain_below must not exceed"),
    ("any votes", lambda c: c["directions"]["any"].update(abstain_above=0.9), "directions.any must abstain always"),
    (
        "direction map",
        lambda c: c["directions"]["any"].update(calibration={"kind": "temperature", "t": 1.0}),
        "directions.any.calibration",
    ),
    ("interval side too narrow", lambda c: c["adjustments"]["any"].update(lower=-0.5), "adjustments.any.lower"),
    ("interval side too wide", lambda c: c["adjustments"]["any"].update(upper=1e300), "adjustments.any.upper"),
    ("interval side", lambda c: c["adjustments"]["any"].pop("upper"), "adjustments.any.upper"),
    ("change scale", lambda c: c["thresholds"].update(change_scale=0), "thresholds.change_scale"),
    ("missing head", lambda c: c["calibration"].pop("win_long"), "missing .'win_long'"),
    ("unknown head", lambda c: c["calibration"].update(luck={"kind": "identity"}), "unknown .'luck'"),
    ("wrong map", lambda c: c["calibration"].update(win_long={"kind": "temperature", "t": 1.0}), "cannot be"),
    ("percent", lambda c: c["metrics"]["direction_accuracy"].update(value=53.0), "share in"),
    ("window", lambda c: c["windows"].update(test=[3, 3]), "test must end after it starts"),
    ("identifier", lambda c: c.update(model_id="../x"), "model_id"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in REFUSED_CARDS], ids=[row[0] for row in REFUSED_CARDS]
)
def test_a_card_that_breaks_the_schema_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    folder = build_bundle(tmp_path)
    reseal(folder, change, stamp=False)
    with pytest.raises(BundleRefused, match=reason):
        load_bundle(folder)


REFUSED_FEATURES: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("version", lambda f: f.update(version="0"), "features.version .* asks for '0'"),
    ("window", lambda f: f.update(window=500), "features.window .* asks for 500"),
    ("sequence", lambda f: f.update(sequence=61), "features.sequence .* asks for 61"),
    ("name", lambda f: f.update(name="candles"), "features.name .* asks for 'candles'"),
    ("unknown", lambda f: f["columns"].__setitem__(3, "astrology"), "features.columns .* unknown 'astrology'"),
    ("order", lambda f: f["columns"].reverse(), "features.columns .* asks for"),
    ("calendar", lambda f: f["calendar"].append("moon"), "features.calendar .* unknown 'moon'"),
    ("volatility", lambda f: f["volatility"].__setitem__(0, "mood"), "features.volatility .* unknown 'mood'"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in REFUSED_FEATURES], ids=[row[0] for row in REFUSED_FEATURES]
)
def test_features_that_this_program_does_not_compute_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    folder = build_bundle(tmp_path)
    reseal(folder, lambda c: change(c["features"]))
    with pytest.raises(BundleRefused, match=reason):
        load_bundle(folder)


REFUSED_REPORTS: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("empty", lambda r: r.clear(), r"report\.json has model_id None, model\.json says 'lstm-1h'"),
    ("model", lambda r: r.update(model_id="lstm-4h"), "has model_id 'lstm-4h', model.json says 'lstm-1h'"),
    ("timeframe", lambda r: r.update(timeframe="4h"), "has timeframe '4h', model.json says '1h'"),
    ("data", lambda r: r.update(data_fingerprint="other"), "has data_fingerprint 'other', model.json says 'tiny'"),
    ("no data", lambda r: r.pop("data_fingerprint"), "has data_fingerprint None"),
    ("no figures", lambda r: r.pop("figures"), "holds no figures"),
    ("figures are none", lambda r: r.update(figures=[]), "holds no figures"),
    ("no pooled figures", lambda r: r.update(figures={"pooled": {}}), "holds no figures"),
    ("metric missing", lambda r: r["figures"]["pooled"].pop("direction_accuracy"), "hold direction_accuracy 0.53"),
    (
        "metric differs",
        lambda r: r["figures"]["pooled"]["direction_accuracy"].update(value=0.54),
        "does not hold direction_accuracy 0.53 of model.json",
    ),
    ("metric is none", lambda r: r["figures"]["pooled"].update(direction_accuracy=0.53), "hold direction_accuracy"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [row[1:] for row in REFUSED_REPORTS], ids=[row[0] for row in REFUSED_REPORTS]
)
def test_a_report_that_is_not_of_this_bundle_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    folder = build_bundle(tmp_path)
    edit(folder / REPORT, change)
    write_manifest(folder)
    with pytest.raises(BundleRefused, match=reason):
        load_bundle(folder)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'"measured"', b"NaN"])
def test_a_report_that_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = build_bundle(tmp_path)
    (folder / REPORT).write_bytes(content)
    write_manifest(folder)
    with pytest.raises(BundleRefused, match=r"report\.json is no JSON"):
        load_bundle(folder)


def test_a_card_that_shows_another_figure_than_its_report_is_refused(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path)
    reseal(folder, lambda c: c["metrics"]["direction_accuracy"].update(value=0.6))
    with pytest.raises(BundleRefused, match=r"does not hold direction_accuracy 0\.6"):
        load_bundle(folder)
    (folder / REPORT).write_text(json.dumps(report_content(json.loads((folder / CARD).read_text()))))
    write_manifest(folder)
    assert load_bundle(folder).card.metrics["direction_accuracy"].value == 0.6


def test_a_patchtst_with_a_scaler_is_refused(tmp_path: Path) -> None:
    folder = build_bundle(tmp_path, "patchtst")
    reseal(folder, lambda c: c.update(scaler=card_content("lstm", "1h")["scaler"]), stamp=False)
    with pytest.raises(BundleRefused, match="scaler must be null"):
        load_bundle(folder)


def external_weights() -> bytes:
    model = onnx.load_from_string(lstm_graph())
    tensor = next(one for one in model.graph.initializer if one.name == "touch_slope")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("kind", "graph", "reason"),
    [
        ("lstm", b"not a graph", "cannot read the graph"),
        ("lstm", patchtst_graph(), "the graph takes"),
        ("patchtst", patchtst_graph(channels=4), "input 'candles' is"),
        ("lstm", lstm_graph(volatility=27), r"input 'volatility' is .* \['batch', 28\]"),
        ("lstm", lstm_graph(widths={k: v for k, v in LSTM_WIDTHS.items() if k != "win"}), "the graph answers"),
        ("lstm", lstm_graph(widths=LSTM_WIDTHS | {"touch": 10}), r"output 'touch' of 1 windows has shape \(1, 10\)"),
        ("lstm", external_weights(), "files outside itself"),
    ],
    ids=["no graph", "other kind", "channels", "volatility", "missing output", "width", "external weights"],
)
def test_a_graph_that_breaks_its_contract_is_refused(tmp_path: Path, kind: str, graph: bytes, reason: str) -> None:
    with pytest.raises(BundleRefused, match=reason):
        load_bundle(build_bundle(tmp_path, kind, graph=graph))


@pytest.mark.parametrize("kind", ["double", "string", "sequence"])
def test_a_graph_that_answers_something_else_than_floats_is_refused(tmp_path: Path, kind: str) -> None:
    model = onnx.load_from_string(lstm_graph())
    (output,) = [output for output in model.graph.output if output.name == "direction"]
    (last,) = [node for node in model.graph.node if "direction" in node.output]
    last.output[:] = ["direction_float"]
    if kind == "sequence":
        model.graph.node.append(onnx.helper.make_node("SequenceConstruct", ["direction_float"], ["direction"]))
        output.CopyFrom(onnx.helper.make_tensor_sequence_value_info("direction", TensorProto.FLOAT, None))
    else:
        to = {"double": TensorProto.DOUBLE, "string": TensorProto.STRING}[kind]
        model.graph.node.append(onnx.helper.make_node("Cast", ["direction_float"], ["direction"], to=to))
        output.CopyFrom(onnx.helper.make_tensor_value_info("direction", to, ["batch"]))
    folder = build_bundle(tmp_path, graph=model.SerializeToString())
    with pytest.raises(BundleRefused, match=r"output 'direction' is .*, it has to be tensor"):
        load_bundle(folder)


def test_a_graph_that_answers_nan_to_a_neutral_window_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(lstm_graph("nan"))
    for tensor in model.graph.initializer:
        if tensor.name == "threshold":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(-1.0, np.float32), "threshold"))
    with pytest.raises(BundleRefused, match="not finite for a neutral window"):
        load_bundle(build_bundle(tmp_path, graph=model.SerializeToString()))


def test_cuda_where_there_is_none_is_refused_and_auto_takes_the_cpu(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    folder = build_bundle(tmp_path)
    with pytest.raises(BundleRefused, match="device is cuda"):
        load_bundle(folder, device="cuda")
    assert load_bundle(folder, device="auto").card.model_id == "lstm-1h"


def test_a_copied_card_keeps_nothing_that_was_derived_from_what_it_replaces() -> None:
    card = ModelCard.model_validate(card_content("lstm", "1h"))
    features = np.full((1, len(INDICATORS)), 2.0, np.float32)
    assert card.scaler is not None
    before = card.scaler.apply(features).tolist()
    held = (card.reference, card.chance_maps, card.direction_maps, card.states)
    moved = {"any": card.adjustments["any"].model_copy(update={"lower": 0.5})}
    copy = card.model_copy(update={"version": "0123456789ab", "centres": (1.0,) * 17, "adjustments": moved})
    assert copy.reference.version == copy.states["any"].version == "0123456789ab" != held[0].version
    assert copy.states["any"].lower == 0.5
    assert copy.chance_maps[1].tolist() == [1.0] * 17
    assert card.reference is held[0]
    doubled = card.scaler.model_copy(update={"scale": tuple(2.0 * scale for scale in card.scaler.scale)})
    assert doubled.apply(features).tolist() != before == card.scaler.apply(features).tolist()
    assert copy != card == ModelCard.model_validate(card_content("lstm", "1h"))


def test_a_graph_whose_precision_cannot_be_told_is_refused_like_any_other(tmp_path: Path) -> None:
    group = b"\xa3\x06\xa4\x06"  # field 100 as an empty group, which ONNX Runtime passes over
    folder = build_bundle(tmp_path, "lstm", "1h", graph=lstm_graph() + group)
    with pytest.raises(BundleRefused, match="precision of the graph cannot be told"):
        load_bundle(folder)
