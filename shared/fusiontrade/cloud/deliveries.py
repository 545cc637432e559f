"""Which way mail goes is configuration: ``MAIL_DELIVERY`` is ses, smtp or outbox."""

from __future__ import annotations

from fusiontrade.cloud.mail import Delivery, Outbox, SesDelivery
from fusiontrade.cloud.secrets import Secrets
from fusiontrade.settings import Settings

__all__ = ["delivery_of"]


def delivery_of(settings: Settings) -> Delivery:
    """Return the way that ``settings`` choose.

    Raises
    ------
    SettingsError
        If a variable is missing that this way needs.
    """
    if settings.mail_delivery == "ses":
        return SesDelivery()
    if settings.mail_delivery == "outbox":
        from pathlib import Path

        return Outbox(Path(settings.need("mail_outbox")))
    from fusiontrade.cloud.smtp import Login, SmtpDelivery

    host, arn = settings.need("smtp_host"), settings.smtp_secret_arn
    if arn is None:
        return SmtpDelivery(host, settings.smtp_port)
    secrets = Secrets()
    return SmtpDelivery(host, settings.smtp_port, login=lambda: Login.from_secret(secrets.read(arn)))
