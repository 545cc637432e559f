"""Rankings of many symbols judged: rank correlations, portfolios after costs, and how much of it may be luck.

`panel` holds prices, `ranks` and `portfolios` what predictions were worth on them, `overfitting` the chance of a lucky
best, `purged` the combinatorial paths (through `skfolio`, imported when it is called), `study` all of it as JSON,
`tables` that as tables; ratios are `fusiontrade.trading.performance`'s. Start reading at `study`.
"""

from serving.evaluation.cross_section.overfitting import Overfitting, overfitting
from serving.evaluation.cross_section.panel import Panel
from serving.evaluation.cross_section.portfolios import Deciles, deciles
from serving.evaluation.cross_section.purged import purged_paths, purged_splits
from serving.evaluation.cross_section.ranks import MeanTest, mean_test, rank_correlations
from serving.evaluation.cross_section.study import RANK_IC_TARGETS, study_cross_section, with_ensembles
from serving.evaluation.cross_section.tables import cross_section_tables, markdown

__all__ = [
    "RANK_IC_TARGETS",
    "Deciles",
    "MeanTest",
    "Overfitting",
    "Panel",
    "cross_section_tables",
    "deciles",
    "markdown",
    "mean_test",
    "overfitting",
    "purged_paths",
    "purged_splits",
    "rank_correlations",
    "study_cross_section",
    "with_ensembles",
]
