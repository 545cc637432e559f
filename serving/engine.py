"""The engine: the bundles that serve together, and what each does with the windows of many items at once.

Always true here: what goes wrong with an item (its bars, its model, a NaN) stays with that item; items of one model
ride in one batch, and an item's numbers do not depend on what else rode in it. An `Engine` never changes: a newer
bundle is a newer engine, so whoever keeps one is answered by the same bundles to the end. `Engine.answer` may be
called from several threads at once. No I/O but reading bundles in `load_engine`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import ForecastRequest, ForecastResponse, ModelKind
from fusiontrade.market.timeframes import Timeframe
from serving.asked import Asked
from serving.bundle import ELSEWHERE, MANIFEST, Bundle, kind_of, load_bundle
from serving.card import ModelCard
from serving.features import unrest_of
from serving.forecasting import Newest, Outputs, lstm_forecasts, patchtst_forecasts
from serving.preparing import opened, prepare
from serving.sampling import sequence_forecasts
from serving.windows import Forecast, Inputs, ModelFault, Window, told

__all__ = ["Engine", "Key", "RefusedBundle", "folders_of", "load_engine", "run", "usable", "with_folders"]

_log = logging.getLogger(__name__)

Key = tuple[ModelKind, Timeframe]
_Graph = Callable[[Inputs], Outputs]


@dataclass(frozen=True)
class RefusedBundle:
    """A folder whose bundle must not serve, and why; bytes of a file's name that are no text are written out."""

    folder: str
    reason: str

    def __post_init__(self) -> None:
        for name, text in tuple(vars(self).items()):
            object.__setattr__(self, name, text.encode("utf-8", "backslashreplace").decode())


@dataclass(frozen=True, eq=False)
class Engine:
    """The loaded bundles, at most one of each kind and timeframe.

    Parameters
    ----------
    bundles
        By kind and timeframe.
    refused
        What was found and not loaded.
    """

    bundles: Mapping[Key, Bundle]
    refused: tuple[RefusedBundle, ...] = ()

    def answer(self, request: ForecastRequest) -> ForecastResponse:
        """Return one answer per item, in the order of ``request``; never raises for what is wrong with an item."""
        windows = opened([Asked.of(item) for item in request.items])
        for bundle, riding in self.riders(windows):
            run(bundle, riding)
        return ForecastResponse(items=[told(window) for window in windows])

    def riders(self, windows: Sequence[Window]) -> list[tuple[Bundle, list[Window]]]:
        """Compute the features of opened ``windows``; return every bundle that is asked and who rides with it.

        A window that a bundle cannot answer, or none of its kind, has that noted.
        """
        prepare({key: bundle.card for key, bundle in self.bundles.items()}, windows)
        found: dict[Key, list[Window]] = {}
        for window in windows:
            for kind in window.inputs:
                found.setdefault((kind, window.asked.timeframe), []).append(window)
        return [(self.bundles[key], riding) for key, riding in found.items()]


def load_engine(folder: Path, *, device: str = "cpu", threads: int = 1) -> Engine:
    """Load every bundle of ``folder`` (or the one bundle that ``folder`` itself is).

    A bundle that must not serve is logged and listed in `Engine.refused`; the others serve.

    Raises
    ------
    BundleRefused
        If nothing at all can serve.
    """
    return usable(folder, with_folders(Engine({}), folders_of(folder), device=device, threads=threads))


def with_folders(engine: Engine, folders: Iterable[Path], *, device: str = "cpu", threads: int = 1) -> Engine:
    """Return an engine that serves the bundles of ``folders`` too; one that must not serve is logged and listed."""
    bundles = dict(engine.bundles)
    refused = list(engine.refused)
    for place in folders:
        try:
            bundle = load_bundle(place, device=device, threads=threads)
            if other := bundles.get((bundle.card.kind, bundle.card.timeframe)):
                raise BundleRefused(f"{other.folder.name} already serves {bundle.card.kind} {bundle.card.timeframe}")
        except (BundleRefused, OSError) as error:
            refused.append(RefusedBundle(place.name, str(error)))
            _log.error("bundle refused", extra={"bundle": refused[-1].folder, "reason": refused[-1].reason})
            continue
        except Exception as error:  # whatever it breaks, the others are to be opened
            _log.exception("a bundle could not be opened", extra={"bundle": place.name})
            refused.append(RefusedBundle(place.name, f"could not be opened: {type(error).__name__}"))
            continue
        bundles[bundle.card.kind, bundle.card.timeframe] = bundle
        _log.info("bundle loaded", extra={"bundle": bundle.card.model_id, "version": bundle.card.version})
    return Engine(dict(sorted(bundles.items())), tuple(refused))


def usable(folder: Path, engine: Engine) -> Engine:
    """Return ``engine``, made of what ``folder`` holds; raise `BundleRefused` where nothing of it can serve."""
    if not engine.bundles:
        found = "; ".join(f"{one.folder}: {one.reason}" for one in engine.refused) or "there is none in it"
        raise BundleRefused(f"no bundle of {folder} can serve: {found}")
    return engine


def folders_of(folder: Path) -> list[Path]:
    """Return the bundle folders of ``folder``, or ``folder`` itself where it is a bundle.

    Those of kinds that are served elsewhere are left out.

    Raises
    ------
    BundleRefused
        If there is no such folder.
    """
    if (folder / MANIFEST).is_file():
        return [folder]
    if not folder.is_dir():
        raise BundleRefused(f"the bundle folder {folder} does not exist")
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))
    return [path for path in found if kind_of(path) not in ELSEWHERE]


def run(bundle: Bundle, riding: Sequence[Window], graph: _Graph | None = None) -> None:
    """Run prepared windows through ``bundle`` in one batch and note answers and failures.

    Windows that are sampled more or less often than others make a batch of their own. Where a batch raises, its
    windows are run one by one, so that only the guilty ones fail.

    Parameters
    ----------
    graph
        What to call instead of the bundle's own graph: the same, watched.
    """
    dropout = bundle.card.dropout
    if dropout is None:
        _run(bundle, riding, graph or bundle.graph.run)
        return
    groups: dict[int, list[Window]] = {}
    for window in riding:
        groups.setdefault(window.asked.samples or dropout.samples, []).append(window)
    for samples, group in groups.items():
        masks = {} if samples == dropout.samples else {"masks": dropout.drawn(samples)}
        _run(bundle, group, graph or bundle.graph.run, masks)


def _run(bundle: Bundle, riding: Sequence[Window], call: _Graph, masks: Inputs | None = None) -> None:
    given = {name: np.broadcast_to(mask, (len(riding), *mask.shape)) for name, mask in (masks or {}).items()}
    try:
        outputs = call(_batch(bundle, riding) | given)
    except Exception as error:
        if len(riding) == 1:
            riding[0].fail(bundle.card, error)
            return
        for one in riding:
            if not one.abandoned:
                _run(bundle, [one], call, masks)
        return
    _compose(bundle, riding, outputs)


def _batch(bundle: Bundle, riding: Sequence[Window]) -> Inputs:
    """Return the windows' inputs on top of each other, scaled as the graph takes them."""
    card = bundle.card
    parts = [window.inputs[card.kind] for window in riding]
    batch = parts[0].copy()
    if len(parts) > 1:
        batch = {name: np.concatenate([part[name] for part in parts]) for name in batch}
    batch["volatility"] = card.volatility_scaler.apply(batch["volatility"])
    if card.scaler is not None:
        batch["features"] = card.scaler.apply(batch["features"])
    return batch


def _compose(bundle: Bundle, riding: Sequence[Window], outputs: Outputs) -> None:
    """Turn raw outputs into answers; a row that is not finite is a failure of its item alone."""
    if np.isfinite(np.concatenate([values.ravel() for values in outputs.values()])).all():
        _answer(bundle.card, riding, outputs)
        return
    finite = np.stack([np.isfinite(values).reshape(len(riding), -1).all(axis=1) for values in outputs.values()])
    usable = finite.all(axis=0)
    for row in np.flatnonzero(~usable).tolist():
        broken = ", ".join(name for name, is_finite in zip(outputs, finite[:, row], strict=True) if not is_finite)
        riding[row].fail(bundle.card, ModelFault(f"{broken} is not a finite number"))
    if rows := np.flatnonzero(usable).tolist():
        _answer(bundle.card, [riding[row] for row in rows], {name: values[rows] for name, values in outputs.items()})


def _answer(card: ModelCard, windows: Sequence[Window], outputs: Outputs) -> None:
    """Note the answers of ``windows``; where that fails for all of them, try them one by one."""
    try:
        answers = _forecasts(card, windows, outputs)
    except Exception as error:
        if len(windows) == 1:
            windows[0].fail(card, error)
            return
        for row, window in enumerate(windows):
            _answer(card, [window], {name: values[row : row + 1] for name, values in outputs.items()})
        return
    for window, answer in zip(windows, answers, strict=True):
        window.answers[card.kind] = answer
        if window.asked.symbol not in card.universe:
            window.warnings[card.kind] = (
                f"{card.model_id} was not trained on {window.asked.symbol}: its measured accuracy is of other symbols"
            )


def _forecasts(card: ModelCard, windows: Sequence[Window], outputs: Outputs) -> Sequence[Forecast]:
    if card.kind == "patchtst":
        return patchtst_forecasts(card, outputs)
    newest = Newest(
        close=[window.close for window in windows],
        atr=[window.atr for window in windows],
        unrest=[unrest_of(window.inputs[card.kind]["features"][0, -1]) for window in windows],
    )
    answer = lstm_forecasts if card.kind == "lstm" else sequence_forecasts
    return answer(card, outputs, newest, [window.asked for window in windows])
