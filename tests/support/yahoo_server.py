"""A loopback server that plays Yahoo's chart API, well and badly.

It has a small market of its own: prices are a function of symbol and time alone, FX trades from Sunday 22:00 to Friday
22:00 UTC, crypto always, equities on weekdays from 13:30 to 20:00 UTC (New York in summer). Answers have the shape of
Yahoo's, oddities included: null rows, a last row for the running bar, a live row off the grid, no adjusted close with
intraday bars. A script of `Act`s says how each chart request is met; when it is used up the server behaves well.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

from fusiontrade.clock import parse_iso

__all__ = ["NOT_FOUND", "NOW", "Act", "YahooServer", "price"]

NOW = parse_iso("2025-07-23T15:07:12Z")
"""A Wednesday; New York is open."""

_STEP = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "1d": 86_400}
_DAY = 86_400

Answer = dict[str, Any]


@dataclass(frozen=True)
class Act:
    """How one chart request is met: a well-made answer, changed by ``edit``, or ``body`` with ``status`` and headers.

    ``hang`` waits until the server is closed; ``drip`` sends the body one byte a tenth of a second; ``delay`` waits
    before answering.
    """

    status: int = 200
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    edit: Callable[[Answer], None] | None = None
    hang: bool = False
    drip: bool = False
    delay: float = 0.0

    @classmethod
    def refusal(cls, status: int, code: str, description: str) -> Act:
        """Yahoo's way to say no."""
        error = {"chart": {"result": None, "error": {"code": code, "description": description}}}
        return cls(status, json.dumps(error).encode(), {"Content-Type": "application/json"})

    @classmethod
    def html(cls, status: int = 200, text: str = "<html><body>Will be right back</body></html>") -> Act:
        """A page where JSON was asked for."""
        return cls(status, text.encode(), {"Content-Type": "text/html; charset=utf-8"})


NOT_FOUND = Act.refusal(404, "Not Found", "No data found, symbol may be delisted")


class YahooServer:
    """The server; a context manager.

    Parameters
    ----------
    now
        The present, seconds: bars after it do not exist, the bar that contains it is running.
    """

    def __init__(self, now: int) -> None:
        self.now = now
        self.requests: list[tuple[str, dict[str, str]]] = []
        """Path and query of every request, in order."""
        self.always: Act | None = None
        """How every chart request is met, where there is no script left."""
        self.of: dict[str, Act] = {}
        """How chart requests for a symbol are met, whatever the script says."""
        self.needs_crumb = False
        """Answer 401 to who has no crumb."""
        self.crumb = "cr.umb"
        """What the page that hands out crumbs says."""
        self.hangs: set[str] = set()
        """Paths beside the chart's that never answer."""
        self.known = {"EURUSD=X", "USDJPY=X", "GC=F", "BTC-USD", "AAPL", "RELIANCE.NS"}
        self._script: deque[Act] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._serve(self)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """The origin to give to the provider."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def charts(self) -> list[dict[str, str]]:
        """The queries of the chart requests, each with its ``symbol``."""
        with self._lock:
            marker = "/v8/finance/chart/"
            return [{**query, "symbol": path.removeprefix(marker)} for path, query in self.requests if marker in path]

    def plays(self, *acts: Act) -> None:
        """Meet the next chart requests like this, one act each."""
        self._script.extend(acts)

    def __enter__(self) -> YahooServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        path, query = unquote(parts.path), {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._lock:
            self.requests.append((path, query))
        if path in self.hangs:
            self._closing.wait(60)
            handler.close_connection = True
        elif path == "/v1/test/getcrumb":
            _send(handler, 200, self.crumb.encode(), {"Content-Type": "text/plain"})
        elif path.startswith("/v8/finance/chart/"):
            self._chart(handler, path.rsplit("/", 1)[1], query)
        else:
            _send(handler, 404, b"", {"Set-Cookie": "A3=visitor; Path=/"})

    def _chart(self, handler: BaseHTTPRequestHandler, symbol: str, query: dict[str, str]) -> None:
        with self._lock:
            act = self.of.get(symbol) or (self._script.popleft() if self._script else self.always or Act())
        if self.needs_crumb and query.get("crumb") != "cr.umb":
            act = Act.refusal(401, "Unauthorized", "Invalid Crumb")
        if act.hang:
            self._closing.wait(60)
            handler.close_connection = True
            return
        time.sleep(act.delay)
        status, body, headers = act.status, act.body, dict(act.headers)
        if body is None:
            status, body, headers = self._well(symbol, query, act)
        _send(handler, status, body, headers, pause=0.1 if act.drip else 0.0)

    def _well(self, symbol: str, query: dict[str, str], act: Act) -> tuple[int, bytes, dict[str, str]]:
        if symbol not in self.known:
            assert NOT_FOUND.body is not None
            return NOT_FOUND.status, NOT_FOUND.body, NOT_FOUND.headers
        answer = self.answer(symbol, query)
        if act.edit is not None:
            act.edit(answer["chart"]["result"][0])
        return act.status, json.dumps(answer).encode(), {"Content-Type": "application/json", **act.headers}

    def answer(self, symbol: str, query: dict[str, str]) -> Answer:
        """Return Yahoo's answer to ``query``."""
        interval = query["interval"]
        begins, ends = int(query.get("period1", self.now - 5 * _DAY)), int(query.get("period2", self.now))
        ends = min(ends, self.now)
        step, offset = _STEP[interval], 0 if interval == "1d" else _offset(symbol)
        first = -(-(begins - offset) // step) * step + offset
        times = [at for at in range(first, ends, step) if _trades(symbol, at, interval)]
        rows = [_bar(symbol, at, step) for at in times]
        quote = {name: [row[name] for row in rows] for name in ("open", "high", "low", "close", "volume")}
        indicators: Answer = {"quote": [quote if times else {}]}
        if interval == "1d":
            indicators["adjclose"] = [{"adjclose": quote["close"]} if times else {}]
        result: Answer = {"meta": _meta(symbol, interval, begins, ends), "indicators": indicators}
        if times:
            result["timestamp"] = [at + (_opening(symbol) if interval == "1d" else 0) for at in times]
        return {"chart": {"result": [result], "error": None}}


def price(symbol: str, at: float) -> float:
    """Return the price of ``symbol`` at ``at`` (seconds)."""
    level = 1.0 + sum(symbol.encode()) % 97
    days = at / _DAY
    return level * (1 + 0.02 * math.sin(days * 0.7) + 0.004 * math.sin(days * 11) + 0.001 * math.sin(days * 131))


def _bar(symbol: str, at: int, step: int) -> dict[str, float]:
    path = [price(symbol, at + step * part / 8) for part in range(9)]
    volume = 0 if symbol.endswith("=X") else 1000 + at % 977
    return {"open": path[0], "high": max(path), "low": min(path), "close": path[-1], "volume": volume}


def _is_equity(symbol: str) -> bool:
    return not symbol.endswith(("=X", "=F")) and "-" not in symbol


def _offset(symbol: str) -> int:
    return 1800 if _is_equity(symbol) else 0


def _opening(symbol: str) -> int:
    return 48_600 if _is_equity(symbol) else 0


def _trades(symbol: str, at: int, interval: str) -> bool:
    if "-" in symbol:
        return True
    weekday, second = (at // _DAY + 3) % 7, at % _DAY
    if _is_equity(symbol):
        return weekday < 5 and (interval == "1d" or 48_600 <= second < 72_000)
    if interval == "1d":
        return weekday < 5
    return weekday < 4 or (weekday == 4 and second < 79_200) or (weekday == 6 and second >= 79_200)


def _meta(symbol: str, interval: str, begins: int, ends: int) -> Answer:
    zone = "America/New_York" if _is_equity(symbol) or symbol.endswith("=F") else "UTC"
    kind = "EQUITY" if _is_equity(symbol) else "CRYPTOCURRENCY" if "-" in symbol else "CURRENCY"
    shift = -14_400 if zone != "UTC" else 0
    periods = [_period(symbol, zone, day) for day in range(begins // _DAY - 1, ends // _DAY + 1)]
    meta: Answer = {
        "currency": "USD",
        "symbol": symbol,
        "exchangeName": "CCY",
        "instrumentType": kind,
        "firstTradeDate": 1_070_236_800,
        "regularMarketTime": ends,
        "gmtoffset": shift,
        "timezone": "EDT" if shift else "UTC",
        "exchangeTimezoneName": zone,
        "priceHint": 4,
        "dataGranularity": interval,
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "max"],
    }
    if interval != "1d":
        meta["tradingPeriods"] = [[period] for period in periods]
    return meta


def _period(symbol: str, zone: str, day: int) -> Answer:
    """Return the hours of one day: equities' session, else midnight to midnight in the market's zone."""
    date = datetime.fromtimestamp(day * _DAY, UTC).replace(tzinfo=ZoneInfo(zone))
    begins, length = (day * _DAY + 48_600, 23_400) if _is_equity(symbol) else (int(date.timestamp()), _DAY - 60)
    return {"timezone": zone, "start": begins, "end": begins + length, "gmtoffset": 0}


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], *, pause: float = 0.0
) -> None:
    try:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if not pause:
            handler.wfile.write(body)
            return
        for byte in body:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(pause)
    except OSError:
        handler.close_connection = True  # the client had enough
