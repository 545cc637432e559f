"""What an account is, and where its parts lie on the Accounts table.

Layout (``pk``, ``sk``):

============================  ====================  ==================================================================
``USER#<id>``                 PROFILE               the profile; ``hf_token`` (encrypted); ``api_keys`` (how many)
``USER#<id>``                 GATE, SESSION#…       see ``gate`` and ``sessions`` in `fusiontrade.accounts.admission`
``USER#<id>``                 CODE#<purpose>        hash of the newest code, tries, ``expires_at`` (s)
``USER#<id>``                 KEY#<key id>          an API key: hash, name, scopes, last use
``EMAIL#<normal form>``       EMAIL                 user_id, mail_to, password_hash, attempts, attempted_at (ms),
                                                    the same of known devices (``attempts_0``, …), devices,
                                                    devices_valid_after (s: devices known up to then are strangers),
                                                    signed_in_at (ms, of the newest session),
                                                    is_disputed (registered with two passwords), and a copy of the
                                                    profile: signing in reads one item
``ATTEMPTS#<normal form>``    ATTEMPTS              attempts, attempted_at (ms): addresses without an account
``MAILS#<normal form>``       <purpose>#<window>    how many mails went to the address, and for whom
``ADDRESS#<hash>``            SIGN-IN#<window>      attempts to sign in from one network address or known device
``OUTBOX``                    <at>#<random>         a mail that is owed, see `fusiontrade.accounts.by_mail.outbox`
``NOBODY#<random>``           NOBODY                written where an address has no account, so that time tells nothing
============================  ====================  ==================================================================

Always true here: an address belongs to one user; the profile, its copy and the tier on the gate item change in one
transaction.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from fusiontrade.accounts.identity import Tier
from fusiontrade.cloud.values import Item
from fusiontrade.errors import InvalidInput

__all__ = [
    "SIGNED_IN_AT",
    "Profile",
    "Segment",
    "copy_of",
    "email_key",
    "mail_address",
    "normal_email",
    "profile_key",
    "profile_of",
    "profile_of_entry",
    "stored",
    "written_email",
]

Segment = Literal["short_term_trader", "investor", "manager", "quant"]
SIGNED_IN_AT = "signed_in_at"
"""Says on the e-mail item that a session was opened, to whoever ends all sessions at that moment."""
_END = re.compile(r"[\s.]+\Z")
_MOST_BYTES = 1024  # DynamoDB's keys end at 2,048


@dataclass(frozen=True)
class Profile:
    """What a user may see and change of the account; ``created_at`` is ms since 1970-01-01 UTC."""

    id: str
    email: str
    full_name: str
    is_verified: bool
    subscription_tier: Tier
    segment: Segment | None
    created_at: int
    has_hf_token: bool = False


def normal_email(text: str) -> str:
    """Return the one spelling under which an address is kept.

    The name is stripped, NFC and case folded; the domain is what the name service is asked for: lower case, without
    the dot of the root, non-ASCII letters by IDNA 2008 with the mapping of UTS 46 (``Ｂücher.example.`` is
    ``xn--bcher-kva.example``; ``ß`` is a letter of its own there and not ``ss``).

    Raises
    ------
    InvalidInput
        If it is longer than a key may be (some characters grow sixfold when they are normalised), or no such domain
        can exist.
    """
    name, at, domain = text.strip().rpartition("@")
    address = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()) + at + _ascii_domain(domain)
    if len(address.encode()) > _MOST_BYTES:
        raise InvalidInput("body/email", "this is too long for an e-mail address")
    return address


def written_email(text: str) -> str:
    """Return an address as its owner wrote it, for the mails to it: without what no mail server is told."""
    return _END.sub("", text.strip())


def _ascii_domain(written: str) -> str:
    domain = _END.sub("", written)
    if domain.isascii():
        named = domain.lower()
    else:
        import idna

        try:
            named = _END.sub("", idna.encode(domain, uts46=True).decode())
        except UnicodeError:
            named = ""
    if not named:
        raise InvalidInput("body/email", "no e-mail address has such a domain; look at what stands behind the @")
    return named


def email_key(address: str) -> dict[str, str]:
    """Return the key of the e-mail item of a normal address."""
    return {"pk": f"EMAIL#{address}", "sk": "EMAIL"}


def profile_key(user_id: str) -> dict[str, str]:
    """Return the key of a user's profile."""
    return {"pk": f"USER#{user_id}", "sk": "PROFILE"}


def stored(profile: Profile) -> Item:
    """Return the attributes of the profile's item, without its key."""
    return {name: value for name, value in asdict(profile).items() if name != "has_hf_token"}


def copy_of(profile: Profile) -> Item:
    """Return the attributes of the copy on the e-mail item, without its key."""
    return {name: value for name, value in stored(profile).items() if name != "id"} | {"user_id": profile.id}


def profile_of(item: Mapping[str, Any]) -> Profile:
    """Return the profile that the profile's item holds."""
    return _profile(item, item["id"])


def profile_of_entry(item: Mapping[str, Any]) -> Profile:
    """Return the profile that the copy on an e-mail item holds; it does not know of an ``hf_token``."""
    return _profile(item, item["user_id"])


def mail_address(entry: Mapping[str, Any]) -> str:
    """Return where mail to the owner of an e-mail item goes: the address as the owner wrote it.

    Never the address of a request: two that are kept under one normal form may be two mailboxes (ß and ss).
    """
    return str(entry.get("mail_to") or entry["email"])


def _profile(item: Mapping[str, Any], user_id: str) -> Profile:
    return Profile(
        id=user_id,
        email=item["email"],
        full_name=item["full_name"],
        is_verified=item["is_verified"],
        subscription_tier=cast(Tier, item["subscription_tier"]),
        segment=cast("Segment | None", item.get("segment")),
        created_at=item["created_at"],
        has_hf_token="hf_token" in item,
    )
