"""Clients of the auth function, honest and not, and the mails they get."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from fusiontrade.cloud.session import client
from fusiontrade.mails.outbound import Mail
from fusiontrade.settings import Settings
from tests.support.http_api import Answer

PASSWORD = "correct horse battery"
NEW = "another horse battery"
Call = Callable[..., Answer]


@dataclass
class Inbox:
    """What lies on the mail queue, taken off it as it is read."""

    url: str
    mails: list[Mail] = field(default_factory=list)

    def all(self) -> list[Mail]:
        sqs = client("sqs")
        while found := sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                self.mails.append(Mail.from_body(json.loads(message["Body"])["body"]))
                sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        self.mails.sort(key=lambda mail: mail.at)
        return self.mails

    def code(self, kind: str, to: str) -> str:
        return next(mail.code or "" for mail in reversed(self.all()) if (mail.kind, mail.to) == (kind, to))


@dataclass
class Client:
    """A browser or a program: where it is, what it calls itself, what it was given."""

    auth: Call
    address: str = "192.0.2.1"
    agent: str = "Firefox/130"
    token: str = ""
    cookie: str = ""
    """Of the session."""
    device: str = ""
    """The cookie of the device."""

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = {"User-Agent": self.agent, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if cookies := "; ".join(cookie for cookie in (self.cookie, self.device) if cookie):
            sent.setdefault("Cookie", cookies)
        answer = self.auth(method, f"/api/v1/auth{path}", json_body=body, headers=sent, address=self.address)
        self.remember(answer)
        return answer

    def remember(self, answer: Answer) -> None:
        for cookie in (each.partition(";")[0] for each in answer.cookies):
            if cookie.startswith("__Secure-device="):
                self.device = cookie
            else:
                self.cookie = cookie
        if answer.status == 200 and '"access_token"' in answer.text:
            self.token = answer.json()["access_token"]

    def register(self, email: str = "ada@example.com", password: str = PASSWORD, name: str = "Ada") -> Answer:
        return self("POST", "/register", {"email": email, "password": password, "full_name": name})

    def login(self, email: str = "ada@example.com", password: str = PASSWORD) -> Answer:
        return self("POST", "/login", {"email": email, "password": password})

    def refresh(self, **headers: str) -> Answer:
        return self("POST", "/refresh", {}, **headers)


@pytest.fixture
def inbox(mail_queue_url: str) -> Inbox:
    return Inbox(mail_queue_url)


@pytest.fixture
def stranger(auth: Call) -> Client:
    """Somebody without an account."""
    return Client(auth, address="198.51.100.66", agent="curl/8")


@pytest.fixture
def ada(auth: Call, inbox: Inbox) -> Client:
    """A verified user who is signed in on a laptop."""
    made = Client(auth)
    assert made.register().status == 202
    assert made("POST", "/verify-email", {"code": inbox.code("verification", "ada@example.com")}).status == 200
    assert made.login().status == 200
    return made


@pytest.fixture
def eve(auth: Call, inbox: Inbox) -> Client:
    """Another verified user, who means no good."""
    made = Client(auth, address="203.0.113.13", agent="Chrome/128")
    made.register("eve@example.com", NEW, "Eve")
    made("POST", "/verify-email", {"code": inbox.code("verification", "eve@example.com")})
    assert made.login("eve@example.com", NEW).status == 200
    return made


@pytest.fixture
def with_origins(auth_settings: Settings) -> Settings:
    return auth_settings.model_copy(update={"allowed_origins": ("https://app.example.com",)})
