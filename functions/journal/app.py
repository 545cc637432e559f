"""The journal function: ``/api/v1/journal``. Parse, one call of the product, respond."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Literal
from urllib.parse import urlencode

from starlette.exceptions import HTTPException

from fusiontrade.clock import iso, parse_iso, system_clock
from fusiontrade.cloud.queues import Queue
from fusiontrade.cloud.session import read_ahead
from fusiontrade.cloud.tables import Table
from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, InvalidInput
from fusiontrade.forecasts.jobs import Job, Jobs
from fusiontrade.journal.answers import (
    EntryPageAnswer,
    ImportReport,
    JournalEntry,
    StatisticsAnswer,
    statistics_answer,
)
from fusiontrade.journal.settlement import Status
from fusiontrade.journal.store import Asked, Journal
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.web import create_app, handler_of, problems, seconds_left
from fusiontrade.web.answering.cursors import Cursors, cursors_of
from fusiontrade.web.answering.idempotency import Once, RawBody
from fusiontrade.web.answering.jobs import accepted
from fusiontrade.web.asking.authentication import CurrentUser, load_ahead, require
from fusiontrade.web.asking.rate_limits import counted_as
from fusiontrade.web.framework import APIRouter, Depends, Path, Query, Request, Response

MEDIA_TYPES = ("application/json", "text/csv")
MOST_EXPORTED = 1200
"""Entries of one download; the answer's ``Link`` says where the next ones are. So many fit the 6 MiB that a function
answers, however long they are, and as CSV usually the megabyte that an import takes."""
SECONDS_TO_READ = 10.0
"""Of one read: a page of a megabyte takes longer than an item; two tries fit the function's time."""

router = APIRouter(prefix="/api/v1/journal", tags=["journal"], dependencies=[Depends(require())])


@cache
def journal_of(settings: Settings) -> Journal:
    """Return the journal that ``settings`` point at."""
    return Journal(Table(settings.need("journal_table"), read_seconds=SECONDS_TO_READ), system_clock)


def current_journal(request: Request) -> Journal:
    """Return the journal of ``request``: a FastAPI dependency."""
    return journal_of(request.app.state.settings)


KnownJournal = Annotated[Journal, Depends(current_journal)]
KnownCursors = Annotated[Cursors, Depends(cursors_of)]
Budget = Annotated[float, Depends(seconds_left)]


def asked_of(
    symbol: Annotated[str | None, Query(max_length=20, description="Yahoo's symbol.", examples=["EURUSD=X"])] = None,
    interval: Annotated[str | None, Query(max_length=8, description="A timeframe.", examples=["1h"])] = None,
    since: Annotated[
        str | None,
        Query(alias="from", max_length=40, description="Opened then or later: an instant, or a UTC day.",
              examples=["2025-07-31T00:00:00Z"]),
    ] = None,
    until: Annotated[
        str | None,
        Query(alias="to", max_length=40, description="Opened before: an instant, or a UTC day.",
              examples=["2025-08-01"]),
    ] = None,
) -> Asked:  # fmt: skip
    """Return which entries the query asks for: a FastAPI dependency."""
    begins = None if since is None else _instant(since, "query/from")
    ends = None if until is None else _instant(until, "query/to")
    if begins is not None and ends is not None and begins >= ends:
        raise InvalidInput("query/to", "to has to lie after from: nothing can be in between")
    return Asked(
        symbol=None if symbol is None else _symbol(symbol),
        interval=None if interval is None else Timeframe.parse(interval, field="query/interval").value,
        since=begins,
        until=ends,
    )


Wanted = Annotated[Asked, Depends(asked_of)]
Limit = Annotated[int, Query(ge=1, le=200, description="Most items of the answer.")]
Cursor = Annotated[str | None, Query(max_length=2048, description="The next_cursor of an earlier answer.")]


def _symbol(text: str) -> str:
    try:
        return parse_symbol(text, field="query/symbol").code
    except FusionTradeError as error:
        raise InvalidInput("query/symbol", str(error)) from None


def _instant(text: str, field: str) -> int:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if len(text) == 10 else None
        return max(0, parse_iso(text if day is None else day.isoformat()))
    except (ValueError, OverflowError):
        raise InvalidInput(field, f"{text!r} is no instant: write e.g. 2025-07-31T12:00:00Z or 2025-07-31") from None


@router.get("", operation_id="listJournal", responses=problems(401, 403, 429, 503))
def list_entries(
    *,
    user: CurrentUser,
    journal: KnownJournal,
    cursors: KnownCursors,
    seconds: Budget,
    asked: Wanted,
    status: Annotated[Literal["PENDING", "WIN", "LOSS", "EXPIRED"] | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> EntryPageAnswer:
    """List your entries, newest first; where few of many fit, a page may be short although more follow."""
    asked = Asked(asked.symbol, asked.interval, Status(status) if status else None, asked.since, asked.until)
    purpose = f"journal {asked}"
    after = None if cursor is None else str(cursors.open(cursor, purpose, user.user_id)["after"])
    page = journal.page(user.user_id, asked, limit=limit, after=after, deadline=Deadline.after(seconds))
    following = None if page.after is None else cursors.seal({"after": page.after}, purpose, user.user_id)
    items = [JournalEntry.model_validate(entry.to_json()) for entry in page.entries]
    return EntryPageAnswer(items=items, next_cursor=following)


@router.get("/stats", operation_id="getJournalStatistics", responses=problems(401, 403, 429, 503))
def statistics(user: CurrentUser, journal: KnownJournal, seconds: Budget, asked: Wanted) -> StatisticsAnswer:
    """Tell what your entries of a range came to."""
    from fusiontrade.journal.statistics import statistics_of

    records = journal.records(user.user_id, asked, deadline=Deadline.after(seconds))
    told = statistics_of(records, lambda symbol: parse_symbol(symbol).asset_class.value)
    return statistics_answer(told)


@router.get(
    "/export",
    operation_id="exportJournal",
    response_class=Response,
    responses={
        200: {
            "description": "A download; Link names the next one where there are more entries",
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/json": {
                    "schema": {"type": "array", "items": {"$ref": "#/components/schemas/JournalEntry"}}
                },
            },
        },
        **problems(401, 403, 429, 503),
    },
)
@counted_as("heavy")
def export(
    *,
    user: CurrentUser,
    journal: KnownJournal,
    cursors: KnownCursors,
    seconds: Budget,
    asked: Wanted,
    format: Annotated[Literal["csv", "json"], Query(description="csv for a spreadsheet, json for a program.")] = "csv",
    cursor: Cursor = None,
) -> Response:
    """Download your entries, newest first."""
    from fusiontrade.journal.exports import csv_of, json_of

    purpose = f"journal export {asked}"
    after = None if cursor is None else str(cursors.open(cursor, purpose, user.user_id)["after"])
    page = journal.page(user.user_id, asked, limit=MOST_EXPORTED, after=after, deadline=Deadline.after(seconds))
    headers = {"Content-Disposition": f'attachment; filename="fusiontrade-journal.{format}"'}
    if page.after is not None:
        following = cursors.seal({"after": page.after}, purpose, user.user_id)
        headers["Link"] = f'<?{_query(asked, format, following)}>; rel="next"'
    body = csv_of(page.entries) if format == "csv" else json_of(page.entries)
    return Response(
        body, media_type="text/csv; charset=utf-8" if format == "csv" else "application/json", headers=headers
    )


def _query(asked: Asked, format: str, cursor: str) -> str:
    told = {
        "format": format,
        "symbol": asked.symbol,
        "interval": asked.interval,
        "from": None if asked.since is None else iso(asked.since),
        "to": None if asked.until is None else iso(asked.until),
        "cursor": cursor,
    }
    return urlencode({name: value for name, value in told.items() if value is not None})


@router.post(
    "/import",
    operation_id="importJournal",
    response_model=ImportReport,
    responses=problems(401, 403, 409, 413, 415, 429, 503),
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "An older predictions_log.csv, or an export: at most 5,000 rows.",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        }
    },
)
@counted_as("heavy")
def import_entries(
    *, user: CurrentUser, journal: KnownJournal, once: Once, seconds: Budget, body: RawBody, request: Request
) -> Response:
    """Import an older log: every row or, where one has a fault, none; the report names each fault."""
    from fusiontrade.journal.imports import import_log

    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "text/csv":
        raise HTTPException(415, "send the body as text/csv")
    report = import_log(journal, user.user_id, body, system_clock(), deadline=Deadline.after(seconds))
    return once.done(ImportReport.model_validate(report))


@router.post(
    "/verify-now",
    operation_id="verifyJournal",
    status_code=202,
    response_model=Job,
    responses=problems(401, 403, 409, 429, 503),
)
@counted_as("heavy")
def verify_now(user: CurrentUser, once: Once, request: Request) -> Response:
    """Check every entry of yours that is still PENDING against the market; the job says what came of it."""
    settings: Settings = request.app.state.settings
    jobs = Jobs(Table(settings.need("models_table")), system_clock)
    order = jobs.order(user.user_id, "verify-now", {}, identity=once.id("job"))
    queue = Queue(settings.need("jobs_queue_url"))
    return accepted(order, jobs=jobs, queue=queue, once=once, request=request)


@router.get("/{entry_id}", operation_id="getJournalEntry", responses=problems(401, 403, 404, 429, 503))
def entry(
    entry_id: Annotated[str, Path(min_length=1, max_length=64, description="The id of one of your entries.")],
    user: CurrentUser,
    journal: KnownJournal,
) -> JournalEntry:
    """Show one of your entries."""
    return JournalEntry.model_validate(journal.get(user.user_id, entry_id).to_json())


app = create_app("journal", [router], Settings.from_environment(os.environ), media_types=MEDIA_TYPES)


def ahead() -> None:
    """Do before a snapshot what the first request would do."""
    load_ahead()
    read_ahead("dynamodb", "secretsmanager", "sqs")


after_restore(journal_of.cache_clear)
handler = handler_of(app, ahead)
