"""What is handed in, from files and names; what cannot be used is `Unusable`, naming the option and the remedy."""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import FusionTradeError
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.rollover import rolls_over
from fusiontrade.market.symbols import parse_symbol
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import ELSEWHERE, kind_of
from serving.lookahead.checks.findings import Unusable
from serving.lookahead.checks.scaling import SCALER_KINDS, Statistics
from serving.lookahead.checks.slices import DatasetRows
from serving.lookahead.checks.windows import SLICES

__all__ = ["UserRows", "bundle_folders", "frames_in", "function_of", "rows_in", "scaler_in"]

_SMALLEST_MS = 100_000_000_000  # 1973 in ms; an instant in seconds is smaller
_NEEDED = ("slice", "entry", "label_end")


@dataclass(frozen=True, eq=False)
class UserRows:
    """A user's dataset; ``features`` is (n, columns) or None."""

    rows: DatasetRows
    features: NDArray[np.float64] | None
    columns: tuple[str, ...]


def function_of(text: str, option: str) -> Callable[..., object]:
    """Return what ``package.module:function`` names; modules of the current folder are found too."""
    module_name, _, name = text.partition(":")
    if not module_name or not name or module_name.endswith(".py") or "/" in module_name:
        hint = ", a module's name and no file's: my_features, not folder/my_features.py" if name else ""
        raise Unusable(f"{option} {text!r}: write package.module:function, e.g. {option} my_features:compute{hint}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {error}"
        if isinstance(error, SystemExit):
            told += ' (put what runs as a program under if __name__ == "__main__")'
        raise Unusable(
            f"{option} {text!r}: importing {module_name} failed with {told}. Run this in the folder of the module, "
            "with the Python that has what it needs"
        ) from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        known = [key for key, value in vars(sys.modules[module_name]).items() if callable(value) and key[0] != "_"]
        raise Unusable(
            f"{option} {text!r}: {module_name} has no function {name!r}; it has {', '.join(known[:8]) or 'none'}"
        )
    return found  # type: ignore[no-any-return]


def frames_in(folder: Path, timeframe: Timeframe, symbols: Sequence[str]) -> list[CandleFrame]:
    """Return every series of a folder of Parquet bars at one timeframe; none where it answers other timeframes only.

    Raises
    ------
    Unusable
        If the folder cannot be read, or lacks one of the ``symbols``.
    """
    from fusiontrade.market.providers.files import FilesProvider

    try:
        provider = FilesProvider(folder)
        codes = [parse_symbol(code).code for code in symbols] or list(provider.symbols())
        if missing := [code for code in codes if code not in provider.symbols()]:
            known = ", ".join(provider.symbols()[:12])
            raise Unusable(f"--symbols {', '.join(missing)}: not in {folder}, which has {known}, …")
        answered = [parse_symbol(code) for code in codes]
        return [provider.history(one, timeframe) for one in answered if timeframe in provider.timeframes(one)]
    except FusionTradeError as error:
        raise Unusable(f"--data {folder}: {error}") from error


def bundle_folders(path: Path) -> list[Path]:
    """Return the bundle that ``path`` is, or the forecasters in it, those of one timeframe beside each other."""
    if (path / "manifest.json").is_file():
        return [path]
    found = [one.parent for one in path.glob("*/manifest.json") if kind_of(one.parent) not in ELSEWHERE]
    if not found:
        raise Unusable(
            f"--bundle {path}: no manifest.json in it or in a folder below; give a bundle, or a folder of them"
        )
    return sorted(found, key=lambda one: (one.name.rpartition("-")[2], one.name))


def rows_in(path: Path, timeframe: Timeframe) -> UserRows:
    """Return the dataset of an ``.npz`` file; see docs/lookahead.md for its arrays."""
    arrays = _arrays(path)
    if missing := [name for name in _NEEDED if name not in arrays]:
        raise Unusable(
            f"--rows {path}: has no array {', '.join(missing)}; it needs {', '.join(_NEEDED)}, one value a row"
        )
    if not (count := len(arrays["entry"])):
        raise Unusable(f"--rows {path}: has no rows; save it before it is filtered away, or check what filtered it")
    per_row = ("slice", "entry", "label_end", "bar_close", "symbol", "rolls_over", "features")
    if uneven := {name: len(arrays[name]) for name in per_row if name in arrays and len(arrays[name]) != count}:
        raise Unusable(f"--rows {path}: entry has {count} rows, but {uneven}: give one value a row")
    slice_ = arrays["slice"].astype(str)
    order = tuple(arrays["order"].astype(str)) if "order" in arrays else _ordered(slice_, arrays["entry"])
    if unknown := sorted(set(slice_) - set(order)):
        raise Unusable(f"--rows {path}: rows of slice {', '.join(unknown)}, but order has {', '.join(order)}")
    entry, label_end = _instants(arrays["entry"], "entry", path), _instants(arrays["label_end"], "label_end", path)
    if (label_end < entry).any():
        raise Unusable(
            f"--rows {path}: label_end lies before entry in {(label_end < entry).sum()} rows: are they swapped?"
        )
    symbol = arrays["symbol"].astype(str) if "symbol" in arrays else None
    place = np.asarray([order.index(name) for name in slice_], np.intp)
    rows = DatasetRows(
        order,
        place,
        entry,
        label_end,
        timeframe.milliseconds,
        symbol=symbol,
        bar_close=_instants(arrays["bar_close"], "bar_close", path) if "bar_close" in arrays else None,
        rolls_over=_rolls_over(arrays, symbol, path),
    )
    features = _features(arrays, count, path)
    width = 0 if features is None else features.shape[1]
    named = tuple(arrays["columns"].astype(str)) if "columns" in arrays else ()
    columns = named if len(named) == width else tuple(f"column {place}" for place in range(width))
    return UserRows(rows, features, columns)


def scaler_in(path: Path, columns: int) -> tuple[Statistics, str | None]:
    """Return the scaler of a JSON file with ``center``, ``scale`` and, if said, its ``kind``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        center, scale = (np.asarray(content[name], np.float64) for name in ("center", "scale"))
        kind = content.get("kind")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Unusable(
            f'--scaler {path}: {type(error).__name__}: {error}; write {{"kind": "standard", "center": [...], '
            '"scale": [...]}, one number a column'
        ) from error
    if kind is not None and kind not in SCALER_KINDS:
        raise Unusable(f"--scaler {path}: kind {kind!r} is none of {', '.join(SCALER_KINDS)}")
    if center.shape != (columns,) or scale.shape != (columns,):
        raise Unusable(
            f"--scaler {path}: center and scale have shapes {center.shape} and {scale.shape}, "
            f"the features of --rows have {columns} columns"
        )
    if not (np.isfinite(center).all() and (scale > 0).all()):
        raise Unusable(f"--scaler {path}: every center has to be a number, every scale above 0")
    return Statistics(center, scale), kind


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if isinstance(stored, np.ndarray):
                raise Unusable(f"--rows {path}: one array alone; save an .npz with {', '.join(_NEEDED)}")
            return {name: np.atleast_1d(stored[name]) for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Unusable(f"--rows {path}: {error}; save it with numpy.savez, without Python objects") from error


def _features(arrays: dict[str, NDArray[Any]], count: int, path: Path) -> NDArray[np.float64] | None:
    """Return (n, columns) the features, or None where the file has none."""
    if "features" not in arrays:
        return None
    try:
        return arrays["features"].reshape(count, -1).astype(np.float64)
    except ValueError as error:
        raise Unusable(f"--rows {path}: features has to be numbers, (rows, columns): {error}") from error


def _ordered(slice_: NDArray[np.str_], entry: NDArray[Any]) -> tuple[str, ...]:
    """Return the slices in the usual order, or where they have other names by their median entry."""
    names = [str(name) for name in np.unique(slice_)]
    if set(names) <= set(SLICES):
        return tuple(name for name in SLICES if name in names)
    return tuple(sorted(names, key=lambda name: float(np.median(entry[slice_ == name].astype(np.int64)))))


def _instants(values: NDArray[Any], name: str, path: Path) -> NDArray[np.int64]:
    if values.dtype.kind == "M" and np.isnat(values).any():
        raise Unusable(f"--rows {path}: {name} is no instant (NaT) in {np.isnat(values).sum()} rows: leave them out")
    if values.dtype.kind == "M":
        return values.astype("datetime64[ms]").astype(np.int64)
    if values.dtype.kind not in "iu" or (len(values) and values.min() < _SMALLEST_MS):
        raise Unusable(f"--rows {path}: {name} has to be datetime64, or whole milliseconds since 1970-01-01 UTC")
    return values.astype(np.int64)


def _rolls_over(
    arrays: dict[str, NDArray[Any]], symbol: NDArray[np.str_] | None, path: Path
) -> NDArray[np.bool_] | None:
    if "rolls_over" in arrays:
        return arrays["rolls_over"].astype(np.bool_)
    if symbol is None:
        return None
    codes, place = np.unique(symbol, return_inverse=True)
    try:
        rests = np.asarray([rolls_over(parse_symbol(str(code))) for code in codes], np.bool_)
    except FusionTradeError as error:
        raise Unusable(f"--rows {path}: {error}; or give rolls_over, true for FX and metals") from error
    return rests[place.reshape(-1)]
