"""Mails of the platform to its users: what is asked for (`outbound`), and how it reads (`rendering`).

`fusiontrade.mails.rendering` imports Jinja2 when it renders and is used by the mail worker alone.
"""

from fusiontrade.mails.outbound import KINDS, BadMail, Kind, Mail, Outbound

__all__ = ["KINDS", "BadMail", "Kind", "Mail", "Outbound"]
