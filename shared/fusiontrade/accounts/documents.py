"""What the auth endpoints take and give, as HTTP clients see it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from fusiontrade.accounts.admission.sessions import Session as StoredSession
from fusiontrade.accounts.credentials.api_keys import ApiKey as StoredKey
from fusiontrade.accounts.credentials.codes import LENGTH
from fusiontrade.accounts.credentials.passwords import MAX_LENGTH, MIN_LENGTH
from fusiontrade.accounts.identity import Scope, Tier
from fusiontrade.accounts.profiles import Profile, Segment
from fusiontrade.clock import iso

__all__ = [
    "ApiKey",
    "ApiKeys",
    "ChangeOfPassword",
    "ChangeOfProfile",
    "Code",
    "Credentials",
    "EmailOnly",
    "Me",
    "Message",
    "NewApiKey",
    "NewPassword",
    "NewUser",
    "Nothing",
    "PublicKeys",
    "Session",
    "Sessions",
    "ShownApiKey",
    "SignedIn",
    "User",
]

DEMO = "devtest@fusiontrade.ai"
CODE = "9b2f6c0d4e7a4b5c8d1e2f3a4b5c6d7eZ3Jvb2t5c2VjcmV0X29mX3RoZV9jb2Rl"
_NO_CONTROL = r"^[^\x00-\x1f\x7f\u2028\u2029]*$"


@dataclass(frozen=True)
class _Formed:
    """Demands that a text matches ``pattern`` whole; people are told ``otherwise`` and not the pattern."""

    pattern: str
    otherwise: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}

    def _checked(self, text: str) -> str:
        if re.fullmatch(self.pattern, text) is None:
            raise PydanticCustomError("malformed", "{otherwise}", {"otherwise": self.otherwise})
        return text


Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Email = Annotated[
    str,
    Field(max_length=254, examples=[DEMO]),
    _Formed(r"^[^@]+@[^@]+$", "this is no e-mail address: write one like ada@example.com"),
]
NewEmail = Annotated[
    str,
    Field(max_length=254, examples=["ada@example.com"]),
    _Formed(
        r'^ *[^@\s\x00-\x1f\x7f<>(),;:"\[\]\\]+@[^@\s\x00-\x1f\x7f<>(),;:"\[\]\\]+ *$',
        "this is no e-mail address: write one like ada@example.com",
    ),
]
Password = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]
ChosenPassword = Annotated[
    str,
    Field(
        min_length=MIN_LENGTH,
        max_length=MAX_LENGTH,
        description="Any characters; common ones and the product's name are refused.",
        examples=["a sentence that only I would write"],
    ),
]
MailedCode = Annotated[str, Field(min_length=LENGTH, max_length=LENGTH, description="From the mail.", examples=[CODE])]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True),
    Field(min_length=1, max_length=100),
    _Formed(_NO_CONTROL, "a name is one line: leave out line breaks and control characters"),
]


class Credentials(BaseModel):
    """Who wants to sign in."""

    # the examples are the laptop's demo account, so that the call shown in /docs works as it stands
    email: Email
    password: Annotated[Password, Field(examples=["DevTest123!"])]


class NewUser(BaseModel):
    """Who wants an account."""

    email: NewEmail
    password: ChosenPassword
    full_name: Annotated[Name, Field(examples=["Ada Lovelace"])]


class EmailOnly(BaseModel):
    """An address that mail shall go to."""

    email: Annotated[Email, Field(examples=["ada@example.com"])]


class Code(BaseModel):
    """A code that was mailed."""

    code: MailedCode


class NewPassword(BaseModel):
    """A code that was mailed, and the password it shall set."""

    code: MailedCode
    new_password: ChosenPassword


class ChangeOfPassword(BaseModel):
    """The password of now, and the one that shall replace it."""

    current_password: Annotated[Password, Field(examples=["DevTest123!"])]
    new_password: ChosenPassword


class ChangeOfProfile(BaseModel):
    """What of the account shall change; what is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"full_name": "Ada King", "segment": "investor"}, {"segment": None}]}
    )

    full_name: Name = Field(default_factory=str, description="What is left out stays.")
    segment: Segment | None = None
    hf_token: Annotated[str, Field(min_length=8, max_length=500, pattern=r"^[\x21-\x7e]+$")] | None = Field(
        None, description="Encrypted and never given back; null removes it.", json_schema_extra={"writeOnly": True}
    )


class NewApiKey(BaseModel):
    """A key for a program."""

    name: Annotated[Name, Field(examples=["my trading bot"])]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=2, examples=[["predict", "read"]])]


class Nothing(BaseModel):
    """An empty object."""

    model_config = ConfigDict(extra="forbid")


class Message(BaseModel):
    """What was done, in words."""

    message: str


class User(BaseModel):
    """A user, as the user sees it."""

    id: str
    email: str
    full_name: str
    is_verified: bool
    subscription_tier: Tier
    segment: Segment | None
    created_at: Instant

    @classmethod
    def of(cls, profile: Profile) -> User:
        """Return what is shown of ``profile``."""
        return cls(
            id=profile.id,
            email=profile.email,
            full_name=profile.full_name,
            is_verified=profile.is_verified,
            subscription_tier=profile.subscription_tier,
            segment=profile.segment,
            created_at=iso(profile.created_at),
        )


class Me(User):
    """The signed-in user's own account."""

    has_hf_token: bool

    @classmethod
    def of(cls, profile: Profile) -> Me:
        """Return what is shown of ``profile``."""
        return cls(**User.of(profile).model_dump(), has_hf_token=profile.has_hf_token)


class SignedIn(BaseModel):
    """An access token and whom it speaks for."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the name of the scheme
    expires_in: Annotated[int, Field(description="Seconds the access token is good for.")]
    user: User


class Session(BaseModel):
    """A device that is signed in."""

    id: str
    user_agent: str
    opened_at: Instant
    used_at: Instant
    expires_at: Instant
    is_current: Annotated[bool, Field(description="Whether it is the one that asks.")]

    @classmethod
    def of(cls, session: StoredSession, current: str) -> Session:
        """Return what is shown of ``session``."""
        return cls(
            id=session.id,
            user_agent=session.user_agent,
            opened_at=iso(session.opened_at),
            used_at=iso(session.used_at),
            expires_at=iso(session.expires_at),
            is_current=session.id == current,
        )


class Sessions(BaseModel):
    """The devices signed in, the newest first."""

    items: list[Session]
    next_cursor: Annotated[None, Field(description="There is one page.")] = None


class ApiKey(BaseModel):
    """An API key, without its text."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: Instant
    last_used_at: Annotated[Instant | None, Field(description="To the minute; null where it was never used.")]

    @classmethod
    def of(cls, key: StoredKey) -> ApiKey:
        """Return what is shown of ``key``."""
        return cls(**shown_key(key))


class ShownApiKey(ApiKey):
    """A new API key with its text, which is shown this once."""

    key: Annotated[str, Field(description="Send it as X-API-Token; it cannot be shown again.")]


class ApiKeys(BaseModel):
    """The keys of a user, the oldest first."""

    items: list[ApiKey]
    next_cursor: Annotated[None, Field(description="There is one page.")] = None


class PublicKey(BaseModel):
    """The public part of one signing key (RFC 7517)."""

    model_config = ConfigDict(extra="forbid")

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: str
    y: str
    kid: str
    use: Literal["sig"]
    alg: Literal["ES256"]


class PublicKeys(BaseModel):
    """The keys that access tokens verify with (a JWK set)."""

    keys: list[PublicKey]


def shown_key(key: StoredKey) -> dict[str, object]:
    """Return the values of an `ApiKey`."""
    used = key.last_used_at
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": iso(key.created_at),
        "last_used_at": None if used is None else iso(used),
    }
