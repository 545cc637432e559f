"""Files over HTTP: bytes are kept as they come, so that a connection that breaks costs nothing that was there.

Always true here: no more is written than the caller allows; content is taken as it lies there, never unpacked; what
was asked for over https never comes over http; a connection that only drips counts as broken; messages name addresses
up to their path, since what follows it may be a signature.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from fusiontrade.errors import BundleRefused, InvalidInput, Unavailable

if TYPE_CHECKING:
    import httpx

__all__ = ["LARGEST", "LOOPBACK", "Answered", "Web", "parts_of", "plain", "written"]

LARGEST = 8 << 30
"""Bytes of a file that are fetched at most."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SECONDS = 30.0
_TRIES = 5
_ENOUGH = 1 << 20  # bytes after which a connection that breaks is not one of the tries
_DRIP = 16 << 10  # bytes that a connection has to bring in `_WATCHED` seconds
_WATCHED = 60.0
_TOLD_FROM = 32 << 20  # bytes of a file whose progress is told


class Answered(Exception):
    """A status that says that asking again is of no use."""

    def __init__(self, status: int, address: str) -> None:
        super().__init__(f"{plain(address)} answered {status}")
        self.status = status


class Web:
    """A client of one place.

    Parameters
    ----------
    direct
        Whether proxies of the environment are left out, as for this machine.
    tell
        Given a sentence about how far a large file is.
    pause
        Waits so many seconds between two tries.
    clock
        Seconds that only ever grow.
    """

    def __init__(
        self,
        *,
        direct: bool,
        tell: Callable[[str], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import httpx

        self._tell, self._pause, self._clock = tell, pause, clock
        self._client = httpx.Client(
            timeout=_SECONDS,
            follow_redirects=True,
            max_redirects=5,
            trust_env=not direct,
            event_hooks={"response": [_check_redirect]},
        )

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def whole(self, address: str, limit: int) -> bytes:
        """Return a small file.

        Raises
        ------
        InvalidInput
            If it is longer than ``limit``.
        Answered, Unavailable
            As for `append`.
        """
        content = bytearray()
        self._patiently(address, lambda: self._read(address, content, limit), lambda: 0)
        return bytes(content)

    def append(
        self, address: str, part: Path, *, limit: int = LARGEST, headers: Mapping[str, str] | None = None
    ) -> None:
        """Write what ``part`` lacks of a file to its end, or all of it; ``headers`` go to that host alone.

        Raises
        ------
        BundleRefused
            If the file is longer than ``limit``, where nothing of it stays, or an https address leads to http.
        Answered
            If the server refuses.
        Unavailable
            If the connection breaks again and again, or nothing can be written; what has come stays.
        """
        given = {**(headers or {}), "Accept-Encoding": "identity"}
        with written(part):
            self._patiently(address, lambda: self._go_on(address, part, limit, given), lambda: _size(part))

    def _patiently(self, address: str, read: Callable[[], None], size: Callable[[], int]) -> None:
        """Call ``read`` until it comes to its end; a connection that was cut off is made anew."""
        import httpx

        turn, longest = 0, size()
        while True:
            try:
                return read()
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status < 500 and status != 429:
                    raise Answered(status, address) from None
                told = f"{plain(address)} answered {status}"
            except (httpx.HTTPError, _Dripping) as error:
                told = f"{plain(address)}: {type(error).__name__.strip('_')}"
            grown, longest = size() - longest, max(longest, size())
            turn = 1 if grown >= _ENOUGH else turn + 1
            if turn >= _TRIES:
                raise Unavailable(f"{told}; what has come stays, run the command again to go on")
            self._pause(0.25 * 2 ** (turn - 1))

    def _read(self, address: str, content: bytearray, limit: int) -> None:
        content.clear()
        with self._client.stream("GET", address, headers={"Accept-Encoding": "identity"}) as answer:
            answer.raise_for_status()
            for chunk in self._chunks(answer):
                content += chunk
                if len(content) > limit:
                    raise InvalidInput("manifest", f"{plain(address)} is longer than {limit} bytes")

    def _go_on(self, address: str, part: Path, limit: int, headers: Mapping[str, str]) -> None:
        known = _size(part)
        ranged = {"Range": f"bytes={known}-"} if known else {}
        with self._client.stream("GET", address, headers={**headers, **ranged}) as answer:
            if answer.status_code == 416 and known:  # nothing follows what is there: its hash decides
                return
            answer.raise_for_status()
            at = known if _goes_on(answer, known) else 0
            whole = at + int(answer.headers.get("Content-Length") or 0)
            with part.open("r+b" if at else "wb") as file:
                file.seek(at)
                for chunk in self._chunks(answer):  # as it comes: what waits for more would be lost with the connection
                    if file.tell() + len(chunk) > limit:
                        break
                    before = file.tell()
                    file.write(chunk)
                    file.flush()
                    self._progress(before, file.tell(), whole)
                else:
                    return
        part.unlink()
        raise BundleRefused(f"{plain(address)} is longer than {limit} bytes")

    def _chunks(self, answer: httpx.Response) -> Iterator[bytes]:
        """Yield bytes as they come; raises `_Dripping` where too few do."""
        since, brought = self._clock(), 0
        for chunk in answer.iter_raw():
            yield chunk
            brought += len(chunk)
            if self._clock() - since > _WATCHED:
                if brought < _DRIP:
                    raise _Dripping
                since, brought = self._clock(), 0

    def _progress(self, before: int, now: int, whole: int) -> None:
        if whole >= _TOLD_FROM and 10 * before // whole != 10 * now // whole:
            self._tell(f"{100 * now // whole} % of {whole / 1e6:.0f} MB")


def _check_redirect(answer: httpx.Response) -> None:
    """Refuse to be led from https to http, where anybody on the way could answer."""
    if answer.has_redirect_location and answer.url.scheme == "https":
        place = answer.url.join(answer.headers["Location"])
        if place.scheme != "https":
            raise BundleRefused(f"{plain(str(answer.url))} leads to {plain(str(place))}, which is not encrypted")


class _Dripping(Exception):
    """A connection that brings next to nothing."""


@contextmanager
def written(part: Path) -> Iterator[None]:
    """Turn a disk that is full, or not ours, into `Unavailable`."""
    try:
        yield
    except OSError as error:
        told = f"{part.parent} cannot be written: {error.strerror}"
        raise Unavailable(f"{told}; what has come stays, run the command again to go on") from None


def plain(address: str) -> str:
    """Return an address without credentials and without what follows its path."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def parts_of(address: str, field: str) -> SplitResult:
    """Return the parts of an address; raises `InvalidInput` where it is none."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise InvalidInput(field, f"the address of {field} is none: {error}") from None
    return parts


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _goes_on(answer: httpx.Response, known: int) -> bool:
    """Whether an answer is what follows the first ``known`` bytes; a server that knows no ranges sends all of it."""
    return answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {known}-")
