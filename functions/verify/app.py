"""The verify function: every 15 minutes, what the market has decided is settled. One call of the product."""

from __future__ import annotations

import os
from typing import Any

from fusiontrade.deadline import Deadline
from fusiontrade.figures import Figures
from fusiontrade.logs import logger_of, take_over
from fusiontrade.settings import Settings

SECONDS_TO_SPARE = 5.0

settings = Settings.from_environment(os.environ)
logger = logger_of("verify", settings.log_level)
figures = Figures("verify", settings.stage)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Settle what is due; ``{"shards": ["00", "01"]}`` names parts of the journal, anything else means all of it."""
    from fusiontrade.journal.verification import ALL_SHARDS, verification_of

    take_over(logger, settings.log_level)
    seconds = context.get_remaining_time_in_millis() / 1000 - SECONDS_TO_SPARE
    asked = event.get("shards") or ALL_SHARDS
    report = verification_of(settings).run(Deadline.after(seconds), [each for each in ALL_SHARDS if each in asked])
    told = report.to_json()
    logger.info("verified", extra={**told, "fetches": report.fetches})
    figures.count(EntriesSettled=report.settled, CandlesMissing=len(report.failures), RunsCutShort=not report.complete)
    return told
