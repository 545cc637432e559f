"""A panel of daily prices: sessions down, symbols across, and the returns that predictions of a session are judged by.

A prediction stands in the row of the session whose close it was made at. It is traded at the next session's open, so
its return begins there; `Panel.from_close` begins at the close itself, which nobody can trade at any more, and is there
for comparison with studies that do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusiontrade.market.candles import CandleFrame, Floats, Instants

__all__ = ["Panel"]


@dataclass(frozen=True, eq=False)
class Panel:
    """Prices of S symbols in T sessions; NaN where a symbol has no bar.

    Parameters
    ----------
    symbols
        Across.
    instants
        (T,) ms UTC: when the bars open, rising.
    open, close
        (T, S) prices, dividends counted where they are to be.
    unreal
        (T, S) whether the move into this session is no return: a split or demerger nobody adjusted for.
    """

    symbols: tuple[str, ...]
    instants: Instants
    open: Floats
    close: Floats
    unreal: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        frames: Sequence[CandleFrame],
        *,
        factors: Mapping[str, Floats] | None = None,
        jumps: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> Panel:
        """Return the panel of daily frames, a symbol each; its sessions are all that one of them has.

        Parameters
        ----------
        frames
            Checked bars.
        factors
            By symbol (n,) what prices are multiplied by so that dividends count.
        jumps
            By symbol (n,) the days whose move is no return.
        """
        symbols = tuple(frame.symbol for frame in frames)
        if len(set(symbols)) < len(symbols) or not symbols:
            raise ValueError("a panel needs frames, one a symbol")
        instants = np.unique(np.concatenate([frame.time for frame in frames]))
        shape = (len(instants), len(symbols))
        opened, close, unreal = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, np.bool_)
        for place, frame in enumerate(frames):
            rows = np.searchsorted(instants, frame.time)
            factor = 1.0 if factors is None else factors.get(frame.symbol, 1.0)
            opened[rows, place], close[rows, place] = frame.open * factor, frame.close * factor
            if jumps is not None and frame.symbol in jumps:
                unreal[rows, place] = jumps[frame.symbol]
        return cls(symbols, instants, opened, close, unreal)

    def __len__(self) -> int:
        return len(self.instants)

    def rows(self, chosen: slice) -> Panel:
        """Return the panel of some sessions."""
        return Panel(self.symbols, self.instants[chosen], self.open[chosen], self.close[chosen], self.unreal[chosen])

    def placed(self, symbols: Sequence[str], instants: Instants, values: Floats) -> Floats:
        """Return (T, S) k ``values`` in the rows and columns of their ``instants`` and ``symbols``, NaN elsewhere.

        Raises
        ------
        ValueError
            If an instant or a symbol is not the panel's.
        """
        column = {name: place for place, name in enumerate(self.symbols)}
        rows = np.minimum(np.searchsorted(self.instants, instants), len(self) - 1)
        if (self.instants[rows] != instants).any() or not set(symbols) <= set(column):
            raise ValueError("values must be of the panel's own sessions and symbols")
        out = np.full(self.open.shape, np.nan)
        out[rows, [column[name] for name in symbols]] = values
        return out

    def from_open(self, sessions: int) -> Floats:
        """Return (T, S) returns from the next session's open to the close ``sessions`` sessions on; NaN if unknown."""
        begun = _ahead(self.open, 1)
        return self._real(_ahead(self.close, sessions) / begun - 1.0, sessions)

    def from_close(self, sessions: int) -> Floats:
        """Return (T, S) returns from the session's own close to that of ``sessions`` sessions on; NaN if unknown."""
        return self._real(_ahead(self.close, sessions) / self.close - 1.0, sessions)

    def open_to_open(self) -> Floats:
        """Return (T, S) returns from each session's open to the next one's; 0 where there is no price or no return."""
        opened = _filled(self.open)
        returns = np.zeros(opened.shape)
        returns[:-1] = opened[1:] / opened[:-1] - 1.0
        returns[:-1][self.unreal[1:] | self.unreal[:-1]] = 0.0
        return np.nan_to_num(returns, nan=0.0, posinf=0.0, neginf=0.0)

    def _real(self, returns: Floats, sessions: int) -> Floats:
        if sessions < 1:
            raise ValueError(f"sessions must be counted ahead, 1 or more, got {sessions}")
        unreal = np.zeros(returns.shape, np.bool_)
        for ahead in range(1, sessions + 1):
            unreal[:-ahead] |= self.unreal[ahead:]
        return np.where(unreal, np.nan, returns)


def _ahead(values: Floats, rows: int) -> Floats:
    """Return (T, S) the values ``rows`` rows later, NaN at the end."""
    out = np.full(values.shape, np.nan)
    out[: max(len(values) - rows, 0)] = values[rows:]
    return out


def _filled(values: Floats) -> Floats:
    """Return (T, S) each missing value replaced by the newest before it."""
    known = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    newest = np.maximum.accumulate(known, axis=0)
    return np.where(newest >= 0, np.take_along_axis(values, np.maximum(newest, 0), axis=0), np.nan)
