"""Hot swap: what is new and good takes over without a lost request; what is not leaves the old one serving."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import helper
from tiny_bundles import build_bundle, candles, lstm_graph

from fusiontrade.inference.contract import ForecastResponse
from fusiontrade.market.timeframes import Timeframe
from serving import warmup
from serving.asked import Asked
from serving.bundle import load_bundle, write_manifest
from serving.running import Running, SwapReport, start
from serving.settings import ServingSettings
from serving.warmup import self_test

H1, M15 = Timeframe("1h"), Timeframe("15m")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "bundles"
    build_bundle(place, "lstm", "1h")
    build_bundle(place, "patchtst", "1h")
    build_bundle(place, "lstm", "15m")
    return place


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Running]:
    given: dict[str, Any] = {"workers": 2, "device": "cpu", "slow_seconds": 2.0}
    engine = start(ServingSettings(bundles=folder, **given | settings))
    try:
        yield engine
    finally:
        engine.close()


def replace(folder: Path, kind: str = "lstm", timeframe: str = "1h", **changes: Any) -> Path:
    """Put a newer bundle into the place of an old one, as a sync does: at once."""
    new = build_bundle(folder / "_new", kind, timeframe, **changes)
    place = folder / new.name
    if place.exists():
        place.rename(folder / "_old")
    new.rename(place)
    shutil.rmtree(folder / "_old", ignore_errors=True)
    return place


def ask(engine: Running, timeframe: Timeframe = H1, **how: Any) -> ForecastResponse:
    frame = candles(timeframe=timeframe.value, **how)
    return asyncio.run(engine.answer([Asked("EURUSD=X", timeframe, frame)], seconds=30))


def version(engine: Running, timeframe: Timeframe = H1) -> str:
    """The version that answers, which is the one that is said to serve."""
    (item,) = ask(engine, timeframe).items
    assert item.lstm is not None
    assert item.lstm.model.version == engine.engine.bundles["lstm", timeframe].card.version
    return item.lstm.model.version


def test_a_new_bundle_takes_over_and_the_others_are_left_alone(folder: Path) -> None:
    with running(folder) as engine:
        before = engine.engine.bundles
        old = version(engine)
        replace(folder, horizon_bars=8)
        assert engine.reload() == engine.swap == SwapReport(1, "changed", ())
        assert version(engine) not in {old, ""}
        assert ask(engine).items[0].lstm.horizon_bars == 8  # type: ignore[union-attr]
        after = engine.engine.bundles
        assert [key for key in before if before[key] is not after[key]] == [("lstm", H1)]
        assert 'serving_readings_total{outcome="changed"} 2.0' in engine.metrics.exposition()
        assert f'model="lstm-1h",timeframe="1h",version="{version(engine)}"' in engine.metrics.exposition()
        assert old not in engine.metrics.exposition()


def test_a_folder_that_did_not_change_is_unchanged(folder: Path) -> None:
    with running(folder) as engine:
        before = engine.engine
        assert engine.reload() == SwapReport(0, "unchanged", ())
        assert engine.engine is before


def test_a_bundle_of_a_new_timeframe_is_added(folder: Path) -> None:
    with running(folder) as engine:
        build_bundle(folder, "lstm", "4h")
        assert engine.reload() == SwapReport(1, "changed", ())
        assert version(engine, Timeframe("4h"))


def corrupt(folder: Path) -> None:
    place = replace(folder, horizon_bars=8)
    (place / "model.onnx").write_bytes((place / "model.onnx").read_bytes() + b"\0")


def half_copied(folder: Path) -> None:
    (replace(folder, horizon_bars=8) / "model.onnx").unlink()


def without_manifest(folder: Path) -> None:
    (replace(folder, horizon_bars=8) / "manifest.json").unlink()


def batch_dependent(folder: Path) -> None:
    """Give a window the mean signal of its batch: right alone, wrong in company."""
    model = onnx.load_from_string(lstm_graph())
    (last,) = [node for node in model.graph.node if "signal" in node.output]
    last.output[:] = ["own_signal"]
    after = list(model.graph.node).index(last) + 1
    nodes = [
        helper.make_node("ReduceMean", ["own_signal"], ["batch_mean"], keepdims=1),
        helper.make_node("Sub", ["own_signal", "own_signal"], ["nothing"]),
        helper.make_node("Add", ["nothing", "batch_mean"], ["signal"]),
    ]
    kept = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(kept[:after] + nodes + kept[after:])
    replace(folder, graph=model.SerializeToString())


def of_another_schema(folder: Path) -> None:
    place = replace(folder, horizon_bars=8)
    card = json.loads((place / "model.json").read_text())
    (place / "model.json").write_text(json.dumps(card | {"schema_version": 1}))
    write_manifest(place)


def nan(folder: Path) -> None:
    replace(folder, behaviour="nan")


def raising(folder: Path) -> None:
    replace(folder, behaviour="raises")


FAULTS = [
    (corrupt, "model.onnx has sha256"),
    (half_copied, "model.onnx is in manifest.json but not a file"),
    (without_manifest, "lstm-1h has no manifest.json"),
    (of_another_schema, "schema version 1"),
    (nan, "rising candles: lstm-1h failed: direction"),
    (raising, "rising candles: lstm-1h failed: InvalidArgument"),
    (batch_dependent, "an item's answer depends on what rides with it"),
]


@pytest.mark.parametrize(("fault", "why"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_bundle_that_must_not_serve_leaves_the_old_one_and_says_why(
    folder: Path, fault: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with running(folder) as engine:
        old = version(engine)
        fault(folder)
        report = engine.reload()
        assert (report.generation, report.outcome) == (0, "refused")
        assert [one.folder for one in report.failed] == ["lstm-1h"]
        assert why in report.failed[0].reason
        assert engine.engine.refused == report.failed
        assert version(engine) == old
        assert len(engine.engine.bundles) == 3
        assert "serving_refused_bundles 1.0" in engine.metrics.exposition()
        assert any(
            record.getMessage() == "bundle refused" and why in vars(record)["reason"] for record in caplog.records
        )
        replace(folder, horizon_bars=9)
        assert engine.reload() == SwapReport(1, "changed", ())
        assert version(engine) != old
        assert engine.engine.refused == ()


@pytest.mark.parametrize(
    ("longest", "why"), [(60.0, "is too slow: one item of rising candles took"), (0.3, "a run did not end within")]
)
def test_a_slow_bundle_is_refused(longest: float, why: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes half a second, on a busy machine much more: ``longest`` says whether it is waited for."""
    timers = SimpleNamespace(Timer=lambda _, call: threading.Timer(longest, call))
    monkeypatch.setattr(warmup, "threading", timers)
    with running(folder, slow_seconds=0.2) as engine:
        old = version(engine)
        replace(folder, behaviour="slow")
        (refusal,) = engine.reload().failed
        assert why in refusal.reason
        assert version(engine) == old


def test_what_is_good_takes_over_although_another_folder_fails(folder: Path) -> None:
    with running(folder) as engine:
        old, other = version(engine), version(engine, M15)
        replace(folder, horizon_bars=8)
        replace(folder, "lstm", "15m", behaviour="nan")
        report = engine.reload()
        assert (report.generation, report.outcome, len(report.failed)) == (1, "changed", 1)
        assert version(engine) != old
        assert version(engine, M15) == other


def test_a_removed_folder_withdraws_its_bundle_but_never_the_last_and_not_beside_a_failure(folder: Path) -> None:
    with running(folder) as engine:
        shutil.rmtree(folder / "lstm-15m")
        replace(folder, behaviour="nan")
        assert engine.reload().generation == 0
        assert version(engine, M15)

        replace(folder, horizon_bars=8)
        assert engine.reload() == SwapReport(1, "changed", ())
        assert set(engine.engine.bundles) == {("lstm", H1), ("patchtst", H1)}
        assert ask(engine, M15).items[0].error.code == "no_model"  # type: ignore[union-attr]

        for left in ("lstm-1h", "patchtst-1h"):
            shutil.rmtree(folder / left)
        assert [one.reason for one in engine.reload().failed] == ["there is no bundle in it"]
        shutil.rmtree(folder)
        assert "does not exist" in engine.reload().failed[0].reason
        assert version(engine)


def test_a_second_folder_for_the_same_place_is_refused_and_the_first_serves(folder: Path) -> None:
    with running(folder) as engine:
        old = version(engine)
        build_bundle(folder / "_new", "lstm", "1h", horizon_bars=8).rename(folder / "lstm-1h-newer")
        (refusal,) = engine.reload().failed
        assert refusal.folder == "lstm-1h-newer"
        assert refusal.reason == "lstm-1h already serves lstm 1h"
        assert version(engine) == old


def test_twenty_swaps_under_load_lose_no_request_and_mix_no_versions(folder: Path) -> None:
    versions: set[str] = set()
    ending = threading.Event()
    with running(folder) as engine:
        versions.add(version(engine))

        def swap() -> None:
            for turn in range(20):
                replace(folder, horizon_bars=5 + turn)
                assert engine.reload().outcome == "changed"
                versions.add(engine.engine.bundles["lstm", H1].card.version)
            ending.set()

        frames = [Asked("EURUSD=X", H1, candles(seed=seed)) for seed in range(8)]
        answers: list[ForecastResponse] = []

        async def client(first: int) -> None:
            while not ending.is_set():
                items = [frames[(first + turn) % 8] for turn in range(1 + first % 4)]
                answers.append(await engine.answer(items, seconds=30))

        async def load() -> None:
            await asyncio.gather(asyncio.to_thread(swap), *map(client, range(12)))

        asyncio.run(load())
        assert engine.swap.generation == 20
    assert len(versions) == 21
    assert len(answers) > 20
    for answer in answers:
        found = {item.lstm and item.lstm.model.version for item in answer.items}
        horizons = {item.lstm and item.lstm.horizon_bars for item in answer.items}
        assert len(found) == len(horizons) == 1
        assert found <= versions
        assert all(item.error is None and item.patchtst is not None for item in answer.items)


def test_a_watched_folder_is_read_when_it_has_come_to_rest(folder: Path) -> None:
    with running(folder, watch_seconds=0.1) as engine:
        old = version(engine)
        replace(folder, horizon_bars=8)
        until = time.monotonic() + 20
        while engine.swap.generation == 0 and time.monotonic() < until:
            time.sleep(0.02)
        assert version(engine) != old
        time.sleep(0.5)
        assert "serving_readings_total" in engine.metrics.exposition()
        assert engine.swap == SwapReport(1, "changed", ())


@pytest.mark.parametrize("kind", ["lstm", "patchtst"])
@pytest.mark.parametrize("timeframe", ["15m", "4h"])
def test_a_sound_bundle_passes_its_self_test(tmp_path: Path, kind: str, timeframe: str) -> None:
    self_test(load_bundle(build_bundle(tmp_path, kind, timeframe)), slow_seconds=2.0)
