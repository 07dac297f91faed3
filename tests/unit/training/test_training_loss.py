# ruff: noqa: E402 - torch first
"""The loss against numbers by hand, whole and in parts."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from mlipbench.nets import Output
from mlipbench.recipe import Loss
from mlipbench.training.batches import Batch
from mlipbench.training.loss import Counts, loss_share

# two structures, of one atom and of two: energy errors 0.5 and -2, force errors 1, -3, 2 | 0, 0, 4 | -6, 0, 0
ENERGY = torch.tensor([-1.0, 3.0])
FORCES = torch.tensor([[0.5, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
OUTPUT = Output(
    ENERGY + torch.tensor([0.5, -2.0]),
    FORCES + torch.tensor([[1.0, -3.0, 2.0], [0.0, 0.0, 4.0], [-6.0, 0.0, 0.0]]),
)
FREE = torch.tensor([[1.0], [0.0], [1.0]])


def batch(counted: torch.Tensor | None = None, *, padding: bool = False) -> Batch:
    return Batch(np.array([0, 1]), None, ENERGY, FORCES, counted, padding)


@pytest.mark.parametrize(
    ("kind", "counted", "components", "expected"),
    [
        ("l1", None, 9, 3.0 * 2.5 / 2 + 0.5 * 16.0 / 9),
        ("mse", None, 9, 3.0 * 4.25 / 2 + 0.5 * 66.0 / 9),
        ("l1", FREE, 6, 3.0 * 2.5 / 2 + 0.5 * 12.0 / 6),
        ("mse", FREE, 6, 3.0 * 4.25 / 2 + 0.5 * 50.0 / 6),
    ],
)
def test_by_hand(kind: str, counted: torch.Tensor | None, components: int, expected: float) -> None:
    loss = Loss(kind=kind, energy=3.0, forces=0.5)
    assert loss_share(loss, OUTPUT, batch(counted), Counts(2, components)).item() == pytest.approx(expected)


def test_without_forces_only_energies_count() -> None:
    output = Output(OUTPUT.energy, None)
    assert loss_share(Loss(energy=2.0, forces=0.0), output, batch(), Counts(2, 9)).item() == pytest.approx(2.5)


def test_parts_sum_up_to_the_whole() -> None:
    loss, counts = Loss(energy=3.0, forces=0.5), Counts(2, 9)
    parts = [
        loss_share(
            loss,
            Output(OUTPUT.energy[s : s + 1], OUTPUT.forces[atoms]),
            Batch(np.array([s]), None, ENERGY[s : s + 1], FORCES[atoms], None),
            counts,
        )
        for s, atoms in ((0, slice(0, 1)), (1, slice(1, 3)))
    ]
    assert sum(parts).item() == pytest.approx(3.0 * 2.5 / 2 + 0.5 * 16.0 / 9)


def test_padding_adds_nothing_and_has_a_gradient() -> None:
    energy = OUTPUT.energy.clone().requires_grad_()
    share = loss_share(Loss(energy=3.0, forces=0.5), Output(energy, OUTPUT.forces), batch(padding=True), Counts(1, 3))
    share.backward()
    assert share.item() == 0.0
    assert energy.grad.tolist() == [0.0, 0.0]


def test_a_batch_where_no_atom_is_free_has_a_finite_loss() -> None:
    share = loss_share(Loss(energy=0.0, forces=1.0), OUTPUT, batch(torch.zeros(3, 1)), Counts(2, 0))
    assert share.item() == 0.0
