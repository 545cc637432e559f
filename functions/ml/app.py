"""The ml function: ``/api/v1/ml``, the fine-tuning of ``/api/v1/fusion``. Parse, one call of the product, respond."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusiontrade.clock import system_clock
from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.session import read_ahead
from fusiontrade.cloud.storage import Storage
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import NotFound
from fusiontrade.forecasts.jobs import Job, Jobs
from fusiontrade.journal.entries import PLATFORM
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.registry.asked import (
    BacktestWanted,
    FinetuneWanted,
    FinetuneWantedOf,
    LoadWanted,
    ModelsAnswer,
    TrainingWanted,
)
from fusiontrade.registry.bundles import Bundles
from fusiontrade.registry.turns import Turns
from fusiontrade.registry.versions import Registry, VersionPage
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.web import create_app, handler_of, problems
from fusiontrade.web.answering.cursors import Cursors, cursors_of
from fusiontrade.web.answering.etags import answered
from fusiontrade.web.answering.idempotency import Claimed, Once
from fusiontrade.web.answering.jobs import accepted
from fusiontrade.web.asking.authentication import CurrentUser, load_ahead, require
from fusiontrade.web.asking.rate_limits import counted_as
from fusiontrade.web.framework import APIRouter, Depends, Path, Query, Request, Response

_signed_in, _admin = [Depends(require())], [Depends(require(tier="admin"))]
ml = APIRouter(prefix="/api/v1/ml", tags=["ml"], dependencies=_signed_in)
model = APIRouter(prefix="/api/v1/model", tags=["ml"], dependencies=_signed_in)
fusion = APIRouter(prefix="/api/v1/fusion", tags=["fusion"], dependencies=_signed_in)

_JOBS = problems(401, 403, 404, 409, 429, 503)
_REGISTRY = "registry"


class PredictionWanted(BaseModel):
    """Which forecast to make while nobody waits."""

    model_config = ConfigDict(extra="forbid")

    symbol: Annotated[str, Field(min_length=1, max_length=64, examples=["EURUSD=X"])]
    interval: Annotated[
        Literal["15m", "30m", "1h", "4h"], Field(description="The timeframe that the job's result is about.")
    ]
    journal: Annotated[bool, Field(description="Also write the forecast to your journal, once a bar.")] = False


@cache
def table_of(settings: Settings) -> Table:
    """Return the table of models that ``settings`` point at."""
    return Table(settings.need("models_table"))


def current_jobs(request: Request) -> Jobs:
    """Return the jobs of ``request``: a FastAPI dependency."""
    return Jobs(table_of(request.app.state.settings), system_clock)


def current_registry(request: Request) -> Registry:
    """Return the registry of ``request``: a FastAPI dependency."""
    return Registry(table_of(request.app.state.settings), system_clock)


def current_bundles(request: Request) -> Bundles:
    """Return the archive of ``request``: a FastAPI dependency."""
    return Bundles(Storage(request.app.state.settings.need("artifacts_bucket")))


def forecast_queue(request: Request) -> Queue:
    """Return the queue that forecasts are asked for through: a FastAPI dependency."""
    return Queue(request.app.state.settings.need("forecast_queue_url"))


def training_queue(request: Request) -> Queue:
    """Return the queue that trainings and exchanges are asked for through: a FastAPI dependency."""
    return Queue(request.app.state.settings.need("training_queue_url"))


KnownJobs = Annotated[Jobs, Depends(current_jobs)]
KnownRegistry = Annotated[Registry, Depends(current_registry)]
JobId = Annotated[str, Path(min_length=1, max_length=64, description="The id that the job was accepted with.")]
Name = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Orders:
    """Takes orders of one request for the training queue."""

    def __init__(
        self, request: Request, user: CurrentUser, once: Once, jobs: KnownJobs,
        queue: Annotated[Queue, Depends(training_queue)],
    ) -> None:  # fmt: skip
        self._request, self._user, self._jobs, self._queue = request, user, jobs, queue
        self._once: Claimed = once

    def take(self, kind: str, asked: dict[str, Any]) -> Response:
        """Return the 202 of a new job."""
        order = self._jobs.order(self._user.user_id, kind, asked, identity=self._once.id("job"))
        return accepted(order, jobs=self._jobs, queue=self._queue, once=self._once, request=self._request)


Ordered = Annotated[Orders, Depends(Orders)]


@ml.post("/predict/trigger", operation_id="triggerPrediction", status_code=202, response_model=Job, responses=_JOBS)
@counted_as("heavy")
def trigger_prediction(
    *,
    wanted: PredictionWanted,
    user: CurrentUser,
    once: Once,
    jobs: KnownJobs,
    queue: Annotated[Queue, Depends(forecast_queue)],
    request: Request,
) -> Response:
    """Forecast a symbol in the background; the job says when it is done and holds the result."""
    symbol = parse_symbol(wanted.symbol, field="body/symbol")
    asked = {"symbol": symbol.code, "interval": wanted.interval, "journal": wanted.journal}
    order = jobs.order(user.user_id, "predict", asked, identity=once.id("job"))
    return accepted(order, jobs=jobs, queue=queue, once=once, request=request)


@ml.post("/backtest/trigger", operation_id="triggerBacktest", status_code=202, response_model=Job, responses=_JOBS)
@counted_as("heavy")
def trigger_backtest(wanted: BacktestWanted, orders: Ordered) -> Response:
    """Trade the platform's journaled signals on paper, in the background: trades, equity, drawdown, Sharpe ratios."""
    return orders.take("backtest", wanted.request(system_clock()))


@ml.get("/registry", operation_id="listModelVersions", response_model=VersionPage,
        responses=problems(401, 403, 429, 503))  # fmt: skip
def list_versions(
    *,
    user: CurrentUser,
    registry: KnownRegistry,
    cursors: Annotated[Cursors, Depends(cursors_of)],
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200, description="Most items of the answer.")] = 50,
    cursor: Annotated[str | None, Query(max_length=2048, description="The next_cursor of an earlier answer.")] = None,
) -> Response:
    """List every version of every model, with its figures and status."""
    start = None if cursor is None else cursors.open(cursor, _REGISTRY, user.user_id)
    items, following = registry.page(limit, start)
    next_cursor = None if following is None else cursors.seal(dict(following), _REGISTRY, user.user_id)
    return answered(request, VersionPage(items=items, next_cursor=next_cursor))


@ml.get("/registry/{model_id}/report", operation_id="getModelReport", response_model=dict[str, Any],
        responses=problems(401, 403, 404, 429, 503))  # fmt: skip
def get_report(
    *,
    model_id: Annotated[str, Path(min_length=1, max_length=64, pattern=Name, examples=["lstm-1h"])],
    registry: KnownRegistry,
    bundles: Annotated[Bundles, Depends(current_bundles)],
    request: Request,
    version: Annotated[
        str | None, Query(min_length=1, max_length=64, pattern=Name, description="Default: the one that serves.")
    ] = None,
) -> Response:
    """Show how a version did on its held-out bars: figures with intervals, curves and calibration as data."""
    known = registry.active_version(model_id) if version is None else registry.of(model_id, version)
    if known is None:
        raise NotFound(f"no version of the model {model_id!r} serves; name one")
    report = {"version": known.version, "status": known.status, **bundles.report(model_id, known.version)}
    report.setdefault("curves", None)
    return answered(request, json.dumps(report, separators=(",", ":"), allow_nan=False).encode())


@ml.get("/jobs/{job_id}", operation_id="getJob", responses=problems(401, 403, 404, 429, 503))
def get_job(job_id: JobId, user: CurrentUser, jobs: KnownJobs) -> Job:
    """Show one of your jobs: how far it is, and what came of it; to an admin the platform's own as well."""
    return jobs.of(job_id, owner_of(job_id, user, jobs))


@ml.delete("/jobs/{job_id}", operation_id="cancelJob", status_code=202,
           responses=problems(401, 403, 404, 429, 503))  # fmt: skip
def cancel_job(job_id: JobId, user: CurrentUser, jobs: KnownJobs, request: Request) -> Job:
    """Ask one of your jobs to end; a training stops within a few seconds and comes to nothing."""
    return Turns(table_of(request.app.state.settings)).cancel(jobs, job_id, owner_of(job_id, user, jobs))


def owner_of(job_id: str, user: CurrentUser, jobs: Jobs) -> str:
    """Return as whom ``user`` may look at a job: an admin also at what the platform asked for by itself."""
    if user.tier == "admin" and jobs.owned(job_id, PLATFORM):
        return PLATFORM
    return user.user_id


# --- under two paths each ---------------------------------------------------------------------------------------------


def model_info(registry: KnownRegistry, request: Request) -> Response:
    """Show what serves now, and of which models the forecasts have become worse."""
    serving = registry.serving()
    warnings = [f"{one.model_id}: {one.reason}" for one in serving if one.status == "DEGRADED"]
    return answered(request, ModelsAnswer(models=serving, warnings=warnings))


@counted_as("heavy")
def train(wanted: TrainingWanted, orders: Ordered) -> Response:
    """Train a model in the background (admin); the job ends with a candidate in the registry."""
    return orders.take("train", wanted.request())


@counted_as("heavy")
def load(wanted: LoadWanted, orders: Ordered, registry: KnownRegistry) -> Response:
    """Let a version serve (admin): the old one serves until the new one has answered its self-test."""
    registry.of(wanted.model_id, wanted.version)
    return orders.take("load", wanted.model_dump())


def _both(paths: tuple[str, str], names: tuple[str, str], **more: Any) -> Callable[[Callable[..., Any]], None]:
    def add(endpoint: Callable[..., Any]) -> None:
        for router, path, name in zip((ml, model), paths, names, strict=True):
            router.add_api_route(path, endpoint, operation_id=name, **more)

    return add


_both(("/model/info", "/info"), ("getModelInfo", "getModelInfoAlias"), methods=["GET"], response_model=ModelsAnswer,
      responses=problems(401, 403, 429, 503))(model_info)  # fmt: skip
_ACCEPTED: dict[str, Any] = {
    "methods": ["POST"], "status_code": 202, "response_model": Job, "responses": _JOBS, "dependencies": _admin,
}  # fmt: skip
_both(("/train", "/train"), ("trainModel", "trainModelAlias"), **_ACCEPTED)(train)
_both(("/model/load", "/load"), ("loadModel", "loadModelAlias"), **_ACCEPTED)(load)


# --- fine-tuning ------------------------------------------------------------------------------------------------------


@fusion.post("/finetune", operation_id="finetune", status_code=202, response_model=Job, responses=_JOBS)
@counted_as("heavy")
def finetune(wanted: FinetuneWanted, orders: Ordered) -> Response:
    """Teach the model of a timeframe a symbol's newest candles; it takes over only where it is not worse."""
    return orders.take("finetune", wanted.request_of(wanted.symbol, field="body/symbol"))


@fusion.post("/{symbol}/finetune", operation_id="finetuneSymbol", status_code=202, response_model=Job, responses=_JOBS)
@counted_as("heavy")
def finetune_symbol(
    symbol: Annotated[str, Path(min_length=1, max_length=64, examples=["EURUSD=X"])],
    wanted: FinetuneWantedOf,
    orders: Ordered,
) -> Response:
    """Teach the model of a timeframe this symbol's newest candles; it takes over only where it is not worse."""
    return orders.take("finetune", wanted.request_of(symbol, field="path/symbol"))


router = APIRouter()
for part in (ml, model, fusion):
    router.include_router(part)
app = create_app("ml", [router], Settings.from_environment(os.environ))


def ahead() -> None:
    """Do before a snapshot what the first request would do."""
    load_ahead()
    read_ahead("dynamodb", "secretsmanager", "sqs")


after_restore(table_of.cache_clear)
handler = handler_of(app, ahead)
