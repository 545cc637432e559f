"""An AWS on loopback that answers as a test plays it: for what the emulator never does, such as refusing a part."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.emulator import aws_environment
from tests.support.listening import Handler, listening

Play = Callable[[dict[str, Any]], tuple[int, Any]]
"""Takes a call's JSON, returns status and JSON; a status of 0 drops the line without an answer."""


@dataclass
class AwsServer:
    """The calls it got, and what it answers."""

    play: Play
    port: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return aws_environment(self.port)

    @contextmanager
    def running(self) -> Iterator[AwsServer]:
        played = self

        class Player(Handler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                call = json.loads(self.body() or b"{}")
                played.calls.append(call)
                played.paths.append(self.path)
                status, answer = played.play(call)
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                wrong = {"x-amzn-ErrorType": str(answer.get("__type", ""))} if status >= 400 else {}
                self.reply(status, json.dumps(answer).encode(), "application/x-amz-json-1.0", wrong)

        with listening(Player) as self.port:
            yield self
