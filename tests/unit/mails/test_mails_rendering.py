"""How mails read, and what nobody can make them say."""

from __future__ import annotations

import re
import subprocess
import sys
from email import message_from_string
from email.message import EmailMessage
from email.policy import SMTP
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiontrade.accounts.credentials.codes import LIFE_SECONDS
from fusiontrade.cloud.mail import wire_form
from fusiontrade.mails import KINDS, BadMail, Kind, Mail
from fusiontrade.mails.outbound import WITH_CODE
from fusiontrade.mails.rendering import KIND_HEADER, Letterhead, Unaddressable, render

AT = 1_750_000_000_123
CODE = "Aa09_-" * 10 + "zzzz"
ORIGIN = "https://app.example.com"
HEAD = Letterhead(ORIGIN, "FusionTrade AI <no-reply@example.com>")
WORDED = tuple(kind for kind in KINDS if kind != "nobody")


def mail(kind: Kind = "verification", **changes: Any) -> Mail:
    parts: dict[str, Any] = {"to": "ada@example.com", "name": "Ada Lovelace", "at": AT}
    parts["code"] = CODE if kind in WITH_CODE else None
    return Mail(kind, **(parts | changes))


def read(message: EmailMessage) -> EmailMessage:
    """The message as whoever gets it reads it."""
    return message_from_string(wire_form(message).decode(), policy=SMTP)  # type: ignore[return-value]


def parts_of(message: EmailMessage) -> tuple[str, str]:
    """Text and HTML."""
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    return text.get_content(), html.get_content()


class Page(HTMLParser):
    """Elements, links and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def links(self) -> list[str]:
        return [value for name, value in self.attributes if name == "href"]


@pytest.mark.parametrize(
    ("kind", "subject", "told"),
    [
        ("verification", "Confirm your e-mail address - FusionTrade AI", "for 24 hours"),
        ("reset", "Reset your password - FusionTrade AI", "for 15 minutes"),
        ("password_changed", "Your password was changed - FusionTrade AI", "15 June 2025, 15:06 UTC"),
        ("new_sign_in", "New sign-in to your account - FusionTrade AI", "an unknown device, for the first time"),
        ("already_registered", "You already have an account - FusionTrade AI", "nothing was changed"),
    ],
)
def test_each_kind_says_what_it_is_about_in_both_parts(kind: Kind, subject: str, told: str) -> None:
    message = read(render(mail(kind), HEAD))
    assert message["Subject"] == subject
    assert message[KIND_HEADER] == kind
    text, html = parts_of(message)
    for part in (text, Page(html).text):
        words = " ".join(part.split())
        assert told in words
        assert "Hello Ada Lovelace," in words
        assert "never ask for your password" in words


def test_what_mails_say_of_a_codes_life_is_its_life() -> None:
    assert LIFE_SECONDS == {"verification": 24 * 3600, "reset": 15 * 60}  # as the two templates say


def test_headers_name_sender_recipient_and_instant() -> None:
    message = read(render(mail(), HEAD))
    assert message["From"] == "FusionTrade AI <no-reply@example.com>"
    assert message["To"] == "Ada Lovelace <ada@example.com>"
    assert message["Date"].datetime.isoformat() == "2025-06-15T15:06:40+00:00"
    assert re.fullmatch(r"<20250615T150640\.123Z\.verification\.[0-9a-f]{32}@example\.com>", message["Message-ID"])
    assert message["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    ("kind", "link"),
    [("verification", f"{ORIGIN}/verify-email?code={CODE}"), ("reset", f"{ORIGIN}/reset-password?code={CODE}")],
)
def test_code_and_link_stand_in_both_parts_and_in_one_piece(kind: Kind, link: str) -> None:
    sent = wire_form(render(mail(kind), HEAD)).decode()
    assert sent.count(f"\n{link}\r\n") == 1  # a person who opens the file, or a script, finds it on a line of its own
    text, html = parts_of(read(render(mail(kind), HEAD)))
    assert f"\n{CODE}\n" in text.replace("\r", "")
    assert Page(html).links == [link, link]
    assert CODE in Page(html).text.split()


def test_a_code_with_signs_of_a_link_cannot_lead_elsewhere() -> None:
    _, html = parts_of(read(render(mail(code="x&next=//evil.example#\"'><a>"), HEAD)))
    (link, _) = Page(html).links
    assert link == f"{ORIGIN}/verify-email?code=x%26next%3D%2F%2Fevil.example%23%22%27%3E%3Ca%3E"
    assert Page(html).tags.count("a") == 2


@pytest.mark.parametrize("kind", WORDED)
def test_every_link_begins_with_the_configured_origin_and_nothing_is_loaded(kind: Kind) -> None:
    text, html = parts_of(read(render(mail(kind, device="Mozilla/5.0 https://evil.example"), HEAD)))
    assert {
        link for link in re.findall(r"\w+://[^\s]+", text) if link != ORIGIN and not link.startswith(ORIGIN + "/")
    } == set()
    page = Page(html)
    assert all(link.startswith(ORIGIN + "/") for link in page.links)
    assert not {"script", "img", "link", "iframe", "object", "form", "input", "svg", "video"} & set(page.tags)
    assert not {"src", "srcset", "background", "action", "onclick", "onload"} & {name for name, _ in page.attributes}
    assert "url(" not in html
    assert "@import" not in html


@pytest.mark.parametrize("kind", WORDED)
def test_the_same_mail_is_the_same_bytes_and_another_one_another_message(kind: Kind) -> None:
    assert wire_form(render(mail(kind), HEAD)) == wire_form(render(Mail.from_body(mail(kind).to_body()), HEAD))
    one, later = render(mail(kind), HEAD), render(mail(kind, at=AT + 1), HEAD)
    assert one["Message-ID"] != later["Message-ID"]


@pytest.mark.parametrize("kind", WORDED)
def test_a_narrow_screen_is_enough_and_the_page_is_small(kind: Kind) -> None:
    html = parts_of(read(render(mail(kind), HEAD)))[1]
    assert 'name="viewport" content="width=device-width' in html
    assert "overflow-wrap:anywhere" in html  # the code has 64 characters and no space
    assert not re.search(r"(?<!max-)width\s*[:=]\s*\"?[0-9]+(px|\")", html)
    assert len(html) < 10_000


def test_names_are_escaped_in_html_and_stand_as_they_are_in_text() -> None:
    message = read(render(mail(name='O\'Neil & "Sons" {{ 7 * 7 }} {% raw %}'), HEAD))
    text, html = parts_of(message)
    assert 'Hello O\'Neil & "Sons" {{ 7 * 7 }} {% raw %},' in text
    assert "O&#39;Neil &amp; &#34;Sons&#34; {{ 7 * 7 }}" in html
    assert message["To"].addresses[0].display_name == 'O\'Neil & "Sons" {{ 7 * 7 }} {% raw %}'


@pytest.mark.parametrize(
    "name",
    [
        "Ada\r\nBcc: everybody@example.com",
        "Ada\nSubject: You have won\n\nclick",
        "Ada\x00\x0b\x0c\x1c\x85\u2028\u2029Bcc: x@example.com",
        "=?utf-8?q?Ada=0D=0ABcc:_x=40example.com?=",
        '"Ada" <x@example.com>, y@example.com',
    ],
)
@pytest.mark.parametrize("kind", WORDED)
def test_a_name_can_add_no_header_and_no_recipient(kind: Kind, name: str) -> None:
    message = read(render(mail(kind, name=name), HEAD))
    assert message.keys() == read(render(mail(kind), HEAD)).keys()
    assert [address.addr_spec for address in message["To"].addresses] == ["ada@example.com"]
    assert message["Subject"].endswith(" - FusionTrade AI")


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "You won! Visit evil.example",
        "https://evil.example/win",
        "WWW.evil",
        "call\\me",
        "write to prize@evil.example",
        "visit x.com now",
        "free-money-1.com",
        "evil\u3002com",
        "evil\uff0ecom",
        "evil.\u200bcom",
        "evil\u00ad.com",
        "x" * 61,
        "\u202e\u2066\r\n\t",
        "",
    ],
)
def test_whoever_registers_anothers_address_can_advertise_nothing(name: str) -> None:
    message = read(render(mail(name=name), HEAD))
    text, html = parts_of(message)
    assert text.startswith("Hello,")
    assert ">Hello,<" in html
    assert message["To"] == "ada@example.com"


def test_direction_marks_are_taken_out_of_a_name() -> None:
    assert "Hello Ada ecalevoL," in parts_of(render(mail(name="Ada \u202eecalevoL\u202c"), HEAD))[0]


@pytest.mark.parametrize("name", ["Žofie Çelik", "山田太郎", "محمد", "😀 Ada", "e\u0301ric"])
def test_names_of_every_script_arrive(name: str) -> None:
    import unicodedata

    message = read(render(mail(name=name), HEAD))
    whole = unicodedata.normalize("NFC", name)
    assert message["To"].addresses[0].display_name == whole
    assert all(f"Hello {whole}," in " ".join(part.split()) for part in parts_of(message))


@pytest.mark.parametrize(
    ("to", "written"),
    [
        ("a,b@example.com", '"a,b"@example.com'),
        ('a"b@example.com', '"a\\"b"@example.com'),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("me@straße.example", "me@xn--strae-oqa.example"),
        ("adä@example.com", "adä@example.com"),
        ("x@y@example.com", '"x@y"@example.com'),
    ],
)
def test_unusual_addresses_are_written_as_one_address(to: str, written: str) -> None:
    message = read(render(mail(to=to), HEAD))
    assert [address.addr_spec for address in message["To"].addresses] == [written]


@pytest.mark.parametrize(
    "to",
    [
        "ada@example.com\r\nBcc: x@example.com",
        "ada@exam\nple.com",
        "ada lovelace@example.com",
        "nobody",
        "@example.com",
        "ada@",
        "ada@\u2028example.com",
        "ada@ex\u202eample.com",
        "ada@-ü.example",
    ],
)
def test_what_is_no_address_is_said_to_be_none(to: str) -> None:
    with pytest.raises(Unaddressable):
        render(mail(to=to), HEAD)


@given(name=st.text(max_size=200), device=st.text(max_size=200))
def test_whatever_users_write_makes_one_message_to_one_address(name: str, device: str) -> None:
    message = read(render(mail("new_sign_in", name=name, device=device), HEAD))
    assert [address.addr_spec for address in message["To"].addresses] == ["ada@example.com"]
    assert message.keys() == read(render(mail("new_sign_in"), HEAD)).keys()
    assert Page(parts_of(message)[1]).tags == Page(parts_of(render(mail("new_sign_in"), HEAD))[1]).tags


@given(to=st.text(max_size=100))
def test_whatever_stands_for_an_address_is_one_recipient_or_none(to: str) -> None:
    try:
        message = read(render(mail(to=to), HEAD))
    except Unaddressable:
        return
    assert len(message["To"].addresses) == 1
    assert message.keys() == read(render(mail(), HEAD)).keys()


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Linux"),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36 Edg/126.0",
            "Edge on Windows",
        ),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Linux; Android 14) Chrome/126.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.5.0", "curl"),
        ("python-httpx/0.28", "a Python program"),
        ("Click https://evil.example now", "an unknown device"),
        ("", "an unknown device"),
    ],
)
def test_a_device_is_named_in_our_words(agent: str, told: str) -> None:
    text = parts_of(render(mail("new_sign_in", device=agent), HEAD))[0]
    assert f"from {told}, for the first time." in text
    assert "evil" not in text


@pytest.mark.parametrize(
    "origin",
    [
        "app.example.com",
        "ftp://app.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?x=1",
        "javascript:alert(1)",
        "https://",
    ],
)
def test_an_origin_that_is_none_is_refused_with_the_remedy(origin: str) -> None:
    with pytest.raises(ValueError, match=r"SITE_ORIGIN is .* write scheme and host"):
        Letterhead(origin, "FusionTrade AI <no-reply@example.com>")


def test_a_sender_without_an_address_is_refused() -> None:
    with pytest.raises(ValueError, match="MAIL_FROM is 'FusionTrade AI'"):
        Letterhead(ORIGIN, "FusionTrade AI")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "spam"},
        {**mail().to_body(), "kind": "spam"},
        {**mail().to_body(), "code": None},
        {**mail("password_changed").to_body(), "code": "x"},
        {**mail().to_body(), "to": 7},
        {**mail().to_body(), "name": None},
        {**mail().to_body(), "at": "now"},
        {**mail().to_body(), "at": -1},
        {**mail().to_body(), "extra": 1},
        {**mail().to_body(), "name": "x" * 3000},
    ],
)
def test_what_is_no_mail_of_ours_is_refused_at_the_door(body: dict[str, Any]) -> None:
    with pytest.raises(BadMail):
        Mail.from_body(body)


def test_nobody_gets_no_words() -> None:
    with pytest.raises(BadMail, match="nobody has no words"):
        render(Mail("nobody", "ada@example.com", "", "any", AT), HEAD)


def test_asking_for_a_mail_imports_no_template_engine() -> None:
    program = (
        "import sys, fusiontrade.mails, fusiontrade.cloud.queues;"
        "print(sorted({'jinja2', 'smtplib', 'botocore', 'fastapi'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
