"""Lines of the serving program's log: one JSON object each, whatever their fields hold."""

from __future__ import annotations

import json
import logging

import pytest

from serving.logs import configure_logs


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    configure_logs("INFO")
    logging.getLogger("serving.engine").error("bundle refused", extra={"bundle": "odd-\udcff", "reason": "a\nb ü"})
    logging.captureWarnings(False)
    return capsys.readouterr().err


def test_a_name_that_is_no_text_can_be_written_and_read_again(line: str) -> None:
    assert line.encode()  # as UTF-8
    assert json.loads(line)["bundle"] == "odd-\udcff"


def test_a_line_is_one_line_and_keeps_its_letters(line: str) -> None:
    assert line.count("\n") == 1
    assert '"reason": "a\\nb ü"' in line
