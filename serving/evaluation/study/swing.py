"""The daily bundle judged: rankings of each universe on every session of its untouched slice, through what serves.

The bundle says itself when that slice begins; nothing is chosen here, and nothing fitted but the ranker anew along
purged paths of the bars before that slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fusiontrade.errors import InvalidInput
from serving.bundle import MANIFEST, kind_of
from serving.evaluation.cross_section import RANK_IC_TARGETS, Panel, study_cross_section, with_ensembles
from serving.evaluation.cross_section.ranks import FEWEST
from serving.evaluation.cross_section.study import ENSEMBLE
from serving.instants import iso_of
from serving.kronos.encoder import Encoder, load_encoder
from serving.models.swing import HORIZONS
from serving.swing import SwingBundle, load_swing
from serving.training.swing import RankerConfig, SwingConfig, has_daily, read_daily
from serving.training.swing.paths import EVERY, Paths, ranked_paths
from serving.training.swing.ranker import ranking_of
from serving.training.swing.table import SwingTable, table_of

if TYPE_CHECKING:
    from serving.training.swing import DailySeries

__all__ = ["TRIALS", "has_daily", "study_swing", "swing_folder"]

Json = dict[str, Any]
_DAY_MS = 86_400_000
_BATCH = 1024
_TARGETED = "nifty100"
_REVERSAL, _BACK = "baseline: 5-session reversal", 5
_RANKER, _NETWORKS = "ranker", "both networks, 0.35 / 0.30 / 0.35"
TRIALS = 270
"""Configurations that were looked at on bars before the untouched slice; decision 150 counts them."""


def swing_folder(folder: Path) -> Path | None:
    """Return the swing bundle in ``folder``, None where there is none."""
    return next((path.parent for path in sorted(folder.glob(f"*/{MANIFEST}")) if kind_of(path.parent) == "swing"), None)


def study_swing(
    folder: Path,
    data: Path,
    *,
    stride: int = 1,
    until: int | None = None,
    kept: Path | None = None,
    told: Callable[[str], None] = lambda _: None,
) -> dict[str, Json]:
    """Return by universe what `study_cross_section` says of the swing bundle in ``folder``, on one thread.

    Parameters
    ----------
    data
        Holds ``instruments.toml`` and the daily tables it names.
    stride
        Every k-th session is judged.
    until
        Bars closed after this instant (ms UTC) are not used.
    kept
        Folder of embeddings that earlier runs made, read and added to.
    told
        Called with each stock that was read.

    Raises
    ------
    fusiontrade.errors.FusionTradeError
        If the bundle is refused, its encoder is not beside it, or there are no daily tables.
    """
    with threadpool_limits(1):
        bundle = load_swing(folder)
        encoder = _encoder(folder.parent, bundle.card.encoder)
        series = read_daily(data, tuple(bundle.card.universes))
        if until is not None:
            series = [one.until(until) for one in series]
        begin = bundle.card.windows.test[0]
        ranker = RankerConfig() if bundle.card.ranker is None else RankerConfig(fewest=bundle.card.ranker.fewest)
        beginning = f"{np.datetime64(begin - 1, 'ms')}+00:00"
        config = SwingConfig(
            judged_from=beginning,
            judged_stride=stride,
            stride=10**6,
            held_stride=10**6,
            fewest=FEWEST,
            ranker=ranker,
        )
        table = table_of(series, config, encoder, told, unknown=True, kept=kept)
        paths = {} if bundle.card.ranker is None else ranked_paths(series, ranker, begin)
        return {
            name: _of_universe(name, place, bundle, table, series, paths=paths.get(name)) | {"stride": stride}
            for place, name in enumerate(table.universes)
        }


def _of_universe(
    name: str,
    place: int,
    bundle: SwingBundle,
    table: SwingTable,
    series: Sequence[DailySeries],
    *,
    paths: Paths | None,
) -> Json:
    own = [one for one in series if one.universe == name]
    panel = Panel.of(
        [one.frame for one in own],
        factors={one.symbol: one.factor for one in own},
        jumps={one.symbol: one.jumps for one in own},
    )
    rows = np.flatnonzero((table.universe == place) & (table.day >= bundle.card.windows.test[0]))
    former, temporal, ranked, joined = _answers(bundle, table, rows)
    symbols = [table.stocks[stock] for stock in table.stock[rows]]
    instants = table.day[rows] - _DAY_MS

    def placed(values: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
        return {days: panel.placed(symbols, instants, values[:, at]) for at, days in enumerate(HORIZONS)}

    asked = np.isfinite(placed(former)[HORIZONS[0]])
    before = np.full(panel.close.shape, np.nan)
    before[_BACK:] = panel.close[:-_BACK]
    reversal = np.where(asked, 1.0 - panel.close / before, np.nan)
    members = with_ensembles(placed(former), placed(temporal))
    if bundle.card.ranker is not None:
        members |= {_NETWORKS: members[ENSEMBLE], _RANKER: placed(ranked), ENSEMBLE: placed(joined)}
    found = study_cross_section(
        members | {_REVERSAL: dict.fromkeys(HORIZONS, reversal)},
        panel,
        trials=TRIALS,
        paths=None if paths is None else {_RANKER: dict.fromkeys(HORIZONS, _along(paths, panel))},
        targets=RANK_IC_TARGETS if name == _TARGETED else None,
        fewest=FEWEST,
    )
    if paths is not None:
        first, last = (iso_of(int(close) - _DAY_MS)[:10] for close in paths.closes[[0, -1]])
        found["notes"].append(
            f"purged paths: the ranker on every {EVERY}th session from {first} to {last}, before the judged slice; "
            "each sixth is ranked by weights of the others, later ones too, twenty sessions beside it left out"
        )
    abstains = bundle.card.universes[name].abstains
    return found | {"bundle": f"{bundle.card.model_id}@{bundle.card.version}", "abstains": abstains}


def _along(paths: Paths, panel: Panel) -> NDArray[np.float64]:
    """Return the (paths, T, S) scores in the rows and columns of the panel."""
    out = np.full((len(paths.scores), *panel.open.shape), np.nan)
    rows = np.isin(paths.closes - _DAY_MS, panel.instants)
    at = np.searchsorted(panel.instants, paths.closes[rows] - _DAY_MS)
    columns = [panel.symbols.index(symbol) for symbol in paths.symbols]
    out[:, at[:, None], columns] = paths.scores[:, rows]
    return out


def _answers(
    bundle: SwingBundle, table: SwingTable, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (k, 3) returns of StockFormer, TFT, ranker (NaN where a row is not ranked) and ensemble for the rows."""
    worth = {} if bundle.card.ranker is None else bundle.card.ranker.universes
    weights = {name: one.weights for name, one in worth.items()}
    parts = []
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        ranking = ranking_of(table, part, weights, worth)
        returns, _ = bundle.run(table.prices[part], table.embedding[part], table.context[part], ranking)
        parts.append((returns.stockformer, returns.tft, returns.ranker, returns.ensemble))
    former, temporal, ranked, joined = (np.concatenate(found) for found in zip(*parts, strict=True))
    return former, temporal, ranked, joined


def _encoder(folder: Path, named: str | None) -> Encoder | None:
    """Return the encoder called ``named`` among the bundles of ``folder``."""
    if named is None:
        return None
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        if kind_of(path.parent) == "kronos":
            encoder = load_encoder(path.parent)
            if f"{encoder.card.model_id}@{encoder.card.version}" == named:
                return encoder
    raise InvalidInput("bundles", f"{folder} has no encoder {named}, which its swing bundle learned from")
