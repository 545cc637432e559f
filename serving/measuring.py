"""What the program counts about itself, in Prometheus' form for ``GET /metrics``.

Counting costs about a microsecond; nothing here does I/O before `Metrics.exposition` is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    exposition,
)
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from fusiontrade.inference.contract import ItemForecast
    from fusiontrade.inference.swing import StockForecast
    from fusiontrade.inference.texts import TextScore
    from serving.engine import Engine

__all__ = ["CONTENT_TYPE", "Metrics", "merged"]

CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST

_Labelled = TypeVar("_Labelled", Counter, Histogram)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counters of one program, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self._children: dict[tuple[object, ...], Any] = {}
        ProcessCollector(registry=own)
        self._requests = Counter("serving_requests", "Requests answered", ["route", "status"], registry=own)
        self._request_seconds = Histogram(
            "serving_request_seconds", "From head to last byte", ["route"], buckets=_SECONDS, registry=own
        )
        self._received = Counter("serving_received_bytes", "Bytes of bodies received", ["form"], registry=own)
        self._sent = Counter("serving_sent_bytes", "Bytes of bodies sent", ["form"], registry=own)
        self._items = Counter(
            "serving_items", "Items by outcome: answered, or the error's code", ["outcome"], registry=own
        )
        self._overloads = Counter("serving_overloads", "Requests refused because all places were taken", registry=own)
        self._waits = Histogram(
            "serving_wait_seconds", "From admission until its features are computed", buckets=_SECONDS, registry=own
        )
        self._prepared_items = Histogram(
            "serving_features_batch_items", "Items whose features were computed together", buckets=_ITEMS, registry=own
        )
        self._prepared_seconds = Histogram(
            "serving_features_seconds", "Time to compute the features of a batch", buckets=_SECONDS, registry=own
        )
        self._batches = Histogram(
            "serving_batch_items", "Items that rode in one run of a model", ["model"], buckets=_ITEMS, registry=own
        )
        self._model_seconds = Histogram(
            "serving_model_seconds", "Time of one run of a model", ["model"], buckets=_SECONDS, registry=own
        )
        self._places = Gauge("serving_places", "Items that may be admitted and not answered", registry=own)
        self._unanswered = Gauge("serving_unanswered_items", "Items admitted and not answered", registry=own)
        self._bundles = Gauge(
            "serving_bundle", "1 for each bundle that serves", ["model", "kind", "timeframe", "version"], registry=own
        )
        self._generation = Gauge("serving_generation", "How often the bundles that serve were changed", registry=own)
        self._refused = Gauge("serving_refused_bundles", "Folders that the newest reading refused", registry=own)
        self._swaps = Counter(
            "serving_readings", "Readings of the folder: changed, unchanged or refused", ["outcome"], registry=own
        )

    def answered(self, route: str, status: int, *, content_type: str, seconds: float, received: int, sent: int) -> None:
        """Count one request; ``route`` and ``content_type`` are of a few known values."""
        self._child(self._requests, route, str(status)).inc()
        self._child(self._request_seconds, route).observe(seconds)
        self._child(self._received, content_type).inc(received)
        self._child(self._sent, content_type).inc(sent)

    def _child(self, family: _Labelled, *labels: str) -> _Labelled:
        """Return what ``family`` counts under ``labels``: finding that anew costs as much as the rest of a request."""
        child: _Labelled | None = self._children.get((family, labels))
        if child is None:
            child = self._children[family, labels] = family.labels(*labels)
        return child

    def overloaded(self) -> None:
        """Count one request that found no place."""
        self._overloads.inc()

    def waited(self, seconds: Sequence[float]) -> None:
        """Count how long each item of a batch waited for a worker."""
        for one in seconds:
            self._waits.observe(one)

    def prepared(self, items: int, seconds: float) -> None:
        """Count one batch whose features were computed."""
        self._prepared_items.observe(items)
        self._prepared_seconds.observe(seconds)

    def ran(self, model: str, items: int, seconds: float) -> None:
        """Count one run of a model."""
        self._child(self._batches, model).observe(items)
        self._child(self._model_seconds, model).observe(seconds)

    def told(self, answers: Sequence[ItemForecast] | Sequence[StockForecast] | Sequence[TextScore]) -> None:
        """Count the outcomes of items, whatever was asked."""
        for answer in answers:
            self._child(self._items, "answered" if answer.error is None else answer.error.code).inc()

    def watch_places(self, limit: int, unanswered: Callable[[], int]) -> None:
        """Say how many places there are, and how to find how many are taken."""
        self._places.set(limit)
        self._unanswered.set_function(unanswered)

    def read(self, outcome: str, engine: Engine, generation: int, refused: int) -> None:
        """Note what a reading of the bundle folder came to, and what serves since."""
        self._swaps.labels(outcome).inc()
        self.serves(engine, generation, refused)

    def serves(self, engine: Engine, generation: int, refused: int) -> None:
        """Note what serves from now on, and how many folders were refused."""
        self._generation.set(generation)
        self._refused.set(refused)
        self._bundles.clear()
        for bundle in engine.bundles.values():
            card = bundle.card
            self._bundles.labels(card.model_id, card.kind, card.timeframe.value, card.version).set(1)

    def exposition(self) -> str:
        """Return what was counted, in Prometheus' text form."""
        return exposition.generate_latest(self.registry).decode()


class _Merged:
    """Several expositions as one: each sample says by the label ``process`` whose it is."""

    def __init__(self, told: Mapping[int, str]) -> None:
        self._told = told

    def collect(self) -> Iterable[Metric]:
        found: dict[str, Metric] = {}
        for process, text in sorted(self._told.items()):
            for family in text_string_to_metric_families(text):
                whole = found.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                whole.samples += [
                    one._replace(labels={**one.labels, "process": str(process)}) for one in family.samples
                ]
        return found.values()


def merged(told: Mapping[int, str]) -> str:
    """Return the expositions of several processes, by number, as one."""
    return exposition.generate_latest(_Merged(told)).decode()
