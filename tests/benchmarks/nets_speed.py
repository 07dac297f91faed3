"""Seconds of networks side by side: `python nets_speed.py MODE STRUCTURES ROUNDS NAME...` prints them as JSON.

A program of its own, because the settings of the allocator that workers run under are read when a process starts.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import torch
from conftest import ATOMS, interleaved
from plain_leignn import PlainLeignn

from mlipbench.nets import build
from mlipbench.nets.graph import find_neighbors, make_graph
from mlipbench.structures import StructureBatch

CUTOFF = 6.0
NEIGHBORS = 50
FORCE_WEIGHT = 50.0  # of the paper's OC20 runs


def paper_sized(n_structures, seed=0):
    """Return structures of 73 atoms with about 50 neighbours within 6 Å: random places of a lattice, displaced."""
    rng = np.random.default_rng(seed)
    side = (ATOMS * 4 / 3 * np.pi * CUTOFF**3 / NEIGHBORS) ** (1 / 3)
    places = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = [
        (rng.permutation(places)[:ATOMS] + rng.uniform(-0.2, 0.2, (ATOMS, 3))) * side / 5 for _ in range(n_structures)
    ]
    return StructureBatch(
        numbers=rng.integers(1, 80, n_structures * ATOMS),
        positions=np.concatenate(positions),
        cell=np.broadcast_to(side * np.eye(3), (n_structures, 3, 3)),
        pbc=np.ones((n_structures, 3), dtype=bool),
        offsets=np.arange(n_structures + 1) * ATOMS,
    )


def network_of(name, graph):
    """Return a network of the published OC20 size and its call; PaiNNs have LEIGNN's cutoff and number of layers."""
    torch.manual_seed(0)
    if name == "plain":
        network = PlainLeignn(build("leignn", "oc20").config)
        order = torch.randperm(len(graph.vectors))
        edges = graph.vectors[order], graph.senders.owner[order], graph.receivers.owner[order]
        return network, lambda: network(graph.numbers, *edges, graph.structures.owner)
    changes = {"layers": 4} if name.startswith("painn") else {}
    network = build(name, "oc20", cutoff=CUTOFF, **changes)
    return network, lambda: network(graph)[:2]


def inference(name, graph):
    """Return a call that predicts energies and forces."""
    network, call = network_of(name, graph)
    network.eval()

    def run():
        with torch.no_grad():
            call()

    return run


def training(name, graph):
    """Return a call that takes one step with the paper's loss and optimiser."""
    network, call = network_of(name, graph)
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-6, weight_decay=0, amsgrad=True)

    def run():
        optimiser.zero_grad()
        energy, forces = call()
        ((energy - 1).abs().mean() + FORCE_WEIGHT * (forces - 1).abs().mean()).backward()
        optimiser.step()

    return run


def main():
    """Measure."""
    mode, n_structures, rounds, *names = sys.argv[1:]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    batch = paper_sized(int(n_structures))
    graph = make_graph(batch, find_neighbors(batch, CUTOFF), torch.float32)
    candidates = [{"inference": inference, "training": training}[mode](name, graph) for name in names]
    seconds = interleaved(int(rounds), *candidates)
    edges = len(graph.vectors) / batch.n_atoms
    print(json.dumps({"neighbors": edges, "seconds": dict(zip(names, seconds, strict=True))}))  # noqa: T201


if __name__ == "__main__":
    main()
