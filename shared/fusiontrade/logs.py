"""Structured log lines: one Powertools logger a function, and the same form for every library's own records.

Always true here: a line is one JSON object on standard output; while a request or a message is worked on, it carries
its id; no record of the product is lost for the name of its module.
"""

from __future__ import annotations

import logging
from functools import cache

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.filters import SuppressFilter

__all__ = ["logger_of", "take_over"]


@cache
def logger_of(service: str, level: str) -> Logger:
    """Return the logger of one function; the same one for the same arguments."""
    return Logger(service=service, level=level)


def take_over(logger: Logger, level: str) -> None:
    """Give the records of plain `logging` the form of ``logger``, on the handlers that the runtime installed."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logger.registered_formatter)
        for each in [it for it in handler.filters if isinstance(it, SuppressFilter)]:
            handler.removeFilter(each)
            handler.addFilter(_NotOurOwn(each.logger))
    logging.getLogger("fusiontrade").setLevel(level)


class _NotOurOwn(logging.Filter):
    """Drops what a Powertools logger has written itself: its own records, and no other's.

    Powertools' filter drops whatever has the service's name anywhere in its own: all of ``fusiontrade`` in the service
    ``fusion``, ``fusiontrade.mails`` in ``mail``.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is another's."""
        return record.name != self._service and not record.name.startswith(f"{self._service}.")
