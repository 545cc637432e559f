"""What the emulator is given on a laptop besides its own code."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

import infra.local.emulator as module
from infra.local.emulator import one_at_a_time, remember_what_was_read, save_forever, telling


def test_condition_is_read_once_and_what_was_read_cannot_be_spoilt() -> None:
    read: list[str] = []

    def tokenize(text: str) -> list[tuple[str, str]]:
        read.append(text)
        return [("NAME_REF", word) for word in text.split()]

    dynamodb = SimpleNamespace(_tokenize=tokenize, _condition_syntax_error=lambda text, slot: f"{slot}: {text}")
    remember_what_was_read(dynamodb)
    dynamodb._tokenize("#pk = :pk").clear()
    assert [word for _, word in dynamodb._tokenize("#pk = :pk")] == ["#pk", "=", ":pk"]
    assert read == ["#pk = :pk"]
    assert dynamodb._condition_syntax_error("#a", "FilterExpression") == "FilterExpression: #a"
    assert dynamodb._condition_syntax_error("#a", "KeyConditionExpression") == "KeyConditionExpression: #a"


def test_saves_never_overlap() -> None:
    inside, most = 0, 0

    def save() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        inside -= 1

    locked = one_at_a_time(save)
    threads = [threading.Thread(target=locked) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_nothing_is_saved_before_what_was_saved_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    known: list[str] = []
    saved: list[list[str]] = []
    both, go_on, loaded = threading.Event(), threading.Event(), threading.Event()

    def load() -> None:
        assert go_on.wait(20)
        known.append("an account")

    def save() -> None:
        saved.append(list(known))
        if len(saved) > 1:
            both.set()
            threading.Event().wait()  # this thread saves no more

    threading.Thread(target=save_forever, args=(save, loaded), daemon=True).start()
    loading = threading.Thread(target=telling(load, loaded))
    loading.start()
    assert not both.wait(0.1)
    go_on.set()
    assert both.wait(20)
    loading.join()
    assert saved == [["an account"]] * 2
