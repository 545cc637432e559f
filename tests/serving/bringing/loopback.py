"""A hub and a bucket on this machine: real HTTP that behaves, and misbehaves as it is told to.

The hub speaks what `huggingface_hub` asks of one: the listing of a repository at a revision, and its files with commit,
hash, size and ranges. The bucket is a folder with ranges.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Manners:
    """How requests are met.

    ``cut`` are the times that an answer longer than 100 bytes is cut off in its middle, by path; ``status`` what a path
    answers instead; ``swapped`` other bytes of the same length for a path; ``ranges`` whether they are known;
    ``after_cut`` becomes part of ``status`` once an answer was cut off; ``moved`` is where a path is sent to;
    ``endless`` are paths that tell no length and never end, ``stuck`` those that stop in their middle and stay open;
    ``said`` replaces what the listing says, ``said_of`` what it says of a file.
    """

    token: str | None = None
    cut: dict[str, int] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    swapped: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    after_cut: dict[str, int] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main", "v1", COMMIT)
    extra: tuple[str, ...] = ()
    moved: dict[str, str] = field(default_factory=dict)
    endless: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    said: dict[str, object] = field(default_factory=dict)
    said_of: dict[str, dict[str, object]] = field(default_factory=dict)
    listing: bytes | None = None


@dataclass
class Seen:
    method: str
    path: str
    range: str | None
    authorization: str | None
    agent: str = ""


@dataclass
class Server:
    url: str
    manners: Manners
    seen: list[Seen]

    def asked(self, suffix: str, method: str = "GET") -> list[Seen]:
        return [one for one in self.seen if one.method == method and one.path.endswith(suffix)]


class Handler(BaseHTTPRequestHandler):
    """Answers of one server; what is shared with the test hangs on the class."""

    folder: Path
    repository: str
    manners: Manners
    seen: list[Seen]
    gone: threading.Event
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        said = self.headers
        seen = Seen(self.command, path, said.get("Range"), said.get("Authorization"), said.get("User-Agent", ""))
        self.seen.append(seen)
        if self.manners.token and self.headers.get("Authorization") != f"Bearer {self.manners.token}":
            return self.told(401, b'{"error": "Invalid username or password."}')
        for suffix, status in self.manners.status.items():
            if path.endswith(suffix):
                return self.told(status, b'{"error": "as it was told"}')
        for suffix, place in self.manners.moved.items():
            if path.endswith(suffix):
                return self.told(302, b"", {"Location": place, **self.of(path)})
        if path.startswith("/api/models/"):
            return self.listing(path.removeprefix("/api/models/"))
        prefix = f"/{self.repository}/resolve/{COMMIT}/" if self.repository else "/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or not (self.folder / name).is_file():
            return self.told(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self.file(name)

    def listing(self, asked: str) -> None:
        name, _, revision = asked.partition("/revision/")
        if name != self.repository:
            return self.told(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        if (revision or "main") not in self.manners.revisions:
            return self.told(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
        files = [entry(path, self.folder) for path in sorted(self.folder.rglob("*")) if path.is_file()]
        files += [{"rfilename": name, "size": 3, "blobId": "0" * 40} for name in self.manners.extra]
        files = [{**one, **self.manners.said_of.get(str(one["rfilename"]), {})} for one in files]
        answer = {"id": self.repository, "modelId": self.repository, "sha": COMMIT, "private": False, "siblings": files}
        content = self.manners.listing or json.dumps({**answer, **self.manners.said}).encode()
        return self.told(200, content, {"Content-Type": "application/json"})

    def of(self, path: str) -> dict[str, str]:
        """Return what a hub says of a file that lies elsewhere."""
        file = self.folder / path.rpartition("/")[2]
        if not file.is_file():
            return {}
        told = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{etag(file)}"'}
        return {**told, "X-Linked-Size": str(file.stat().st_size)}

    def never_ending(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while self.command == "GET":
            self.wfile.write(b"4000\r\n" + bytes(0x4000) + b"\r\n")

    def file(self, name: str) -> None:
        content = self.manners.swapped.get(name, (self.folder / name).read_bytes())
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag(self.folder / name)}"', "Accept-Ranges": "bytes"}
        first = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        status = 200
        if first and self.manners.ranges:
            start = int(first)
            if start >= len(content):
                return self.told(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status, content = 206, content[start:]
        if name in self.manners.endless and self.command == "GET":
            return self.never_ending()
        if name in self.manners.stuck and self.command == "GET":
            self.send_head(status, len(content), headers)
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.gone.wait(30)
            return None
        cuts = self.manners.cut.get(name, 0)
        if self.command == "GET" and cuts and len(content) > 100:
            self.manners.cut[name] = cuts - 1
            self.send_head(status, len(content), headers)
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            self.manners.status.update(self.manners.after_cut)
            return None
        return self.told(status, content, headers)

    def told(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_head(status, len(content), headers or {})
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            return


@contextmanager
def serving(
    folder: Path, manners: Manners | None = None, *, repository: str = "", certificate: Path | None = None
) -> Iterator[Server]:
    """Serve a folder as a bucket, or as the hub's ``repository``; with a certificate of 127.0.0.2 over https."""
    behaviour, seen, gone = manners or Manners(), list[Seen](), threading.Event()
    shared = {"folder": folder, "repository": repository, "manners": behaviour, "seen": seen, "gone": gone}
    host = "127.0.0.2" if certificate else "127.0.0.1"
    server = ThreadingHTTPServer((host, 0), type("Bound", (Handler,), shared))
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Server(f"http{'s' if certificate else ''}://{host}:{server.server_address[1]}", behaviour, seen)
    finally:
        gone.set()
        server.shutdown()
        server.server_close()
        thread.join()


def entry(path: Path, folder: Path) -> dict[str, object]:
    """Return what a hub's listing says of a file: graphs and weights are large files, the rest is git's."""
    content = path.read_bytes()
    told: dict[str, object] = {
        "rfilename": path.relative_to(folder).as_posix(), "size": len(content), "blobId": etag(path, git=True),
    }  # fmt: skip
    if path.suffix in (".onnx", ".safetensors"):
        told["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return told


def etag(path: Path, *, git: bool = False) -> str:
    content = path.read_bytes()
    if path.suffix in (".onnx", ".safetensors") and not git:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
