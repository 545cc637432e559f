"""The checks themselves: pure functions over arrays and callables that return what they found; no files, no terminal.

Start reading at `findings`, then `futures` (features) and `answering` (models); `slices`, `scaling`, `windows` and
`suspicions` are for datasets, scalers, cards and reports.
"""

from serving.lookahead.checks.answering import RowModel, check_model, row_model
from serving.lookahead.checks.findings import Check, Finding, Outcome, Unusable
from serving.lookahead.checks.futures import FeatureSet, check_features
from serving.lookahead.checks.scaling import Statistics, check_scaler, check_scaler_of_rows, robust, standard
from serving.lookahead.checks.slices import DatasetRows, check_rows
from serving.lookahead.checks.suspicions import check_figures
from serving.lookahead.checks.windows import check_windows

__all__ = [
    "Check",
    "DatasetRows",
    "FeatureSet",
    "Finding",
    "Outcome",
    "RowModel",
    "Statistics",
    "Unusable",
    "check_features",
    "check_figures",
    "check_model",
    "check_rows",
    "check_scaler",
    "check_scaler_of_rows",
    "check_windows",
    "robust",
    "row_model",
    "standard",
]
