"""The worker of training jobs, wired from a process's settings; what is heavy is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fusiontrade.forecasts.jobs import JobOrder
    from fusiontrade.journal.entries import Entry
    from fusiontrade.journal.store import Asked, Journal
    from fusiontrade.registry.backtesting import Backtest
    from fusiontrade.registry.drift import Entries
    from fusiontrade.registry.training import Candles
    from fusiontrade.registry.turns import TurnWorker, Work
    from fusiontrade.registry.versions import ModelVersion, Registry
    from fusiontrade.settings import Settings

__all__ = ["backtest_of", "candles_of", "registry_of", "worker"]

_SECONDS_FOR_CANDLES = 30.0
_SECONDS_FOR_A_FORECAST = 15.0
_SECONDS_FOR_FORECASTS = 5.0
"""Of one turn: its end is when a job shows how far it is, and when others have theirs."""
_PAGE = 200


def registry_of(settings: Settings) -> Registry:
    """Return the registry that ``settings`` point at."""
    from fusiontrade.clock import system_clock
    from fusiontrade.cloud.tables import Table
    from fusiontrade.registry.versions import Registry

    return Registry(Table(settings.need("models_table")), system_clock)


def candles_of(settings: Settings) -> Candles:
    """Return who has candles for a training."""
    from fusiontrade.cloud.storage import Storage
    from fusiontrade.deadline import Deadline
    from fusiontrade.market.candles import CandleFrame
    from fusiontrade.market.factory import candle_source
    from fusiontrade.market.symbols import parse_symbol
    from fusiontrade.market.timeframes import Timeframe

    source = candle_source(settings, Storage(settings.need("artifacts_bucket")))

    def candles(symbol: str, interval: str, bars: int) -> CandleFrame:
        asked = parse_symbol(symbol), Timeframe.parse(interval)
        return source.candles(*asked, count=bars, deadline=Deadline.after(_SECONDS_FOR_CANDLES)).frame

    return candles


def worker(settings: Settings) -> TurnWorker:
    """Return what works the training queue off; raises `SettingsError` where a variable is not set."""
    from fusiontrade.clock import system_clock
    from fusiontrade.cloud.queues import Queue
    from fusiontrade.cloud.sagemaker import SageMaker
    from fusiontrade.cloud.storage import Storage
    from fusiontrade.cloud.tables import Table
    from fusiontrade.forecasts.jobs import Jobs
    from fusiontrade.journal.entries import PLATFORM
    from fusiontrade.registry import drift, rollout
    from fusiontrade.registry.asked import TrainingWanted
    from fusiontrade.registry.backtesting import KIND
    from fusiontrade.registry.bundles import Bundles
    from fusiontrade.registry.training import FINETUNE, TRAIN, Place, Training
    from fusiontrade.registry.turns import Turns, TurnWorker

    table = Table(settings.need("models_table"))
    queue = Queue(settings.need("training_queue_url"))
    storage = Storage(settings.need("artifacts_bucket"))
    jobs, registry, bundles, sagemaker = Jobs(table, system_clock), registry_of(settings), Bundles(storage), SageMaker()

    def promote(order: JobOrder, model_id: str, version: str) -> str:
        asked = {"model_id": model_id, "version": version, "force": False}
        following = jobs.order(order.owner, rollout.KIND, asked, identity=f"{order.id}p")
        queue.send(following.message())
        jobs.create(following)
        return following.id

    training = Training(
        registry,
        bundles,
        storage,
        sagemaker=sagemaker,
        place=Place(
            image=settings.training_image or "",
            role=settings.training_role_arn or "",
            instance_type=settings.training_instance_type,
            most_seconds=settings.training_most_seconds,
            poll_seconds=settings.training_poll_seconds,
        ),
        candles=candles_of(settings),
        clock=system_clock,
        promote=promote,
    )
    exchange = rollout.Rollout(
        registry,
        bundles,
        table,
        sagemaker=sagemaker,
        endpoint=settings.need("endpoint_name"),
        seconds=settings.training_poll_seconds,
        clock=system_clock,
    )

    def retrain(version: ModelVersion, identity: str) -> str:
        try:
            wanted = TrainingWanted.model_validate(
                {
                    "symbol": next(iter(version.symbols), ""),
                    "symbols": version.symbols[1:],
                    "interval": version.interval,
                    "model_type": version.model_type,
                }
            )
        except ValueError:  # a kind that no job trains: an encoder, the daily models
            return ""
        following = jobs.order(PLATFORM, TRAIN, wanted.request(), identity=identity)
        queue.send(following.message())
        jobs.create(following)
        return following.id

    kinds: dict[str, Work] = {
        KIND: backtest_of(settings),
        TRAIN: training,
        FINETUNE: training,
        rollout.KIND: exchange,
        drift.KIND: drift.Drift(registry, _entries_of(settings), retrain, system_clock),
    }
    return TurnWorker(jobs, Turns(table), queue, kinds, system_clock)


def backtest_of(settings: Settings) -> Backtest:
    """Return what does backtests."""
    import time

    from fusiontrade.clock import iso, system_clock
    from fusiontrade.cloud.storage import Storage
    from fusiontrade.cloud.tables import Table
    from fusiontrade.deadline import Deadline
    from fusiontrade.fusion.factory import fusion_service
    from fusiontrade.fusion.journaling import entry_of
    from fusiontrade.journal.entries import PLATFORM
    from fusiontrade.journal.store import Asked, Journal
    from fusiontrade.market.candles import CandleFrame
    from fusiontrade.market.factory import candle_source
    from fusiontrade.market.symbols import parse_symbol
    from fusiontrade.market.timeframes import Timeframe
    from fusiontrade.registry.backtesting import MOST_BARS, Backtest

    storage = Storage(settings.need("artifacts_bucket"))
    source = candle_source(settings, storage)
    service = fusion_service(settings.model_copy(update={"models_table": None}))  # the past is asked without learning
    journal = Journal(Table(settings.need("journal_table")), system_clock)

    def bars(symbol: str, interval: str, since: int, until: int) -> CandleFrame:
        timeframe, deadline = Timeframe.parse(interval), Deadline.after(_SECONDS_FOR_CANDLES)
        count = min(MOST_BARS + 1, max(1, (until - since) // timeframe.milliseconds))
        answer = source.candles(parse_symbol(symbol), timeframe, count=count, as_of=until, deadline=deadline)
        return answer.frame.rows(answer.frame.time >= since)

    def forecasts(symbol: str, at: int) -> Entry:
        deadline = Deadline.after(_SECONDS_FOR_A_FORECAST)
        response = service.fused(symbol, include_sentiment=False, as_of=iso(at), deadline=deadline)
        return entry_of(parse_symbol(symbol), response, owner=PLATFORM, source="manual")

    def entries(symbol: str, since: int, until: int) -> Iterator[Entry]:
        found = _platforms(journal, Asked(symbol=symbol, since=since, until=until + 1))
        return (entry for entry in found if entry.data_source == source.provider.name)  # of the prices that are traded

    def turn() -> Callable[[], bool]:
        ends = time.monotonic() + _SECONDS_FOR_FORECASTS
        return lambda: time.monotonic() < ends

    return Backtest(
        storage,
        Table(settings.need("models_table")),
        bars=bars,
        forecasts=forecasts,
        entries=entries,
        turn=turn,
    )


def _entries_of(settings: Settings) -> Entries:
    """Return who has the platform's journal."""
    from fusiontrade.clock import system_clock
    from fusiontrade.cloud.tables import Table
    from fusiontrade.journal.store import Asked, Journal

    journal = Journal(Table(settings.need("journal_table")), system_clock)
    return lambda since: _platforms(journal, Asked(since=since))


def _platforms(journal: Journal, asked: Asked) -> Iterator[Entry]:
    """Return every entry of the platform's own journal that is asked for, page by page."""
    from fusiontrade.journal.entries import PLATFORM

    after: str | None = None
    while True:
        page = journal.page(PLATFORM, asked, limit=_PAGE, after=after)
        yield from page.entries
        if (after := page.after) is None:
            return
