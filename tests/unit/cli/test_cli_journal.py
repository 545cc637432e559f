"""``fusiontrade journal`` against a loopback API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def cells(line: str) -> list[str]:
    return line.replace("│", " ").split()


def entry(number: int, **changes: Any) -> dict[str, Any]:
    made = {
        "id": f"{1_750_000_000_000 - number}-{number:016x}", "user_id": "u1", "source": "manual",
        "symbol": "EURUSD=X", "interval": "1h", "signal": "BUY", "lstm_signal": "BUY", "patchtst_signal": "N/A",
        "fusion_score": 61.9, "probability": 0.41, "entry_price": 1.1488, "tp1": 1.1544, "tp2": 1.1572, "tp3": 1.16,
        "stop_loss": 1.1446, "status": "PENDING", "outcome_price": None, "outcome_at": None, "pips": None,
        "opened_at": "2025-07-31T12:00:00Z", "expires_at": "2025-07-31T16:00:00Z",
        "models": [{"timeframe": "1h", "id": "lstm-1h", "version": "abc"}], "data_source": "yahoo",
    }  # fmt: skip
    return made | changes


STATISTICS = {
    "total": 12, "pending": 2, "wins": 6, "losses": 3, "expired": 1, "holds": 0, "win_rate": 2 / 3,
    "profit_factor": 999.0, "total_pips": 1234.5, "average_pips": 123.45, "expectancy": 123.45, "max_drawdown": 42.0,
    "by_symbol": {
        "EURUSD=X": {"total": 12, "pending": 2, "wins": 6, "losses": 3, "expired": 1, "win_rate": None,
                     "profit_factor": None, "total_pips": 1234.5},
    },
    "equity_curve": [], "brier": 0.2134,
    "calibration": [
        {"from": 0.3, "to": 0.4, "count": 0, "predicted": None, "won": None},
        {"from": 0.4, "to": 0.5, "count": 9, "predicted": 0.44, "won": 0.5556},
    ],
}  # fmt: skip


def test_list_shows_what_became_of_each_forecast(command: Any, platform: Any) -> None:
    won = entry(1, status="WIN", pips=56.0, outcome_price=1.1544, outcome_at="2025-07-31T14:00:00Z")
    hold = entry(2, signal="HOLD", status="EXPIRED", probability=None, entry_price=None, tp1=None, stop_loss=None)
    platform.journal.entries = [won, hold]
    result = command.run("journal", "list")
    assert result.exit_code == 0
    first, second = [cells(line) for line in result.stdout.splitlines() if line.startswith("2025-07-31")]
    assert first[2:] == ["EURUSD=X", "1h", "BUY", "41", "%", "1.1488", "1.1544", "1.1446", "WIN", "56.0", won["id"]]
    assert second[2:] == ["EURUSD=X", "1h", "HOLD", "-", "-", "-", "-", "-", "-", hold["id"]]


def test_list_on_a_narrow_terminal_leaves_prices_out_and_keeps_the_whole_id(command: Any, platform: Any) -> None:
    platform.journal.entries = [entry(1)]
    told = command.run("journal", "list", COLUMNS="80").stdout
    assert "1.1488" not in told
    assert all(len(line) <= 80 for line in told.splitlines())
    row, folded = told.splitlines()[1:3]
    assert row.split()[-1] + folded.strip() == entry(1)["id"]


def test_list_of_nothing_says_how_entries_come_about(command: Any) -> None:
    result = command.run("journal", "list")
    assert result.exit_code == 0
    assert "no entries; fusiontrade signal EURUSD=X --journal keeps a forecast" in " ".join(result.stdout.split())


def test_list_passes_its_filters_on(command: Any, platform: Any) -> None:
    command.run(
        "journal", "list", "--status", "win", "--symbol", "GC=F", "--interval", "4h", "--limit", "7",
        "--from", "2025-07-01T00:00:00Z", "--to", "2025-08-01T00:00:00Z",
    )  # fmt: skip
    assert platform.journal.calls[-1].query == {
        "status": "WIN", "symbol": "GC=F", "interval": "4h", "limit": "7",
        "from": "2025-07-01T00:00:00Z", "to": "2025-08-01T00:00:00Z",
    }  # fmt: skip


def test_list_reads_as_many_pages_as_it_takes_and_says_where_it_ended(command: Any, platform: Any) -> None:
    platform.journal.entries = [entry(number) for number in range(470)]
    result = command.run("journal", "list", "--limit", "450", "--json")
    told = json.loads(result.stdout)
    assert [each["id"] for each in told["items"]] == [entry(number)["id"] for number in range(450)]
    assert told["next_cursor"] == "450"
    assert [call.query["limit"] for call in platform.journal.calls] == ["200", "200", "50"]
    rest = command.run("journal", "list", "--limit", "450", "--cursor", "450", "--json")
    assert len(json.loads(rest.stdout)["items"]) == 20
    assert json.loads(rest.stdout)["next_cursor"] is None
    assert (
        "there are more: fusiontrade journal list --cursor 5" in command.run("journal", "list", "--limit", "5").stderr
    )


def test_show_tells_every_field(command: Any, platform: Any) -> None:
    platform.journal.entries = [entry(1, verdict="MODERATE BUY")]
    result = command.run("journal", "show", entry(1)["id"])
    assert result.exit_code == 0
    for told in ("stop loss", "1.1446", "patchtst signal", "N/A", "timeframe 1h, id lstm-1h", "MODERATE BUY"):
        assert told in result.stdout
    assert json.loads(command.run("journal", "show", entry(1)["id"], "--json").stdout) == platform.journal.entries[0]


def test_show_of_what_is_not_there_is_no_such_thing(command: Any, platform: Any) -> None:
    result = command.run("journal", "show", "../../auth/me")
    assert result.exit_code == 4
    assert "no such entry [request r7]" in result.stderr
    assert platform.journal.calls[-1].path == "/api/v1/journal/..%2F..%2Fauth%2Fme"


def test_stats_shows_figures_and_how_true_the_chances_were(command: Any, platform: Any) -> None:
    platform.journal.statistics = STATISTICS
    result = command.run("journal", "stats", "--symbol", "EURUSD=X")
    assert result.exit_code == 0
    told = [cells(line) for line in result.stdout.splitlines()]
    for row in (
        "expired 1",
        "holds 0",
        "win rate 66.7 %",
        "profit factor 999.00",
        "pips in all 1,234.5",
        "Brier score 0.2134",
    ):
        assert row.split() in told
    assert ["40", "%", "to", "50", "%", "9", "44.0", "%", "55.6", "%"] in told
    assert "30 %" not in result.stdout
    assert platform.journal.calls[-1].query == {"symbol": "EURUSD=X"}
    assert json.loads(command.run("journal", "stats", "--json").stdout) == STATISTICS


def test_stats_of_nothing_settled_are_dashes_and_no_zeros(command: Any, platform: Any) -> None:
    nothing = dict.fromkeys(("win_rate", "profit_factor", "average_pips", "expectancy", "brier"))
    platform.journal.statistics = STATISTICS | nothing | {"by_symbol": {}, "calibration": []}
    result = command.run("journal", "stats")
    assert result.exit_code == 0
    assert ["win", "rate", "-"] in [cells(line) for line in result.stdout.splitlines()]


def test_verify_waits_until_the_job_is_done(command: Any, platform: Any) -> None:
    result = command.run("journal", "verify")
    assert result.exit_code == 0
    assert result.stdout.strip() == "job job-1: SUCCEEDED; settled 3"
    posts = [call for call in platform.journal.calls if call.method == "POST"]
    assert len(posts) == 1
    assert len(posts[0].headers["idempotency-key"]) == 32


def test_verify_tells_what_the_job_came_to(command: Any, platform: Any) -> None:
    result = {"checked": 3, "settled": 2, "complete": True, "failures": {}}
    platform.journal.outcome = {"status": "SUCCEEDED", "result": result}
    assert command.run("journal", "verify").stdout == "job job-1: SUCCEEDED; checked 3, settled 2, complete yes\n"
    platform.journal.turns, result["failures"] = 1, {"GC=F": "no bars"}
    assert command.run("journal", "verify").stdout.endswith("complete yes, failures GC=F no bars\n")


def test_verify_that_fails_is_a_failure(command: Any, platform: Any) -> None:
    platform.journal.outcome = {"status": "FAILED", "error": "no market data"}
    result = command.run("journal", "verify", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == "no market data"


def test_verify_that_takes_too_long_says_that_it_goes_on(command: Any, platform: Any) -> None:
    platform.journal.turns = 1000
    result = command.run("journal", "verify", "--timeout", "1")
    assert result.exit_code == 5
    assert "job-1 is not done yet; it goes on without this command" in result.stderr


def test_verify_without_waiting_asks_once(command: Any, platform: Any) -> None:
    result = command.run("journal", "verify", "--no-wait")
    assert result.stdout.strip() == "job job-1: QUEUED"
    assert [call.method for call in platform.journal.calls] == ["POST"]


def test_export_writes_the_bytes_as_they_come(command: Any, platform: Any, tmp_path: Path) -> None:
    platform.journal.content = ["id,symbol\r\n1,ü\r\n".encode()]
    file = tmp_path / "journal.csv"
    result = command.run("journal", "export", "--output", str(file), "--symbol", "GC=F", "--from", "2025-07-31")
    assert result.exit_code == 0
    assert file.read_bytes() == platform.journal.content[0]
    assert f"17 bytes are in {file}" in result.stderr
    assert platform.journal.calls[-1].query == {"format": "csv", "symbol": "GC=F", "from": "2025-07-31"}
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["journal.csv"]


def test_export_of_many_parts_is_one_csv_with_one_head(command: Any, platform: Any) -> None:
    head = b"id,verdict\r\n"
    platform.journal.content = [head + b"1,a\r\n2,b\r\n", head, head + b'3,"c\nd"\r\n']
    result = command.run("journal", "export", "--interval", "1h")
    assert result.stdout_bytes == head + b'1,a\r\n2,b\r\n3,"c\nd"\r\n'
    assert [call.query for call in platform.journal.calls] == [
        {"format": "csv", "interval": "1h"},
        {"format": "csv", "interval": "1h", "cursor": "1"},
        {"format": "csv", "interval": "1h", "cursor": "2"},
    ]


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([b"[]"], []),
        ([b'[{"id":"1"},{"id":"2"}]'], ["1", "2"]),
        ([b'[{"id":"1"}]', b"[]", b'[{"id":"2"},{"id":"3"}]'], ["1", "2", "3"]),
        ([b"[]", b'[{"id":"1"}]'], ["1"]),
        ([b"[]", b" [ ] \n"], []),
    ],
)
def test_export_of_many_parts_is_one_json_array(
    command: Any, platform: Any, parts: list[bytes], whole: list[str]
) -> None:
    platform.journal.content = parts
    told = json.loads(command.run("journal", "export", "--format", "json").stdout)
    assert [each["id"] for each in told] == whole


def test_export_goes_on_where_it_is_told_to_wait(command: Any, platform: Any) -> None:
    platform.journal.content = [b"id\r\n1\r\n", b"id\r\n2\r\n"]
    platform.journal.breaks_at, platform.journal.mends = 1, True
    result = command.run("journal", "export")
    assert result.stdout_bytes == b"id\r\n1\r\n2\r\n"
    assert "waiting 1 s" in result.stderr


def test_export_that_is_refused_half_way_leaves_no_file(command: Any, platform: Any, tmp_path: Path) -> None:
    platform.journal.content = [b"id\r\n1\r\n", b"never"]
    platform.journal.breaks_at = 1
    file = tmp_path / "journal.csv"
    assert command.run("journal", "export", "-o", str(file)).exit_code == 5
    assert [each for each in tmp_path.iterdir() if each.is_file()] == []


def test_export_goes_to_the_terminal_where_no_file_is_named(command: Any, platform: Any) -> None:
    result = command.run("journal", "export")
    assert result.stdout_bytes == platform.journal.content[0]
    assert platform.journal.calls[-1].query == {"format": "csv"}


def test_export_writes_over_nothing_unless_told_to(command: Any, platform: Any, tmp_path: Path) -> None:
    file = tmp_path / "journal.csv"
    file.write_text("mine")
    refused = command.run("journal", "export", "-o", str(file))
    assert (refused.exit_code, file.read_text()) == (2, "mine")
    assert "write over it with --force" in refused.stderr
    assert command.run("journal", "export", "-o", str(file), "--force").exit_code == 0
    assert file.read_bytes() == platform.journal.content[0]


def test_export_that_is_refused_leaves_no_file(command: Any, platform: Any, tmp_path: Path) -> None:
    platform.refusal = (503, {"detail": "the database did not answer"}, {"Retry-After": "5"})
    file = tmp_path / "journal.csv"
    result = command.run("journal", "export", "-o", str(file))
    assert result.exit_code == 5
    assert "try again in 5 s" in result.stderr
    assert [each for each in tmp_path.iterdir() if each.is_file()] == []


def test_import_sends_the_file_and_shows_the_report(command: Any, platform: Any, tmp_path: Path) -> None:
    file = tmp_path / "predictions_log.csv"
    file.write_bytes(b"timestamp,symbol\r\n2024-01-01,EURUSD=X\r\n")
    platform.journal.report = {"rows": 3, "imported": 1, "skipped": 2, "errors": []}
    result = command.run("journal", "import", str(file))
    assert result.exit_code == 0
    assert result.stdout == "1 entries were imported, 2 were there already\n"
    call = platform.journal.calls[-1]
    assert (call.method, call.path, call.body) == ("POST", "/api/v1/journal/import", file.read_bytes())
    assert call.headers["content-type"] == "text/csv; charset=utf-8"


def test_import_of_wrong_rows_names_them_and_is_a_failure(command: Any, platform: Any, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("x")
    faults = [{"row": row, "field": "symbol", "message": "no source knows it"} for row in range(1, 26)]
    platform.journal.report = {"rows": 25, "imported": 0, "skipped": 0, "errors": faults}
    result = command.run("journal", "import", str(file))
    assert result.exit_code == 1
    assert "nothing was imported, for there are 25 faults:\nrow 1, symbol: no source knows it\n" in result.stdout
    assert "row 20," in result.stdout
    assert "row 21," not in result.stdout
    assert "and 5 more; --json names them all" in result.stdout
    told = command.run("journal", "import", str(file), "--json")
    assert (told.exit_code, json.loads(told.stdout)) == (1, platform.journal.report)


def test_import_that_is_no_log_is_wrong_usage(command: Any, platform: Any, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("x")
    platform.refusal = (422, {"detail": "the file is no CSV"}, {})
    assert command.run("journal", "import", str(file)).exit_code == 2


def test_import_of_a_file_that_is_not_there_asks_nobody(command: Any, platform: Any) -> None:
    assert command.run("journal", "import", "/no/such/file.csv").exit_code == 2
    assert platform.journal.calls == []


@pytest.mark.parametrize("words", [("list",), ("stats",), ("verify",), ("export",), ("show", "x")])
def test_nobody_signed_in_elsewhere_is_told_how(command: Any, words: tuple[str, ...]) -> None:
    result = command.run("journal", *words, "--api", "https://api.example.com")
    assert result.exit_code == 3
    assert "run: fusiontrade login --api https://api.example.com" in result.stderr
