"""Physical properties of networks, measured as relative errors, and what is declared of them.

``python tests/unit/nets/physics.py`` prints the table of docs/models/properties.md. All is measured on the `small`
presets with random weights in float64, without training: what holds then holds by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from net_frames import frame, graph_of, joined, moved, orthogonal

from mlipbench import nets
from mlipbench.structures.neighbors import SHELL_WIDTH, NeighborCap, neighbor_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.structures import StructureBatch

FAR: Final = 1000.0
"""Å, far beyond what any number of layers reaches."""
STEP: Final = 1e-12
"""Å, a step over a discontinuity; smooth functions change by about as much."""
DISPLACEMENT: Final = 2e-3
"""Å, of finite differences."""


@dataclass(frozen=True)
class Subject:
    """A network and the properties it is declared not to have.

    Attributes:
        name: Of the network.
        changes: Fields of its configuration that differ from the preset's.
        lacks: Names of properties.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()

    @cached_property
    def network(self) -> nets.Network:
        """The network in float64 and evaluation mode; what starts at zero is random too, as it could hide failures."""
        torch.manual_seed(0)
        network = nets.build(self.name, "small", **self.changes).double().eval()
        with torch.no_grad():
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.add_(torch.randn_like(parameter), alpha=0.02)
        return network

    def predict(self, batch: StructureBatch, cap: NeighborCap | None) -> tuple[np.ndarray, np.ndarray]:
        """Return energies and forces of a batch, whose atoms may have so many neighbours."""
        output = self.network(graph_of(batch, self.network.config.cutoff, cap))
        return output.energy.detach().numpy(), output.forces.detach().numpy()

    def own(self, batch: StructureBatch) -> tuple[np.ndarray, np.ndarray]:
        """Return energies and forces of a batch with the network's own cap."""
        return self.predict(batch, self.network.config.cap)

    def crowded(self, nearest: int) -> NeighborCap | None:
        """Return the network's own cap, if any, lowered so that small structures reach it."""
        cap = self.network.config.cap
        return None if cap is None else replace(cap, nearest=nearest)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The size of an energy and of a force, what errors are relative to."""
        energy, forces = self.own(joined(MOLECULE, CRYSTAL, COPPER))
        return np.abs(energy).max(), np.abs(forces).max()

    def error(self, energies: np.ndarray | float, forces: np.ndarray | float) -> float:
        """Return the larger of two differences, of energies and of forces, relative to the usual."""
        return float(max(np.abs(energies).max() / self.scale[0], np.abs(forces).max() / self.scale[1]))


def spaced(n_atoms: int, seed: int, cell: np.ndarray | None = None) -> StructureBatch:
    """Return atoms at random, none closer to another or its image than 1.1 Å, in a cell or in a cube."""
    rng = np.random.default_rng(seed)
    edges = np.eye(3) * 1.5 * n_atoms ** (1 / 3) if cell is None else cell
    while True:
        batch = frame(rng.choice([1, 6, 8, 29], n_atoms), rng.uniform(0, 1, (n_atoms, 3)) @ edges, cell)
        if neighbor_list(batch, 1.1).n_edges == 0:
            return batch


MOLECULE: Final = spaced(6, 0)
OTHER: Final = spaced(5, 1)
CRYSTAL: Final = spaced(3, 2, np.array([[3.1, 0.4, -0.2], [-0.5, 3.6, 0.3], [0.6, 0.2, 4.1]]))
OTHER_CRYSTAL: Final = spaced(2, 3, np.array([[0.2, 3.3, 0.1], [2.9, 0.0, 0.3], [0.4, -0.3, 3.0]]))
COPPER: Final = frame([29], [[0, 0, 0]], 1.805 * (1 - np.eye(3)))


def supercell(batch: StructureBatch) -> StructureBatch:
    """Return one structure, doubled along its first lattice vector."""
    cell = batch.cell[0] * np.array([[2], [1], [1]])
    return frame(np.tile(batch.numbers, 2), np.concatenate([batch.positions, batch.positions + batch.cell[0, 0]]), cell)


def together(a: StructureBatch, b: StructureBatch) -> StructureBatch:
    """Return two molecules as one structure, far apart."""
    positions = np.concatenate([a.positions, b.positions + np.array([FAR, FAR / 3, FAR / 5])])
    return frame(np.concatenate([a.numbers, b.numbers]), positions)


def displaced(batch: StructureBatch, steps: np.ndarray) -> StructureBatch:
    """Return a batch of the only structure, displaced in every way of `steps`, shape (n, n_atoms, 3)."""
    return joined(*[frame(batch.numbers, batch.positions + step) for step in steps])


def orthogonal_error(subject: Subject) -> float:
    """Return what rotation and reflection change beyond turning the forces."""
    batch = joined(MOLECULE, CRYSTAL)
    energies, forces = subject.own(batch)
    worst = 0.0
    for determinant in (1, -1):
        matrix = orthogonal(determinant, seed=3)
        turned_energies, turned = subject.own(moved(batch, matrix))
        worst = max(worst, subject.error(turned_energies - energies, turned - forces @ matrix.T))
    return worst


def translation_error(subject: Subject) -> float:
    """Return what a shift of everything changes."""
    batch = joined(MOLECULE, CRYSTAL)
    energies, forces = subject.own(batch)
    shifted_energies, shifted = subject.own(moved(batch, shift=(1.3, -4.1, 0.7)))
    return subject.error(shifted_energies - energies, shifted - forces)


def permutation_error(subject: Subject) -> float:
    """Return what another order of atoms changes."""
    worst = 0.0
    for batch in (MOLECULE, CRYSTAL):
        order = np.roll(np.arange(batch.n_atoms)[::-1], 1)
        other = replace(batch, numbers=batch.numbers[order], positions=batch.positions[order])
        (energy, forces), (other_energy, other_forces) = subject.own(batch), subject.own(other)
        worst = max(worst, subject.error(other_energy - energy, other_forces - forces[order]))
    return worst


def batch_error(subject: Subject) -> float:
    """Return what batch mates change."""
    mates = [frame([], []), OTHER, MOLECULE, frame([1], [[0, 0, 0]]), CRYSTAL, OTHER_CRYSTAL]
    batch = joined(*mates)
    energies, forces = subject.own(batch)
    worst = 0.0
    for place in (2, 4):
        energy, alone = subject.own(mates[place])
        own = slice(*batch.offsets[place : place + 2])
        worst = max(worst, subject.error(energies[place] - energy, forces[own] - alone))
    return worst


def lattice_shift_error(subject: Subject) -> float:
    """Return what moving single atoms by lattice vectors changes."""
    shifts = np.array([[0, 0, 0], [3, -1, 0], [0, 2, -20]])
    energy, forces = subject.own(CRYSTAL)
    away = frame(CRYSTAL.numbers, CRYSTAL.positions + shifts @ CRYSTAL.cell[0], CRYSTAL.cell[0])
    away_energy, away_forces = subject.own(away)
    return subject.error(away_energy - energy, away_forces - forces)


def supercell_error(subject: Subject) -> float:
    """Return by how much a doubled triclinic cell misses twice the energy and the same forces."""
    (energy, forces), (doubled, forces_of_both) = subject.own(CRYSTAL), subject.own(supercell(CRYSTAL))
    return subject.error(doubled - 2 * energy, forces_of_both - np.tile(forces, (2, 1)))


def copper_error(subject: Subject, cap: NeighborCap | None) -> float:
    """Return by how much doubled fcc copper misses twice the energy and no forces."""
    (energy, forces), (doubled, forces_of_both) = subject.predict(COPPER, cap), subject.predict(supercell(COPPER), cap)
    return subject.error(doubled - 2 * energy, np.concatenate([forces, forces_of_both]))


def own_copper_error(subject: Subject) -> float:
    """Return `copper_error` with the network's own kind of cap, reached."""
    return copper_error(subject, subject.crowded(30))


def size_consistency_error(subject: Subject) -> float:
    """Return by how much two unlike molecules far apart differ from either alone."""
    a, b = MOLECULE, OTHER
    (energy_a, forces_a), (energy_b, forces_b) = subject.own(a), subject.own(b)
    energy, forces = subject.own(together(a, b))
    return subject.error(energy - energy_a - energy_b, forces - np.concatenate([forces_a, forces_b]))


def locality_error(subject: Subject) -> float:
    """Return what a move of 0.1 Å changes of the forces on a molecule far away."""
    a, b = MOLECULE, OTHER
    _, forces = subject.own(together(a, b))
    _, after = subject.own(together(a, replace(b, positions=b.positions + 0.1 * np.eye(5, 3))))
    return subject.error(0, (after - forces)[: a.n_atoms])


def cutoff_error(subject: Subject) -> float:
    """Return by how much energy and forces jump where a pair crosses the cutoff, as a dimer and among others."""
    direction = np.array([2, 1, -2]) / 3
    worst = 0.0
    for others in (np.zeros((0, 3)), MOLECULE.positions[1:4] - MOLECULE.positions[0]):
        numbers = [8, 6, *MOLECULE.numbers[1:4]][: 2 + len(others)]
        ends = [direction * (subject.network.config.cutoff + side * STEP) for side in (-1, 1)]
        batch = joined(*[frame(numbers, np.concatenate([np.zeros((1, 3)), [end], others])) for end in ends])
        (inside, outside), forces = subject.own(batch)[0], subject.own(batch)[1].reshape(2, -1, 3)
        worst = max(worst, subject.error(outside - inside, forces[1] - forces[0]))
    return worst


def cap_error(subject: Subject, cap: NeighborCap | None) -> float:
    """Return by how much energy and forces jump where neighbours of an atom change places at a cap of 4."""
    distances = np.array([0, 1.0, 1.1, 1.2, 1.3, 1.4, 0])
    # strict: the fourth and the fifth change places; whole shells: another one joins the shell of the fifth
    crossing = np.sqrt(distances[5] ** 2 + SHELL_WIDTH) if cap is None or cap.whole_shells else distances[4]
    directions = np.array([[0, 0, 0], [9, 1, -2], [-9, 2, 0], [1, 9, 2], [0, -9, 1], [2, -1, 9], [-1, 2, -9]]) / 9.0
    directions[1:] /= np.linalg.norm(directions[1:], axis=1)[:, None]
    frames = []
    for side in (-1, 1):
        distances[6] = crossing + side * STEP
        frames.append(frame([6, 1, 8, 1, 7, 6, 8], directions * distances[:, None]))
    energies, forces = subject.predict(joined(*frames), cap)
    return subject.error(energies[1] - energies[0], forces[7:] - forces[:7])


def own_cap_error(subject: Subject) -> float:
    """Return `cap_error` with the network's own kind of cap."""
    return cap_error(subject, subject.crowded(4))


def differences(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Return dE/dx, shape (n,), and dF/dx, shape (n, n), of a molecule by Richardson's extrapolation, error O(h⁶)."""
    n = 3 * MOLECULE.n_atoms
    weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}  # the central difference of sixth order
    steps = np.concatenate([side * k * DISPLACEMENT * np.eye(n) for k in weights for side in (1, -1)])
    energies, forces = subject.own(displaced(MOLECULE, steps.reshape(len(steps), -1, 3)))
    factors = np.array([side * weight for weight in weights.values() for side in (1, -1)]) / DISPLACEMENT
    slopes = np.tensordot(factors, energies.reshape(len(factors), n), 1)
    return slopes, np.tensordot(factors, forces.reshape(len(factors), n, n), 1)


def gradient_error(subject: Subject) -> float:
    """Return by how much forces differ from -dE/dx by finite differences."""
    slopes, _ = differences(subject)
    _, forces = subject.own(MOLECULE)
    return subject.error(0, forces.ravel() + slopes)


def asymmetry(subject: Subject) -> float:
    """Return the antisymmetric part of dF/dx, relative to dF/dx: work along closed loops."""
    _, jacobian = differences(subject)
    return float(np.linalg.norm(jacobian - jacobian.T) / np.linalg.norm(jacobian))


def net_force(subject: Subject) -> float:
    """Return the sum of forces on a molecule and on a crystal."""
    _, forces = subject.own(joined(MOLECULE, CRYSTAL))
    n = MOLECULE.n_atoms
    return subject.error(0, np.stack([forces[:n].sum(axis=0), forces[n:].sum(axis=0)]))


def net_torque(subject: Subject) -> float:
    """Return the torque of the forces on a molecule about its centre, over Å."""
    _, forces = subject.own(MOLECULE)
    centred = MOLECULE.positions - MOLECULE.positions.mean(axis=0)
    return subject.error(0, np.cross(centred, forces).sum(axis=0))


@dataclass(frozen=True)
class Property:
    """A property of networks.

    Attributes:
        title: In the documentation's table.
        error: Measures how far it is missed, relative to the usual energies and forces.
        tolerance: The largest error of a network that has it.
    """

    title: str
    error: Callable[[Subject], float]
    tolerance: float = 1e-7


PROPERTIES: Final = {
    "orthogonal": Property("rotation and reflection", orthogonal_error),
    "translation": Property("translation", translation_error),
    "permutation": Property("permutation of atoms", permutation_error),
    "batch": Property("independence of batch mates", batch_error),
    "lattice": Property("atoms moved by lattice vectors", lattice_shift_error),
    "supercell": Property("extensive: triclinic supercell", supercell_error),
    "copper": Property("extensive: fcc copper, own cap reached", own_copper_error),
    "size": Property("size consistency", size_consistency_error),
    "local": Property("locality of forces", locality_error),
    "cutoff": Property("continuity at the cutoff", cutoff_error),
    "cap": Property("continuity at the own cap", own_cap_error, 1e-5),
    "gradient": Property("forces are -dE/dx", gradient_error, 1e-3),
    "symmetric": Property("dF/dx is symmetric", asymmetry, 5e-2),
    "force": Property("no net force", net_force),
    "torque": Property("no net torque", net_torque),
}

_DIRECT = {"gradient", "symmetric", "torque"}
_GLOBAL = {"size", "local"}
SUBJECTS: Final = {
    "leignn": Subject("leignn", lacks=frozenset(_DIRECT | _GLOBAL | {"cutoff", "cap", "force"})),
    "vanilla": Subject("vanilla", lacks=frozenset(_DIRECT | {"cutoff", "cap", "force"})),
    "vanilla-nmu": Subject("vanilla-nmu", lacks=frozenset(_DIRECT | {"cutoff", "cap", "force"})),
    "leignn-smooth": Subject("leignn-smooth", lacks=frozenset(_DIRECT | _GLOBAL)),
    "leignn-smooth, local": Subject(
        "leignn-smooth", {"global_state": False, "remove_net_force": False}, frozenset(_DIRECT | {"force"})
    ),
    "painn": Subject("painn"),
    "painn-direct": Subject("painn-direct", lacks=frozenset(_DIRECT | {"cutoff", "force"})),
    "schnet": Subject("schnet"),
    "dimenet": Subject("dimenet"),
    "dimenet++": Subject("dimenet++"),
    "cgcnn": Subject("cgcnn", lacks=frozenset(_GLOBAL | {"supercell", "copper", "cutoff"})),
    "forcenet": Subject("forcenet", lacks=frozenset(_DIRECT | {"orthogonal", "supercell", "copper", "size", "force"})),
}


def table() -> str:
    """Return the documentation's table as measured."""
    lines = [f"| | {' | '.join(f'`{label}`' for label in SUBJECTS)} |", "|---" * (len(SUBJECTS) + 1) + "|"]
    for entry in PROPERTIES.values():
        errors = [entry.error(subject) for subject in SUBJECTS.values()]
        cells = ["yes" if error < entry.tolerance else f"no, {error:.0e}" for error in errors]
        lines.append(f"| {entry.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201 - this is what it is for
