"""Hot swap: the bundle folder is read again while the old bundles serve, and what is new and good takes over.

When: on SIGHUP, or every ``watch_seconds`` if the folder changed and has come to rest. How: a folder whose bundle
has the version that serves is left alone; any other is verified, opened beside the old one, and answers its
self-test in full before it takes over. Always true here: a folder that fails keeps the bundle it would have
replaced, and the reason is in the report, the log and the metrics; while any folder fails, nothing is withdrawn;
otherwise a bundle whose folder is gone is; the last one never is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fusiontrade.errors import BundleRefused
from fusiontrade.inference.contract import FUSED, SEQUENCE_KINDS
from serving.bundle import Bundle, kind_of, read_bundle
from serving.engine import Engine, Key, RefusedBundle, folders_of, usable, with_folders
from serving.warmup import self_test, warm_up

__all__ = ["Reader", "SwapReport"]

_log = logging.getLogger(__name__)

_BESIDE = frozenset(SEQUENCE_KINDS) - frozenset(FUSED)
_Files = frozenset[tuple[str, int, int]]


@dataclass(frozen=True)
class SwapReport:
    """What the newest reading of the bundle folder after the start came to.

    Parameters
    ----------
    generation
        How often the bundles that serve were changed since the start.
    outcome
        ``changed``; ``unchanged``, where nothing was new; ``refused``, where something was and must not serve.
    failed
        Folders that must not serve, and why; what they would have replaced still serves.
    """

    generation: int = 0
    outcome: Literal["changed", "unchanged", "refused"] = "changed"
    failed: tuple[RefusedBundle, ...] = ()


class Reader:
    """Reads one folder of bundles, at the start and again; one thread at a time.

    Parameters
    ----------
    folder
        Of bundle folders, or one bundle.
    device, threads
        As for `serving.bundle.load_bundle`.
    slow_seconds
        As for `serving.warmup.self_test`.
    """

    def __init__(self, folder: Path, *, device: str, threads: int, slow_seconds: float) -> None:
        self._folder, self._device, self._threads, self._slow_seconds = folder, device, threads, slow_seconds
        self.report = SwapReport()
        self._read: _Files = frozenset()
        self._seen: _Files = frozenset()
        self._later: list[Path] = []

    def first(self) -> Engine:
        """Return the warmed-up engine of a start; raises `BundleRefused` where nothing can serve.

        Where there are kinds that are fused, those beside them are left to `rest`: no start waits for them.
        """
        self._read = self._files()
        folders = folders_of(self._folder)
        later = [folder for folder in folders if kind_of(folder) in _BESIDE]
        engine = self._with(Engine({}), [folder for folder in folders if folder not in later])
        if engine.bundles:
            self._later = later
        else:
            engine = usable(self._folder, self._with(engine, later))
        warm_up(engine)
        return engine

    def rest(self, engine: Engine, ending: threading.Event) -> Engine:
        """Return what shall serve after ``engine``: the kinds that `first` has left out too, warmed up; or itself.

        No more is opened once ``ending`` is set.
        """
        later, self._later = self._later, []
        whole = engine
        for folder in later:
            if ending.is_set():
                return engine
            whole = self._with(whole, [folder])
        warm_up(Engine({key: bundle for key, bundle in whole.bundles.items() if key not in engine.bundles}))
        return whole

    def again(self, engine: Engine) -> Engine:
        """Read the folder anew; return what shall serve after ``engine``, or itself where that does not change."""
        self._read = self._files()
        found, failed = self._found(engine.bundles)
        kept = {key: bundle for key, bundle in engine.bundles.items() if failed and key not in found}
        bundles = dict(sorted({**found, **kept}.items()))
        changed = bundles != dict(engine.bundles)
        outcome: Literal["changed", "unchanged", "refused"] = "refused" if failed else "unchanged"
        self.report = SwapReport(self.report.generation + changed, "changed" if changed else outcome, tuple(failed))
        _log.info(
            "bundles read",
            extra={
                "outcome": self.report.outcome,
                "generation": self.report.generation,
                "models": {bundle.card.model_id: bundle.card.version for bundle in bundles.values()},
            },
        )
        if not changed and tuple(failed) == engine.refused:
            return engine
        return Engine(bundles, tuple(failed))

    def settled_anew(self) -> bool:
        """Tell whether the folder's files differ from those last read and are as they were at the last look."""
        now, before = self._files(), self._seen
        self._seen = now
        return now == before and now != self._read

    def _with(self, engine: Engine, folders: Sequence[Path]) -> Engine:
        return with_folders(engine, folders, device=self._device, threads=self._threads)

    def _found(self, serving: Mapping[Key, Bundle]) -> tuple[dict[Key, Bundle], list[RefusedBundle]]:
        found: dict[Key, Bundle] = {}
        failed: list[RefusedBundle] = []
        try:
            folders = folders_of(self._folder)
        except (BundleRefused, OSError) as error:
            return found, [self._refusal(self._folder, error)]
        for folder in folders:
            try:
                key, bundle = self._examined(folder, serving, found)
            except (BundleRefused, OSError) as error:
                failed.append(self._refusal(folder, error))
            except Exception as error:  # whatever it breaks, the other folders are to be read
                _log.exception("a bundle could not be examined", extra={"bundle": folder.name})
                failed.append(self._refusal(folder, BundleRefused(f"could not be examined: {type(error).__name__}")))
            else:
                found[key] = bundle
        if not folders:
            failed.append(self._refusal(self._folder, BundleRefused("there is no bundle in it")))
        return found, failed

    def _examined(self, folder: Path, serving: Mapping[Key, Bundle], found: Mapping[Key, Bundle]) -> tuple[Key, Bundle]:
        """Return the bundle of ``folder``, which may serve; the one that serves already where it is the same."""
        sealed = read_bundle(folder)
        key = (sealed.card.kind, sealed.card.timeframe)
        if key in found:
            raise BundleRefused(f"{found[key].folder.name} already serves {key[0]} {key[1]}")
        old = serving.get(key)
        if old is not None and old.card.version == sealed.card.version:
            return key, old
        bundle = sealed.opened(device=self._device, threads=self._threads)
        self_test(bundle, slow_seconds=self._slow_seconds)
        _log.info("bundle loaded", extra={"bundle": bundle.card.model_id, "version": bundle.card.version})
        return key, bundle

    def _refusal(self, folder: Path, error: Exception) -> RefusedBundle:
        refusal = RefusedBundle(folder.name, str(error))
        _log.error("bundle refused", extra={"bundle": refusal.folder, "reason": refusal.reason})
        return refusal

    def _files(self) -> _Files:
        """Return name, size and time of every file two levels down: cheap to look at often."""
        try:
            found = [path for pattern in ("*", "*/*") for path in self._folder.glob(pattern)]
            stats = [(path, path.stat()) for path in found if path.is_file()]
        except OSError:  # a file went away while it was looked at: the next look tells
            return frozenset()
        return frozenset((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)
