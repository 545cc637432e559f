"""An SMTP server on loopback with STARTTLS and a certificate of its own, that also misbehaves as it is told."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """A self-made certificate with its key, as files."""

    certificate: Path
    key: Path

    def trusting(self) -> ssl.SSLContext:
        """What a client that trusts it connects with."""
        return ssl.create_default_context(cafile=str(self.certificate))


def make_certificate(folder: Path, *, host: str = "127.0.0.1") -> Certificate:
    """A certificate for ``host``, a name or an address, good for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = Certificate(folder / f"{host}.crt", folder / f"{host}.key")
    paths.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@dataclass(frozen=True)
class Taken:
    """A message that was taken, and how."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    encrypted: bool
    options: str


@dataclass
class SmtpServer:
    """What it does and what it saw; ``injected`` is said in plain text behind the answer to STARTTLS.
    With ``hangs_after`` it takes so many messages and answers the next one's content no more.

    ``faults`` maps a moment (``banner``, ``EHLO``, ``STARTTLS``, ``AUTH``, ``MAIL``, ``RCPT``, ``DATA``, ``content``)
    to a reply such as ``"451 4.3.0 later"``, or to one of ``hang``, ``drip`` and ``drop``.
    """

    certificate: Certificate
    login: tuple[str, str] | None = None
    starttls: bool = True
    smtputf8: bool = False
    injected: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    hangs_after: int | None = None
    hanging: bool = False
    closing: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[SmtpServer]:
        played = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, _Dropped):
                    _Conversation(played, self.request).talk()

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        with Server((self.host, 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self.closing.set()
                server.shutdown()
                thread.join()


class _Dropped(Exception):
    pass


class _Conversation:
    def __init__(self, server: SmtpServer, connection: socket.socket) -> None:
        self.server, self.connection = server, connection
        self.encrypted = self.logged_in = False
        self.sender, self.options = "", ""
        self.recipients: list[str] = []
        self.buffer = b""

    def talk(self) -> None:
        try:
            self.reply("banner", "220 loopback ESMTP")
            while (line := self.line()) is not None:
                verb = line.split(maxsplit=1)[0].upper() if line.split() else ""
                self.server.seen.append(f"{verb}{line[len(verb) :]}")
                if verb == "QUIT":
                    self.write("221 bye")
                    return
                self.command(verb, line)
        finally:
            self.connection.close()

    def command(self, verb: str, line: str) -> None:
        actions = {"EHLO": self.ehlo, "STARTTLS": self.upgrade, "AUTH": self.auth, "MAIL": self.mail}
        actions |= {"RCPT": self.rcpt, "DATA": self.data}
        if verb in actions:
            actions[verb](line)
        elif verb == "RSET":
            self.write("250 ok")
        else:
            self.write("500 unknown")

    def ehlo(self, line: str) -> None:
        offers = ["8BITMIME"]
        if self.server.starttls and not self.encrypted:
            offers.append("STARTTLS")
        if self.server.smtputf8:
            offers.append("SMTPUTF8")
        if self.server.login is not None and self.encrypted:
            offers.append("AUTH PLAIN LOGIN")
        lines = ["loopback", *offers]
        self.reply("EHLO", "\r\n".join(f"250{'-' if at < len(lines) - 1 else ' '}{it}" for at, it in enumerate(lines)))

    def upgrade(self, line: str) -> None:
        go_ahead = "220 go ahead" + (f"\r\n{self.server.injected}" if self.server.injected else "")
        if not self.reply("STARTTLS", go_ahead):
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server.certificate.certificate, self.server.certificate.key)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.encrypted, self.buffer = True, b""

    def auth(self, line: str) -> None:
        told = line.split()[2] if len(line.split()) > 2 else ""
        given = tuple(base64.b64decode(told).decode().split("\0")[1:])
        self.logged_in = given == self.server.login
        self.reply("AUTH", "235 2.7.0 ok" if self.logged_in else "535 5.7.8 wrong")

    def mail(self, line: str) -> None:
        if self.server.login is not None and not self.logged_in:
            self.write("530 5.7.0 log in first")
        elif self.reply("MAIL", "250 ok"):
            path, _, self.options = line.partition(":")[2].strip().partition(" ")
            self.sender, self.recipients = path.strip("<>"), []

    def rcpt(self, line: str) -> None:
        if self.reply("RCPT", "250 ok"):
            self.recipients.append(line.partition(":")[2].strip().partition(" ")[0].strip("<>"))

    def data(self, line: str) -> None:
        if not self.reply("DATA", "354 go on"):
            return
        content = []
        while (each := self.raw_line()) not in (None, b".\r\n"):
            content.append(each[1:] if each.startswith(b".") else each)
        if self.server.faults.get("content") == "drop after taking":
            self.take(content)
            raise _Dropped
        if self.server.hangs_after is not None and len(self.server.taken) >= self.server.hangs_after:
            self.server.hanging = True
            self.server.closing.wait(30)
            raise _Dropped
        if "content" not in self.server.faults:
            self.take(content)
        self.reply("content", "250 2.0.0 taken")

    def take(self, content: list[bytes]) -> None:
        taken = Taken(self.sender, tuple(self.recipients), b"".join(content), self.encrypted, self.options)
        self.server.taken.append(taken)

    def reply(self, moment: str, usual: str) -> bool:
        """Answer as told; returns whether it was the usual answer."""
        fault = self.server.faults.get(moment)
        if fault == "drop":
            raise _Dropped
        if fault == "hang":
            self.server.closing.wait(30)
            raise _Dropped
        if fault == "drip":
            while not self.server.closing.wait(0.02):  # an answer that never ends
                self.connection.sendall(b"220-x\r\n")
        self.write(fault or usual)
        return fault is None

    def write(self, text: str) -> None:
        self.connection.sendall(text.encode() + b"\r\n")

    def line(self) -> str | None:
        raw = self.raw_line()
        return None if raw is None else raw.decode().rstrip("\r\n")

    def raw_line(self) -> bytes | None:
        while b"\n" not in self.buffer:
            more = self.connection.recv(65536)
            if not more:
                return None
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"
