"""The mail function: what the product asked the ``mail`` queue for is rendered and handed over. At least once.

A message that nobody takes now is delivered again, and ends in the dead-letter queue after its attempts; one whose
recipient is refused for good is done with: trying again would only hurt the sender's name.
"""

from __future__ import annotations

import logging
import os
from functools import cache

from fusiontrade.cloud.batches import Record
from fusiontrade.cloud.deliveries import delivery_of
from fusiontrade.cloud.mail import Delivery, MailRefused
from fusiontrade.cloud.session import read_ahead
from fusiontrade.figures import Figures
from fusiontrade.mails.outbound import KINDS, WITH_CODE, Mail
from fusiontrade.mails.rendering import Letterhead, Unaddressable, render
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore, before_snapshot
from fusiontrade.workers import queue_handler

SECONDS_FOR_ONE = 12.0
"""The most that one mail takes, with a margin: none is begun with less time left."""

logger = logging.getLogger("fusiontrade.mails")
settings = Settings.from_environment(os.environ)
figures = Figures("mail", settings.stage)
letterhead = Letterhead(settings.site_origin.rstrip("/"), settings.mail_from)


@cache
def delivery() -> Delivery:
    """Return the configured way out; made at the first mail."""
    return delivery_of(settings)


def work(record: Record) -> None:
    """Send the mail of one record."""
    mail = Mail.from_body(record.body)
    if mail.kind == "nobody":
        return
    try:
        delivery().send(render(mail, letterhead))
    except (MailRefused, Unaddressable) as refused:
        logger.warning("a mail of kind %s is refused for good: %s", mail.kind, refused)
        figures.count(MailsRefused=1)
    else:
        logger.info("a mail of kind %s was taken", mail.kind)
        figures.count(MailsTaken=1)


@before_snapshot
def ahead() -> None:
    """Do before a snapshot what the first mail would do: every template is compiled, nothing is sent."""
    for kind in KINDS:
        if kind != "nobody":
            render(Mail(kind, "ahead@example.com", "", "ahead" if kind in WITH_CODE else None, 0), letterhead)
    if settings.mail_delivery == "ses":
        read_ahead("sesv2")


after_restore(delivery.cache_clear)
handler = queue_handler("mail", settings, work, seconds_for_one=SECONDS_FOR_ONE)
