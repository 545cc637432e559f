"""Mails that are refused for good are counted: nobody delivers them again, so nothing else would tell of them."""

from __future__ import annotations

import importlib
import json
from email.message import EmailMessage

import pytest

from fusiontrade.cloud.batches import Record
from fusiontrade.cloud.mail import MailRefused
from fusiontrade.figures import Figures


class Refusing:
    """A way out that refuses one recipient for good."""

    def send(self, mail: EmailMessage) -> None:
        if "gone" in mail["To"]:
            raise MailRefused("MessageRejected")


def test_a_mail_is_counted_as_taken_or_as_refused_for_good(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAGE", "local")
    app = importlib.import_module("functions.mail.app")
    monkeypatch.setattr(app, "figures", Figures("mail", "prod"))
    monkeypatch.setattr(app, "delivery", Refusing)
    for to in ("ada@example.com", "gone@example.com"):
        body = {"kind": "password_changed", "to": to, "name": "", "code": None, "at": 1, "device": None}
        app.work(Record("m", body, "r", 1, 0))
    counts = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert [(each.get("MailsTaken"), each.get("MailsRefused")) for each in counts] == [([1.0], None), (None, [1.0])]
    assert {each["service"] for each in counts} == {"mail"}
