"""Yahoo's chart API over HTTP: bounded, and distrusted until its answer has been looked at.

Plays the part of yfinance's own `YfData` (the ``data`` of its `PriceHistory`), which fetches a cookie and a crumb
before each first request with timeouts of its own, keeps failed answers in a cache and takes plain closes for
adjusted ones when Yahoo leaves those out. Here every request ends within the deadline, nothing is cached, the sign-in
happens only when Yahoo asks for one, and an answer reaches yfinance only if it is JSON with every column, and bars of
the length, that was asked for.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, ProviderUnavailable, UnknownSymbol
from fusiontrade.market.providers.base import HistoryUnavailable
from fusiontrade.market.retry import AskedToWait, NothingSent

__all__ = ["ChartAnswer", "ChartRequest", "YahooHosts", "YahooSession"]

_SIGN_IN_SECONDS = 3.0  # at most, for each of its two requests
_SIGN_IN_AGAIN_SECONDS = 900.0
_LONGEST_WAIT = 3600  # s: what a Retry-After is cut to
_USUAL_WAIT = 60  # s: for a 429 that does not say
_ALIASES = {"60m": "1h"}
_PRICES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class YahooHosts:
    """Where Yahoo is: origins without a trailing slash."""

    chart: str = "https://query2.finance.yahoo.com"
    cookie: str = "https://fc.yahoo.com"
    crumb: str = "https://query1.finance.yahoo.com"

    @classmethod
    def at(cls, base_url: str | None) -> YahooHosts:
        """Return Yahoo itself, or, for ``base_url``, a server that plays every part of it."""
        if base_url is None:
            return cls()
        origin = base_url.rstrip("/")
        return cls(origin, origin, origin)


class YahooSession:
    """Connections, cookies and the crumb, shared by all requests and threads.

    curl_cffi (what yfinance itself uses) is imported with the first request: it is heavy, and most processes that know
    the provider never ask it.
    """

    def __init__(self, hosts: YahooHosts, clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts = hosts
        self._clock = clock
        self._lock = threading.Lock()
        self._http: Any = None
        self._crumb: str | None = None
        self._signed_in_at: float | None = None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._http is not None:
                self._http.close()
                self._http = None

    def chart(self, code: str, params: Mapping[str, object], deadline: Deadline) -> Any:
        """Return the HTTP answer for the chart of ``code``, signing in first where Yahoo wants that.

        Raises
        ------
        ProviderUnavailable
            If there is no answer within the deadline, or Yahoo's servers fail.
        AskedToWait
            If Yahoo limits our requests.
        """
        answer = self._chart(code, params, deadline)
        if answer.status_code in {401, 403, 429} and self._sign_in(deadline):
            answer = self._chart(code, params, deadline)
        if answer.status_code == 429:
            raise AskedToWait("Yahoo limits our requests (429)", retry_after=_retry_after(answer.headers))
        if answer.status_code in {401, 403} or answer.status_code >= 500:
            raise ProviderUnavailable(f"Yahoo answered with status {answer.status_code}")
        return answer

    def _chart(self, code: str, params: Mapping[str, object], deadline: Deadline) -> Any:
        crumb = {} if self._crumb is None else {"crumb": self._crumb}
        url = f"{self._hosts.chart}/v8/finance/chart/{quote(code, safe='=^')}"
        return self._get(url, {**params, **crumb}, deadline)

    def _get(self, url: str, params: Mapping[str, object], deadline: Deadline) -> Any:
        from curl_cffi import requests

        with self._lock:
            if self._http is None:
                self._http = requests.Session(impersonate="chrome")
            http = self._http
        seconds = deadline.remaining()
        if seconds <= 0:
            raise ProviderUnavailable("no time was left to ask Yahoo")
        try:
            return http.get(url, params=dict(params), timeout=seconds)
        except requests.exceptions.Timeout as error:
            raise ProviderUnavailable(f"Yahoo did not answer within {seconds:.1f} s") from error
        except requests.exceptions.RequestException as error:
            raise ProviderUnavailable(f"Yahoo cannot be reached ({type(error).__name__})") from error

    def _sign_in(self, deadline: Deadline) -> bool:
        """Fetch the cookie and the crumb of an anonymous visitor; whether there is something new to try with."""
        with self._lock:
            now = self._clock()
            if self._signed_in_at is not None and now - self._signed_in_at < _SIGN_IN_AGAIN_SECONDS:
                return False
            self._signed_in_at = now
        try:
            self._get(f"{self._hosts.cookie}/", {}, deadline.within(_SIGN_IN_SECONDS))
            answer = self._get(f"{self._hosts.crumb}/v1/test/getcrumb", {}, deadline.within(_SIGN_IN_SECONDS))
        except ProviderUnavailable:
            return False
        text = answer.text.strip()
        if answer.status_code != 200 or not text or "<" in text or " " in text:
            return False
        self._crumb = text
        return True


@dataclass(frozen=True)
class ChartAnswer:
    """What yfinance reads of an answer."""

    text: str
    payload: dict[str, Any]

    def json(self) -> dict[str, Any]:
        """Return the parsed body."""
        return self.payload


class ChartRequest:
    """One question to the chart API; `get` and `cache_get` are what yfinance calls.

    Parameters
    ----------
    session
        Where to ask.
    code
        Yahoo's symbol.
    daily
        Whether adjusted closes are wanted: Yahoo sends them with daily bars only.
    deadline
        By when the answer has to be there, whatever timeout yfinance passes.
    """

    def __init__(self, session: YahooSession, code: str, *, daily: bool, deadline: Deadline) -> None:
        self._session = session
        self._code = code
        self._daily = daily
        self._deadline = deadline
        self.result: dict[str, Any] = {}
        """The part of the last answer that holds the bars, as Yahoo sent it."""

    def get(self, url: str, params: Mapping[str, object], timeout: float = 0.0) -> ChartAnswer:  # noqa: ARG002
        """Return the chart, checked; ``url`` and ``timeout`` are yfinance's and not used."""
        answer = self._session.chart(self._code, params, self._deadline)
        payload = _parsed(answer)
        self.result = self._checked(payload)
        self._check_length(str(params.get("interval")))
        return ChartAnswer(answer.text, payload)

    cache_get = get

    def _checked(self, payload: dict[str, Any]) -> dict[str, Any]:
        chart = payload.get("chart")
        if not isinstance(chart, dict):
            raise ProviderUnavailable("Yahoo's answer lacks 'chart'")
        if chart.get("error"):
            raise _refusal(self._code, chart["error"])
        results = chart.get("result")
        if not results or not isinstance(results[0], dict):
            raise ProviderUnavailable(f"Yahoo sent an empty answer for {self._code}")
        if missing := self._missing(results[0]):
            raise ProviderUnavailable(f"Yahoo's answer for {self._code} lacks {', '.join(map(repr, missing))}")
        return dict(results[0])

    def _check_length(self, asked: str) -> None:
        """Refuse bars of another length: Yahoo may send longer ones than it was asked for, and no error."""
        sent = (self.result.get("meta") or {}).get("dataGranularity")
        if sent and _ALIASES.get(sent, sent) != _ALIASES.get(asked, asked):
            raise ProviderUnavailable(f"Yahoo sent {sent} bars of {self._code} instead of {asked}")

    def _missing(self, result: dict[str, Any]) -> list[str]:
        indicators = result.get("indicators") or {}
        quotes = (indicators.get("quote") or [{}])[0] or {}
        if not quotes and not result.get("timestamp"):
            raise NothingSent(f"Yahoo knows {self._code} but sent no bars for the time asked about")
        missing = [name for name in _PRICES if not isinstance(quotes.get(name), list)]
        if not isinstance(result.get("timestamp"), list):
            missing.insert(0, "timestamp")
        adjusted = (indicators.get("adjclose") or [{}])[0] or {}
        if self._daily and not isinstance(adjusted.get("adjclose"), list):
            missing.append("adjclose")
        return missing


def _parsed(answer: Any) -> dict[str, Any]:
    try:
        payload = json.loads(answer.content)
    except ValueError:
        kind = answer.headers.get("Content-Type", "something").split(";")[0]
        raise ProviderUnavailable(f"Yahoo answered with {kind} instead of JSON") from None
    if not isinstance(payload, dict):
        raise ProviderUnavailable(f"Yahoo answered with a JSON {type(payload).__name__} instead of an object")
    return payload


def _refusal(code: str, error: object) -> FusionTradeError:
    """Return the error that Yahoo's own words stand for."""
    described = error if isinstance(error, dict) else {"description": str(error)}
    kind, words = str(described.get("code")), str(described.get("description"))
    if kind == "Not Found" or "delisted" in words or "No data found" in words:
        return UnknownSymbol(code)
    if "must be within the last" in words or "Data doesn't exist for startDate" in words:
        return HistoryUnavailable(f"Yahoo keeps no such history of {code}: {words}")
    return ProviderUnavailable(f"Yahoo refused {code}: {kind}: {words}")


def _retry_after(headers: Mapping[str, str]) -> int:
    text = headers.get("Retry-After") or ""
    return min(max(1, int(text)), _LONGEST_WAIT) if text.strip().isdecimal() else _USUAL_WAIT
