"""Mail by SMTP: never a word of a message, or of our password, before the line is encrypted and the server is proven.

Always true here: a server that offers no STARTTLS, or whose certificate does not prove its name, gets nothing; no
silence is borne longer than `SECONDS` in all, however slowly a server drips; what the server did not plainly take was
not sent.
"""

from __future__ import annotations

import contextlib
import json
import logging
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from email.message import EmailMessage
from typing import NamedTuple

from fusiontrade.cloud.mail import MailRefused, recipient_of, sender_of, wire_form
from fusiontrade.errors import StateUnavailable

__all__ = ["SECONDS", "Login", "SmtpDelivery"]

SECONDS = 10.0
"""The most that one message may take, from the first packet to the last answer."""

_OURS_TO_PUT_RIGHT = frozenset({503, 530, 534, 535, 538})
"""Refusals of us, not of the message: log in first, wrong password."""

logger = logging.getLogger(__name__)


class Login(NamedTuple):
    """Who we are to the server."""

    username: str
    password: str

    @classmethod
    def from_secret(cls, text: str) -> Login:
        """Return the login of a secret's text, ``{"username": ..., "password": ...}``.

        Raises
        ------
        StateUnavailable
            If it is something else.
        """
        try:
            parts = json.loads(text)
            return cls(str(parts["username"]), str(parts["password"]))
        except (KeyError, TypeError, ValueError):
            raise StateUnavailable('the SMTP secret is not {"username": ..., "password": ...}') from None


class SmtpDelivery:
    """The SMTP server at ``host``:``port``.

    Parameters
    ----------
    host, port
        Where it listens; the certificate has to be ``host``'s.
    login : callable, optional
        Gives the login at each message, so that a rotated password is taken up; None to send without.
    context : ssl.SSLContext, optional
        Which certificates to trust; the system's where None.
    seconds : float
        The most that one message may take.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        login: Callable[[], Login] | None = None,
        context: ssl.SSLContext | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self._host, self._port, self._login, self._seconds = host, port, login, seconds
        self._context = context or ssl.create_default_context()

    def send(self, message: EmailMessage) -> None:
        """Hand one message over; see `fusiontrade.cloud.mail.Delivery.send`."""
        recipient, content = recipient_of(message).addr_spec, wire_form(message)
        login = self._login() if self._login is not None else None
        sender = sender_of(message)
        try:
            with _Session(self._host, self._port, self._seconds, name=sender.domain) as session:
                session.starttls(context=self._context)
                session.ehlo_or_helo_if_needed()
                if login is not None:
                    session.login(*login)
                session.sendmail(sender.addr_spec, [recipient], content, _options(session, recipient))
        except smtplib.SMTPRecipientsRefused as refused:
            code, words = refused.recipients[recipient]
            raise _failure("the recipient", code, words) from None
        except smtplib.SMTPDataError as refused:
            raise _failure("the message", refused.smtp_code, refused.smtp_error) from None
        except (smtplib.SMTPException, OSError) as error:
            logger.warning("the mail server did not take a message: %s", type(error).__name__)
            raise StateUnavailable(f"the mail server did not take it: {_reason(error)}", retry_after=60) from error


def _options(session: smtplib.SMTP, recipient: str) -> list[str]:
    if recipient.isascii():
        return []
    if not session.has_extn("smtputf8"):
        raise MailRefused("the mail server takes no address with letters outside ASCII")
    return ["SMTPUTF8", "BODY=8BITMIME"]


def _failure(what: str, code: int, words: bytes | str) -> Exception:
    """Return what a refusal means: 5xx is for good, unless it is about us (RFC 3463: 5.7 is policy and security)."""
    told = words.decode("ascii", "replace") if isinstance(words, bytes) else words
    if code >= 500 and code not in _OURS_TO_PUT_RIGHT and not told.lstrip().startswith("5.7."):
        return MailRefused(f"the mail server refused {what}: {code}")
    return StateUnavailable(f"the mail server does not take {what} now: {code}", retry_after=60)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__} {getattr(error, 'smtp_code', '')}".strip()


class _Session(smtplib.SMTP):
    """A connection that is cut after ``seconds``, whatever the server does in between."""

    def __init__(self, host: str, port: int, seconds: float, *, name: str) -> None:
        self._over = threading.Event()
        threading.Thread(target=self._cut_after, args=(seconds,), daemon=True).start()
        try:
            super().__init__(host, port, local_hostname=name, timeout=seconds)
        except BaseException:
            self._over.set()
            raise

    def _cut_after(self, seconds: float) -> None:
        self._over.wait(seconds)
        while not self._over.wait(0.05):
            with contextlib.suppress(OSError, AttributeError):  # the socket is exchanged while STARTTLS shakes hands
                self.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]

    def __exit__(self, *exception: object) -> None:
        """Say goodbye; what the server says to that changes nothing any more."""
        try:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                self.quit()
        finally:
            self.close()
            self._over.set()
