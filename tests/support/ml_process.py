"""The ml function in a process of its own that sends its message, says so and waits there, to be killed."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from fusiontrade.cloud.queues import Queue
from fusiontrade.settings import Settings
from tests.contract.conftest import function


def main() -> None:
    told = json.loads(sys.argv[1])
    send = Queue.send

    def send_and_stop(self: Queue, body: Any, **more: Any) -> None:
        send(self, body, **more)
        print("sent", flush=True)
        time.sleep(120)

    Queue.send = send_and_stop  # type: ignore[method-assign]
    function("ml", Settings.from_environment(told["settings"]))("POST", told["target"], **told["request"])


if __name__ == "__main__":
    main()
