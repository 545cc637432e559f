"""The fit: epochs over a pool of rows, early stopping, and a checkpoint that resumes to the same weights.

Always true: an epoch depends on the seed, its number and the state before it, on nothing else, so a run that was
interrupted after any epoch ends with the same bytes as one that was not. Checkpoints are one safetensors file
written beside the last and moved over it; nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

import fusiontrade
from serving.models.protocol import Forecaster
from serving.training.bundle import libraries
from serving.training.config import TrainingConfig

__all__ = ["Batches", "Epoch", "Progress", "deterministic", "fit", "predict"]

Rows = NDArray[np.intp]


class Batches(Protocol):
    """Rows of a pool as a model's tensors."""

    def inputs(self, rows: Rows) -> tuple[NDArray[np.float32], ...]:
        """Return the inputs of these rows, in the model's order."""
        ...

    def targets(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Return the targets of these rows, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the data; losses are means per row."""

    number: int
    training_loss: float
    validation_loss: float
    learning_rate: float
    seconds: float


Progress = Callable[[Epoch], None]


@dataclass
class _State:
    """What an epoch hands to the next."""

    epochs: list[Epoch] = field(default_factory=list)
    best_loss: float = math.inf
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    steps: int = 0
    stale: int = 0
    learning_rate: float = 0.0


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Run torch and BLAS with ``threads`` threads, torch with repeatable algorithms alone; restore all afterwards."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def fit(
    model: torch.nn.Module,
    batches: Batches,
    training: Rows,
    validation: Rows,
    config: TrainingConfig,
    *,
    checkpoint: Path | None = None,
    identity: str = "",
    progress: Progress | None = None,
) -> list[Epoch]:
    """Train ``model`` in place, leave it in evaluation mode with the weights of its best epoch, return the epochs.

    Parameters
    ----------
    training, validation
        Rows of the pool to learn from and to stop by; both not empty.
    checkpoint
        Where each epoch's state is kept; a state of the same ``identity`` found there is resumed.
    identity
        Names data, configuration and model: a checkpoint with another one, or of another version of the code or of a
        library, is ignored.

    Raises
    ------
    ValueError
        If a slice is empty.
    FloatingPointError
        If the loss is no longer finite.
    """
    if not len(training) or not len(validation):
        raise ValueError(f"both slices need rows, got {len(training)} to train and {len(validation)} to validate")
    optimiser = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    state = _State(learning_rate=config.learning_rate)
    identity = _versioned(identity)
    if checkpoint is not None:
        _resume(checkpoint, identity, model, optimiser, state)
    held = _thin(validation, config.rows_per_evaluation, 0)
    while len(state.epochs) < config.epochs and state.stale < config.patience:
        started = time.perf_counter()
        number = len(state.epochs)
        trained = _epoch(model, batches, training, optimiser, config, state=state)
        rate = state.learning_rate
        with _averaged(model, state):
            held_loss = _loss(model, batches, held, config.batch)
            if not math.isfinite(held_loss):
                raise FloatingPointError(f"the validation loss is not finite in epoch {number + 1}")
            _advance(state, model, optimiser, held_loss, config)
        state.epochs.append(Epoch(number + 1, trained, held_loss, rate, time.perf_counter() - started))
        if checkpoint is not None:
            _save(checkpoint, identity, model, optimiser, state)
        if progress is not None:
            progress(state.epochs[-1])
    model.load_state_dict(state.best)
    model.eval()
    return state.epochs


def predict(model: torch.nn.Module, batches: Batches, rows: Rows, batch: int = 1024) -> dict[str, NDArray[np.float32]]:
    """Return the raw outputs of ``model`` for these rows, by name, each (len(rows), ...) float32."""
    model.eval()
    parts: list[tuple[torch.Tensor, ...]] = []
    with torch.no_grad():
        for start in range(0, len(rows), batch):
            parts.append(model(*_tensors(batches.inputs(rows[start : start + batch]))))
    return {
        name: torch.cat([part[place] for part in parts]).numpy()
        for place, name in enumerate(_forecaster(model).outputs)
    }


def _epoch(
    model: torch.nn.Module,
    batches: Batches,
    training: Rows,
    optimiser: torch.optim.Adam,
    config: TrainingConfig,
    *,
    state: _State,
) -> float:
    """Run one pass over this epoch's share of the rows in a seeded order; return the mean loss."""
    number = len(state.epochs)
    model.train()
    torch.manual_seed(config.seed * 10_007 + number)
    rows = _thin(training, config.rows_per_epoch, number)
    order = np.random.default_rng((config.seed, number)).permutation(rows)
    total = 0.0
    for start in range(0, len(order), config.batch):
        chosen = order[start : start + config.batch]
        optimiser.zero_grad(set_to_none=True)
        loss = _batch_loss(model, batches, chosen)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_norm)
        optimiser.step()
        if config.averaging:
            _average(model, state, config.averaging)
        total += loss.item() * len(chosen)
    if not math.isfinite(total):
        raise FloatingPointError(f"the loss is not finite in epoch {number + 1}: lower the learning rate")
    return total / len(order)


def _average(model: torch.nn.Module, state: _State, decay: float) -> None:
    """Move the average a step towards the model's weights; early on faster, so that the first ones are forgotten."""
    state.steps += 1
    share = 1 - min(decay, (1 + state.steps) / (10 + state.steps))
    for name, value in model.state_dict().items():
        if name not in state.average or not value.is_floating_point():
            state.average[name] = value.detach().clone()
        else:
            state.average[name].lerp_(value.detach(), share)


@contextmanager
def _averaged(model: torch.nn.Module, state: _State) -> Iterator[None]:
    """Give the model the averaged weights, where there are any, and its own back afterwards."""
    own = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state.average or own)
    try:
        yield
    finally:
        model.load_state_dict(own)


def _thin(rows: Rows, most: int, turn: int) -> Rows:
    """Return every k-th row, so that at most ``most`` remain (0: all); each turn begins at another of the k."""
    if not most or len(rows) <= most:
        return rows
    step = -(-len(rows) // most)
    return rows[turn % step :: step]


def _loss(model: torch.nn.Module, batches: Batches, rows: Rows, batch: int) -> float:
    model.eval()
    size = max(batch, 512)
    with torch.no_grad():
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return float(sum(_batch_loss(model, batches, part).item() * len(part) for part in parts) / len(rows))


def _batch_loss(model: torch.nn.Module, batches: Batches, rows: Rows) -> torch.Tensor:
    forecaster = _forecaster(model)
    outputs = dict(zip(forecaster.outputs, model(*_tensors(batches.inputs(rows))), strict=True))
    targets = {name: torch.from_numpy(values) for name, values in batches.targets(rows).items()}
    return forecaster.loss(outputs, targets)


def _tensors(arrays: tuple[NDArray[np.float32], ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def _forecaster(model: torch.nn.Module) -> Forecaster:
    return model  # type: ignore[no-any-return]  # every model of serving.models is both


def _advance(
    state: _State, model: torch.nn.Module, optimiser: torch.optim.Adam, held_loss: float, config: TrainingConfig
) -> None:
    """Keep the best weights; halve the learning rate after epochs without progress."""
    if held_loss < state.best_loss:
        state.best_loss, state.stale = held_loss, 0
        state.best = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return
    state.stale += 1
    if state.stale % config.halve_after == 0:
        state.learning_rate = max(state.learning_rate / 2, config.learning_rate_floor)
        for group in optimiser.param_groups:
            group["lr"] = state.learning_rate


def _versioned(identity: str) -> str:
    versions = json.dumps([identity, fusiontrade.__version__, libraries()])
    return hashlib.sha256(versions.encode()).hexdigest()


def _save(path: Path, identity: str, model: torch.nn.Module, optimiser: torch.optim.Adam, state: _State) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    tensors |= {f"average.{name}": value for name, value in state.average.items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    numbers = {
        "identity": identity,
        "best_loss": state.best_loss,
        "stale": state.stale,
        "steps": state.steps,
        "learning_rate": state.learning_rate,
        "epochs": [[e.number, e.training_loss, e.validation_loss, e.learning_rate, e.seconds] for e in state.epochs],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".fresh")
    save_file({name: value.contiguous() for name, value in tensors.items()}, fresh, {"state": json.dumps(numbers)})
    fresh.replace(path)


def _resume(path: Path, identity: str, model: torch.nn.Module, optimiser: torch.optim.Adam, state: _State) -> None:
    """Continue from ``path`` if it holds a whole state of the same identity."""
    if not path.exists():
        return
    try:
        with safe_open(path, framework="pt") as stored:
            numbers = json.loads(stored.metadata()["state"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # not a mapping
    except SafetensorError:  # cut off by a crash of the machine
        return
    if numbers["identity"] != identity:
        return
    model.load_state_dict(_below("model.", tensors))
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _below("adam.", tensors).items():
        number, _, moment = name.partition(".")
        moments.setdefault(int(number), {})[moment] = value
    groups = optimiser.state_dict()["param_groups"]
    for group in groups:
        group["lr"] = numbers["learning_rate"]
    optimiser.load_state_dict({"state": moments, "param_groups": groups})
    state.best, state.average = _below("best.", tensors), _below("average.", tensors)
    state.steps = numbers["steps"]
    state.best_loss, state.stale = numbers["best_loss"], numbers["stale"]
    state.learning_rate = numbers["learning_rate"]
    state.epochs = [Epoch(*values) for values in numbers["epochs"]]


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
