"""Queues that take some messages and not others, and batches with some records that fail."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.cloud.batches import UnreadableMessage, record_of, work_through
from fusiontrade.cloud.queues import MOST_BYTES, Queue, text_of
from fusiontrade.cloud.session import forget_clients
from fusiontrade.errors import StateUnavailable
from fusiontrade.settings import Settings
from fusiontrade.workers import queue_handler
from tests.support.aws_server import AwsServer, Play
from tests.support.http_api import Context

ROOT = Path(__file__).resolve().parents[3]
URL = "https://sqs.us-east-1.amazonaws.com/000000000000/mail"


def entries(call: dict[str, Any]) -> list[dict[str, Any]]:
    return list(call["Entries"])


def answer(call: dict[str, Any], *refused: str, code: str = "InternalError") -> tuple[int, Any]:
    """What SQS says when it refuses the messages of these texts."""
    taken = [each for each in entries(call) if not any(text in each["MessageBody"] for text in refused)]
    left = [each for each in entries(call) if each not in taken]
    return 200, {
        "Successful": [{"Id": each["Id"], "MessageId": "m", "MD5OfMessageBody": _md5(each)} for each in taken],
        "Failed": [{"Id": each["Id"], "SenderFault": False, "Code": code} for each in left],
    }


def _md5(entry: dict[str, Any]) -> str:
    return hashlib.md5(entry["MessageBody"].encode(), usedforsecurity=False).hexdigest()


def numbers(call: dict[str, Any]) -> list[int]:
    return [json.loads(each["MessageBody"])["body"]["number"] for each in entries(call)]


Serve = Callable[[Play], AwsServer]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    with ExitStack() as stack:

        def served(play: Play) -> AwsServer:
            server = stack.enter_context(AwsServer(play).running())
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            forget_clients()
            return server

        yield served
    forget_clients()


def test_one_message_goes_with_its_request_and_its_delay(serve: Serve) -> None:
    server = serve(lambda call: (200, {"MessageId": "m", "MD5OfMessageBody": _md5(call)}))
    Queue(URL).send({"text": "ü"}, request_id="the-request", delay_seconds=30)
    Queue(URL).send({"text": "ü"})
    first, second = server.calls
    assert (first["QueueUrl"], first["DelaySeconds"]) == (URL, 30)
    assert json.loads(first["MessageBody"]) == {"request_id": "the-request", "body": {"text": "ü"}}
    assert second["DelaySeconds"] == 0
    assert len(json.loads(second["MessageBody"])["request_id"]) == 32


def test_messages_go_ten_a_call_in_order(serve: Serve) -> None:
    server = serve(answer)
    Queue(URL).send_many([{"number": number} for number in range(23)], request_id="the-request")
    assert [numbers(call) for call in server.calls] == [
        list(range(10)),
        list(range(10, 20)),
        list(range(20, 23)),
    ]
    bodies = [json.loads(each["MessageBody"]) for call in server.calls for each in entries(call)]
    assert {each["request_id"] for each in bodies} == {"the-request"}


def test_no_message_is_no_call(serve: Serve) -> None:
    server = serve(answer)
    Queue(URL).send_many([])
    assert server.calls == []


def test_only_the_messages_that_were_refused_are_sent_again(serve: Serve) -> None:
    turns = iter([('"number":3}', '"number":7}'), ('"number":7}',), ()])
    server = serve(lambda call: answer(call, *next(turns)))
    waited: list[float] = []
    Queue(URL, sleep=waited.append).send_many([{"number": number} for number in range(9)])
    assert [numbers(call) for call in server.calls] == [list(range(9)), [3, 7], [7]]
    assert len(waited) == 2
    assert all(0 < wait < 1 for wait in waited)


def test_messages_that_are_refused_for_good_are_counted(serve: Serve) -> None:
    server = serve(lambda call: answer(call, '"number":11}', '"number":12}', code="KmsThrottled"))
    queue = Queue(URL, sleep=lambda seconds: None)
    with pytest.raises(StateUnavailable, match=r"did not take 7 of 25 messages: KmsThrottled"):
        queue.send_many([{"number": number} for number in range(25)])  # 11, 12, and 20 to 24 that were not tried
    assert [numbers(call) for call in server.calls[1:]] == [list(range(10, 20)), [11, 12], [11, 12], [11, 12]]


def test_a_call_that_fails_as_a_whole_is_made_again(serve: Serve) -> None:
    turns = iter([(500, {"__type": "InternalFailure"})] * 2 + [(400, {"__type": "RequestThrottled"})])
    server = serve(lambda call: next(turns, None) or answer(call))
    Queue(URL, sleep=lambda seconds: None).send_many([{"number": 1}])
    assert [numbers(call) for call in server.calls][-1] == [1]


def test_a_line_that_breaks_is_unavailable(serve: Serve) -> None:
    serve(lambda call: (0, {}))
    with pytest.raises(StateUnavailable, match="the queue did not answer"):
        Queue(URL).send({"number": 1})


def test_an_answer_without_a_message_counts_it_as_not_taken(serve: Serve) -> None:
    serve(lambda call: (200, {"Successful": [], "Failed": []}))
    with pytest.raises(StateUnavailable, match="did not take 1 of 1 messages: no answer"):
        Queue(URL, sleep=lambda seconds: None).send_many([{"number": 1}])


def test_calls_never_carry_more_than_a_queue_takes(serve: Serve) -> None:
    server = serve(answer)
    Queue(URL).send_many([{"number": number, "text": "x" * 100_000} for number in range(5)])
    assert [numbers(call) for call in server.calls] == [[0, 1], [2, 3], [4]]
    assert all(sum(len(each["MessageBody"]) for each in entries(call)) <= MOST_BYTES for call in server.calls)


def test_a_message_that_fits_no_queue_is_refused_before_any_is_sent(serve: Serve) -> None:
    server = serve(answer)
    with pytest.raises(ValueError, match="does not fit a queue"):
        Queue(URL).send_many([{"number": 1}, {"text": "ü" * 50_000}])
    assert server.calls == []
    with pytest.raises(ValueError, match="JSON compliant"):
        text_of({"price": float("nan")}, "r")


# --- records ----------------------------------------------------------------------------------------------------------


def delivered(name: str, text: str | None = None, deliveries: int = 1) -> dict[str, Any]:
    return {
        "messageId": name,
        "body": text_of({"name": name}, f"request-{name}") if text is None else text,
        "attributes": {"ApproximateReceiveCount": str(deliveries), "SentTimestamp": "1750000000000"},
    }


def failures(told: dict[str, list[dict[str, str]]]) -> list[str]:
    return [each["itemIdentifier"] for each in told["batchItemFailures"]]


def test_a_record_is_what_was_sent() -> None:
    record = record_of(delivered("a", deliveries=3))
    assert (record.id, record.body, record.request_id) == ("a", {"name": "a"}, "request-a")
    assert (record.deliveries, record.sent_at) == (3, 1_750_000_000_000)


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "7", "{}", '{"body": {}}', '{"body": 1, "request_id": "r"}', '{"body": {}, "request_id": 1}'],
)
def test_what_is_no_message_of_ours_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableMessage, match="the message a is not one of ours"):
        record_of(delivered("a", text))


@given(st.lists(st.sampled_from(["good", "raises", "unreadable"]), max_size=12))
def test_exactly_the_records_that_failed_are_delivered_again(kinds: list[str]) -> None:
    done: list[str] = []

    def work(record: Any) -> None:
        if record.id.endswith("raises"):
            raise RuntimeError("cannot")
        done.append(record.id)

    names = [f"{index}-{kind}" for index, kind in enumerate(kinds)]
    event = {"Records": [delivered(name, "?" if name.endswith("unreadable") else None) for name in names]}
    assert failures(work_through(event, work)) == [name for name in names if not name.endswith("good")]
    assert done == [name for name in names if name.endswith("good")]


def test_records_for_which_no_time_is_left_are_given_back_unbegun() -> None:
    left = iter([9.0, 5.0, 4.9, 0.1])
    done: list[str] = []
    event = {"Records": [delivered(name) for name in "abcd"]}
    told = work_through(event, lambda it: done.append(it.id), seconds_left=lambda: next(left), seconds_for_one=5.0)
    assert (done, failures(told)) == (["a", "b"], ["c", "d"])


def test_a_worker_fails_one_record_alone_and_begins_none_at_the_end_of_its_time() -> None:
    def work(record: Any) -> None:
        if record.id == "b":
            raise RuntimeError("cannot")

    handler = queue_handler("mail", Settings(stage="local"), work)
    event = {"Records": [delivered("a"), delivered("b"), delivered("c")]}
    assert failures(handler(event, Context())) == ["b"]
    assert failures(handler(event, Context(milliseconds=1000))) == ["a", "b", "c"]


@pytest.mark.parametrize(("status", "deliveries", "seconds"), [(200, 1, 125), (200, 4, 996), (500, 1, 125)])
def test_a_message_whose_worker_dies_comes_again_when_the_functions_time_is_over(
    serve: Serve, status: int, deliveries: int, seconds: int
) -> None:
    server = serve(lambda call: (status, {}))
    done: list[str] = []
    handler = queue_handler("mail", Settings(stage="local"), lambda record: done.append(record.id), again=URL)
    event = {"Records": [{**delivered("a", deliveries=deliveries), "receiptHandle": "of-a"}]}
    assert failures(handler(event, Context(milliseconds=119_500))) == []
    call = server.calls[0]
    assert (call["QueueUrl"], call["ReceiptHandle"], call["VisibilityTimeout"]) == (URL, "of-a", seconds)
    assert done == ["a"]  # also where the queue did not answer: then it hides the message for its own time


LOGGED = """
import json, logging, sys
logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))  # as Lambda's runtime has one
from fusiontrade.settings import Settings
from fusiontrade.workers import queue_handler
from tests.support.http_api import Context

def work(record):
    logging.getLogger("fusiontrade.mails").info("taken")
    if record.id == "b":
        raise RuntimeError("cannot")

handler = queue_handler("mail", Settings(stage="local"), work)
handler(json.loads(sys.argv[1]), Context())
logging.getLogger("fusiontrade.mails").info("afterwards")
print(sorted({"fastapi", "starlette", "botocore.session", "jinja2"} & set(sys.modules)))
"""


def test_log_lines_are_json_with_the_request_of_their_record_and_nothing_of_its_body() -> None:
    event = {"Records": [delivered("a"), delivered("b", deliveries=2)]}
    ran = subprocess.run(
        [sys.executable, "-c", LOGGED, json.dumps(event)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    *lines, imported = ran.stdout.splitlines()
    told = [json.loads(line) for line in lines]
    assert [(each["message"], each.get("request_id"), each.get("deliveries")) for each in told] == [
        ("taken", "request-a", 1),
        ("taken", "request-b", 2),
        ("the message b failed", "request-b", 2),
        ("afterwards", None, None),
    ]
    assert told[2]["exception_name"] == "RuntimeError"
    assert '"name"' not in ran.stdout
    assert imported == "[]"
