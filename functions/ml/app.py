"""The ml function: ``/api/v1/ml``. Parse, one call of the product, respond."""

from __future__ import annotations

import os
from functools import cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusiontrade.clock import system_clock
from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.session import read_ahead
from fusiontrade.cloud.tables import Table
from fusiontrade.forecasts.jobs import Job, Jobs
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.web import create_app, handler_of, problems
from fusiontrade.web.authentication import CurrentUser, load_ahead, require
from fusiontrade.web.framework import APIRouter, Depends, Path, Request, Response
from fusiontrade.web.idempotency import Once
from fusiontrade.web.jobs import accepted
from fusiontrade.web.rate_limits import counted_as

router = APIRouter(prefix="/api/v1/ml", tags=["ml"], dependencies=[Depends(require())])


class PredictionWanted(BaseModel):
    """Which forecast to make while nobody waits."""

    model_config = ConfigDict(extra="forbid")

    symbol: Annotated[str, Field(min_length=1, max_length=64, examples=["EURUSD=X"])]
    interval: Annotated[
        Literal["15m", "30m", "1h", "4h"], Field(description="The timeframe that the job's result is about.")
    ]
    journal: Annotated[bool, Field(description="Also write the forecast to your journal, once a bar.")] = False


@cache
def jobs_of(settings: Settings) -> Jobs:
    """Return the jobs that ``settings`` point at."""
    return Jobs(Table(settings.need("models_table")), system_clock)


def current_jobs(request: Request) -> Jobs:
    """Return the jobs of ``request``: a FastAPI dependency."""
    return jobs_of(request.app.state.settings)


def forecast_queue(request: Request) -> Queue:
    """Return the queue that forecasts are asked for through: a FastAPI dependency."""
    return Queue(request.app.state.settings.need("forecast_queue_url"))


KnownJobs = Annotated[Jobs, Depends(current_jobs)]


@router.post(
    "/predict/trigger",
    operation_id="triggerPrediction",
    status_code=202,
    response_model=Job,
    responses=problems(401, 403, 404, 409, 429, 503),
)
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


@router.get("/jobs/{job_id}", operation_id="getJob", responses=problems(401, 403, 404, 429, 503))
def get_job(
    job_id: Annotated[str, Path(min_length=1, max_length=64, description="The id that the job was accepted with.")],
    user: CurrentUser,
    jobs: KnownJobs,
) -> Job:
    """Show one of your jobs: how far it is, and what came of it."""
    return jobs.of(job_id, user.user_id)


app = create_app("ml", [router], Settings.from_environment(os.environ))


def ahead() -> None:
    """Do before a snapshot what the first request would do."""
    load_ahead()
    read_ahead("dynamodb", "secretsmanager", "sqs")


after_restore(jobs_of.cache_clear)
handler = handler_of(app, ahead)
