"""Files over HTTP where the connection, the clock or the disk is against it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest
from loopback import Manners, serving

from fusiontrade.errors import Unavailable
from serving.bringing.fetching import Web, plain


def test_a_connection_that_only_drips_counts_as_broken_and_what_came_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(200)))
    minutes = count(0, 61)
    dripping = Manners(stuck=("file",))
    with (
        serving(tmp_path, dripping) as server,
        Web(direct=True, pause=lambda _: None, clock=lambda: next(minutes)) as web,
    ):
        with pytest.raises(Unavailable, match="/file: Dripping; what has come stays"):
            web.append(f"{server.url}/file", tmp_path / "part")
        assert [one.range for one in server.seen][:3] == [None, "bytes=100-", "bytes=150-"]
        assert len(server.seen) == 5


def test_a_server_without_ranges_that_gets_no_further_is_given_up(tmp_path: Path) -> None:
    tries = count()

    def cut(_: httpx.Request) -> httpx.Response:
        def pieces() -> Iterator[bytes]:
            yield bytes((3 if number % 2 else 1) << 20)
            raise httpx.RemoteProtocolError("cut off")

        number = next(tries)
        assert number < 20
        return httpx.Response(200, content=pieces())

    with Web(direct=True, pause=lambda _: None) as web:
        web._client = httpx.Client(transport=httpx.MockTransport(cut))
        with pytest.raises(Unavailable, match="RemoteProtocolError; what has come stays"):
            web.append("https://host.example/file", tmp_path / "part")
    assert next(tries) <= 7


def test_a_full_disk_is_said_and_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200))
    with serving(tmp_path) as server, Web(direct=True, pause=lambda _: None) as web:
        with pytest.raises(Unavailable, match="cannot be written: No space left on device"):
            web.append(f"{server.url}/file", Path("/dev/full"))
        assert len(server.seen) == 1


def test_how_far_a_large_file_is_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(33 << 20))
    told: list[str] = []
    with (
        serving(tmp_path, Manners(cut={"file": 1})) as server,
        Web(direct=True, tell=told.append, pause=lambda _: None) as web,
    ):
        web.append(f"{server.url}/file", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == (tmp_path / "file").read_bytes()
    assert told[-1] == "100 % of 35 MB"
    assert 8 <= len(told) <= 12


def test_addresses_are_told_without_secrets() -> None:
    assert plain("https://me:secret@host.example:8443/a/b?X-Amz-Signature=secret#x") == "https://host.example:8443/a/b"
