"""Text of users made safe to stand in a mail of ours: one line, no link, no trick with the direction of writing.

Always true here: whoever registers with another's address can put no advertisement, no link and no header into what
that person gets from us.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["device_of", "greeted", "one_line"]

_MOST_CHARACTERS = 60
_LINK = re.compile(r"[/@\\<>|]|www\.|\w[.\u2024\u3002\uff0e\uff61]\w{2,}", re.IGNORECASE)
"""A dot is also what browsers take for one (UTS 46); one letter before it is enough: ``x.com``, ``a-1.com``."""

_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_NO_TEXT = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
_OTHERS = {"curl": "curl", "python": "a Python program", "fusiontrade": "the fusiontrade command"}
_SYSTEMS = {
    "iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows", "Mac OS X": "macOS",
    "CrOS": "ChromeOS", "Linux": "Linux",
}  # fmt: skip


def one_line(text: str) -> str:
    """Return ``text`` without control characters and changes of direction, each run of spaces as one."""
    kept = (
        " " if unicodedata.category(each) in _NO_TEXT else each
        for each in unicodedata.normalize("NFC", text)
        if each not in _BIDIRECTIONAL
    )
    return " ".join("".join(kept).split())


def greeted(name: str) -> str:
    """Return the name as a mail greets it; empty where it is none: too long, or made to be clicked on."""
    line = one_line(name)
    seen = "".join(each for each in line if unicodedata.category(each) != "Cf")
    return "" if len(line) > _MOST_CHARACTERS or _LINK.search(seen) else line


def device_of(user_agent: str | None) -> str:
    """Return what signed in, in our own words; nothing of what it called itself is passed on."""
    told = user_agent or ""
    program = next((name for mark, name in _BROWSERS.items() if f"{mark}/" in told), None)
    if program is None:
        program = next((name for mark, name in _OTHERS.items() if mark in told.lower()), None)
    system = next((name for mark, name in _SYSTEMS.items() if mark in told), None)
    if program and system:
        return f"{program} on {system}"
    return program or system or "an unknown device"
