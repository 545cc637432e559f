"""What the processes of one program tell each other, so that each can answer for all: over Unix sockets, in JSON.

A process listens on a socket of its own in a folder that the parent made for it and its siblings. Always true here: a
sibling that does not answer in a second is left out, never waited for; nobody outside the folder's owner is answered.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from serving.refusals import Refusal

__all__ = ["Siblings"]

_PATIENCE = 1.0
_LONGEST = 16 * 1024 * 1024

Tell = Callable[[], Awaitable[Any]]


class Siblings:
    """The other processes of this program.

    Parameters
    ----------
    folder
        Of all processes' sockets.
    number
        This process, from 0.
    processes
        How many there are.
    """

    def __init__(self, folder: Path, number: int, processes: int) -> None:
        self.number, self.processes = number, processes
        self._folder = folder
        self._server: asyncio.Server | None = None

    async def listen(self, told: Mapping[str, Tell]) -> None:
        """Answer siblings that ask for a name of ``told`` with what it returns then."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                asked = (await asyncio.wait_for(reader.readline(), _PATIENCE)).decode().strip()
                writer.write(json.dumps(await told[asked]()).encode())
                await writer.drain()
            except (OSError, TimeoutError, KeyError, Refusal):  # whoever asked has gone, or nothing can be told (yet)
                pass
            finally:
                writer.close()

        path = self._path(self.number)
        path.unlink(missing_ok=True)  # of the process that had this number before
        self._server = await asyncio.start_unix_server(answer, path)

    async def ask(self, name: str) -> dict[int, Any]:
        """Return what each sibling that answers says to ``name``, by its number."""
        others = [number for number in range(self.processes) if number != self.number]
        said = await asyncio.gather(*(self._asked(number, name) for number in others), return_exceptions=True)
        return {number: one for number, one in zip(others, said, strict=True) if not isinstance(one, BaseException)}

    async def _asked(self, number: int, name: str) -> Any:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_unix_connection(self._path(number), limit=_LONGEST)
            try:
                writer.write(name.encode() + b"\n")
                return json.loads(await reader.read())
            finally:
                writer.close()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.sock"
