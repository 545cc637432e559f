"""Look-ahead tests as a tool: does anything here know what it could not have known? ``python -m serving.lookahead``.

What lives here: pure checks, each of which takes arrays or callables and returns findings (`futures` for features,
`answering` for models, `slices` for datasets, `scaling` for scalers, `windows` and `suspicions` for bundles), and
around them what reads files (`reading`, `bundles`, `pools`), what runs the checks in order (`plan`) and what shows
them (`showing`, `command`). Start reading at `findings`, then `futures`.

Always true: a check that could not be made is SKIPPED with its reason, never PASS; a finding names where it is, how
large it is and what to do; nothing here is imported by serving, training or evaluation.

May import: `serving`, what training may import of `fusiontrade`, typer and rich (`command`, `showing` alone). torch
comes in with `serving.training` only where slices of our own data are asked for.
"""

from serving.lookahead.answering import RowModel, check_model, row_model
from serving.lookahead.findings import Check, Finding, Outcome
from serving.lookahead.futures import FeatureSet, check_features
from serving.lookahead.scaling import Statistics, check_scaler, robust, standard
from serving.lookahead.slices import DatasetRows, check_rows
from serving.lookahead.suspicions import check_figures
from serving.lookahead.windows import check_windows

__all__ = [
    "Check",
    "DatasetRows",
    "FeatureSet",
    "Finding",
    "Outcome",
    "RowModel",
    "Statistics",
    "check_features",
    "check_figures",
    "check_model",
    "check_rows",
    "check_scaler",
    "check_windows",
    "robust",
    "row_model",
    "standard",
]
