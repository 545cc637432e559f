"""The fusion function: ``/api/v1/fusion``. Parse, one call of the product, respond."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from fusiontrade.clock import system_clock
from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.session import read_ahead
from fusiontrade.cloud.tables import Table
from fusiontrade.deadline import Deadline
from fusiontrade.errors import Unavailable
from fusiontrade.forecasts.jobs import Job, Jobs
from fusiontrade.fusion.response import FusionResponse
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.startup import uncollected
from fusiontrade.web import create_app, handler_of, problems, seconds_left
from fusiontrade.web.asking.authentication import CurrentUser, load_ahead, require
from fusiontrade.web.framework import APIRouter, Depends, Header, Path, Query, Request, Response

if TYPE_CHECKING:
    from fusiontrade.fusion.service import FusionService

SYMBOL_PATTERN = r"^\^?[A-Za-z0-9][A-Za-z0-9&\-]*(\.[A-Za-z0-9&\-]+)*(=[XF])?$"
SYMBOL = {"maxLength": 20, "pattern": SYMBOL_PATTERN}

router = APIRouter(prefix="/api/v1/fusion", tags=["fusion"], dependencies=[Depends(require())])
Budget = Annotated[float, Depends(seconds_left)]


class AnalyzeRequest(BaseModel):
    """Which symbol to forecast, and what to add to the forecast."""

    symbol: str = Field(examples=["EURUSD=X"], json_schema_extra=SYMBOL)
    include_sentiment: bool = True
    include_llm: bool = False


@cache
def service_of(settings: Settings) -> FusionService:
    """Return the process's one service; what is heavy is imported at the first request."""
    from fusiontrade.fusion.factory import fusion_service, journal_of_forecasts

    table = settings.journal_table
    return fusion_service(
        settings, journal=journal_of_forecasts(settings, table, service="fusion") if table is not None else None
    )


def fusion_service_of(request: Request) -> FusionService:
    """Return the service that answers ``request``: a FastAPI dependency."""
    return service_of(request.app.state.settings)


Service = Annotated["FusionService", Depends(fusion_service_of)]

SECONDS_TO_ORDER = 3.0
"""Kept back of a request's time where a job may be its answer: a message and a record take less."""


@router.get(
    "/{symbol}",
    operation_id="getFusion",
    response_model=FusionResponse,
    responses={
        202: {"model": Job, "description": "With Prefer: respond-async: Location says where the forecast will be"},
        **problems(401, 403, 404, 503),
    },
)
def get_fusion(
    *,
    service: Service,
    user: CurrentUser,
    seconds: Budget,
    request: Request,
    symbol: Annotated[
        str,
        Path(
            description="Yahoo's symbol, raw or percent-encoded; exchange names such as BTCUSDT are mapped.",
            examples=["EURUSD=X", "GC=F", "BTC-USD"],
            json_schema_extra=SYMBOL,
        ),
    ],
    include_sentiment: Annotated[bool, Query(description="Add what the news says.")] = True,
    include_llm: Annotated[bool, Query(description="Add the analyst's view.")] = False,
    journal: Annotated[
        bool,
        Query(description="Also write the forecast to your journal, once a bar; a warning says where it was not."),
    ] = False,
    as_of: Annotated[
        str | None,
        Query(
            description="A past instant with a zone: answered as it would have been then, and never journaled.",
            examples=["2025-07-31T12:00:00Z"],
            json_schema_extra={"format": "date-time"},
        ),
    ] = None,
    prefer: Annotated[
        str | None,
        Header(
            max_length=200,
            description="respond-async: answer with a job; respond-async, wait=5: with the forecast where it is there "
            "within five seconds, else with a job whose result it will be.",
        ),
    ] = None,
) -> FusionResponse | Response:
    """Forecast a symbol over four timeframes, fused into one verdict."""
    from fusiontrade.forecasts.fusing import patience_of

    patience = patience_of(prefer)
    limit = min(patience.seconds, seconds - SECONDS_TO_ORDER) if patience.takes_a_job else seconds
    asked: dict[str, Any] = {"include_sentiment": include_sentiment, "include_llm": include_llm, "as_of": as_of}
    if limit > 0 or not patience.takes_a_job:
        try:
            journal_for = user.user_id if journal else None
            return service.fused(symbol, **asked, journal_for=journal_for, deadline=Deadline.after(limit))
        except Unavailable:
            if not patience.takes_a_job:
                raise
    return _ordered(request, user.user_id, symbol, {**asked, "journal": journal})


def _ordered(request: Request, owner: str, symbol: str, asked: dict[str, Any]) -> Response:
    """Send the order of a forecast, make its job and return it; the message goes first and carries all of it."""
    from fusiontrade.forecasts.fusing import APPLIED, KIND, request_of
    from fusiontrade.fusion.service import instant_of
    from fusiontrade.market.symbols import parse_symbol

    settings: Settings = request.app.state.settings
    code = parse_symbol(symbol, field="path/symbol").code
    if asked["as_of"] is not None:
        instant_of(asked["as_of"], now=system_clock())
    jobs = Jobs(Table(settings.need("models_table")), system_clock)
    order = jobs.order(owner, KIND, request_of(code, **asked))
    queue = Queue(settings.need("forecast_queue_url"))
    queue.send(order.message(), request_id=request.scope.get("fusiontrade.request_id"))
    headers = {"Location": f"/api/v1/ml/jobs/{order.id}", "Preference-Applied": APPLIED}
    return Response(jobs.create(order).model_dump_json(), 202, headers=headers, media_type="application/json")


@router.post("/analyze", operation_id="analyzeFusion", responses=problems(401, 403, 404, 503))
def analyze(*, service: Service, seconds: Budget, wanted: AnalyzeRequest) -> FusionResponse:
    """Forecast the symbol that the body names; the same answer as the GET."""
    return service.fused(
        wanted.symbol,
        include_sentiment=wanted.include_sentiment,
        include_llm=wanted.include_llm,
        deadline=Deadline.after(seconds),
        field="body/symbol",
    )


app = create_app("fusion", [router], Settings.from_environment(os.environ))


def ahead() -> None:
    """Import before a snapshot what the first forecast imports; the service made for that is thrown away unused."""
    load_ahead()
    with uncollected():
        from fusiontrade.market.providers import yahoo

        service_of.__wrapped__(app.state.settings)
        yahoo.load_ahead()
    read_ahead("dynamodb", "s3", "sagemaker-runtime", "secretsmanager", "sqs")


after_restore(service_of.cache_clear)
handler = handler_of(app, ahead)
