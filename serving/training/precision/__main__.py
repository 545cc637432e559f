"""``python -m serving.training.precision``: choose anew in which precision bundles are served, and write them so.

The weights stay, and so do calibration and figures: the report says of which precision the judged graph was. Windows
are those of the calibration slice. Figures are printed as rows of a Markdown table; times, which take no part in the
choice, go to ``run.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file

from fusiontrade.errors import BundleRefused, FusionTradeError
from serving.bundle import ELSEWHERE, GRAPH, REPORT, RUN, kind_of, read_bundle
from serving.card import ModelCard
from serving.training.bundle import F32_GRAPH, WEIGHTS, Finished, write_bundle
from serving.training.candles import read_candles
from serving.training.dataset import pool_of
from serving.training.fit import Batches
from serving.training.precision.cost import BATCHES, measured
from serving.training.precision.intraday import chosen_for, held_out_rows, inputs_of
from serving.training.precision.settings import SETTINGS, Setting
from serving.training.precision.table import HEAD, rows_of
from serving.training.prepared import Prepared, batches_of, prepared_as

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write each bundle with its precision chosen anew; return the exit code (2: there is none, or one failed)."""
    chosen = _parser().parse_args(arguments)
    found = sorted(path.parent for path in chosen.bundles.glob("*/model.json"))
    folders = [folder for folder in found if kind_of(folder) not in ELSEWHERE]
    written = 0
    try:
        for folder in folders:
            rows = _write(folder, chosen.data, chosen.out, chosen.precision)
            print(rows if written else f"{HEAD}\n{rows}", flush=True)
            written += 1
    except (FusionTradeError, ValueError) as error:
        print(f"{f'stopped after {written}' if written else 'nothing chosen'}: {error}", file=sys.stderr)
        return 2
    if not written:
        print(f"nothing chosen: {chosen.bundles} holds no bundles", file=sys.stderr)
    return 0 if written else 2


def _write(folder: Path, data: Path, out: Path, setting: Setting) -> str:
    """Choose for the bundle of ``folder`` and write it to ``out``; return its rows of the table."""
    card = read_bundle(folder).card
    f32 = _f32_graph(folder, card)
    frames = read_candles(data, card.timeframe, card.universe)
    if not frames:
        raise ValueError(f"{data} has no {card.timeframe} bars of the symbols of {card.model_id}")
    prepared = prepared_as(card, pool_of(card.timeframe, frames))
    batches = _batches(card, prepared)
    choice = chosen_for(card, f32, prepared, batches, setting)
    few = held_out_rows(prepared.slices.calibration)[: max(BATCHES)]
    timings = measured(choice.graphs, inputs_of(card.kind, batches, few))
    report = json.loads((folder / REPORT).read_text("utf-8"))
    judged = report.get("precision", {}).get("judged", "f32")
    run = json.loads((folder / RUN).read_text("utf-8")) if (folder / RUN).is_file() else {}
    finished = Finished(
        card.model_copy(update={"precision": choice.precision}),
        choice.graph,
        report | {"precision": {"judged": judged} | choice.report},
        run | {"precision_microseconds": timings},
        load_file(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else None,
        f32_graph=f32,
    )
    write_bundle(finished, out)
    return rows_of(card.model_id, choice, timings)


def _f32_graph(folder: Path, card: ModelCard) -> bytes:
    """Return the graph that a bundle was made with, whatever it is served with."""
    name = GRAPH if card.precision == "f32" else F32_GRAPH
    if not (folder / name).is_file():
        raise BundleRefused(f"{card.model_id} is {card.precision} and has no {name} to choose from: train it anew")
    return (folder / name).read_bytes()


def _batches(card: ModelCard, prepared: Prepared) -> Batches:
    masked = 0 if card.dropout is None else card.dropout.columns
    return batches_of(prepared, card.features.name, masked=masked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving.training.precision", description=__doc__)
    parser.add_argument("--bundles", type=Path, required=True, help="folder of bundle folders")
    parser.add_argument("--data", type=Path, required=True, help="folder with instruments.toml and Parquet bars")
    parser.add_argument("--out", type=Path, required=True, help="folder the bundles go to; may be that of --bundles")
    parser.add_argument("--precision", choices=SETTINGS, default="auto", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
