"""``fusiontrade login`` and ``fusiontrade signal`` against a loopback API."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from typing import Any

import pytest

from fusiontrade.cli.api import Api, CommandFailure
from fusiontrade.cli.sessions import Session, Sessions, folder_of, token_for


def test_signal_shows_what_a_trader_reads(command: Any, platform: Any) -> None:
    result = command.run("signal", "EURUSD=X")
    assert result.exit_code == 0
    for told in (
        "MODERATE BUY",
        "score 61.90 of 100",
        "data: yahoo",
        "90 % interval, low",
        "1.1488",
        "touch +/- 1.5 ATR",
    ):
        assert told in result.stdout
    assert "chance of tp1 before the stop 16 %, within 4 bars of 4h" in result.stdout
    assert "! sentiment is null: no news source is configured" in result.stdout
    assert "SIMULATED" not in result.stdout
    assert platform.asked == [("EURUSD=X", {})]


def test_signal_as_json_is_the_answer_itself_and_nothing_else(command: Any, platform: Any) -> None:
    result = command.run("signal", "EURUSD=X", "--json", "--as-of", "2025-07-31T12:00:00Z")
    assert json.loads(result.stdout) == platform.forecast
    assert "signed in as the demo account" in result.stderr
    assert platform.asked == [("EURUSD=X", {"as_of": "2025-07-31T12:00:00Z"})]


def test_signal_is_written_into_the_journal_where_that_is_asked_for(command: Any, platform: Any) -> None:
    assert command.run("signal", "EURUSD=X", "--journal").exit_code == 0
    assert platform.asked == [("EURUSD=X", {"journal": "true"})]


def test_signal_marks_a_simulated_market_plainly(command: Any, platform: Any) -> None:
    platform.forecast["data_source"] = "simulated"
    assert "SIMULATED MARKET, invented prices" in command.run("signal", "EURUSD=X").stdout


def test_signal_shows_hold_and_missing_models_as_such(command: Any, platform: Any) -> None:
    block = platform.forecast["timeframes"]["4h"]
    missing = dict.fromkeys(block) | {"lstm": "N/A", "patchtst": "N/A", "agreement": 0.5}
    platform.forecast["timeframes"]["4h"] = missing
    platform.forecast |= {"verdict": "HOLD", "warnings": []}
    platform.forecast["targets"] |= dict.fromkeys(("tp1", "tp2", "tp3", "sl", "p_win", "entry"))
    result = command.run("signal", "EURUSD=X")
    assert result.exit_code == 0
    assert "N/A" in result.stdout
    assert "No trade: targets need a direction. ATR 0.0028 (4h)." in result.stdout


def test_demo_account_is_used_once_on_this_machine_and_said(command: Any, platform: Any) -> None:
    first, second = command.run("signal", "EURUSD=X"), command.run("signal", "EURUSD=X")
    assert "signed in as the demo account devtest@fusiontrade.ai" in first.stderr
    assert second.stderr == ""
    assert platform.logins == ["devtest@fusiontrade.ai"]


def test_demo_session_that_a_restarted_stack_forgot_is_made_anew(command: Any, platform: Any) -> None:
    command.run("signal", "EURUSD=X")
    platform.tokens.clear()
    assert command.run("signal", "EURUSD=X").exit_code == 0
    assert platform.logins == ["devtest@fusiontrade.ai"] * 2


def test_login_keeps_the_session_for_its_owner_alone(command: Any, platform: Any) -> None:
    result = command.run("login", "--email", "trader@example.com", "--password", "correct horse battery")
    assert result.exit_code == 0
    assert "signed in as trader@example.com" in result.stdout
    file = command.config / "sessions.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(command.config.stat().st_mode) == 0o700
    assert command.sessions[platform.url]["access_token"] == "token-1"
    command.run("signal", "EURUSD=X")
    assert platform.logins == ["trader@example.com"]


def test_login_asks_for_what_is_not_given(command: Any, platform: Any) -> None:
    result = command.run("login", "--email", "trader@example.com", FUSIONTRADE_PASSWORD="correct horse battery")
    assert result.exit_code == 0
    assert "correct horse" not in result.output


def test_login_with_a_wrong_password_is_not_signed_in(command: Any) -> None:
    result = command.run("login", "--email", "trader@example.com", "--password", "guess")
    assert result.exit_code == 3
    assert "the address or the password is wrong" in result.stderr
    assert not (command.config / "sessions.json").exists()


def test_a_users_session_that_is_refused_says_how_to_sign_in_and_falls_back_to_nobody(
    command: Any, platform: Any
) -> None:
    command.run("login", "--email", "trader@example.com", "--password", "correct horse battery")
    platform.tokens.clear()
    result = command.run("signal", "EURUSD=X")
    assert result.exit_code == 3
    assert f"fusiontrade login --api {platform.url}" in result.stderr
    assert platform.logins == ["trader@example.com"]


@pytest.mark.parametrize(
    ("status", "headers", "code", "told"),
    [
        (404, {}, 4, "no market data source knows the symbol"),
        (422, {}, 2, "no market data source"),
        (503, {"Retry-After": "42"}, 5, "try again in 42 s"),
        (429, {"Retry-After": "7"}, 5, "try again in 7 s"),
        (403, {}, 1, "no market data source"),
        (500, {}, 1, "[request r9]"),
    ],
)
def test_a_refusal_is_a_sentence_and_an_exit_code(
    command: Any, platform: Any, status: int, headers: dict[str, str], code: int, told: str
) -> None:
    platform.refusal = (status, {"detail": "no market data source knows the symbol 'X'", "request_id": "r9"}, headers)
    result = command.run("signal", "X")
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr


def test_a_refusal_lists_the_fields_and_repeats_no_pause(command: Any, platform: Any) -> None:
    errors = [{"pointer": "/query/as_of", "message": "is no instant"}]
    platform.refusal = (422, {"detail": "see errors", "errors": errors}, {})
    assert "see errors\n/query/as_of: is no instant" in command.run("signal", "EURUSD=X").stderr
    platform.refusal = (429, {"detail": "wrong; try again in 7 s"}, {"Retry-After": "7"})
    assert command.run("signal", "EURUSD=X").stderr.count("7 s") == 1


@pytest.mark.parametrize("symbol", ["", "../x", "EUR/USD", "a b"])
def test_what_can_be_no_symbol_is_wrong_usage_before_anybody_is_asked(command: Any, platform: Any, symbol: str) -> None:
    result = command.run("signal", symbol)
    assert (result.exit_code, platform.asked) == (2, [])
    assert "use Yahoo's notation" in result.stderr


@pytest.mark.parametrize("body", [b"<html>a proxy</html>", b"[]", b'{"hello": 1}'])
def test_an_answer_of_something_else_is_a_failure(command: Any, platform: Any, body: bytes) -> None:
    platform.refusal = (502, body, {})
    result = command.run("signal", "EURUSD=X")
    assert result.exit_code == 1
    assert "not this API's" in result.stderr


def test_a_stack_that_is_not_there_is_unavailable_and_says_what_to_do(command: Any) -> None:
    result = command.run("signal", "EURUSD=X", "--api", "http://127.0.0.1:9")
    assert result.exit_code == 5
    assert "start it with: make run" in result.stderr


@pytest.mark.parametrize("arguments", [["signal"], ["signal", "X", "--nonsense"]])
def test_wrong_usage_is_two(command: Any, arguments: list[str]) -> None:
    assert command.run(*arguments).exit_code == 2


@pytest.mark.parametrize("url", ["nowhere", "ftp://127.0.0.1", "http://[", "http://127.0.0.1:http", "http://a\nb"])
def test_an_address_that_is_none_is_wrong_usage_and_says_how_to_write_one(command: Any, url: str) -> None:
    result = command.run("signal", "EURUSD=X", "--api", url)
    assert result.exit_code == 2
    assert "is no address of an API: write e.g. http://127.0.0.1:2001" in result.stderr


def test_a_success_that_is_not_this_apis_is_a_failure_and_no_traceback(command: Any, platform: Any) -> None:
    platform.forecast = {"hello": 1}
    result = command.run("signal", "EURUSD=X")
    assert result.exit_code == 1
    assert "answered 200 with something that is not this API's" in result.stderr


def test_demo_account_is_never_tried_elsewhere(tmp_path: Any) -> None:
    with pytest.raises(CommandFailure) as raised:
        token_for(Api("https://api.example.com"), Sessions(tmp_path), now=0.0, tell=print)
    assert raised.value.code == 3


def test_a_session_that_has_ended_is_not_sent(tmp_path: Any) -> None:
    sessions = Sessions(tmp_path)
    sessions.keep("https://api.example.com", Session("trader@example.com", "t", 1000.0))
    api = Api("https://api.example.com")
    assert token_for(api, sessions, now=900.0, tell=print) == "t"
    with pytest.raises(CommandFailure, match=r"session of trader@example\.com has ended"):
        token_for(api, sessions, now=990.0, tell=print)


def test_a_damaged_session_file_is_nobody_signed_in(tmp_path: Any) -> None:
    (tmp_path / "sessions.json").write_text('{"https://api.example.com": {"unknown": 1}')
    assert Sessions(tmp_path).of("https://api.example.com") is None
    (tmp_path / "sessions.json").write_text('{"https://api.example.com": {"unknown": 1}}')
    assert Sessions(tmp_path).of("https://api.example.com") is None


def test_folder_is_chosen_by_variable_then_by_convention(tmp_path: Any) -> None:
    assert folder_of({"FUSIONTRADE_CONFIG": str(tmp_path)}) == tmp_path
    assert folder_of({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "fusiontrade"


def test_command_starts_without_loading_what_it_does_not_need() -> None:
    code = "import sys, fusiontrade.cli.app; print(sorted({'numpy', 'httpx', 'fastapi', 'boto3'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
