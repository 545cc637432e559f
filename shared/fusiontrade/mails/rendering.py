"""How mails read: an HTML part and a text part of the same words, in one message that is the same each time.

Always true here: every link begins with the configured origin; text of users is escaped and cannot make a header; the
same `Mail` gives the same bytes, so that a mail which goes out twice is one mail to whoever gets it; nothing is loaded
from anywhere when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from fusiontrade.mails.outbound import BadMail, Kind, Mail
from fusiontrade.mails.wording import device_of, greeted, one_line

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["KIND_HEADER", "Letterhead", "Unaddressable", "render"]

KIND_HEADER = "X-FusionTrade-Mail"
"""Says what a mail is about, for filters and for ``fusiontrade mail``."""

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_OCTETS_A_LINE = 998

_SUBJECTS: Mapping[Kind, str] = {
    "verification": "Confirm your e-mail address",
    "reset": "Reset your password",
    "password_changed": "Your password was changed",
    "new_sign_in": "New sign-in to your account",
    "already_registered": "You already have an account",
}
_PATHS: Mapping[Kind, str] = {
    "verification": "/verify-email",
    "reset": "/reset-password",
    "password_changed": "/forgot-password",
    "new_sign_in": "/forgot-password",
    "already_registered": "/login",
}


class Unaddressable(BadMail):
    """No mail can be addressed to what was given as an address."""


@dataclass(frozen=True)
class Letterhead:
    """Whom mails are from and which site they lead to.

    Attributes
    ----------
    site_origin : str
        ``https://app.example.com``: scheme, host and port, and nothing behind them.
    sender : str
        ``FusionTrade AI <no-reply@example.com>``.

    Raises
    ------
    ValueError
        If one of them is something else.
    """

    site_origin: str
    sender: str

    def __post_init__(self) -> None:
        """Check both."""
        parts = urlsplit(self.site_origin)
        origin = f"{parts.scheme}://{parts.netloc}"
        if parts.scheme not in ("http", "https") or not parts.hostname or self.site_origin != origin:
            raise ValueError(f"SITE_ORIGIN is {self.site_origin!r}: write scheme and host, https://app.example.com")
        if "@" not in parseaddr(self.sender)[1]:
            raise ValueError(f"MAIL_FROM is {self.sender!r}: write FusionTrade AI <no-reply@example.com>")

    @property
    def address(self) -> Address:
        """The sender as a header holds it."""
        name, address = parseaddr(self.sender)
        return Address(name, addr_spec=address)


def render(mail: Mail, letterhead: Letterhead) -> EmailMessage:
    """Return the message of ``mail``.

    Raises
    ------
    BadMail
        If it is for nobody.
    Unaddressable
        If its address cannot be written to: no domain, or one that is none.
    """
    if mail.kind not in _SUBJECTS:
        raise BadMail(f"a mail of kind {mail.kind} has no words")
    identity = _identity(mail)
    message = EmailMessage(policy=SMTP)
    message["From"] = letterhead.address
    message["To"] = _recipient(mail)
    message["Subject"] = f"{_SUBJECTS[mail.kind]} - FusionTrade AI"
    message["Date"] = format_datetime(datetime.fromtimestamp(mail.at // 1000, UTC))
    message["Message-ID"] = f"<{identity}@{letterhead.address.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = "en"
    message[KIND_HEADER] = mail.kind
    words = _words(mail, letterhead.site_origin)
    for kind in ("text", "html"):
        content = _environment().get_template(f"{mail.kind}.{'txt' if kind == 'text' else 'html'}").render(words)
        add = message.set_content if kind == "text" else message.add_alternative
        add(content, subtype="plain" if kind == "text" else "html", cte=_encoding_of(content))
    message.set_boundary(f"part-{hashlib.sha256(identity.encode()).hexdigest()[:32]}")
    return message


def _identity(mail: Mail) -> str:
    """Return what is the same for the same mail only: when, what about, and a hash of all of it."""
    moment = datetime.fromtimestamp(mail.at // 1000, UTC)
    digest = hashlib.sha256(json.dumps(mail.to_body(), sort_keys=True).encode()).hexdigest()
    return f"{moment:%Y%m%dT%H%M%S}.{mail.at % 1000:03d}Z.{mail.kind}.{digest[:32]}"


def _recipient(mail: Mail) -> Address:
    local, _, domain = mail.to.rpartition("@")
    if not local or not domain or one_line(mail.to) != mail.to or " " in mail.to:
        raise Unaddressable("an address has a name and a domain, and neither spaces nor control characters")
    try:
        return Address(greeted(mail.name), username=local, domain=_ascii_domain(domain))
    except (ValueError, UnicodeError) as error:
        raise Unaddressable(f"no mail can be addressed to it: {type(error).__name__}") from error


def _ascii_domain(domain: str) -> str:
    """Return the domain as the name service knows it (IDNA 2008: ``ß`` is its own letter and not ``ss``)."""
    if domain.isascii():
        return domain
    import idna

    return idna.encode(domain, uts46=True).decode()


def _words(mail: Mail, origin: str) -> dict[str, str]:
    link = origin + _PATHS[mail.kind]
    if mail.code:
        link += f"?code={quote(mail.code, safe='')}"
    moment = datetime.fromtimestamp(mail.at // 1000, UTC)
    return {
        "subject": _SUBJECTS[mail.kind],
        "name": greeted(mail.name),
        "link": link,
        "code": mail.code or "",
        "site": origin,
        "at": f"{moment.day} {moment:%B %Y, %H:%M} UTC",
        "device": device_of(mail.device),
        "reset_link": f"{origin}/forgot-password",
    }


def _encoding_of(content: str) -> str:
    """Return how a part is sent: as it stands where it may be, so that a file of it can be read and searched."""
    plain = content.isascii() and all(len(line) <= _MOST_OCTETS_A_LINE for line in content.splitlines())
    return "7bit" if plain else "quoted-printable"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(enabled_extensions=("html",), default=False),
        undefined=StrictUndefined,
        auto_reload=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
