"""The same models behind LitServe, as its users write it: run with the Python of the environment ``bench``.

``python -m infra.bench.lit_server PORT BATCH WORKERS``. The engine that answers is ours, over the bundles of the
starters, so what differs is the server: LitServe's own queue, worker processes and batching. LitServe reads the
annotations of `decode_request` at run time, so they are none and not postponed: else a body becomes a query parameter.
"""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]

from fusiontrade.inference.contract import ForecastRequest, ForecastResponse
from serving.engine import Engine, load_engine
from serving.settings import STARTER_BUNDLES
from serving.warmup import warm_up

__all__ = ["Forecasts", "main"]


class Forecasts(litserve.LitAPI):  # type: ignore[misc]  # LitServe carries no types
    """One item a request; a batch is one request of many items."""

    engine: Engine

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe passes it
        """Load the models in a worker process."""
        self.engine = load_engine(STARTER_BUNDLES)
        warm_up(self.engine)

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """Check the body, which LitServe has parsed."""
        return ForecastRequest.model_validate(request)

    def batch(self, inputs: list[ForecastRequest]) -> ForecastRequest:
        """Put the items of several requests into one."""
        return ForecastRequest.model_construct(items=[item for one in inputs for item in one.items])

    def predict(self, x: ForecastRequest) -> ForecastResponse:
        """Answer all items at once."""
        return self.engine.answer(x)

    def unbatch(self, output: ForecastResponse) -> list[ForecastResponse]:
        """Give each request its own answer."""
        return [ForecastResponse.model_construct(items=[item]) for item in output.items]

    def encode_response(self, output: ForecastResponse) -> Any:
        """Return what LitServe writes as JSON."""
        return output.model_dump(mode="json")


def main(port: int, batch: int, workers: int) -> None:
    """Serve on loopback until killed; a batch of 1 is LitServe's default."""
    waiting = 0.002 if batch > 1 else 0.0
    api = Forecasts(max_batch_size=batch, batch_timeout=waiting, api_path="/invocations")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=60)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error", num_api_servers=1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
