"""The encoder as it serves: a verified bundle of kind ``kronos``, its session, and what it answered lately.

Always true here: an embedding depends on its own window alone, whichever windows ride with it; equal windows are
computed once while they are remembered. `Encoder.embed` may be called from several threads at once. No torch.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fusiontrade.errors import BundleRefused, InvalidInput
from serving.bundle import GRAPH
from serving.card import DataFingerprint
from serving.kronos.windows import CHANNELS, CLIP, STAMPS
from serving.sealed import SealedCard, opened, read_sealed

__all__ = ["KIND", "Encoder", "EncoderCard", "load_encoder", "read_encoder"]

KIND: Literal["kronos"] = "kronos"
_BATCH = 8  # windows a run: more gain nothing on a core, and hold its memory
_REMEMBERED = 4096  # embeddings of 2 kB each
_SAME = 1e-4

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class EncoderCard(SealedCard):
    """The card of an encoder.

    ``sequence`` are the bars of a window, ``width`` is that of its embedding; ``data`` is what our own stand-in was
    trained on, None for a published checkpoint. ``stand_in`` tells that it is ours.
    """

    kind: Literal["kronos"] = KIND
    sequence: Annotated[int, Field(ge=2)]
    width: Annotated[int, Field(ge=1)]
    stand_in: bool = False
    seed: int | None = None
    data: DataFingerprint | None = None


@dataclass(frozen=True, eq=False)
class Encoder:
    """An encoder whose files were verified; its graph is opened, and tested, when it is first needed."""

    folder: Path
    card: EncoderCard
    opener: Callable[[], Any]
    _known: OrderedDict[bytes, Floats] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def session(self) -> Any:
        """The graph's session, which gave finite embeddings of two windows; raises `BundleRefused`."""
        session = self.opener()
        _self_test(session, self.card)
        return session

    def open(self) -> Encoder:
        """Open the graph now, and return this encoder; raises `BundleRefused` where it must not serve."""
        _ = self.session
        return self

    def embed(self, bars: Floats, stamps: Integers) -> Floats:
        """Return the embeddings of windows.

        Parameters
        ----------
        bars
            (n, T, 6) float32, as `serving.kronos.windows.normalised` makes them.
        stamps
            (n, T, 5) int64, as `serving.kronos.windows.stamps_of` makes them.

        Returns
        -------
        (n, width) float32, finite.

        Raises
        ------
        InvalidInput
            If shapes are others, or a number is not finite or out of its range.
        """
        bars, stamps = np.ascontiguousarray(bars, np.float32), np.ascontiguousarray(stamps, np.int64)
        self._check(bars, stamps)
        keys = [_key(bar, stamp) for bar, stamp in zip(bars, stamps, strict=True)]
        found = self._remembered(keys)
        missing = [row for row, key in enumerate(keys) if key not in found]
        rows = list({keys[row]: row for row in missing}.values())
        for at in range(0, len(rows), _BATCH):
            part = rows[at : at + _BATCH]
            answers = self._run(bars[part], stamps[part])
            found.update((keys[row], answer) for row, answer in zip(part, answers, strict=True))
        self._remember({keys[row]: found[keys[row]] for row in rows})
        return np.stack([found[key] for key in keys]) if keys else np.empty((0, self.card.width), np.float32)

    def _run(self, bars: Floats, stamps: Integers) -> Floats:
        return _embedded(self.session, self.card, bars, stamps)

    def _check(self, bars: Floats, stamps: Integers) -> None:
        length = self.card.sequence
        for name, given, last in (("bars", bars, len(CHANNELS)), ("stamps", stamps, len(STAMPS))):
            if given.ndim != 3 or given.shape[1:] != (length, last) or len(given) != len(bars):
                raise InvalidInput(name, f"{name} have to be (n, {length}, {last}), these are {given.shape}")
        if not (np.abs(bars) <= CLIP).all():
            raise InvalidInput("bars", f"bars have to be normalised: finite and within ±{CLIP:g}")
        if stamps.size and ((stamps < 0) | (stamps > (59, 23, 6, 31, 12))).any():
            raise InvalidInput("stamps", "stamps have to be minute, hour, weekday, day and month")

    def _remembered(self, keys: list[bytes]) -> dict[bytes, Floats]:
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
            for key in found:
                self._known.move_to_end(key)
        return found

    def _remember(self, fresh: Mapping[bytes, Floats]) -> None:
        with self._lock:
            self._known.update(fresh)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def load_encoder(folder: Path, *, device: str = "cpu", threads: int = 1) -> Encoder:
    """Verify the bundle in ``folder`` and make it ready to run; parameters and errors as for `load_bundle`."""
    return read_encoder(folder, device=device, threads=threads).open()


def read_encoder(folder: Path, *, device: str = "cpu", threads: int = 1) -> Encoder:
    """Verify the files of the bundle in ``folder``; its graph is opened when it is first needed."""
    card, files = read_sealed(folder, EncoderCard)
    inputs = {
        "bars": ("tensor(float)", (None, card.sequence, len(CHANNELS))),
        "stamps": ("tensor(int64)", (None, card.sequence, len(STAMPS))),
    }
    outputs = {"embedding": ("tensor(float)", (None, card.width))}
    graph = files[GRAPH]
    return Encoder(folder, card, partial(opened, graph, card, inputs, outputs, device=device, threads=threads))


def _embedded(session: Any, card: EncoderCard, bars: Floats, stamps: Integers) -> Floats:
    answers: Floats = session.run(["embedding"], {"bars": bars, "stamps": stamps})[0]
    if not np.isfinite(answers).all():
        raise BundleRefused(f"{card.model_id} answered something that is not a finite number")
    return answers


def _self_test(session: Any, card: EncoderCard) -> None:
    """Answer two windows together and one of them alone: finite, and the same."""
    length = card.sequence
    wave = np.sin(np.arange(2 * length * len(CHANNELS), dtype=np.float32)).reshape(2, length, len(CHANNELS))
    stamps = np.tile(np.array([0, 0, 0, 1, 1], np.int64), (2, length, 1))
    try:
        both, alone = _embedded(session, card, wave, stamps), _embedded(session, card, wave[1:], stamps[1:])
    except BundleRefused:
        raise
    except Exception as error:
        raise BundleRefused(f"the graph fails its self-test: {str(error).splitlines()[0][:300]}") from None
    if np.abs(both[1] - alone[0]).max() > _SAME:
        raise BundleRefused("what the graph says of a window depends on the windows that ride with it")


def _key(bars: Floats, stamps: Integers) -> bytes:
    return hashlib.blake2b(bars.tobytes() + stamps.tobytes(), digest_size=16).digest()
