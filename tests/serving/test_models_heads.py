"""The models: shapes as promised, losses that have their minimum at the truth, and inputs that matter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from serving.models import LstmConfig, LstmModel, PatchTstConfig, PatchTstForecaster
from serving.models.sequence import QUANTILES, harmonics, pinball
from serving.training.fit import deterministic


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with deterministic(1):
        yield


@pytest.fixture(scope="module")
def lstm() -> LstmModel:
    torch.manual_seed(1)
    return LstmModel(LstmConfig()).eval()


@pytest.fixture(scope="module")
def patchtst() -> PatchTstForecaster:
    torch.manual_seed(1)
    return PatchTstForecaster(PatchTstConfig()).eval()


def random_like(model: LstmModel | PatchTstForecaster, rows: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(part.shape, generator=generator) for part in model.example(rows)]


def test_the_lstm_answers_every_head_with_its_shape(lstm: LstmModel) -> None:
    with torch.no_grad():
        answers = dict(zip(lstm.outputs, lstm(*random_like(lstm, 7)), strict=True))
    assert {name: tuple(values.shape) for name, values in answers.items()} == {
        "direction": (7,),
        "change": (7,),
        "quantiles": (7, 5),
        "touch": (7, 15),
        "win": (7, 2),
        "log_range": (7,),
    }


def test_the_layers_are_sixty_four_thirty_two_and_sixteen_wide(lstm: LstmModel) -> None:
    assert [layer.hidden_size for layer in lstm.recurrent] == [64, 32, 16]
    assert lstm.recurrent[0].input_size == 50 + 8
    assert (lstm.dense_1.out_features, lstm.dense_2.out_features) == lstm.config.dense == (64, 32)
    assert lstm.dropout.p == lstm.config.dropout == 0.1


@pytest.mark.parametrize("batch", [1, 3])
def test_a_row_is_answered_the_same_alone_and_in_a_batch(lstm: LstmModel, batch: int) -> None:
    inputs = random_like(lstm, 5)
    with torch.no_grad():
        whole = lstm(*inputs)
        part = lstm(*(values[:batch] for values in inputs))
    for all_rows, some_rows in zip(whole, part, strict=True):
        assert torch.allclose(all_rows[:batch], some_rows, atol=1e-6)


def test_an_absent_calendar_is_neutral_and_finite(lstm: LstmModel, patchtst: PatchTstForecaster) -> None:
    for model in (lstm, patchtst):
        inputs = random_like(model, 2)
        with torch.no_grad():
            answers = model(inputs[0], torch.zeros_like(inputs[1]), inputs[2])
        assert all(bool(torch.isfinite(values).all()) for values in answers)


def test_earlier_bars_reach_the_answer_and_not_the_newest_alone(lstm: LstmModel, patchtst: PatchTstForecaster) -> None:
    for model, earlier in ((lstm, -9), (patchtst, 0)):
        inputs = random_like(model, 1)
        for place in (earlier, -1):
            changed = inputs[0].clone()
            changed[0, place] += 1
            with torch.no_grad():
                assert not torch.equal(model(*inputs)[0], model(changed, *inputs[1:])[0])


def test_the_volatility_reaches_every_head_and_those_of_volatility_directly(lstm: LstmModel) -> None:
    inputs = random_like(lstm, 1)
    moved = [*inputs[:2], inputs[2] + 1]
    with torch.no_grad():
        before, after = lstm(*inputs), lstm(*moved)
        assert all(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
        kept = [weight.clone() for weight in lstm.dense_2.parameters()]
        for weight in lstm.dense_2.parameters():
            weight.zero_()
        direct = zip(lstm.outputs, lstm(*inputs), lstm(*moved), strict=True)
        changed = {name for name, one, other in direct if not torch.equal(one, other)}
        for weight, value in zip(lstm.dense_2.parameters(), kept, strict=True):
            weight.copy_(value)
    assert changed == {"quantiles", "touch", "win", "log_range"}


def test_the_volatility_reaches_the_patchtst(patchtst: PatchTstForecaster) -> None:
    inputs = random_like(patchtst, 1)
    with torch.no_grad():
        assert not torch.equal(patchtst(*inputs)[0], patchtst(*inputs[:2], inputs[2] + 1)[0])


def test_the_harmonics_are_those_of_the_times_of_day_and_of_the_week() -> None:
    angle = torch.tensor([0.3, 2.0, -1.1], dtype=torch.float64)
    found = harmonics(torch.sin(angle), torch.cos(angle), 4)
    wanted = [curve(n * angle)[:, None] for n in (1, 2, 3, 4) for curve in (torch.sin, torch.cos)]
    assert torch.allclose(torch.cat(found, dim=1), torch.cat(wanted, dim=1))
    assert not torch.cat(harmonics(torch.zeros(2), torch.zeros(2), 4)).any()


def test_the_pinball_loss_is_least_at_the_quantiles_of_the_sample() -> None:
    change = torch.from_numpy(np.random.default_rng(3).normal(size=4000))
    truth = torch.quantile(change, torch.tensor(QUANTILES, dtype=change.dtype))
    at_truth = pinball(truth.expand(4000, 5), change)
    for place in range(5):
        for step in (-0.2, 0.2):
            moved = truth.clone()
            moved[place] += step
            assert pinball(moved.expand(4000, 5), change) > at_truth


def test_the_lstm_loss_falls_towards_the_truth(lstm: LstmModel) -> None:
    targets = {
        "direction": torch.ones(4),
        "change": torch.full((4,), 0.5),
        "touch": torch.ones(4, 15),
        "win": torch.zeros(4, 2),
        "log_range": torch.zeros(4),
    }
    good = {
        "direction": torch.full((4,), 5.0),
        "change": torch.full((4,), 0.5),
        "quantiles": torch.full((4, 5), 0.5),
        "touch": torch.full((4, 15), 5.0),
        "win": torch.full((4, 2), -5.0),
        "log_range": torch.zeros(4),
    }
    best = lstm.loss(good, targets)
    for name, value in good.items():
        worse = value + 3 if name == "win" else value - 3
        assert lstm.loss(good | {name: worse}, targets) > best


def test_class_weights_make_up_and_down_count_alike(patchtst: PatchTstForecaster) -> None:
    classes = torch.tensor([0, 0, 0, 2])
    logits = torch.zeros(4, 3, requires_grad=True)
    patchtst.class_weights.copy_(torch.tensor([2 / 3, 1.0, 2.0]))
    try:
        patchtst.loss({"classes": logits}, {"classes": classes}).backward()
    finally:
        patchtst.class_weights.fill_(1.0)
    pull = logits.grad.sum(dim=0)
    assert float(pull[0]) == pytest.approx(float(pull[2]), abs=1e-6)


def test_centring_takes_the_lean_that_all_rows_share_and_keeps_their_order(patchtst: PatchTstForecaster) -> None:
    inputs = random_like(patchtst, 101)
    before = patchtst.head.bias.detach().clone()
    with torch.no_grad():
        leaning = patchtst(*inputs)[0]
        patchtst.centre(leaning)
        centred = patchtst(*inputs)[0]
        patchtst.head.bias.copy_(before)
    old, new = leaning[:, 0] - leaning[:, 2], centred[:, 0] - centred[:, 2]
    assert float(new.median()) == pytest.approx(0, abs=1e-6)
    assert new.argsort().tolist() == old.argsort().tolist()
    assert torch.equal(centred[:, 1], leaning[:, 1])
