"""Every network can be fitted to ten frames: nothing in it stops gradients or loses information it needs."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ase.build import molecule  # noqa: E402 - after torch
from ase.calculators.emt import EMT  # noqa: E402

from mlipbench import nets  # noqa: E402
from mlipbench.nets.graph import find_neighbors, make_graph  # noqa: E402
from mlipbench.structures import StructureBatch  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(1800)]
TARGET = 1e-3  # eV/Å
STEPS = 6000
LOOK = 200
LEARNING_RATES = (4e-3, 1e-3)  # tried in turn: no single one suits all networks


def ten_frames() -> tuple[StructureBatch, np.ndarray, np.ndarray]:
    """Methanol, displaced at random, with the energies and forces of ASE's effective-medium theory."""
    frames, energies, forces = [], [], []
    for seed in range(10):
        atoms = molecule("CH3OH")
        atoms.rattle(0.08, seed=seed)
        atoms.calc = EMT()
        frames.append(atoms)
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return StructureBatch.from_atoms(frames), np.array(energies), np.concatenate(forces)


def fitted(name: str, learning_rate: float) -> float:
    """Return the largest force MAE of the last three steps, eV/Å, of a training on the ten frames."""
    torch.manual_seed(0)
    network = nets.build(name, "small").train()
    structures, energies, labels = ten_frames()
    config = network.config
    graph = make_graph(structures, find_neighbors(structures, config.cutoff, config.cap), torch.float32)
    energy = torch.tensor(energies - energies.mean(), dtype=torch.float32)
    forces = torch.tensor(labels, dtype=torch.float32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.0, amsgrad=True)
    errors = []
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / STEPS)) + 1e-6
        optimiser.zero_grad()
        output = network(graph)
        loss = (output.energy - energy).square().mean() + 50 * (output.forces - forces).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        errors.append(float((output.forces.detach() - forces).abs().mean()))
        if step % LOOK == 0 and max(errors[-3:]) < TARGET:
            break
    return max(errors[-3:])


@pytest.mark.parametrize("name", nets.NET_NAMES)
def test_ten_frames_are_fitted_to_below_1_mev_per_angstrom(name: str) -> None:
    assert any(fitted(name, rate) < TARGET for rate in LEARNING_RATES)
