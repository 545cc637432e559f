"""The fusion function: ``/api/v1/fusion``. Parse, one call of the product, respond."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from fusiontrade.cloud.session import read_ahead
from fusiontrade.deadline import Deadline
from fusiontrade.fusion.response import FusionResponse
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.startup import uncollected
from fusiontrade.web import create_app, handler_of, problems, seconds_left
from fusiontrade.web.authentication import CurrentUser, load_ahead, require
from fusiontrade.web.framework import APIRouter, Depends, Path, Query, Request

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


@router.get("/{symbol}", operation_id="getFusion", responses=problems(401, 403, 404, 503))
def get_fusion(
    *,
    service: Service,
    user: CurrentUser,
    seconds: Budget,
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
) -> FusionResponse:
    """Forecast a symbol over four timeframes, fused into one verdict."""
    return service.fused(
        symbol,
        include_sentiment=include_sentiment,
        include_llm=include_llm,
        as_of=as_of,
        journal_for=user.user_id if journal else None,
        deadline=Deadline.after(seconds),
    )


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
    read_ahead("dynamodb", "s3", "sagemaker-runtime", "secretsmanager")


after_restore(service_of.cache_clear)
handler = handler_of(app, ahead)
