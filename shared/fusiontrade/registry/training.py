"""The jobs ``train`` and ``finetune``: candles as an input channel, a SageMaker training job, a registered candidate.

Always true here: the training job is named after the job, so a turn that is done twice starts one; it fetches nothing
itself. What it makes is verified against its manifest before it is archived, and registered as a CANDIDATE, whatever
it is worth; a fine-tuned version goes on to the exchange, which decides.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fusiontrade.cloud.sagemaker import SageMaker, TrainingPlan
from fusiontrade.errors import BundleRefused, Conflict, FusionTradeError, NotFound, Unavailable
from fusiontrade.forecasts.jobs import JobOrder
from fusiontrade.registry.bundles import PLAIN, Bundles, Objects, finite
from fusiontrade.registry.turns import CANCELLED, Again, Done
from fusiontrade.registry.versions import ModelVersion, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusiontrade.market.candles import CandleFrame

__all__ = ["FINETUNE", "TRAIN", "Candles", "Place", "Training"]

TRAIN, FINETUNE = "train", "finetune"
_BEGUN, _ENDED = 0.01, 0.95
_STEPS = {
    "Pending": "waiting for another training to end",
    "Starting": "the machine that trains is being made ready",
    "Downloading": "the candles are being fetched",
    "Training": "the training program is starting",
    "Uploading": "the bundle is being stored",
}
"""What SageMaker's own words mean, while the program says nothing."""
_SAGEMAKERS = re.compile(r"^\w+Error: |, exit code: \d+$")
_NOT_TOLD = ("symbol", "symbols", "interval", "model_type", "bars")

logger = logging.getLogger(__name__)


class Candles(Protocol):
    """Who has candles."""

    def __call__(self, symbol: str, interval: str, bars: int) -> CandleFrame:
        """Return the newest finished bars; raises `FusionTradeError` where there are none."""
        ...


@dataclass(frozen=True)
class Place:
    """Where trainings run; an empty ``image`` or ``role``: nowhere."""

    image: str
    role: str
    instance_type: str
    most_seconds: int
    poll_seconds: int


class Training:
    """Does jobs of these kinds.

    Their request is ``symbol``, ``symbols`` (beside it), ``interval``, ``model_type``, ``bars``, and parameters of
    `serving.training.config.TrainingConfig`.

    Parameters
    ----------
    registry, bundles, objects
        The versions, their archive, and the bucket.
    sagemaker, place
        What trains, and where.
    candles
        What it learns from.
    clock
        The present, ms.
    promote
        Takes a fine-tuned version (of an order; model, version) on to the exchange and returns the id of that job.
    """

    def __init__(
        self,
        registry: Registry,
        bundles: Bundles,
        objects: Objects,
        *,
        sagemaker: SageMaker,
        place: Place,
        candles: Candles,
        clock: Callable[[], int],
        promote: Callable[[JobOrder, str, str], str],
    ) -> None:
        self._registry, self._bundles, self._objects = registry, bundles, objects
        self._sagemaker, self._place, self._candles = sagemaker, place, candles
        self._clock, self._promote = clock, promote

    def turn(self, order: JobOrder, kept: Mapping[str, Any], *, cancelled: bool) -> Again | Done:
        """Start the training job, or look how far it is."""
        name = _name(order)
        if not kept.get("begun"):
            if cancelled:
                raise FusionTradeError(CANCELLED)
            return self._started(order, name)
        state = self._sagemaker.training(name)
        if state is None:
            raise FusionTradeError("the training job is gone; ask again")
        if state.status == "Completed":
            return self._finished(order, state.artifacts, kept)
        if state.status == "Failed":
            raise FusionTradeError(f"the training came to nothing: {_plain_words(state.reason)}")
        if state.status == "Stopped":
            raise FusionTradeError(CANCELLED if cancelled else "the training took too long and was stopped")
        if cancelled and state.status == "InProgress":
            self._sagemaker.stop_training(name)
        progress, step = self._progress(order)
        return Again(self._place.poll_seconds, progress, step=step or _STEPS.get(state.step))

    def abandon(self, order: JobOrder, kept: Mapping[str, Any]) -> None:
        """Stop the training job where it still runs."""
        if not kept.get("begun"):
            return
        try:
            self._sagemaker.stop_training(_name(order))
        except FusionTradeError as error:
            logger.warning("the training job of %s was not stopped: %s", order.id, error)

    def _started(self, order: JobOrder, name: str) -> Again:
        if not self._place.image or not self._place.role:
            raise Conflict("no training image is configured: deploy with TrainingImage")
        model_id = _model_id_of(order.request)
        active = self._registry.active_version(model_id)
        if order.kind == FINETUNE:
            active = self._to_begin_with(model_id, active)
        symbols, left_out = self._channel(order, _symbols(order, active))
        prefix = f"training/{order.id}/"
        channels = {"candles": self._objects.uri(f"{prefix}candles/")}
        if active is not None:
            self._bundles.unchanged(active)
            channels["active"] = self._bundles.uri(model_id, active.version)
        parameters = {key: str(value) for key, value in order.request.items() if key not in _NOT_TOLD}
        parameters |= {"kind": str(order.request["model_type"]), "timeframe": str(order.request["interval"])}
        if order.kind == FINETUNE:
            parameters["begin_with_active"] = "true"
        self._sagemaker.start_training(
            TrainingPlan(
                name=name,
                image=self._place.image,
                role=self._place.role,
                instance_type=self._place.instance_type,
                channels=channels,
                output=self._objects.uri(f"{prefix}output"),
                checkpoints=self._objects.uri(f"{prefix}checkpoints/"),
                parameters=parameters,
                most_seconds=self._place.most_seconds,
            )
        )
        return Again(self._place.poll_seconds, _BEGUN, {"begun": True, "symbols": symbols, "left_out": left_out})

    def _to_begin_with(self, model_id: str, active: ModelVersion | None) -> ModelVersion:
        if active is None:
            raise NotFound(f"no version of {model_id} serves, so there is nothing to fine-tune; train one first")
        if not self._bundles.has_weights(model_id, active.version):
            raise Conflict(f"version {active.version} of {model_id} came without its training weights; train one first")
        return active

    def _channel(self, order: JobOrder, symbols: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Write the bars of each symbol; return those that are there, and why others are not."""
        found, left_out = [], {}
        for symbol in symbols:
            try:
                frame = self._candles(symbol, str(order.request["interval"]), int(order.request["bars"]))
            except Unavailable:
                raise
            except FusionTradeError as error:
                if symbol == order.request["symbol"]:
                    raise
                left_out[symbol] = str(error)
                continue
            self._objects.put(f"training/{order.id}/candles/{symbol}.npz", packed(frame))
            found.append(symbol)
        return found, left_out

    def _progress(self, order: JobOrder) -> tuple[float, str]:
        """Return how far the program says it is, and what it does; empty where it has not said so yet."""
        content = self._objects.get(f"training/{order.id}/checkpoints/progress.json")
        try:
            told = json.loads(content or b"{}")
            return min(_ENDED, max(_BEGUN, float(told.get("progress", 0)))), _step(told)
        except (ValueError, TypeError, AttributeError):
            return _BEGUN, ""

    def _finished(self, order: JobOrder, artifacts: str, kept: Mapping[str, Any]) -> Done:
        output = _key_of(artifacts)
        outcome = _outcome(self._objects.get(f"{output}outcome.json"))
        version = self._bundles.take_in(
            f"{output}{outcome['bundle']}/",
            created_at=self._clock(),
            comparison=outcome.get("comparison"),
            record=outcome.get("record"),
            check=lambda card: _check(card, order, kept),
        )
        version = self._registry.register(version)
        told: dict[str, Any] = {
            "model_id": version.model_id,
            "version": version.version,
            "status": version.status,
            "symbols": kept.get("symbols", []),
            "left_out": kept.get("left_out", {}),
            "metrics": version.metrics,
            "comparison": version.comparison,
            "report": f"/api/v1/ml/registry/{version.model_id}/report?version={version.version}",
        }
        if order.kind == FINETUNE:
            told["promotion"] = self._promote(order, version.model_id, version.version)
        return Done(told)


def packed(frame: CandleFrame) -> bytes:
    """Return the bars as `serving.training.job.layout` reads them."""
    import io

    import numpy as np

    columns: dict[str, Any] = {name: getattr(frame, name) for name in ("time", "open", "high", "low", "close")}
    if frame.volume is not None:
        columns["volume"] = frame.volume
    content = io.BytesIO()
    np.savez(content, **columns)
    return content.getvalue()


def _name(order: JobOrder) -> str:
    return f"fusiontrade-{order.id[:48]}"


def _symbols(order: JobOrder, active: ModelVersion | None) -> list[str]:
    """Return what to learn from: the asked symbol first; fine-tuning keeps to all that the active version serves."""
    wanted = [str(order.request["symbol"]), *map(str, order.request.get("symbols") or ())]
    if order.kind == FINETUNE and active is not None:
        wanted += active.symbols
    return list(dict.fromkeys(wanted))


def _step(told: Mapping[str, Any]) -> str:
    """Return what a training program does, in words."""
    epoch, loss = told.get("epoch"), told.get("validation_loss")
    if told.get("step") != "fitting" or not isinstance(epoch, int):
        return {"preparing": "preparing the data", "done": _STEPS["Uploading"]}.get(str(told.get("step")), "")
    if epoch == told.get("epochs"):
        return "calibrating and judging"
    shown = f", validation loss {loss:.4g}" if isinstance(loss, float) else ""
    return f"epoch {epoch} of {told.get('epochs')}{shown}"


def _outcome(content: bytes | None) -> dict[str, Any]:
    """Return what a training says that it came to; raises `FusionTradeError` where that cannot be used."""
    try:
        found = json.loads(content or b"null", parse_constant=finite, parse_float=finite)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "bundle" not in found:
        raise FusionTradeError("the training ended without a bundle")
    if not isinstance(found["bundle"], str) or not PLAIN.fullmatch(found["bundle"]):
        raise BundleRefused(f"the training names its bundle {found['bundle']!r}, which is no plain name")
    if not all(isinstance(found.get(part) or {}, dict) for part in ("comparison", "record")):
        raise FusionTradeError("the training left an outcome that cannot be read")
    return found


def _check(card: Mapping[str, Any], order: JobOrder, kept: Mapping[str, Any]) -> None:
    """Refuse a bundle that is of something else than what was asked for."""
    kind, model_id = str(order.request["model_type"]), _model_id_of(order.request)
    if card["kind"] != kind:
        raise BundleRefused(f"the bundle that the training left is of the kind {card['kind']}, not {kind}")
    if card["model_id"] != model_id:
        raise BundleRefused(f"the bundle that the training left is of {card['model_id']}, and {model_id} was asked for")
    if foreign := sorted(set(map(str, card.get("universe", ()))) - set(kept.get("symbols", ()))):
        raise BundleRefused(f"the bundle learned from {', '.join(foreign)}, which it was not given")


def _model_id_of(request: Mapping[str, Any]) -> str:
    """Return the model that a request trains."""
    return f"{request['model_type']}-{request['interval']}"


def _key_of(uri: str) -> str:
    """Return the prefix in the bucket that an S3 URI names, with its slash."""
    key = uri.removeprefix("s3://").partition("/")[2]
    return key if key.endswith("/") else f"{key}/"


def _plain_words(reason: str) -> str:
    """Return what the program said: SageMaker puts the kind of error before it, and the exit code after it."""
    return _SAGEMAKERS.sub("", reason) or "it did not say why"
