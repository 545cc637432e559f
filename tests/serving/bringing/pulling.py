"""What tests of pulling share: a repository's name, a pull that never waits, and what it left."""

from __future__ import annotations

from pathlib import Path

from loopback import Server

from serving.bringing.hub import Repository, pull

__all__ = ["NAME", "left", "pulled"]

NAME = "Owner/some-model"


def pulled(server: Server, out: Path, *, name: str = NAME, **given: object) -> Path:
    return pull(Repository.parse(name), out, endpoint=server.url, pause=lambda _: None, **given)  # type: ignore[arg-type]


def left(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.suffix != ".lock") if out.exists() else []
