"""Folders with files that are none, that never end, or whose names are no text: refused, said, and nothing held up."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tiny_bundles import build_bundle

from fusiontrade.errors import BundleRefused
from serving.application import Service, State
from serving.bundle import CARD, GRAPH, MANIFEST, REPORT, kind_of, load_bundle, said_by
from serving.companions import Companions
from serving.engine import RefusedBundle, load_engine
from serving.running import Running
from serving.settings import ServingSettings


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return build_bundle(tmp_path / "bundles", "lstm", "1h")


def in_time(call: Callable[[], Any]) -> Any:
    """What ``call`` comes to, in a thread: one that waits without end is a failure, not a test without end."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(call())
        except BundleRefused as error:
            found.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert found, "it waits without end"
    return found[0]


@pytest.mark.parametrize("name", [CARD, GRAPH, REPORT, MANIFEST])
@pytest.mark.parametrize("leads_to", ["pipe", "/dev/zero"])
def test_a_pipe_or_a_device_in_the_place_of_a_file_holds_nobody_up(bundle: Path, name: str, leads_to: str) -> None:
    (bundle / name).unlink()
    if leads_to == "pipe":
        os.mkfifo(bundle / name)
    else:
        (bundle / name).symlink_to(leads_to)
    said = in_time(lambda: load_bundle(bundle))
    assert said.startswith((f"{name} is in manifest.json but not a file", "lstm-1h has no manifest.json"))
    assert in_time(lambda: kind_of(bundle)) == ("" if name == CARD else "lstm")
    in_time(lambda: Companions.read(bundle.parent, device="cpu", threads=1))


@pytest.mark.parametrize(
    ("name", "size", "most"),
    [(MANIFEST, 2**26 + 1, 2**26), (CARD, 2**36, 2**26), (REPORT, 2**36, 2**26), (GRAPH, 2**36, 2**31)],
)
def test_a_file_that_would_fill_the_memory_is_refused_by_its_size(
    bundle: Path, name: str, size: int, most: int
) -> None:
    with (bundle / name).open("r+b") as file:
        file.truncate(size)
    with pytest.raises(BundleRefused, match=f"{name} has {size} bytes, {most} are the most that are read"):
        load_bundle(bundle)
    assert bool(said_by(bundle)) is (name != CARD)


def test_names_that_are_no_text_are_told_as_text(bundle: Path) -> None:
    try:
        (bundle.parent / os.fsdecode(b"odd-\xff")).mkdir()
        other = build_bundle(bundle.parent, "patchtst", "1h")
        (other / os.fsdecode(b"\xfe")).write_text("")
    except OSError:
        pytest.skip("this file system has no names that are no text")
    told = [(one.folder, one.reason) for one in load_engine(bundle.parent).refused]
    assert told == [
        ("odd-\\udcff", "odd-\\udcff has no manifest.json"),
        ("patchtst-1h", "\\udcfe is not in manifest.json"),
    ]
    json.dumps(told, ensure_ascii=False).encode()
    assert RefusedBundle("ümlaut-日本", "as it is").folder == "ümlaut-日本"


def test_a_reading_that_never_ends_does_not_keep_the_program_from_ending() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def reload() -> None:
        begun.set()
        may_end.wait(60)

    async def scenario() -> None:
        service = Service(ServingSettings(), lambda: cast(Running, None), lambda state: None)
        service.state = State.READY
        service.running = cast(Running, SimpleNamespace(reload=reload, close=lambda: None))
        reading = asyncio.create_task(service.reload())
        while not begun.is_set():
            await asyncio.sleep(0.01)
        assert not reading.done()
        service.close()

    alarm = threading.Timer(20, may_end.set)
    alarm.start()
    try:
        asyncio.run(scenario())
        assert not may_end.is_set()
    finally:
        alarm.cancel()
        may_end.set()
