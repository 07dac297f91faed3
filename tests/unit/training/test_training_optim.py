# ruff: noqa: E402 - torch first
"""Schedules and the running average, against torch's own schedulers and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from mlipbench.recipe import Cosine, Plateau
from mlipbench.training.optim import Average, PlateauState, after_value, cosine_learning_rate


def optimiser(learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=learning_rate)


@pytest.mark.parametrize("patience", [0, 1, 5])
@pytest.mark.parametrize("minimum", [0.0, 0.02])
def test_plateau_is_that_of_torch(patience: int, minimum: float) -> None:
    plateau = Plateau(kind="plateau", factor=0.8, patience=patience, min_learning_rate=minimum)
    theirs = optimiser(0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode="min", factor=0.8, patience=patience, min_lr=minimum, eps=0.0
    )
    rng = np.random.default_rng(patience)
    values = np.exp(-np.arange(80) / 20) + 0.2 + rng.normal(scale=0.05, size=80)
    values[40] = values[:40].min() * (1 - 5e-5)  # better, but by less than the threshold
    ours, rates = PlateauState(0.1), set()
    for value in values.tolist():
        ours = after_value(plateau, ours, value)
        scheduler.step(value)
        rates.add(ours.learning_rate)
        assert ours.learning_rate == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
    assert len(rates) > 2


def test_cosine_is_that_of_torch_where_there_is_no_warmup() -> None:
    theirs = optimiser(0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=50, eta_min=0.003)
    for step in range(51):
        ours = cosine_learning_rate(Cosine(kind="cosine", final=0.01), 0.3, step / 50)
        assert ours == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
        theirs.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("done", "expected"),
    [(0.0, 0.0), (0.05, 1.0), (0.1, 2.0), (0.55, 1.2), (1.0, 0.4), (0.325, 0.4 + 1.6 * 0.5 * (1 + math.sqrt(0.5)))],
)
def test_cosine_with_warmup_by_hand(done: float, expected: float) -> None:
    cosine = Cosine(kind="cosine", warmup=0.1, final=0.2)
    assert cosine_learning_rate(cosine, 2.0, done) == pytest.approx(expected)


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))


def test_average_follows_its_closed_form_from_the_first_step_on() -> None:
    network = Small()
    average = Average(network, 0.9)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([5.0, 5.0]))
    for step in range(1, 6):
        average.update()
        expected = 5.0 + 0.9**step * (np.array([2.0, -1.0]) - 5.0)
        assert average.network.weight.tolist() == pytest.approx(expected.tolist(), rel=1e-12)
    assert network.weight.tolist() == [5.0, 5.0]


@pytest.mark.parametrize("decay", [None, 0.5])
def test_buffers_are_copied_and_weights_without_decay_too(decay: float | None) -> None:
    network = Small()
    average = Average(network, decay)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([4.0, 1.0]))
        network.seen.fill_(7.0)
    average.update()
    average.catch_up()
    assert average.network.seen.item() == 7.0
    assert average.network.weight.tolist() == ([4.0, 1.0] if decay is None else [3.0, 0.0])
    assert not average.network.training
