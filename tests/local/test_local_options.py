"""Choices of a run and the ports it needs: what is wrong is said by name, with the way out."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.children import Restarts, cause_of
from infra.local.options import Options, PortInUse, check_ports, listener_on, parse, program_of, yahoo_answers
from infra.local.supervisor import StackFailure, only_one


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_defaults_are_the_documented_ports() -> None:
    options = parse([], {})
    assert (options.port, options.serving_port, options.emulator_port) == (2001, 8080, 4566)
    assert options.url == "http://127.0.0.1:2001"


def test_argument_wins_over_variable_and_variable_over_default(tmp_path: Path) -> None:
    variables = {"FUSIONTRADE_PORT": "3001", "FUSIONTRADE_SERVING_PORT": "3002", "FUSIONTRADE_STATE": str(tmp_path)}
    options = parse(["--port", "4001"], variables)
    assert (options.port, options.serving_port, options.folder) == (4001, 3002, tmp_path)


def test_options_survive_the_way_to_another_process() -> None:
    options = Options(port=1, market_data="files", market_data_dir="/d", verbose=True)
    assert Options.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--port", "8080"], {}, "the three ports must differ"),
        (["--port", "70000"], {}, "between 1 and 65535"),
        ([], {"MARKET_DATA": "bloomberg"}, "none of yahoo, files, simulated"),
        ([], {"MARKET_DATA": "files"}, "needs MARKET_DATA_DIR"),
        ([], {"MARKET_DATA": "files", "MARKET_DATA_DIR": "/nowhere"}, "/nowhere"),
        (["--concurrency", "0"], {}, "--concurrency must be at least 1"),
        ([], {"FUSIONTRADE_PORT": "many"}, "--port"),
        ([], {"FUSIONTRADE_BUNDLES": "/nowhere"}, "FUSIONTRADE_BUNDLES=/nowhere is no folder"),
        ([], {"MARKET_DATA_AS_OF": "yesterday"}, "MARKET_DATA_AS_OF"),
        (["--log-level", "LOUD"], {}, "LOG_LEVEL"),
    ],
)
def test_wrong_choice_ends_with_its_name(
    arguments: list[str], variables: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments, variables)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_folder_of_bars_that_cannot_be_read_is_refused_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "instruments.toml").write_text("[symbols")
    with pytest.raises(SystemExit):
        parse([], {"MARKET_DATA": "files", "MARKET_DATA_DIR": str(tmp_path)})
    assert f"it is {tmp_path}: instruments.toml: Expected" in capsys.readouterr().err.replace("\n", " ")


def test_port_in_use_names_the_port_who_listens_and_the_way_out(taken: int) -> None:
    with pytest.raises(PortInUse) as failure:
        check_ports(Options(port=taken, serving_port=1, emulator_port=2))
    message = str(failure.value)
    assert f"port {taken} (the API) is in use" in message
    assert "FUSIONTRADE_PORT=" in message
    assert "ARGS='--port ...'" in message


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells who listens without another program")
def test_listener_is_found_by_its_process(taken: int) -> None:
    assert f"(pid {os.getpid()})" in listener_on(taken)


@pytest.mark.parametrize(
    ("words", "program"),
    [
        (
            ["/v/bin/python", "-m", "infra.local.leash", "TERM", "serving.server", "--port", "8080", ""],
            "serving.server",
        ),
        (["python3", "-m", "http.server", "8080", ""], "http.server"),
    ],
)
def test_listener_that_is_a_module_is_called_by_its_name(words: list[str], program: str) -> None:
    assert program_of(words) == f"python -m {program}"


def test_state_folder_that_cannot_be_made_is_said_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackFailure, match=r"cannot be written: .*FUSIONTRADE_STATE="), only_one(tmp_path / "file"):
        pass


class _Answers(http.server.BaseHTTPRequestHandler):
    """Answers each request with the status and type that its path names."""

    def do_GET(self) -> None:
        _, status, kind = self.path.split("/", 2)
        self.send_response(int(status))
        self.send_header("content-type", kind)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "is_yahoo"),
    [
        ("200/application/json", True),
        ("429/text/html", True),
        ("200/text/html", False),
        ("403/text/html", False),
        ("503/text/html", False),
    ],
)
def test_only_yahoos_own_answer_makes_its_market_the_default(
    answer: str, is_yahoo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setattr("infra.local.options._YAHOO", f"http://127.0.0.1:{server.server_port}/{answer}")
        assert yahoo_answers() is is_yahoo


def test_second_stack_in_one_state_folder_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(StackFailure, match="another stack uses"), only_one(tmp_path):
        pass


def test_restarts_pause_longer_each_time_and_end() -> None:
    restarts = Restarts(limit=3, seconds=60, clock=lambda: 0.0)
    assert [restarts.again() for _ in range(4)] == [(1, 0.1), (2, 0.2), (3, 0.4), None]


def test_restarts_long_ago_are_forgotten() -> None:
    moments = iter([0.0, 1.0, 100.0])
    restarts = Restarts(limit=2, seconds=60, clock=lambda: next(moments))
    assert [restarts.again() for _ in range(3)] == [(1, 0.1), (2, 0.2), (1, 0.1)]


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "was killed by signal SIGKILL"), (0, "ended with status 0"), (3, "ended with status 3")]
)
def test_cause_of_an_end_is_in_words(code: int, words: str) -> None:
    assert cause_of(code) == words
