"""What serves beside the fused kinds is opened after the program is ready, and whoever asks for it waits for it."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tiny_bundles import build_bundle, candles, card_content, item, lstm_graph, report_content, serving

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import ForecastItem, ForecastResponse
from fusiontrade.inference.texts import TextScore
from serving import application, engine, running, swapping
from serving.asked import Asked
from serving.bodies import SWING, TEXTS, Announced
from serving.bundle import GRAPH, REPORT, write_card, write_manifest
from serving.card import ModelCard
from serving.companions import Companions
from serving.connections import GONE
from serving.running import Running
from serving.sentiment.lexicon import Lexicon
from serving.settings import ServingSettings

HOLDING = """
import sys, runpy, time
from serving import companions
def reading(folder, **_):
    import onnxruntime
    graph = (folder / "lstm-1h" / "model.onnx").read_bytes()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        onnxruntime.InferenceSession(graph)
companions.Companions.read = reading
sys.argv[0] = "serving.server"
runpy.run_module("serving.server", run_name="__main__")
"""
"""The program, which opens graphs for twenty seconds after it is ready."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An LSTM and a kind beside it."""
    build_bundle(tmp_path, "lstm")
    build_beside(tmp_path)
    return tmp_path


def build_beside(folder: Path) -> Path:
    """A GRU, which answers as an LSTM does."""
    place = folder / "gru-1h"
    place.mkdir(parents=True)
    content = card_content("lstm", "1h") | {"kind": "gru", "model_id": "gru-1h"}
    (place / GRAPH).write_bytes(lstm_graph())
    (place / REPORT).write_text(json.dumps(report_content(content)))
    write_card(place, ModelCard.model_validate_json(json.dumps(content)))
    write_manifest(place)
    return place


def asked(*models: str) -> list[Asked]:
    return [Asked.of(ForecastItem.model_validate(item(candles()) | {"models": models}))]


def ask(one: Running, *models: str, seconds: float = 10) -> ForecastResponse:
    return asyncio.run(one.answer(asked(*models), seconds=seconds))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Lets no bundle of a kind beside be opened before it is set."""
    may = threading.Event()
    load = engine.load_bundle

    def loading(place: Path, **how: Any) -> Any:
        if engine.kind_of(place) == "gru":
            may.wait(10)
        return load(place, **how)

    monkeypatch.setattr(engine, "load_bundle", loading)
    return may


def test_the_fused_kinds_answer_while_the_others_are_opened(folder: Path, held: threading.Event) -> None:
    one = Running(ServingSettings(bundles=folder))
    try:
        one.open_rest()
        assert ask(one, "lstm").items[0].lstm is not None
        assert [key[0] for key in one.engine.bundles] == ["lstm"]
        threading.Timer(0.05, held.set).start()
        (answer,) = ask(one, "gru", "lstm").items
        assert list(answer.beside) == ["gru"]
        assert answer.lstm is not None
        assert one.swap.generation == 0
    finally:
        held.set()
        one.close()


def test_whoever_waits_too_long_for_a_kind_is_told_so(folder: Path, held: threading.Event) -> None:
    one = Running(ServingSettings(bundles=folder))
    try:
        error = ask(one, "gru", seconds=0.05).items[0].error
        assert error is not None
        assert error.code in {"timed_out", "no_model"}  # whichever is said first
    finally:
        held.set()
        one.close()


def test_waiting_for_what_is_opened_takes_from_a_requests_time(tmp_path: Path, held: threading.Event) -> None:
    build_bundle(tmp_path, "lstm", behaviour="slow")
    build_beside(tmp_path)
    rising = ForecastItem.model_validate(item(candles(drift=2.0)) | {"models": ["gru", "lstm"]})
    one = Running(ServingSettings(bundles=tmp_path))

    async def scenario() -> None:
        assert await one.whole(0.05) == pytest.approx(0, abs=0.01)
        one.whole = none_left  # type: ignore[method-assign]
        (answer,) = (await one.answer([Asked.of(rising)], seconds=30)).items
        assert answer.lstm is None

    async def none_left(_: float) -> float:
        return 0.0

    try:
        asyncio.run(scenario())
    finally:
        held.set()
        one.close()


def test_what_waiting_leaves_is_what_moods_and_stocks_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    class Part:
        async def answer(self, *_: object, seconds: float) -> Any:
            given.append(seconds)
            return SimpleNamespace(items=[])

        def has_room(self, _: int) -> bool:
            return True

    async def whole(seconds: float) -> float:
        return seconds - 21

    async def body(*_: object) -> bytes:
        return b'{"texts": ["up"]}'

    async def scenario() -> None:
        face = application.Service(ServingSettings(answer_seconds=30), lambda: one, lambda _: None)
        monkeypatch.setattr(face, "_body", body)
        monkeypatch.setattr(application, "stocks_of", lambda _: None)
        request: Any = SimpleNamespace(scope={GONE: asyncio.get_running_loop().create_future()})
        for form, answer in ((TEXTS, face._moods), (SWING, face._stocks)):
            await answer(one, request, Announced(form, is_gzip=False, takes_gzip=False), cast("Any", None))
        face._pool.shutdown()

    given: list[float] = []
    there, counted = SimpleNamespace(swing=True, encoder=None), SimpleNamespace(told=lambda _: None)
    one: Any = SimpleNamespace(whole=whole, desk=Part(), stocks=Part(), companions=there, metrics=counted)
    asyncio.run(scenario())
    assert given == [9, 9]


def test_a_reading_waits_for_what_is_being_opened_and_opens_nothing_twice(folder: Path, held: threading.Event) -> None:
    one = Running(ServingSettings(bundles=folder))
    try:
        one.open_rest()
        threading.Timer(0.05, held.set).start()
        assert one.reload().outcome == "unchanged"
        assert [key[0] for key in one.engine.bundles] == ["gru", "lstm"]
    finally:
        held.set()
        one.close()


def test_a_kind_beside_that_must_not_serve_is_told_and_touches_no_other(folder: Path) -> None:
    (folder / "gru-1h" / "model.onnx").write_bytes(b"spoiled")
    one = Running(ServingSettings(bundles=folder))
    try:
        asyncio.run(one.whole(10))
        assert [refused.folder for refused in one.engine.refused] == ["gru-1h"]
        assert ask(one, "lstm").items[0].lstm is not None
    finally:
        one.close()


def test_a_kind_beside_whose_opening_breaks_is_told_and_touches_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = engine.load_bundle

    def loading(place: Path, **how: Any) -> Any:
        if place.name == "gru-1h":
            raise KeyError("no library expected that")
        return load(place, **how)

    monkeypatch.setattr(engine, "load_bundle", loading)
    shutil.copytree(folder / "gru-1h", folder / "gru-2")
    one = Running(ServingSettings(bundles=folder))
    try:
        asyncio.run(one.whole(10))
        assert [(refused.folder, refused.reason) for refused in one.engine.refused] == [
            ("gru-1h", "could not be opened: KeyError")
        ]
        assert [key[0] for key in one.engine.bundles] == ["gru", "lstm"]
    finally:
        one.close()


def test_kinds_beside_that_break_the_warm_up_leave_the_companions_to_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise ValueError("no library expected that")

    one = Running(ServingSettings(bundles=folder))
    found = Companions()
    try:
        monkeypatch.setattr(swapping, "warm_up", breaks)
        monkeypatch.setattr(running.Companions, "read", lambda *_, **__: found)
        asyncio.run(one.whole(10))
        assert one.companions is found
    finally:
        one.close()


def test_without_a_fused_kind_the_others_are_opened_at_once(tmp_path: Path) -> None:
    build_beside(tmp_path)
    one = Running(ServingSettings(bundles=tmp_path))
    try:
        assert [key[0] for key in one.engine.bundles] == ["gru"]
    finally:
        one.close()
    (tmp_path / "gru-1h" / "model.onnx").write_bytes(b"spoiled")
    with pytest.raises(BundleRefused, match=r"gru-1h: model\.onnx has sha256"):
        Running(ServingSettings(bundles=tmp_path))


def test_companions_that_break_their_reader_leave_the_forecasters_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> Companions:
        raise ValueError("no library expected that")

    one = Running(ServingSettings(bundles=folder))
    try:
        asyncio.run(one.whole(10))
        monkeypatch.setattr(running.Companions, "read", breaks)
        build_bundle(folder, "patchtst")
        assert one.reload().outcome == "changed"
        assert ("patchtst", "1h") in one.engine.bundles
    finally:
        one.close()


def test_a_drain_that_is_over_ends_requests_of_every_form(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Lexicon):
        def scores(self, texts: Sequence[str]) -> list[TextScore]:
            may.wait(10)
            return super().scores(texts)

    async def scenario() -> None:
        waiting = asyncio.ensure_future(one.desk.answer(["profits rise"], seconds=10))
        await asyncio.sleep(0.05)
        one.give_up()
        (answer,) = (await asyncio.wait_for(waiting, 5)).items
        assert answer.error is not None
        assert answer.error.code == "timed_out"

    may = threading.Event()
    monkeypatch.setattr(running, "_LEXICON", Slow())
    one = Running(ServingSettings(bundles=folder))
    try:
        asyncio.run(scenario())
    finally:
        may.set()
        one.close()


def test_a_program_that_ends_while_it_opens_the_rest_ends_with_zero(folder: Path, tmp_path: Path) -> None:
    with serving(folder, tmp_path / "log", command=(sys.executable, "-c", HOLDING)) as program:
        assert program.end() == 0


def test_nothing_more_is_opened_once_the_program_ends(folder: Path) -> None:
    one = Running(ServingSettings(bundles=folder))
    one.close()
    one.open_rest()
    asyncio.run(one.whole(10))
    assert [key[0] for key in one.engine.bundles] == ["lstm"]
