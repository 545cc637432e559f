"""Files over HTTP where the connection, the clock or the disk is against it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from loopback import Manners, serving

from fusiontrade.errors import BundleRefused, InvalidInput, Unavailable
from serving.bringing.fetching import Web, plain
from serving.bringing.syncing import sync


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


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key and a certificate of 127.0.0.2, this machine as a host that is not called so, which clients here trust."""
    now, name = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.2")])
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.2"))]), critical=False)
    place = tmp_path / "both.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    place.write_bytes(private + made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(place))
    return place


def test_an_encrypted_address_never_leads_to_one_in_the_clear(tmp_path: Path, out: Path, certificate: Path) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "bundles.json").write_text("{}")
    manners = Manners()
    with (
        serving(tmp_path / "bucket") as clear,
        serving(tmp_path / "bucket", manners, certificate=certificate) as sealed,
    ):
        with pytest.raises(InvalidInput, match="the manifest is not"):  # reached, read, and none
            sync(f"{sealed.url}/bundles.json", out)
        manners.moved["bundles.json"] = f"{clear.url}/bundles.json?signature=hidden"
        with pytest.raises(
            BundleRefused, match=r"^https://127.*/bundles\.json leads to http://\S+, which is not"
        ) as told:
            sync(f"{sealed.url}/bundles.json", out)
        assert "hidden" not in str(told.value)
        assert clear.seen == []
        manners.moved["bundles.json"] = f"{sealed.url}/elsewhere.json"
        (tmp_path / "bucket" / "elsewhere.json").write_text("{}")
        with pytest.raises(InvalidInput, match="the manifest is not"):
            sync(f"{sealed.url}/bundles.json", out)


def test_addresses_are_told_without_secrets() -> None:
    assert plain("https://me:secret@host.example:8443/a/b?X-Amz-Signature=secret#x") == "https://host.example:8443/a/b"
