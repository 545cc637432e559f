"""From a Kronos checkpoint to a bundle: read, exported, set against torch window by window, written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fusiontrade
from fusiontrade.errors import InvalidInput
from serving.bringing.folders import place_of
from serving.bringing.placing import sha256_of
from serving.bundle import GRAPH
from serving.kronos.encoder import EncoderCard, load_encoder
from serving.kronos.network import EmbeddingGraph, KronosDecoder, KronosTokenizer, read_decoder, read_tokenizer
from serving.kronos.network.checkpoint import CONFIG, WEIGHTS
from serving.kronos.windows import normalised, stamps_of
from serving.sealed import Source, write_sealed
from serving.training.bundle import libraries
from serving.training.export import TOLERANCE, ExportFailure, export, largest_difference, run_graph
from serving.training.fit import deterministic

__all__ = ["Proof", "Proven", "configuration", "exported", "import_kronos", "proof_of", "proof_windows"]

_WINDOWS = 8
_MARGIN = 1e-5
"""Distance of a code's component from 0 within which rounding may turn its bit."""
_MOST_BARS = 2048
_HOUR = 3_600_000
_FIRST = 1_704_067_200_000  # 2024-01-01


@dataclass(frozen=True)
class Proof:
    """How far ONNX Runtime is from torch: over ``windows`` compared, ``undecided`` being those left out.

    A window is undecided where a component of its code lies within 1e-5 of 0: either bit is right there.
    """

    largest_difference: float
    windows: int
    undecided: int
    tolerance: float = TOLERANCE


@dataclass(frozen=True, eq=False)
class Proven:
    """A graph and what is known of it."""

    graph: bytes
    proof: Proof


def import_kronos(
    tokenizer: Path,
    decoder: Path,
    out: Path,
    *,
    model_id: str = "kronos",
    sequence: int = 120,
    repository: str = "",
    revision: str = "",
) -> Path:
    """Write the bundle of a checkpoint to ``out/<model_id>``; return that folder.

    Parameters
    ----------
    tokenizer, decoder
        Checkpoint folders of the published layout.
    sequence
        Bars of a window.
    repository, revision
        Where the checkpoint came from, where that is known.

    Raises
    ------
    InvalidInput
        If the checkpoint is not of the published layout; names the tensor.
    Conflict
        If something that is no bundle stands where this one is to be.
    ExportFailure
        If the graph does not give torch's numbers.
    BundleRefused
        If serving would refuse the bundle.
    """
    if not 2 <= sequence <= _MOST_BARS:
        raise InvalidInput("sequence", f"a window has 2 to {_MOST_BARS} bars, not {sequence}")
    begun = time.time()
    place_of(out, model_id)
    makes, reads = read_tokenizer(tokenizer), read_decoder(decoder)
    network = EmbeddingGraph(makes, reads, sequence)
    proven = exported(network)
    folders = {"tokenizer": tokenizer, "decoder": decoder}
    files = {
        f"{name}/{file}": sha256_of(folder / file) for name, folder in folders.items() for file in (CONFIG, WEIGHTS)
    }
    card = EncoderCard(
        model_id=model_id,
        sequence=sequence,
        width=reads.config.d_model,
        config=configuration(makes, reads),
        source=Source(how="imported", repository=repository, revision=revision, files=files),
        code_version=fusiontrade.__version__,
        libraries=libraries(),
    )
    run = {"written": time.time(), "seconds": round(time.time() - begun, 3)}
    report = {"agreement": asdict(proven.proof), "parameters": _parameters(makes) + _parameters(reads)}
    return write_sealed(out, card, {GRAPH: proven.graph}, report, run, load=load_encoder)


def configuration(tokenizer: KronosTokenizer, decoder: KronosDecoder) -> dict[str, Any]:
    """Return what a card says of the sizes."""
    return {"tokenizer": asdict(tokenizer.config), "decoder": asdict(decoder.config)}


def _parameters(network: torch.nn.Module) -> int:
    """Return how many numbers a network learned."""
    return sum(value.numel() for value in network.parameters())


def exported(network: EmbeddingGraph) -> Proven:
    """Return the graph of ``network``, which gave torch's numbers on seeded windows; raises `ExportFailure`."""
    network.eval()
    graph = export(network)
    return Proven(graph, proof_of(network, graph))


def proof_of(network: EmbeddingGraph, graph: bytes) -> Proof:
    """Return how far a graph is from ``network`` on seeded windows; raises `ExportFailure`."""
    bars, stamps = proof_windows(network.sequence)
    with deterministic(1), torch.no_grad():  # the report is part of the manifest
        (wanted,) = network(torch.from_numpy(bars), torch.from_numpy(stamps))
        nearest = network.tokenizer.on_sphere(torch.from_numpy(bars)).abs().amin(dim=(1, 2)).numpy()
    if not np.isfinite(wanted.numpy()).all():
        raise ExportFailure("the checkpoint's own numbers are not finite on ordinary bars: its weights are no good")
    decided = nearest > _MARGIN
    if not decided.any():
        raise ExportFailure(f"every window's code has a component within {_MARGIN:.0e} of 0: nothing can be compared")

    def batches() -> Iterator[dict[str, Any]]:
        yield {"bars": bars[:1], "stamps": stamps[:1]}
        yield {"bars": bars[1:], "stamps": stamps[1:]}

    found = run_graph(graph, batches(), network.outputs)
    worst = largest_difference(
        {"embedding": wanted.numpy()[decided]}, {name: values[decided] for name, values in found.items()}
    )
    return Proof(worst, int(decided.sum()), int((~decided).sum()))


def proof_windows(sequence: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return seeded windows of random walks with clustered volatility, hour by hour from a year's first Monday."""
    random = np.random.default_rng(20240101)
    close = 100 * np.exp(np.cumsum(random.standard_t(4, (_WINDOWS, sequence)) * 0.004, axis=1))
    spread = close * np.abs(random.normal(0, 0.003, (_WINDOWS, sequence)))
    opened = close * (1 + random.normal(0, 0.002, (_WINDOWS, sequence)))
    volume = random.lognormal(8, 1, (_WINDOWS, sequence))
    high, low = np.maximum(opened, close) + spread, np.minimum(opened, close) - spread
    amount = volume * (opened + high + low + close) / 4
    bars = normalised(np.stack((opened, high, low, close, volume, amount), axis=2))
    return bars, stamps_of(_FIRST + _HOUR * np.arange(_WINDOWS * sequence).reshape(_WINDOWS, sequence))
