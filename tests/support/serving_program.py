"""A program on the loopback that answers invocations as the serving container does, well or badly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from fusiontrade.cloud.session import forget_clients
from fusiontrade.inference.wire import NPY
from tests.support.fusion_fakes import FakeEndpoint
from tests.support.listening import Handler, listening

__all__ = ["Program", "served"]


@dataclass
class Program:
    """What plays the serving program: ``answer`` makes status and body of its answer from a request's body."""

    answer: Callable[[bytes], tuple[int, bytes]]
    paths: list[str] = field(default_factory=list)
    url: str = ""


def well_behaved() -> Callable[[bytes], tuple[int, bytes]]:
    """Return answers that say BUY of everything."""
    models = FakeEndpoint()
    return lambda body: (200, models.invoke(body, content_type=NPY, timeout=1))


@contextmanager
def served() -> Iterator[Program]:
    """The program, with the SageMaker runtime's client pointed at it."""
    playing = Program(well_behaved())

    class Player(Handler):
        def do_POST(self) -> None:
            playing.paths.append(self.path)
            self.reply(*playing.answer(self.body()))

    with listening(Player) as port, pytest.MonkeyPatch.context() as patch:
        playing.url = f"http://127.0.0.1:{port}"
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", playing.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        forget_clients()
        yield playing
    forget_clients()
