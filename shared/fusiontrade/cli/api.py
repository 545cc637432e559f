"""The platform's HTTP API as the command sees it; a refusal becomes a sentence and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

from fusiontrade.errors import InvalidInput, UnknownSymbol

if TYPE_CHECKING:
    import httpx

__all__ = [
    "DEMO_EMAIL",
    "DEMO_PASSWORD",
    "FAILED",
    "NOT_FOUND",
    "NOT_SIGNED_IN",
    "UNAVAILABLE",
    "USAGE",
    "Api",
    "CommandFailure",
]

FAILED, USAGE, NOT_SIGNED_IN, NOT_FOUND, UNAVAILABLE = 1, 2, 3, 4, 5
DEMO_EMAIL = "devtest@fusiontrade.ai"
DEMO_PASSWORD = "DevTest123!"  # noqa: S105 - the published demo account of the laptop stack

_CODE_OF = {401: NOT_SIGNED_IN, 404: NOT_FOUND, 422: USAGE, 429: UNAVAILABLE}
_ANSWER_SECONDS = 35.0
_OTHER_TIER = "fusiontrade accounts promote EMAIL --tier admin"


class CommandFailure(Exception):
    """The command cannot do what it was asked; ``code`` is its exit code, ``retry_after`` when to ask again (s)."""

    def __init__(self, message: str, code: int = FAILED, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class Api:
    """One stack, at ``url``.

    Parameters
    ----------
    url
        Its root, e.g. ``http://127.0.0.1:2001``.
    timeout
        Seconds to wait for an answer.
    """

    def __init__(self, url: str, *, timeout: float = _ANSWER_SECONDS) -> None:
        host = _host_of(url)
        if host is None:
            raise CommandFailure(f"{url!r} is no address of an API: write e.g. http://127.0.0.1:2001", USAGE)
        self.url = url.rstrip("/")
        self.is_local = host in ("127.0.0.1", "localhost", "::1")
        self._timeout = timeout

    def login(self, email: str, password: str) -> dict[str, Any]:
        """Return ``access_token``, ``expires_in`` and ``user`` of an account."""
        body = {"email": email, "password": password}
        return self.asked("POST", "/api/v1/auth/login", json=body, holds=("access_token", "expires_in"))

    def me(self, token: str) -> dict[str, Any]:
        """Return the profile that ``token`` speaks for."""
        return self.asked("GET", "/api/v1/auth/me", token=token, holds=("email", "subscription_tier"))

    def health(self) -> dict[str, Any]:
        """Return what the API says about itself."""
        return self.asked("GET", "/api/health")

    def fusion(self, symbol: str, *, token: str, as_of: str | None = None, journal: bool = False) -> dict[str, Any]:
        """Return the *FusionResponse* of ``symbol``; with ``journal`` it is an entry of the caller's journal too."""
        _check_symbol(symbol)
        params = ({"as_of": as_of} if as_of else {}) | ({"journal": "true"} if journal else {})
        path = f"/api/v1/fusion/{quote(symbol, safe='')}"
        return self.asked("GET", path, token=token, params=params, holds=("verdict", "timeframes", "targets"))

    def asked(
        self, method: str, path: str, *, token: str | None = None, holds: tuple[str, ...] = (), **arguments: Any
    ) -> dict[str, Any]:
        """Return the answer's object, which has at least the keys that it ``holds``; raises `CommandFailure`."""
        with self._answering(method, path, token, **arguments) as answer:
            answer.read()
            body = _json_of(answer)
            if answer.is_success and body is not None and body.keys() >= set(holds):
                return body
            raise _failure(answer, body, self.url)

    def download(self, path: str, *, token: str, **arguments: Any) -> tuple[bytes, dict[str, str] | None]:
        """Return the answer's body, and the query of the part that follows it, None at the end."""
        with self._answering("GET", path, token, **arguments) as answer:
            content = answer.read()
            if not answer.is_success:
                raise _failure(answer, _json_of(answer), self.url)
            following = answer.links.get("next", {}).get("url")
            return content, None if following is None else dict(parse_qsl(urlsplit(following).query))

    @contextmanager
    def _answering(self, method: str, path: str, token: str | None, **arguments: Any) -> Iterator[httpx.Response]:
        import httpx

        headers = arguments.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            with httpx.stream(
                method,
                self.url + path,
                headers=headers,
                timeout=self._timeout,
                trust_env=not self.is_local,
                **arguments,
            ) as answer:
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            remedy = "start it with: make run" if self.is_local else "check --api and the network"
            raise CommandFailure(
                f"{self.url} does not answer ({type(error).__name__}); {remedy}", UNAVAILABLE
            ) from None


def _host_of(url: str) -> str | None:
    """Return the host of an HTTP address; None where it is no such address."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is no number raises here and nowhere earlier
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") and url.isprintable() else None


def _check_symbol(symbol: str) -> None:
    """Refuse what can be no symbol, for no path can be made of it. Which symbols are known is the API's to say."""
    from fusiontrade.market.symbols import parse_symbol

    try:
        parse_symbol(symbol)
    except InvalidInput as error:
        raise CommandFailure(str(error), USAGE) from None
    except UnknownSymbol:
        return


def _json_of(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _failure(answer: httpx.Response, body: dict[str, Any] | None, url: str) -> CommandFailure:
    if body is None or "detail" not in body:
        return CommandFailure(f"{url} answered {answer.status_code} with something that is not this API's", FAILED)
    fallback = UNAVAILABLE if answer.status_code in (502, 503, 504) else FAILED
    told = str(body["detail"])
    told += "".join(
        f"\n{one['pointer']}: {one['message']}"
        for one in body.get("errors", ())
        if isinstance(one, dict) and one.keys() >= {"pointer", "message"} and str(one["message"]) not in told
    )
    if answer.status_code == 403 and " tier" in told:
        told += f"; who runs the stack gives an account another one with: {_OTHER_TIER}"
    retry = answer.headers.get("Retry-After")
    if retry and f"in {retry} s" not in told:
        told += f" (try again in {retry} s)"
    if request_id := body.get("request_id"):
        told += f" [request {request_id}]"
    again = int(retry) if retry and retry.isdecimal() else None
    return CommandFailure(told, _CODE_OF.get(answer.status_code, fallback), retry_after=again)
