"""``instruments.toml``: which file of a folder serves which symbol and timeframe.

::

    [symbols."BTC-USD"]
    stands_in = "BTCUSDT spot for BTC-USD"          # optional: said in every answer's warnings
    files = { "15m" = "crypto/BTC_15m.parquet" }    # one file a timeframe, paths relative to the folder

    [[tables]]                                      # one file, many symbols, told apart by its column `symbol`
    path = "equities/nifty100_1d.parquet"
    timeframe = "1d"
    suffix = ".NS"                                  # what makes the column's name Yahoo's

Whatever is read here has been checked: timeframes are known, symbols parse, and no path leaves the folder.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusiontrade.errors import FusionTradeError, InvalidInput
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe

__all__ = ["FILE_NAME", "Instruments", "Listing", "Table"]

FILE_NAME = "instruments.toml"
_FIELD = "MARKET_DATA_DIR"


@dataclass(frozen=True)
class Listing:
    """The files of one symbol, by timeframe, as paths inside the folder; and what they stand in for, in words."""

    files: Mapping[Timeframe, str]
    stands_in: str | None


@dataclass(frozen=True)
class Table:
    """A file with the bars of many symbols."""

    path: str
    timeframe: Timeframe
    suffix: str


@dataclass(frozen=True)
class Instruments:
    """The content of one ``instruments.toml``; symbols by their canonical code."""

    symbols: Mapping[str, Listing]
    tables: tuple[Table, ...]

    @classmethod
    def read(cls, folder: Path) -> Instruments:
        """Return what ``folder``'s ``instruments.toml`` says.

        Raises
        ------
        InvalidInput
            If there is no such file, or it says something that cannot be followed; names the entry.
        """
        try:
            content = tomllib.loads((folder / FILE_NAME).read_text("utf-8"))
        except OSError as error:
            raise _invalid(f"no readable {FILE_NAME} in {folder}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise _invalid(f"{FILE_NAME}: {error}") from error
        symbols = {_code(name): _listing(folder, name, entry) for name, entry in _mapping(content, "symbols").items()}
        tables = content.get("tables", [])
        if not isinstance(tables, list):
            raise _invalid(f"{FILE_NAME}: tables must be a list, written [[tables]]")
        return cls(symbols, tuple(_table(folder, entry) for entry in tables))


def _listing(folder: Path, name: str, entry: Any) -> Listing:
    files = _mapping(entry, f'symbols."{name}".files', key="files")
    if not files:
        raise _invalid(f'{FILE_NAME}: symbols."{name}" lists no files')
    stands_in = entry.get("stands_in")
    return Listing(
        {_timeframe(key, name): _inside(folder, path, name) for key, path in files.items()},
        None if stands_in is None else str(stands_in),
    )


def _table(folder: Path, entry: Any) -> Table:
    if not isinstance(entry, dict) or not {"path", "timeframe"} <= entry.keys():
        raise _invalid(f"{FILE_NAME}: every entry of tables needs path and timeframe, found {entry!r}")
    path = _inside(folder, entry["path"], "tables")
    return Table(path, _timeframe(entry["timeframe"], path), str(entry.get("suffix", "")))


def _mapping(entry: Any, where: str, *, key: str | None = None) -> dict[str, Any]:
    value = entry.get(key or where, {}) if isinstance(entry, dict) else None
    if not isinstance(value, dict):
        raise _invalid(f"{FILE_NAME}: {where} must be a table")
    return value


def _code(name: str) -> str:
    try:
        return parse_symbol(name).code
    except FusionTradeError as error:
        raise _invalid(f"{FILE_NAME}: {error}") from error


def _timeframe(text: Any, where: str) -> Timeframe:
    try:
        return Timeframe.parse(str(text))
    except InvalidInput as error:
        raise _invalid(f"{FILE_NAME}: {where}: {error}") from error


def _inside(folder: Path, path: Any, where: str) -> str:
    """Return ``path`` if it stays inside the folder, links followed."""
    if not isinstance(path, str) or not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise _invalid(f"{FILE_NAME}: {where}: {path!r} leaves the folder; paths are relative to it")
    return path


def _invalid(message: str) -> InvalidInput:
    return InvalidInput(_FIELD, message)
