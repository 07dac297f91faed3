"""Structures and graphs that the tests of networks share."""

from __future__ import annotations

import numpy as np
import torch

from mlipbench.nets.graph import find_neighbors, make_graph
from mlipbench.structures import StructureBatch


def frame(numbers, positions, cell=None):
    """Return one structure; periodic in all directions where there is a cell."""
    return StructureBatch(
        numbers=numbers,
        positions=np.asarray(positions, dtype=float).reshape(-1, 3),
        cell=np.zeros((1, 3, 3)) if cell is None else np.asarray(cell, dtype=float)[None],
        pbc=np.full((1, 3), cell is not None),
        offsets=[0, len(numbers)],
    )


def molecule(n_atoms, seed):
    """Return atoms at random within a sphere's cube."""
    rng = np.random.default_rng(seed)
    return frame(rng.integers(1, 9, n_atoms), rng.uniform(0, 1.6 * n_atoms ** (1 / 3), (n_atoms, 3)))


def crystal(n_atoms, seed):
    """Return atoms at random in a triclinic cell that is smaller than the tests' cutoff."""
    rng = np.random.default_rng(seed)
    cell = np.diag([3.3, 3.9, 4.4]) + rng.uniform(-0.5, 0.5, (3, 3))
    return frame(rng.integers(1, 9, n_atoms), rng.uniform(0, 1, (n_atoms, 3)) @ cell, cell)


def joined(*frames):
    """Return a batch of all structures, one after the other."""
    return StructureBatch(
        numbers=np.concatenate([part.numbers for part in frames]),
        positions=np.concatenate([part.positions for part in frames]),
        cell=np.concatenate([part.cell for part in frames]),
        pbc=np.concatenate([part.pbc for part in frames]),
        offsets=np.concatenate([[0], np.cumsum([part.n_atoms for part in frames])]),
    )


def moved(batch, matrix=None, shift=(0, 0, 0)):
    """Return the structures rotated (or reflected) and shifted."""
    matrix = np.eye(3) if matrix is None else matrix
    return StructureBatch(
        numbers=batch.numbers,
        positions=batch.positions @ matrix.T + np.asarray(shift),
        cell=batch.cell @ matrix.T,
        pbc=batch.pbc,
        offsets=batch.offsets,
    )


def orthogonal(determinant, seed=0):
    """Return a random orthogonal matrix."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return matrix * np.array([1, 1, determinant * np.sign(np.linalg.det(matrix))])


def graph_of(batch, cutoff, cap=None, dtype=torch.float64):
    """Return the graph of a batch."""
    return make_graph(batch, find_neighbors(batch, cutoff, cap), dtype)


def predicted(network, batch, **wanted):
    """Return energies and forces of a batch as arrays, with the network's own cutoff and cap."""
    dtype = next(network.parameters()).dtype
    graph = graph_of(batch, network.config.cutoff, network.config.cap, dtype)
    output = network(graph, **wanted)
    return output.energy.detach().numpy(), None if output.forces is None else output.forces.detach().numpy()


def wandering(network, seed=1):
    """Return the network in float64 with every parameter moved at random, so that no bias is zero by initialisation."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.05)
    return network.eval()
