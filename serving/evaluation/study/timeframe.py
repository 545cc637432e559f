"""One timeframe's part of a study: read, answer, judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fusiontrade.inference.contract import SEQUENCE_KINDS, ModelKind
from fusiontrade.market.timeframes import Timeframe
from serving.bundle import Bundle, load_bundle
from serving.card import ModelCard
from serving.evaluation.answering import run_bundle
from serving.evaluation.baselines import BoostingSettings
from serving.evaluation.held_out import HeldOut
from serving.evaluation.study.ensembles import Members, combined_by, compared, said
from serving.evaluation.study.judged import REFERENCE_FIVE, Candles, judged_part, read
from serving.evaluation.study.left_out import left_out_part
from serving.evaluation.study.rivals import Rivals, rivals
from serving.evaluation.study.sections import Scopes, lstm_part, patchtst_part
from serving.evaluation.walk_forward import even_cuts, expanding_folds, walk_forward
from serving.forecasting import LstmAnswers, class_probabilities
from serving.instants import iso_of
from serving.training.adopt import adopted
from serving.training.dataset import LstmBatches, PatchTstBatches, Pool
from serving.training.judging.judge import subjects, walked_answers
from serving.training.judging.references import calibration_rows, held_out
from serving.training.prepared import Prepared, prepared_as

__all__ = ["STEPS", "Plan", "study_timeframe"]

Told = Callable[[str], None]
Json = dict[str, Any]
Rows = NDArray[np.intp]

STEPS = (
    "candles", "plain baselines", "LightGBM, EWMA, GARCH", "lstm", "gru", "cnn", "transformer", "ensemble", "patchtst",
    "symbols left out", "walk-forward",
)  # fmt: skip
"""What is told as done, in this order."""
_FOLDS = 4
_ROWS_OF_FOLD, _ROUNDS_OF_FOLD = 40_000, 250  # every fold grows five forests: smaller ones


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study is made of: folders and choices, the same for every timeframe.

    Parameters
    ----------
    data
        Folder of candles.
    bundles
        By timeframe, the folders of the bundles to judge.
    left_out
        By timeframe, the folders of LSTM bundles trained without some symbols.
    until
        Bars closed after this instant (ms UTC) are not used; None: all are.
    resamples, seed
        Of the bootstrap.
    boosting
        How LightGBM, the baseline, is grown.
    swing
        Folder of the daily bundle; None: none is judged.
    embeddings
        Folder that keeps the embeddings its study makes; None: they are made anew.
    daily_stride
        Every k-th session of daily bars is judged.
    """

    data: Path
    bundles: Mapping[Timeframe, Sequence[Path]]
    left_out: Mapping[Timeframe, Sequence[Path]]
    until: int | None
    resamples: int
    seed: int
    swing: Path | None = None
    embeddings: Path | None = None
    daily_stride: int = 1
    boosting: BoostingSettings = field(default_factory=partial(BoostingSettings, threads=1))

    @property
    def until_iso(self) -> str | None:
        """``until`` as people write it."""
        return None if self.until is None else iso_of(self.until)


def study_timeframe(timeframe: Timeframe, plan: Plan, told: Told) -> Json:
    """Return one timeframe's part of the study, reckoned on one thread: the same digits beside other processes.

    Parameters
    ----------
    told
        Called with each of `STEPS` when it is done.

    Raises
    ------
    fusiontrade.errors.FusionTradeError, ValueError
        If a bundle is refused, or the candles cannot be judged.
    """
    with threadpool_limits(1):
        return _studied(timeframe, plan, told)


def _studied(timeframe: Timeframe, plan: Plan, told: Told) -> Json:
    bundles = _by_kind([load_bundle(folder) for folder in plan.bundles[timeframe]])
    _check_cuts([bundle.card for bundle in bundles.values()])
    candles = read(plan.data, timeframe, [bundle.card for bundle in bundles.values()], plan.until)
    told("candles")
    prepared = prepared_as(_leading(bundles), candles.pool)
    held = held_out(prepared)
    told("plain baselines")
    others = rivals(prepared, plan.boosting)
    told("LightGBM, EWMA, GARCH")
    scopes = _scopes(candles, plan)
    part: Json = {"timeframe": str(timeframe)} | judged_part(candles, prepared, held)
    members: dict[ModelKind, LstmAnswers] = {}
    for kind in SEQUENCE_KINDS:
        if (bundle := bundles.get(kind)) is not None:
            members[kind] = lstm_answers_of(bundle, candles.pool, held)
            part[kind] = lstm_part(members[kind], held, others, scopes)
        told(kind)
    if len(members) > 1:
        both = Members({kind: bundles[kind].card for kind in members}, members, held, subjects(candles.pool))
        part["ensemble"] = _together(both, [bundles[kind] for kind in members], prepared, others, scopes)
    told("ensemble")
    answers = members.get("lstm")
    if (patchtst := bundles.get("patchtst")) is not None:
        part["patchtst"] = patchtst_part(_classes(patchtst, candles.pool, prepared.slices.test), held, others, scopes)
    told("patchtst")
    folders = plan.left_out.get(timeframe, ())
    if answers is not None and folders:
        unseen = [one for one in map(load_bundle, folders) if one.card.kind == "lstm"]
        told_by = [(one.card, lstm_answers_of(one, candles.pool, held)) for one in unseen]
        part["left_out"] = left_out_part(answers, told_by, held, scopes)
        taught = [replace(one, card=adopted(one, candles.pool)) for one in unseen if _misses(one.card, candles.pool)]
        told_by = [(one.card, lstm_answers_of(one, candles.pool, held)) for one in taught]
        part["adopted"] = left_out_part(answers, told_by, held, scopes)
    told("symbols left out")
    part["walk_forward"] = walked_folds(prepared, plan)
    told("walk-forward")
    return part


def _together(judged: Members, bundles: Sequence[Bundle], prepared: Prepared, told: Rivals, scopes: Scopes) -> Json:
    """Return the part of the ensemble: the way chosen on the calibration slice, beside its members and other ways."""
    pool = prepared.pool
    before = calibration_rows(prepared)
    answers = {
        kind: lstm_answers_of(one, pool, before, prepared.slices.calibration)
        for kind, one in zip(judged.answers, bundles, strict=True)
    }
    best, ways = combined_by(Members(judged.cards, answers, before, judged.whose))
    others: dict[str, LstmAnswers] = {str(kind): one for kind, one in judged.answers.items()}
    others |= {name: said(one.way, tuple(one.weights.values()), judged) for name, one in ways.items()}
    ensemble = others[best.way.name]
    return lstm_part(ensemble, judged.held, told, scopes) | {
        "members": list(judged.answers),
        "way": best.way.name,
        "ways": [
            {"name": name, "weights": dict(one.weights), "before": one.before, "chosen": one is best}
            for name, one in ways.items()
        ],
        "compared": compared(ensemble, others, judged.held, scopes),
    }


def lstm_answers_of(bundle: Bundle, pool: Pool, held: HeldOut, rows: Rows | None = None) -> LstmAnswers:
    """Return a bundle's calibrated answers to held-out rows, its intervals adapted as outcomes became known.

    Parameters
    ----------
    rows
        (n,) rows of the pool that ``held`` is of; None: those of the test slice.
    """
    prepared = prepared_as(bundle.card, pool, judged_rows_only=rows is None)
    batches = LstmBatches(pool, prepared.scaler, prepared.volatility)
    outputs = run_bundle(bundle, batches, prepared.slices.test if rows is None else rows)
    return walked_answers(bundle.card, outputs, held, subjects(pool))


def _misses(card: ModelCard, pool: Pool) -> bool:
    return any(one.symbol not in card.season for one in pool.series)


def _classes(bundle: Bundle, pool: Pool, rows: Rows) -> NDArray[np.float64]:
    prepared = prepared_as(bundle.card, pool, judged_rows_only=True)
    batches = PatchTstBatches(pool, prepared.volatility)
    return class_probabilities(bundle.card, run_bundle(bundle, batches, rows))


def walked_folds(prepared: Prepared, plan: Plan) -> list[Json]:
    """Return the folds of the second half of the span before the judged slice; none where it is too short."""
    pool, until = prepared.pool, prepared.slices.cuts[2]
    before = np.sort(pool.entry[pool.usable])
    begin = int(np.median(before[before < until]))
    settings = replace(
        plan.boosting,
        rows=min(plan.boosting.rows, _ROWS_OF_FOLD),
        validation_rows=min(plan.boosting.validation_rows, _ROWS_OF_FOLD // 2),
        rounds=min(plan.boosting.rounds, _ROUNDS_OF_FOLD),
    )
    try:
        folds = expanding_folds(pool, even_cuts(begin, until, _FOLDS))
    except ValueError:
        return []
    found = walk_forward(pool, folds, settings=settings, resamples=plan.resamples, seed=plan.seed)
    return [fold | {"from": iso_of(fold["from"]), "to": iso_of(fold["to"])} for fold in found]


def _by_kind(bundles: Sequence[Bundle]) -> dict[ModelKind, Bundle]:
    return {bundle.card.kind: bundle for bundle in bundles}


def _check_cuts(cards: Sequence[ModelCard]) -> None:
    """Refuse bundles that were cut at other instants: one would be judged on rows that another was fitted on."""
    spans = [(card.windows.validation, card.windows.calibration, card.windows.test) for card in cards]
    if len({tuple(span and span[0] for span in each) for each in spans}) > 1:
        named = ", ".join(f"{card.model_id} from {iso_of(card.windows.test[0])}" for card in cards)
        raise ValueError(f"bundles of one timeframe must be cut alike to be judged together, got {named}")


def _leading(bundles: Mapping[ModelKind, Bundle]) -> ModelCard:
    """Return the card that says how rows are cut and scaled: of a model whose scaler the baselines share, if any."""
    return next(bundles[kind] for kind in (*SEQUENCE_KINDS, "patchtst") if kind in bundles).card


def _scopes(candles: Candles, plan: Plan) -> Scopes:
    counted = candles.counted
    return Scopes(
        names=[one.symbol for one in candles.pool.series],
        counted=candles.places(counted),
        five=candles.places([symbol for symbol in REFERENCE_FIVE if symbol in counted]),
        resamples=plan.resamples,
        seed=plan.seed,
    )
