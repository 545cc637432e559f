"""``fusiontrade train | backtest | registry | promote`` before a loopback API."""

from __future__ import annotations

import json
from typing import Any

import pytest

import fusiontrade.cli.training as module

JOB = {"id": "job-1", "kind": "train", "status": "QUEUED", "progress": 0.0, "result": None, "error": None}
VERSION = {
    "model_id": "lstm-1h", "version": "aaaaaaaaaaaa", "status": "ACTIVE", "symbols": ["EURUSD=X", "GC=F"],
    "trained_on": {"from": "2015-01-01T00:00:00Z", "to": "2023-09-11T04:00:00Z"}, "created_at": "2025-07-31T12:00:00Z",
}  # fmt: skip
BACKTEST = {
    "symbol": "BTC-USD", "interval": "1h", "bars": 240, "from": "2025-05-01T00:00:00Z", "to": "2025-05-11T00:00:00Z",
    "capital": 100000.0, "final": 100247.5, "warnings": ["0.0 years are too few"],
    "performance": {"max_drawdown": 0.0025, "of_trades": {"n": 27, "win_rate": 0.5556, "profit_factor": None}},
    "deflated_sharpe": {"probability": 0.744, "sharpe": 4.03, "trials": 3},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_AGAIN_SECONDS", 0.0)


@pytest.fixture
def played(platform: Any) -> Any:
    """The platform, which accepts every job."""
    platform.forecast = JOB
    platform.sent = []
    answer = platform.answer

    def noted(call: Any) -> Any:
        if call.method == "POST" and "/auth/" not in call.path:
            platform.sent.append((call.path, json.loads(call.body), call.headers.get("idempotency-key")))
        return answer(call)

    platform.answer = noted
    return platform


def test_a_training_is_followed_to_its_version(command: Any, played: Any) -> None:
    result = {"model_id": "lstm-1h", "version": "bbbbbbbbbbbb", "status": "CANDIDATE"}
    played.journal.outcome = {"status": "SUCCEEDED", "result": result}
    told = command.run("train", "EURUSD=X", "--epochs", "3", "--symbols", "GC=F, BTC-USD")
    assert told.exit_code == 0, told.output
    assert "lstm-1h version bbbbbbbbbbbb is a CANDIDATE" in told.stdout
    assert "fusiontrade promote lstm-1h bbbbbbbbbbbb" in told.stdout
    ((path, body, key),) = played.sent
    assert path == "/api/v1/ml/train"
    assert body == {
        "symbol": "EURUSD=X", "interval": "1h", "model_type": "lstm", "epochs": 3, "bars": 20000,
        "symbols": ["GC=F", "BTC-USD"],
    }  # fmt: skip
    assert key


def test_fine_tuning_goes_where_it_is_asked_for(command: Any, played: Any) -> None:
    assert (
        command.run("train", "EURUSD=X", "--finetune", "--interval", "4h", "--no-wait").stdout == "job job-1: QUEUED\n"
    )
    ((path, body, _),) = played.sent
    assert (path, body["timeframe"]) == ("/api/v1/fusion/finetune", "4h")


@pytest.mark.parametrize(
    ("came", "shown", "code"),
    [
        ({"status": "SUCCEEDED", "result": {"reason": "it is not worse"}}, "it serves: it is not worse", 0),
        ({"status": "FAILED", "error": "version b was not promoted: worse"}, "version b was not promoted: worse", 1),
    ],
)
def test_fine_tuning_is_followed_to_the_end_of_its_exchange(
    command: Any, played: Any, came: dict[str, Any], shown: str, code: int
) -> None:
    result = {"model_id": "lstm-1h", "version": "b", "status": "CANDIDATE", "promotion": "job-2"}
    played.journal.outcome = {"status": "SUCCEEDED", "result": result}
    answer = played.answer
    played.answer = lambda call: (200, {**JOB, **came}, {}) if call.path.endswith("/job-2") else answer(call)
    told = command.run("train", "EURUSD=X", "--finetune")
    assert (told.exit_code, told.stdout.splitlines()[0]) == (code, "lstm-1h version b is a CANDIDATE")
    assert shown in (told.stderr if code else told.stdout)


def test_fine_tuning_sends_what_was_said_alone_and_refuses_what_it_cannot_use(command: Any, played: Any) -> None:
    command.run("train", "EURUSD=X", "--finetune", "--no-wait")
    command.run("train", "EURUSD=X", "--finetune", "--epochs", "5", "--no-wait")
    assert [body.get("epochs") for _, body, _ in played.sent] == [None, 5]
    for option in (("--bars", "3000"), ("--symbols", "GC=F")):
        assert command.run("train", "EURUSD=X", "--finetune", *option).exit_code == 2
    assert len(played.sent) == 2


def test_a_job_that_fails_says_why_and_is_a_failure(command: Any, played: Any) -> None:
    played.journal.outcome = {"status": "FAILED", "error": "version b was not promoted: it may be worse"}
    told = command.run("promote", "lstm-1h", "bbbbbbbbbbbb", "--force")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "it may be worse" in told.stderr
    assert played.sent[0][1] == {"model_id": "lstm-1h", "version": "bbbbbbbbbbbb", "force": True}


def test_who_may_not_train_is_told_how_one_may(command: Any, platform: Any) -> None:
    platform.refusal = (403, {"detail": "this needs the admin tier; yours is pro", "request_id": "r1"}, {})
    told = command.run("train", "EURUSD=X")
    assert told.exit_code == 1
    assert "fusiontrade accounts promote EMAIL --tier admin" in told.stderr


def test_a_version_that_serves_says_why_it_may(command: Any, played: Any) -> None:
    played.journal.outcome = {"status": "SUCCEEDED", "result": {"reason": "it served before"}}
    told = command.run("promote", "lstm-1h", "aaaaaaaaaaaa")
    assert told.stdout == "lstm-1h version aaaaaaaaaaaa serves: it served before\n"


def test_a_backtest_shows_its_figures_and_notes(command: Any, played: Any) -> None:
    played.journal.outcome = {"status": "SUCCEEDED", "result": BACKTEST}
    span = ("--from", "2025-05-01", "--to", "2025-05-11")
    told = command.run("backtest", "BTC-USD", *span)
    for text in ("100,247.50", "27", "0.5556", "deflated, 3 trials", "0.744"):
        assert text in told.stdout
    assert "note: 0.0 years are too few" in told.stderr
    assert "costs_bps" not in played.sent[0][1]
    command.run("backtest", "BTC-USD", *span, "--costs-bps", "3.5")
    assert [asked["costs_bps"] for _, asked, *_ in played.sent if "costs_bps" in (asked or {})] == [3.5]
    assert json.loads(command.run("backtest", "BTC-USD", *span, "--json").stdout)["result"] == BACKTEST


def test_the_registry_is_listed(command: Any, platform: Any) -> None:
    platform.forecast = {"items": [VERSION], "next_cursor": None}
    told = command.run("registry")
    assert [cell.strip() for cell in told.stdout.splitlines()[3].split("│")[1:-1]] == [
        "lstm-1h", "aaaaaaaaaaaa", "ACTIVE", "2", "2023-09-11", "2025-07-31",
    ]  # fmt: skip
    assert json.loads(command.run("registry", "--json").stdout) == [VERSION]
