"""SageMaker's control plane on a laptop: training jobs as child processes, and the set of bundles that is served.

Speaks the part of SageMaker's protocol that `fusiontrade.cloud.sagemaker` uses, so the functions run unchanged. Jobs
live in the stack's folder: what a kill of this program interrupts goes on from its checkpoint at the next start.
``python -m infra.local.sagemaker OPTIONS_AS_JSON``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fusiontrade.cloud.storage import Storage
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import FusionTradeError
from fusiontrade.registry.rollout import exchanging, name_of
from infra.local.functions import AWS_VARIABLES
from infra.local.gateway import local_template, overrides
from infra.local.options import HOST, Options
from infra.local.served import Served
from infra.local.trainings import Refusal, Trainings

__all__ = ["SageMakerServer", "main"]

_TARGET = "X-Amz-Target"
_MOST_BYTES = 1024 * 1024

Operation = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class SageMakerServer:
    """The protocol over `Trainings` and `Served`, on 127.0.0.1."""

    def __init__(self, port: int, trainings: Trainings, served: Served) -> None:
        self.trainings, self.served = trainings, served
        operations: dict[str, Operation] = {
            "CreateTrainingJob": trainings.create,
            "DescribeTrainingJob": trainings.describe,
            "StopTrainingJob": trainings.stop,
            "DescribeEndpoint": served.describe,
            "DescribeEndpointConfig": served.describe_configuration,
            "DescribeModel": served.describe_model,
            "CreateModel": served.create_model,
            "CreateEndpointConfig": served.create_configuration,
            "UpdateEndpoint": served.update,
        }
        self._server = ThreadingHTTPServer((HOST, port), _handler_of(operations))
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def serve(self) -> None:
        """Answer until the process ends."""
        self._server.serve_forever(poll_interval=0.2)

    def start(self) -> None:
        """Answer in a thread."""
        threading.Thread(target=self.serve, daemon=True).start()

    def close(self) -> None:
        """Listen no more and end what runs."""
        self._server.shutdown()
        self._server.server_close()
        self.trainings.close()


def _handler_of(operations: Mapping[str, Operation]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Say that this is here."""
            self._answer(200, {"status": "ready"})

        def do_POST(self) -> None:
            """Do the operation that the target names."""
            body = self.rfile.read(min(_MOST_BYTES, int(self.headers.get("Content-Length", 0))))
            name = self.headers.get(_TARGET, "").rpartition(".")[2]
            if name not in operations:
                self._answer(400, {"__type": "UnknownOperationException", "message": f"{name} is not known here"})
                return
            try:
                self._answer(200, operations[name](json.loads(body or b"{}")))
            except Refusal as refusal:
                self._answer(400, {"__type": refusal.code, "message": str(refusal)})

        def _answer(self, status: int, told: Mapping[str, Any]) -> None:
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Keep each request out of the log."""

    return Handler


def main(options: Options) -> int:
    """Serve until told to end; return the exit status."""
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update({**AWS_VARIABLES, **overrides(options)})
    template = local_template(options)
    storage = Storage(template.physical_name("ArtifactsBucket"))
    trainings = Trainings(options.folder / "training", storage, say=lambda text: print(text, flush=True))
    models, endpoint = Table(template.physical_name("ModelsTable")), template.parameters["EndpointName"]

    def wanted(configuration: str) -> bool:
        try:
            job = exchanging(models)
        except FusionTradeError:  # nothing says that it is not
            return True
        return job is not None and name_of(endpoint, job) == configuration

    served = Served(options.served, storage, options.serving_port, wanted=wanted)
    server = SageMakerServer(options.training_port, trainings, served)
    trainings.resume()
    server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(Options.from_json(sys.argv[1])))
