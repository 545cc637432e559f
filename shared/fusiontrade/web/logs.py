"""Structured log lines: one Powertools logger a function, and the same form for every library's own records.

Always true here: a line is one JSON object on standard output; while a request runs it carries its id. No value of a
header, query or body is ever logged by the floor.
"""

from __future__ import annotations

import logging
from functools import cache

from aws_lambda_powertools import Logger

__all__ = ["logger_of", "take_over"]


@cache
def logger_of(service: str, level: str) -> Logger:
    """Return the logger of one function; the same one for the same arguments."""
    return Logger(service=service, level=level)


def take_over(logger: Logger, level: str) -> None:
    """Give the records of plain `logging` the form of ``logger``, on the handlers that the runtime installed."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logger.registered_formatter)
    logging.getLogger("fusiontrade").setLevel(level)
