"""Storage, secrets and the endpoint client: against the emulator, and against servers that fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from fusiontrade.cloud.endpoint import SageMakerEndpoint
from fusiontrade.cloud.secrets import Secrets
from fusiontrade.cloud.session import client, forget_clients
from fusiontrade.cloud.storage import Storage
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import InferenceUnavailable, StateUnavailable
from tests.support.emulator import free_port
from tests.support.listening import Handler, listening


@pytest.fixture
def bucket(aws: None) -> str:
    client("s3").create_bucket(Bucket="artifacts-of-tests")
    return "artifacts-of-tests"


def test_stored_bytes_come_back_and_an_absent_object_is_none(bucket: str) -> None:
    storage = Storage(bucket)
    storage.put("candles/files/EURUSD=X/1h/2025-07.npz", b"\x00\x01")
    assert storage.get("candles/files/EURUSD=X/1h/2025-07.npz") == b"\x00\x01"
    assert storage.get("candles/files/EURUSD=X/1h/2025-08.npz") is None


def test_a_bucket_that_is_not_there_is_unavailable_and_not_an_absent_object(aws: None) -> None:
    with pytest.raises(StateUnavailable, match="NoSuchBucket"):
        Storage("no-such-bucket-anywhere").get("key")


def test_a_secret_is_read_once_within_its_cache_time_and_again_after_it(signing_keys_arn: str) -> None:
    now = [0.0]
    secrets = Secrets(cache_seconds=300, clock=lambda: now[0])
    first = secrets.read(signing_keys_arn)
    client("secretsmanager").put_secret_value(SecretId=signing_keys_arn, SecretString="rotated")
    now[0] = 299.0
    assert secrets.read(signing_keys_arn) == first
    now[0] = 301.0
    assert secrets.read(signing_keys_arn) == "rotated"


def test_an_unknown_secret_is_unavailable(aws: None) -> None:
    with pytest.raises(StateUnavailable, match="the secret store"):
        Secrets().read("arn:aws:secretsmanager:us-east-1:000000000000:secret:none-abcdef")


def test_a_database_that_is_down_is_unavailable_and_recovers_without_a_restart(
    aws: None, monkeypatch: pytest.MonkeyPatch, accounts_table_name: str
) -> None:
    table = Table(accounts_table_name)
    with monkeypatch.context() as broken:
        broken.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        forget_clients()
        with pytest.raises(StateUnavailable) as refused:
            table.get({"pk": "a", "sk": "b"})
        assert refused.value.retry_after == 5
    forget_clients()
    assert table.get({"pk": "a", "sk": "b"}) is None


class Runtime:
    """A SageMaker runtime on loopback that answers as it is told and remembers what it was sent."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.seen: list[tuple[str, str | None, bytes]] = []

    def handler(self) -> type[Handler]:
        runtime = self

        class Player(Handler):
            def do_POST(self) -> None:
                runtime.seen.append((self.path, self.headers.get("Content-Type"), self.body()))
                runtime.may_answer.wait(30)
                self.reply(runtime.status, runtime.body)

        return Player


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    playing = Runtime()
    with listening(playing.handler()) as port:
        for name, value in {
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        forget_clients()
        yield playing
        forget_clients()


def test_the_endpoint_gets_the_body_at_its_own_path_and_its_answer_comes_back(runtime: Runtime) -> None:
    runtime.body = b'{"items": []}'
    answer = SageMakerEndpoint("fusiontrade").invoke(b'{"a": 1}', content_type="application/json", timeout=5)
    assert answer == b'{"items": []}'
    assert runtime.seen == [("/endpoints/fusiontrade/invocations", "application/json", b'{"a": 1}')]


def _says(status: int, body: bytes) -> Callable[[Runtime], None]:
    def play(runtime: Runtime) -> None:
        runtime.status, runtime.body = status, body

    return play


@pytest.mark.parametrize(
    "play",
    [
        _says(424, b'{"__type": "ModelError", "Message": "the model failed", "OriginalStatusCode": 500}'),
        _says(429, b'{"__type": "ThrottlingException", "message": "slow down"}'),
        _says(503, b'{"type": "/problems/overloaded"}'),
        _says(500, b"<html>not json</html>"),
        _says(400, b'{"__type": "ValidationError", "Message": "no such endpoint"}'),
    ],
    ids=["model-error", "throttled", "overloaded", "html", "no-endpoint"],
)
def test_whatever_the_endpoint_says_wrong_is_inference_unavailable_and_sent_once(
    runtime: Runtime, play: Callable[[Runtime], None]
) -> None:
    play(runtime)
    with pytest.raises(InferenceUnavailable, match="do not answer now"):
        SageMakerEndpoint("fusiontrade").invoke(b"{}", content_type="application/json", timeout=5)
    assert len(runtime.seen) == 1


def test_an_endpoint_that_hangs_is_given_up_before_it_answers(runtime: Runtime) -> None:
    runtime.may_answer.clear()
    with pytest.raises(InferenceUnavailable):
        SageMakerEndpoint("fusiontrade").invoke(b"{}", content_type="application/json", timeout=1.5)
    runtime.may_answer.set()
    assert len(runtime.seen) == 1


def test_without_time_left_the_endpoint_is_not_asked(runtime: Runtime) -> None:
    with pytest.raises(InferenceUnavailable, match="no time left"):
        SageMakerEndpoint("fusiontrade").invoke(b"{}", content_type="application/json", timeout=0.4)
    assert runtime.seen == []
