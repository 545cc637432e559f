"""The serving program from outside: a real process on a free port, spoken to over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny_bundles import ROOT, TIMEFRAMES, Program, build_bundle, candles, item, serving, wait_for

from fusiontrade.inference.contract import ForecastResponse

STARTER = ROOT / "serving" / "starter"
JSON = {"content-type": "application/json"}


def body(*frames: Any) -> bytes:
    return json.dumps({"items": [item(frame) for frame in frames]}).encode()


def post(program: Program, content: bytes, path: str = "/invocations", **headers: str) -> httpx.Response:
    return httpx.post(program.url + path, content=content, headers=JSON | headers, timeout=30)


def in_background(call: Callable[[], httpx.Response]) -> tuple[threading.Thread, list[httpx.Response]]:
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


@pytest.mark.parametrize("path", ["/invocations", "/endpoints/fusiontrade-local/invocations"])
def test_four_timeframes_of_two_symbols_in_one_request(program: Program, path: str) -> None:
    frames = [candles(symbol, timeframe) for symbol in ("EURUSD=X", "BTC-USD") for timeframe in TIMEFRAMES]
    response = post(program, body(*frames), path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = ForecastResponse.model_validate_json(response.content)
    assert [(one.symbol, one.timeframe) for one in answer.items] == [(f.symbol, f.timeframe) for f in frames]
    assert all(one.error is None and one.lstm and one.patchtst for one in answer.items)


def test_ping_and_models_say_what_serves_and_what_was_refused(program: Program, bundles: Path) -> None:
    ping = httpx.get(program.url + "/ping")
    assert (ping.status_code, ping.json()) == (200, {"status": "ready"})
    told = httpx.get(program.url + "/models").json()
    assert told["state"] == "ready"
    assert {one["id"] for one in told["models"]} == {f"{k}-{t}" for k in ("lstm", "patchtst") for t in TIMEFRAMES}
    assert all(len(one["version"]) == 12 and one["precision"] == "f32" for one in told["models"])
    (process,) = told["processes"]
    assert (process["state"], process["generation"], process["in_flight"]) == ("ready", 0, told["in_flight"])
    assert told["generation"] == 0
    (refused,) = told["refused"]
    assert refused["folder"] == "lstm-1d"
    assert "model.onnx has sha256" in refused["reason"]


def test_a_bad_item_does_not_spoil_the_others(program: Program) -> None:
    spoiled = item(candles())
    spoiled["candles"]["close"][3] = -1.0
    content = json.dumps({"items": [spoiled, item(candles()), item(candles(timeframe="5m"))]}).encode()
    first, second, third = post(program, content).json()["items"]
    assert first["error"]["code"] == "bad_candles"
    assert "zero or negative" in first["error"]["detail"]
    assert second["error"] is None
    assert third["error"]["code"] == "no_model"


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (b"", ""),
        (b"{", ""),
        (b"\xff\xfe\x00", ""),
        (b"[1]", ""),
        (b"{}", "/items"),
        (b'{"items": []}', "/items"),
        (b'{"items": [{"symbol": "A", "timeframe": "7m", "candles": {}}]}', "/items/0/timeframe"),
        (body(candles()).replace(b'"open": [1', b'"open": [NaN, 1'), "/items/0/candles/open/0"),
        (body(candles()).replace(b'"time": [1', b'"time": ["x", 1'), "/items/0/candles/time/0"),
        (b'{"items": [' + b"[" * 100_000, ""),
        (b'{"items": [], "x": ' + b"[" * 100_000, ""),
    ],
)
def test_a_malformed_body_is_a_400_problem_that_names_the_field(program: Program, content: bytes, pointer: str) -> None:
    response = post(program, content)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["type"], problem["status"]) == ("/problems/bad-request", 400)
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["errors"][0]["pointer"].startswith(pointer)
    assert len(response.content) < 10_000


@pytest.mark.parametrize(("fields", "told"), [(30_000, "in 30001 places"), (400_000, "more members")])
def test_a_body_of_countless_unknown_fields_is_one_short_400(program: Program, fields: int, told: str) -> None:
    content = b'{"items": [], ' + b",".join(b'"%d": 0' % number for number in range(fields)) + b"}"
    response = post(program, content)
    assert response.status_code == 400
    assert told in response.json()["detail"]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_a_body_over_six_megabytes_is_413(program: Program, announced: bool) -> None:
    big = b" " * (6 * 1024 * 1024 + 1)
    pieces = (big[start : start + 65536] for start in range(0, len(big), 65536))
    try:
        response = httpx.post(program.url + "/invocations", content=big if announced else pieces, headers=JSON)
    except (httpx.WriteError, httpx.ReadError):  # the answer was sent and the connection closed before all was written
        pass
    else:
        assert response.status_code == 413
        assert "6291456 bytes" in response.json()["detail"]
    assert httpx.get(program.url + "/ping").status_code == 200


def test_an_announced_body_over_the_cap_is_refused_before_it_is_sent(program: Program) -> None:
    with socket.create_connection(("127.0.0.1", program.port), timeout=10) as connection:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 6291457\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/invocations", 405), ("GET", "/", 404), ("POST", "/ping", 405)]
)
def test_unknown_ways_are_problems(program: Program, method: str, path: str, status: int) -> None:
    response = httpx.request(method, program.url + path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


def test_a_request_id_is_kept_if_valid_and_made_if_not(program: Program) -> None:
    kept = httpx.get(program.url + "/models", headers={"X-Request-Id": "abc-123"})
    assert kept.headers["x-request-id"] == "abc-123"
    made = httpx.get(program.url + "/models", headers={"X-Request-Id": "no spaces, please"})
    assert len(made.headers["x-request-id"]) == 32
    wait_for(lambda: any(line.get("request_id") == "abc-123" for line in program.lines()))


def test_every_log_line_is_one_json_object(program: Program) -> None:
    post(program, b"{")
    assert {"listening", "bundle loaded", "bundle refused", "ready", "request"} <= {
        line["message"] for line in program.lines()
    }
    assert all({"time", "level", "logger", "message"} <= set(line) for line in program.lines())


def test_a_client_that_goes_away_in_mid_body_harms_nobody(program: Program) -> None:
    with socket.create_connection(("127.0.0.1", program.port), timeout=10) as connection:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"
        )
    assert post(program, body(candles())).status_code == 200
    assert not [line for line in program.lines() if line["level"] in {"ERROR", "CRITICAL"} and "exception" in line]


def test_a_client_that_never_ends_its_head_is_cut_off_and_one_that_is_slow_within_the_time_is_served(
    bundles: Path, tmp_path: Path
) -> None:
    environ = {**os.environ, "SERVING_BODY_SECONDS": "1"}
    head = b"GET /ping HTTP/1.1\r\nHost: x\r\n"
    with serving(bundles, tmp_path / "log", environ=environ) as running:
        silent, dripping, kept = (socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(3))
        with silent, dripping, kept:
            kept.sendall(head[:9])
            time.sleep(0.2)
            kept.sendall(head[9:] + b"\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += kept.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
            kept.sendall(head)  # a second head on a connection that was good once
            dripping.sendall(head)
            assert [each.recv(1) for each in (silent, dripping, kept)] == [b"", b"", b""]
        assert httpx.get(running.url + "/ping").status_code == 200


def test_what_libraries_warn_of_is_a_json_line_too(bundles: Path, tmp_path: Path) -> None:
    code = (
        "import sys, warnings\n"
        "from serving import server\n"
        "load = server._load\n"
        "server._load = lambda settings: (warnings.warn('overflow'), load(settings))[1]\n"
        "sys.exit(server.main(sys.argv[1:]))\n"
    )
    with serving(bundles, tmp_path / "log", command=(sys.executable, "-W", "default", "-c", code)) as running:
        assert any("overflow" in line["message"] for line in running.lines())


def test_the_program_never_imports_torch_nor_pandas(bundles: Path, tmp_path: Path) -> None:
    code = (
        "import atexit, sys\n"
        "from serving.server import main\n"
        "heavy = lambda: sorted({'torch', 'transformers', 'boto3', 'sklearn', 'onnx', 'pandas'} & imported())\n"
        "imported = lambda: {name for name, module in sys.modules.items() if module is not None}\n"
        f"atexit.register(lambda: open({str(tmp_path / 'heavy')!r}, 'w').write(repr(heavy())))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with serving(bundles, tmp_path / "log", command=(sys.executable, "-c", code)) as running:
        assert post(running, body(candles())).status_code == 200
        assert running.end() == 0
    assert (tmp_path / "heavy").read_text() == "[]"


@pytest.fixture(scope="module")
def slow_bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LSTM that takes half a second or more over rising candles, and none over others."""
    folder = tmp_path_factory.mktemp("slow")
    build_bundle(folder, "lstm", behaviour="slow")
    return folder


def test_a_full_queue_is_503_with_retry_after_and_the_accepted_are_answered(slow_bundles: Path, tmp_path: Path) -> None:
    slow = body(candles(drift=2.0))
    with serving(slow_bundles, tmp_path / "log", "--workers", "1", "--queue", "1") as running:
        calls = [in_background(lambda: post(running, slow)) for _ in range(8)]
        for thread, _ in calls:
            thread.join()
        answers = [answer for _, (answer,) in calls]
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 2
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["title"] == "Service Unavailable"
        assert post(running, body(candles())).status_code == 200


def test_sigterm_answers_what_was_accepted_refuses_the_rest_and_ends_with_zero(
    slow_bundles: Path, tmp_path: Path
) -> None:
    with serving(slow_bundles, tmp_path / "log") as running:
        slow, quick = body(*[candles(drift=2.0, seed=seed) for seed in range(3)]), body(candles())
        thread, answers = in_background(lambda: post(running, slow))
        wait_for(lambda: httpx.get(running.url + "/models").json()["in_flight"] == 1)
        running.process.terminate()
        wait_for(lambda: any(line["message"] == "draining" for line in running.lines()))
        seen: set[int] = set()
        while thread.is_alive():
            try:
                seen |= {httpx.get(running.url + "/ping").status_code, post(running, quick).status_code}
            except httpx.TransportError:
                break
        thread.join()
        assert running.process.wait(30) == 0
    assert [answer.status_code for answer in answers] == [200]
    assert len(answers[0].json()["items"]) == 3
    assert seen == {503}
    assert running.lines()[-1]["message"] == "ended"


def test_sighup_reads_the_bundles_again_and_keeps_the_old_one_where_the_new_one_is_bad(tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    build_bundle(folder, "lstm")
    with serving(folder, tmp_path / "log") as running:

        def told() -> Any:
            return httpx.get(running.url + "/models").json()

        first = told()["models"][0]["version"]
        shutil.rmtree(folder / "lstm-1h")
        build_bundle(folder, "lstm", seed=2)
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: told()["generation"] == 1)
        second = told()["models"][0]["version"]
        (folder / "lstm-1h" / "model.onnx").write_bytes(b"nonsense")
        running.process.send_signal(signal.SIGHUP)
        (failed,) = wait_for(lambda: told()["not_exchanged"])
        assert failed["folder"] == "lstm-1h"
        assert "sha256" in failed["reason"]
        assert told()["models"][0]["version"] == second != first
        answer = post(running, body(candles())).json()["items"][0]
        assert answer["lstm"]["model"]["version"] == second
        assert httpx.get(running.url + "/ping").status_code == 200
        assert running.end() == 0


def test_what_a_drain_has_no_time_for_is_answered_with_an_error_and_not_cut_off(
    slow_bundles: Path, tmp_path: Path
) -> None:
    environ = {**os.environ, "SERVING_DRAIN_SECONDS": "0.1"}
    with serving(slow_bundles, tmp_path / "log", environ=environ) as running:
        thread, answers = in_background(lambda: post(running, body(candles(drift=2.0))))
        wait_for(lambda: httpx.get(running.url + "/models").json()["in_flight"] == 1)
        running.process.terminate()
        thread.join()
        assert running.process.wait(30) == 0
    assert [answer.status_code for answer in answers] == [200]
    (item,) = answers[0].json()["items"]
    assert item["error"] == {"code": "timed_out", "detail": "the program had to end before the answer"}


def test_ping_is_503_until_the_models_answer(bundles: Path, tmp_path: Path) -> None:
    seen = []
    with serving(bundles, tmp_path / "log", ready=False) as running:
        while not seen or seen[-1] != 200:
            seen.append(httpx.get(running.url + "/ping").status_code)
        assert set(seen) == {503, 200}
        assert running.end() == 0


def test_a_folder_without_a_bundle_that_can_serve_ends_with_one_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with serving(tmp_path / "empty", tmp_path / "log", ready=False) as running:
        assert running.process.wait(30) == 1
        said = next(line for line in running.lines() if line["level"] == "CRITICAL")
    assert "there is none in it" in said["reason"]


def test_a_port_in_use_ends_with_one_and_says_what_to_do(bundles: Path, tmp_path: Path, program: Program) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "serving.server", "--bundles", str(bundles), "--port", str(program.port)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=ROOT,
    )
    assert told.returncode == 1
    assert "choose another with --port" in told.stderr


@pytest.mark.skipif(not any(STARTER.glob("*/manifest.json")), reason="no starter bundles are shipped yet")
def test_every_starter_bundle_loads_and_answers(tmp_path: Path) -> None:
    with serving(STARTER, tmp_path / "log") as running:
        told = httpx.get(running.url + "/models").json()
        assert told["refused"] == []
        timeframes = sorted({one["timeframe"] for one in told["models"] if "timeframe" in one})
        answers = post(running, body(*[candles(timeframe=t) for t in timeframes])).json()["items"]
        served = {(one["kind"], one.get("timeframe")) for one in told["models"]}
        for answer in answers:
            assert answer["error"] is None
            for kind in ("lstm", "patchtst"):
                assert (answer[kind] is not None) == ((kind, answer["timeframe"]) in served)
        assert running.end() == 0


def test_nothing_is_written_or_sent_about_the_models_that_run(bundles: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    quiet = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS"}  # each of them would keep ONNX Runtime silent
    environ = {name: value for name, value in os.environ.items() if name not in quiet and not name.startswith("XDG_")}
    with serving(bundles, tmp_path / "log", environ=environ | {"HOME": str(home), "TMPDIR": str(home)}) as program:
        assert program.end() == 0
    assert [path.name for path in home.rglob("*")] == []  # its identifier of the machine and what is to be sent
