"""A swing bundle, verified and ready to run: three graphs, one card.

``model.onnx`` is the StockFormer, ``tft.onnx`` the TFT, ``veto.onnx`` the trees of ``veto.txt``. Always true: one
symbol's failure is that symbol's alone; what the graphs say of it does not depend on which others ride with it beyond
1e-5, what the ranker says of it is its place among them.
`SwingBundle.answer` may be called from several threads at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fusiontrade.errors import BadCandles, BundleRefused, FusionTradeError
from fusiontrade.market.candles import CandleFrame
from serving.bundle import GRAPH
from serving.features.bars import WINDOW
from serving.features.swing import (
    CONTEXT_NAMES,
    CROSS_SECTION_NAMES,
    CROSS_SECTION_VERSION,
    EMBEDDING_NAMES,
    PRICE_LENGTH,
    SWING_VERSION,
    VETO_NAMES,
    context,
    price_windows,
    swing_vectors,
    veto_vectors,
)
from serving.kronos.windows import windows_of
from serving.sealed import opened, read_sealed
from serving.swing.card import HORIZONS, SwingCard
from serving.swing.forecasting import SwingForecast, forecasts_of, returns_of, units_of, veto_extras, veto_probability
from serving.swing.ranking import Ranking, rank_scores

__all__ = ["TFT", "VETO", "VETO_TEXT", "Encoding", "SwingAnswers", "SwingBundle", "load_swing", "read_swing"]

TFT, VETO, VETO_TEXT = "tft.onnx", "veto.onnx", "veto.txt"
_FLOAT = "tensor(float)"

Array = NDArray[np.float32]
Sessions = tuple[Any, Any, Any]
Shapes = Mapping[str, tuple[str, tuple[int | None, ...]]]


class Encoding(Protocol):
    """What makes embeddings of windows: `serving.kronos.encoder.Encoder`."""

    @property
    def card(self) -> Any:
        """Its ``model_id``, ``version`` and ``sequence``, the bars of a window."""
        ...

    def embed(self, bars: Array, stamps: NDArray[np.int64]) -> Array:
        """Return (n, 512) embeddings of (n, T, 6) normalised bars and (n, T, 5) stamps."""
        ...


@dataclass(frozen=True, eq=False)
class SwingAnswers:
    """What was answered by symbol, and why the others were not."""

    forecasts: Mapping[str, SwingForecast]
    failures: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class SwingBundle:
    """A verified bundle; its graphs are opened when they are first needed, or by `open`."""

    folder: Path
    card: SwingCard
    opening: Callable[[], Sessions]
    bars_needed: int = WINDOW
    _opened: list[Sessions] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def sessions(self) -> Sessions:
        """ONNX Runtime sessions of StockFormer, TFT and veto; raises `BundleRefused` where one is no such graph."""
        with self._lock:
            if not self._opened:
                self._opened.append(self.opening())
        return self._opened[0]

    def open(self) -> SwingBundle:
        """Open and test the graphs, return the bundle; raises `BundleRefused`."""
        _self_test(self)
        return self

    def answer(
        self,
        frames: Mapping[str, CandleFrame],
        encoder: Encoding | None = None,
        scores: Mapping[str, float] | None = None,
    ) -> SwingAnswers:
        """Return a forecast for the newest bar of each symbol.

        Parameters
        ----------
        frames
            Checked, finished daily bars, 600 or more, oldest first, by whatever they are called in the answer.
        encoder
            The encoder that the card names; None where it names none.
        scores
            `rank_scores` of the whole run that these are a part of; None: these are the run.

        Raises
        ------
        BundleRefused
            If the card names another encoder.
        """
        self.check(encoder)
        inputs: dict[str, tuple[Array, Array, Array]] = {}
        failures: dict[str, str] = {}
        for symbol, frame in frames.items():
            try:
                inputs[symbol] = _inputs(frame, encoder)
            except FusionTradeError as error:
                failures[symbol] = str(error)
        if not inputs:
            return SwingAnswers({}, failures)
        symbols = list(inputs)
        prices, contexts, embedding = (np.concatenate(parts) for parts in zip(*inputs.values(), strict=True))
        closes = [int(frames[symbol].close_time[-1]) for symbol in symbols]
        names = [frames[symbol].symbol for symbol in symbols]
        known = rank_scores(self.card, frames) if scores is None else scores
        places = np.array([known.get(symbol, np.nan) for symbol in symbols], np.float64)
        finite = self.run(prices, embedding, contexts, Ranking.of(places, [self.card.ranked(name) for name in names]))
        told = forecasts_of(self.card, *finite, names, closes)
        return SwingAnswers(dict(zip(symbols, told, strict=True)), failures)

    def run(
        self, prices: Array, embedding: Array, contexts: Array, ranking: Ranking | None = None
    ) -> tuple[Any, NDArray[np.float64]]:
        """Return `Returns` and the (n,) calibrated probabilities of the veto for n windows.

        Parameters
        ----------
        prices, embedding, contexts
            (n, 120, 5), (n, 512) and (n, 29).
        ranking
            Of the same windows; None: none was ranked.

        Raises
        ------
        BundleRefused
            If a graph answers something that is not finite.
        """
        stockformer, tft, veto = self.sessions
        given = {"prices": prices, "embedding": embedding, "context": contexts}
        former = dict(zip(("returns", "uncertainty"), stockformer.run(["returns", "uncertainty"], given), strict=True))
        names = ["returns", "quantiles", "attention"]
        temporal = dict(zip(names, tft.run(names, given), strict=True))
        returns = returns_of(self.card, former, temporal, units_of(contexts), ranking)
        rows = veto_vectors(swing_vectors(embedding, contexts), *veto_extras(returns))
        if not np.isfinite(rows).all():
            raise BundleRefused(f"{self.card.model_id} answered something that is not a finite number")
        probability = veto.run(["probability"], {"features": rows})[0]
        return returns, veto_probability(self.card.veto, probability)

    def check(self, encoder: Encoding | None) -> None:
        """Raise `BundleRefused` unless ``encoder`` is the one that the card names."""
        found = None if encoder is None else f"{encoder.card.model_id}@{encoder.card.version}"
        if found != self.card.encoder:
            raise BundleRefused(f"{self.card.model_id} learned from encoder {self.card.encoder}, this is {found}")


def load_swing(folder: Path, *, device: str = "cpu", threads: int = 1) -> SwingBundle:
    """Verify the bundle in ``folder`` and make it ready to run; parameters and errors as for `load_bundle`."""
    return read_swing(folder, device=device, threads=threads).open()


def read_swing(folder: Path, *, device: str = "cpu", threads: int = 1) -> SwingBundle:
    """Verify the files of the bundle in ``folder``; its graphs are opened when they are first needed."""
    card, files = read_sealed(folder, SwingCard)
    if card.features != SWING_VERSION:
        raise BundleRefused(f"features of {card.model_id}: asks for version {card.features}, this is {SWING_VERSION}")
    if (ranker := card.ranker) is not None and (ranker.features, ranker.columns) != (
        CROSS_SECTION_VERSION,
        CROSS_SECTION_NAMES,
    ):
        raise BundleRefused(
            f"the ranker of {card.model_id} asks for version {ranker.features} of {len(ranker.columns)} columns, "
            f"this is version {CROSS_SECTION_VERSION} of {len(CROSS_SECTION_NAMES)}"
        )
    for name in (TFT, VETO, VETO_TEXT):
        if name not in files:
            raise BundleRefused(f"a swing bundle needs {name}")
    given: Shapes = {
        "prices": (_FLOAT, (None, PRICE_LENGTH, 5)),
        "embedding": (_FLOAT, (None, len(EMBEDDING_NAMES))),
        "context": (_FLOAT, (None, len(CONTEXT_NAMES))),
    }
    three: tuple[str, tuple[int | None, ...]] = (_FLOAT, (None, len(HORIZONS)))
    wanted: dict[str, tuple[Shapes, Shapes]] = {
        GRAPH: (given, {"returns": three, "uncertainty": three}),
        TFT: (
            given,
            {
                "returns": three,
                "quantiles": (_FLOAT, (None, len(HORIZONS), 3)),
                "attention": (_FLOAT, (None, None)),
            },
        ),
        VETO: ({"features": (_FLOAT, (None, len(VETO_NAMES)))}, {"probability": (_FLOAT, (None,))}),
    }
    graphs = [(files[name], inputs, outputs) for name, (inputs, outputs) in wanted.items()]

    def opening() -> Sessions:
        stockformer, tft, veto = (
            opened(graph, card, inputs, outputs, device=device, threads=threads) for graph, inputs, outputs in graphs
        )
        return stockformer, tft, veto

    return SwingBundle(folder, card, opening)


def _inputs(frame: CandleFrame, encoder: Encoding | None) -> tuple[Array, Array, Array]:
    """Return price window (1, 120, 5), context (1, 29) and embedding (1, 512) of the newest bar."""
    if len(frame) < WINDOW:
        raise BadCandles([f"{frame.symbol}: needs {WINDOW} daily bars, got {len(frame)}"])
    newest = frame.tail(WINDOW)
    rows = np.array([WINDOW - 1], np.intp)
    with np.errstate(all="ignore"):  # what leaps over every bound is told below, of this stock alone
        prices, contexts = price_windows(newest, rows), context(newest)[-1:]
    if not (np.isfinite(prices).all() and np.isfinite(contexts).all()):
        raise BadCandles([f"{frame.symbol}: prices or volumes leap so far that no features can be made of them"])
    embedding = np.zeros((1, len(EMBEDDING_NAMES)), np.float32)
    if encoder is not None:
        embedding = encoder.embed(*windows_of(newest, encoder.card.sequence, rows))
    return prices, contexts, embedding


def _self_test(bundle: SwingBundle) -> None:
    """Answer two windows together and one of them alone: finite, and the same."""
    wave = np.sin(np.arange(2 * PRICE_LENGTH * 5, dtype=np.float32)).reshape(2, PRICE_LENGTH, 5)
    embedding, contexts = np.zeros((2, len(EMBEDDING_NAMES)), np.float32), np.zeros((2, len(CONTEXT_NAMES)), np.float32)
    try:
        both = bundle.run(wave, embedding, contexts)
        alone = bundle.run(wave[1:], embedding[1:], contexts[1:])
    except BundleRefused:
        raise
    except Exception as error:
        raise BundleRefused(f"a graph fails its self-test: {str(error).splitlines()[0][:300]}") from None
    if not (
        np.allclose(both[0].ensemble[1:], alone[0].ensemble, rtol=1e-4, atol=1e-5)
        and np.allclose(both[1][1:], alone[1], rtol=1e-3, atol=1e-3)
    ):
        raise BundleRefused("what the graphs say of a window depends on the windows that ride with it")
