"""One training from candles to a bundle: tokenizer, decoder, figures, graph, proof."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import torch

import fusiontrade
from serving.bringing.kronos import configuration, proof_of
from serving.bundle import GRAPH
from serving.card import Metric
from serving.kronos.encoder import EncoderCard, load_encoder
from serving.kronos.network import EmbeddingGraph, write_checkpoint
from serving.kronos.training.config import Recipe
from serving.kronos.training.fit import Told, fit_decoder, fit_tokenizer, judged, rounded
from serving.kronos.training.resuming import Keeper, identity_of
from serving.kronos.training.storing import stored_in_bytes
from serving.kronos.training.windows import Pool
from serving.sealed import Source, write_sealed
from serving.training.bundle import libraries
from serving.training.export import export
from serving.training.fit import deterministic

__all__ = ["train_encoder"]


_CHECKPOINTS = ".checkpoints"
_EVERY = 50


def train_encoder(
    pool: Pool,
    recipe: Recipe,
    out: Path,
    *,
    model_id: str,
    told: Told,
    checkpoint: Path | None = None,
    every: int = _EVERY,
) -> Path:
    """Train, prove and write the stand-in to ``out/<model_id>``; return that folder.

    A training of the same data and recipe that was interrupted goes on from ``out/.checkpoints``.

    Parameters
    ----------
    told
        Given the progress.
    checkpoint
        Where tokenizer and decoder go as checkpoint folders of the published layout, if anywhere.
    every
        Steps that an interruption may cost.

    Raises
    ------
    ExportFailure
        If the graph does not give torch's numbers.
    BundleRefused
        If serving would refuse the bundle.
    """
    begun = time.time()
    identity = identity_of(recipe, pool.data.fingerprint)
    keepers = [
        Keeper(out / _CHECKPOINTS / f"{model_id}-{name}.safetensors", identity, every)
        for name in ("tokenizer", "decoder")
    ]
    with deterministic(recipe.threads):
        tokenizer = fit_tokenizer(pool.train, recipe, told, keepers[0])
        rounded(tokenizer)
        decoder = fit_decoder(tokenizer, pool.train, recipe, told, keepers[1])
        rounded(decoder)
        figures = judged(tokenizer, decoder, pool.judged, recipe)
        network = EmbeddingGraph(tokenizer, decoder, recipe.sequence).eval()
        graph = stored_in_bytes(export(network))
        proof = proof_of(network, graph)
    if checkpoint is not None:
        write_checkpoint(tokenizer, checkpoint / "tokenizer")
        write_checkpoint(decoder, checkpoint / "model")
    figures = {name: round(value, 6) for name, value in figures.items()}
    card = EncoderCard(
        model_id=model_id,
        precision="int8",
        sequence=recipe.sequence,
        width=recipe.decoder.d_model,
        stand_in=True,
        seed=recipe.seed,
        config=configuration(tokenizer, decoder),
        source=Source(how="trained"),
        metrics={name: Metric(value=value, n=recipe.judged) for name, value in figures.items()},
        data=pool.data,
        code_version=fusiontrade.__version__,
        libraries=libraries(),
    )
    choices = {name: value for name, value in asdict(recipe).items() if name not in ("tokenizer", "decoder")}
    report = {"agreement": asdict(proof), "figures": {"pooled": figures}, "recipe": choices}
    run = {"written": time.time(), "seconds": round(time.time() - begun, 1), "torch_threads": torch.get_num_threads()}
    folder = write_sealed(out, card, {GRAPH: graph}, report, run, load=load_encoder)
    for keeper in keepers:
        keeper.forget()
    return folder
