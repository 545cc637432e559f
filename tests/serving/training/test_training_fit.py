"""The fit: interrupted and resumed it ends with the same weights; it stops, slows down and samples as configured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from serving.models.protocol import Tensors
from serving.training.config import TrainingConfig
from serving.training.fit import Epoch, deterministic, fit, predict

ROWS = np.arange(200)
TRAIN, HELD = ROWS[:150], ROWS[150:]
CONFIG = TrainingConfig(batch=32, epochs=6, learning_rate=0.05)


class Line(torch.nn.Module):
    """y = a x + b with dropout, so that the seed matters."""

    inputs = ("x",)
    outputs = ("y",)
    exporter = "trace"

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.dropout = torch.nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.layer(self.dropout(x))[:, 0],)

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        return ((outputs["y"] - targets["y"]) ** 2).mean()


class Points:
    def __init__(self, slope: float = 2.0) -> None:
        self.x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
        self.y = (slope * self.x.sum(axis=1) + 1).astype(np.float32)
        self.asked: list[np.ndarray] = []

    def inputs(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        self.asked.append(rows)
        return (self.x[rows],)

    def targets(self, rows: np.ndarray) -> dict[str, np.ndarray[Any, Any]]:
        return {"y": self.y[rows]}


def line() -> Line:
    torch.manual_seed(5)
    return Line()


def weights(model: torch.nn.Module) -> list[bytes]:
    return [value.numpy().tobytes() for value in model.state_dict().values()]


def test_a_run_killed_after_any_epoch_resumes_to_the_same_weights(tmp_path: Path) -> None:
    straight = line()
    with deterministic(1):
        expected = fit(straight, Points(), TRAIN, HELD, CONFIG)

    class Killed(Exception):
        pass

    def kill(epoch: Epoch) -> None:
        raise Killed

    path = tmp_path / "state.safetensors"
    with deterministic(1):
        for _ in range(3):
            with pytest.raises(Killed):
                fit(line(), Points(), TRAIN, HELD, CONFIG, checkpoint=path, identity="a", progress=kill)
        resumed = line()
        torch.manual_seed(999)
        epochs = fit(resumed, Points(), TRAIN, HELD, CONFIG, checkpoint=path, identity="a")
    assert weights(resumed) == weights(straight)
    assert [e.validation_loss for e in epochs] == [e.validation_loss for e in expected]


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_with_and_without_averaging_a_resumed_run_ends_with_the_same_bytes(tmp_path: Path, averaging: float) -> None:
    config = replace(CONFIG, averaging=averaging)
    straight, resumed = line(), line()
    with deterministic(1):
        expected = fit(straight, Points(), TRAIN, HELD, config)
        path = tmp_path / "state.safetensors"
        fit(line(), Points(), TRAIN, HELD, replace(config, epochs=2), checkpoint=path, identity="a")
        epochs = fit(resumed, Points(), TRAIN, HELD, config, checkpoint=path, identity="a")
    assert weights(resumed) == weights(straight)
    assert [replace(e, seconds=0) for e in epochs] == [replace(e, seconds=0) for e in expected]


def test_the_weights_kept_are_the_average_over_the_steps_by_hand() -> None:
    """One epoch of five steps: early steps weigh less and less, by min(decay, (1 + t) / (10 + t)) at step t."""
    seen: list[dict[str, torch.Tensor]] = []

    class Watched(Points):
        model: Line

        def inputs(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
            seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
            return super().inputs(rows)

    points, model = Watched(), line()
    points.model = model
    fit(model, points, TRAIN, HELD, replace(CONFIG, epochs=1, averaging=0.25))
    after_each_step = [*seen[1:5], None]  # the weights a batch sees are those after the step before it
    plain = line()
    fit(plain, Points(), TRAIN, HELD, replace(CONFIG, epochs=1, averaging=0.0))
    after_each_step[-1] = dict(plain.state_dict())
    average = after_each_step[0]
    for step, now in enumerate(after_each_step[1:], start=2):
        keep = min(0.25, (1 + step) / (10 + step))
        average = {name: keep * average[name] + (1 - keep) * now[name] for name in now}
    for name, value in model.state_dict().items():
        assert torch.allclose(value, average[name], atol=1e-6), name
        assert not torch.equal(value, plain.state_dict()[name])


def test_what_is_judged_each_epoch_is_the_average_and_training_goes_on_from_the_last_step() -> None:
    """With averaging the training losses are those without it: only what is judged and kept differs."""
    averaged, plain = (fit(line(), Points(), TRAIN, HELD, replace(CONFIG, averaging=a)) for a in (0.95, 0.0))
    assert [e.training_loss for e in averaged] == [e.training_loss for e in plain]
    assert all(one.validation_loss != other.validation_loss for one, other in zip(averaged, plain, strict=True))


def test_a_checkpoint_of_another_run_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    fit(line(), Points(slope=-9), TRAIN, HELD, replace(CONFIG, epochs=2), checkpoint=path, identity="other")
    fresh, resumed = line(), line()
    fit(fresh, Points(), TRAIN, HELD, CONFIG)
    epochs = fit(resumed, Points(), TRAIN, HELD, CONFIG, checkpoint=path, identity="mine")
    assert len(epochs) == CONFIG.epochs
    assert weights(resumed) == weights(fresh)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, two, three = line(), line(), line()
    fit(one, Points(), TRAIN, HELD, CONFIG)
    fit(two, Points(), TRAIN, HELD, CONFIG)
    fit(three, Points(), TRAIN, HELD, replace(CONFIG, seed=1))
    assert weights(one) == weights(two)
    assert weights(one) != weights(three)


def test_it_learns_and_ends_with_the_best_epoch() -> None:
    model = line()
    epochs = fit(model, Points(), TRAIN, HELD, replace(CONFIG, epochs=40))
    best = min(epoch.validation_loss for epoch in epochs)
    assert best < 0.2 * epochs[0].validation_loss
    points = Points()
    error = float(((predict(model, points, HELD)["y"] - points.y[HELD]) ** 2).mean())
    assert error == pytest.approx(best, rel=1e-4)
    assert not model.training


def test_without_progress_the_rate_is_halved_to_its_floor_and_the_run_stops() -> None:
    config = replace(CONFIG, epochs=50, patience=6, halve_after=2, learning_rate=1e-9, learning_rate_floor=4e-10)

    class Noise(Points):
        def targets(self, rows: np.ndarray) -> dict[str, np.ndarray[Any, Any]]:
            self.turn = getattr(self, "turn", 0) + 1
            return {"y": np.full(len(rows), 10.0 * self.turn, np.float32)}

    epochs = fit(line(), Noise(), TRAIN, HELD, config)
    assert len(epochs) == 1 + config.patience
    assert [epoch.learning_rate for epoch in epochs] == [1e-9] * 3 + [5e-10] * 2 + [4e-10] * 2


def test_a_row_limit_takes_every_kth_row_and_each_epoch_others() -> None:
    points = Points()
    config = replace(CONFIG, epochs=2, rows_per_epoch=50, rows_per_evaluation=10)
    fit(line(), points, TRAIN, HELD, config)
    seen = np.concatenate(points.asked)
    trained, held = seen[seen < 150], seen[seen >= 150]
    assert sorted(trained.tolist()) == sorted(set(range(0, 150, 3)) | set(range(1, 150, 3)))
    assert held.tolist() == list(range(150, 200, 5)) * 2


def test_an_empty_slice_is_refused() -> None:
    with pytest.raises(ValueError, match="both slices need rows, got 150 to train and 0 to validate"):
        fit(line(), Points(), TRAIN, HELD[:0], CONFIG)


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    points = Points()
    points.y[:] = np.inf
    with pytest.raises(FloatingPointError, match="not finite in epoch 1"):
        fit(line(), points, TRAIN, HELD, CONFIG)


def test_a_validation_loss_that_is_no_number_stops_the_run() -> None:
    points = Points()
    points.y[HELD] = np.nan
    with pytest.raises(FloatingPointError, match="not finite in epoch 1"):
        fit(line(), points, TRAIN, HELD, CONFIG)


def test_settings_out_of_range_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        TrainingConfig(epochs=0)
    with pytest.raises(ValueError, match="leave a test slice"):
        TrainingConfig(train=0.9)


@pytest.mark.parametrize("newer", ["code", "library"])
def test_a_checkpoint_of_another_version_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: str
) -> None:
    """Epochs of two versions would make a bundle that neither of them makes, under the name of the second."""
    path = tmp_path / "state.safetensors"
    fit(line(), Points(), TRAIN, HELD, replace(CONFIG, epochs=2), checkpoint=path, identity="a")
    told: list[int] = []
    if newer == "code":
        monkeypatch.setattr("fusiontrade.__version__", "99.0.0")
    else:
        monkeypatch.setattr("serving.training.fit.libraries", lambda: {"torch": "99.0.0"})
    fit(line(), Points(), TRAIN, HELD, CONFIG, checkpoint=path, identity="a", progress=lambda e: told.append(e.number))
    assert told == list(range(1, CONFIG.epochs + 1))


@pytest.mark.parametrize("left", [0, 300, -1])
def test_a_checkpoint_cut_off_by_a_crash_of_the_machine_is_ignored(tmp_path: Path, left: int) -> None:
    path = tmp_path / "state.safetensors"
    fit(line(), Points(), TRAIN, HELD, replace(CONFIG, epochs=2), checkpoint=path, identity="a")
    path.write_bytes(path.read_bytes()[:left])
    fresh, resumed = line(), line()
    fit(fresh, Points(), TRAIN, HELD, CONFIG)
    fit(resumed, Points(), TRAIN, HELD, CONFIG, checkpoint=path, identity="a")
    assert weights(resumed) == weights(fresh)
