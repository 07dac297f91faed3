"""A toy network, small datasets, and jobs that train the one on the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.nets import ConservativeNetwork, NetworkConfig
from mlipbench.nets.radial import GaussianBasis
from mlipbench.nets.segments import segment_sum, take
from mlipbench.recipe import Recipe, TrainedOn, TrainingJob
from mlipbench.structures import StructureBatch
from mlipbench.structures.columnar import Labels, Split

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig(NetworkConfig):
    hidden: int


class Toy(ConservativeNetwork):
    """Pair energies; weights without effect, a weight with two names and a statistic, as other networks have them."""

    calls: torch.Tensor

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config)
        self.basis = GaussianBasis(8, config.cutoff)
        self.elements = torch.nn.Embedding(config.elements, 8)
        self.pair = torch.nn.Sequential(
            torch.nn.Linear(8, config.hidden), torch.nn.SiLU(), torch.nn.Linear(config.hidden, 1)
        )
        self.again = self.pair[0]
        self.dead = torch.nn.Linear(2, 2)
        self.register_buffer("calls", torch.zeros(()))

    def energy(self, graph: Any, vectors: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
        basis = self.basis(vectors.norm(dim=1)) * take(self.elements(graph.numbers), graph.senders)
        per_atom = segment_sum(self.pair(basis), graph.receivers)
        return segment_sum(per_atom, graph.structures)[:, 0]


PRESETS = {"small": ToyConfig(elements=20, cutoff=5.0, hidden=16)}


def build(name: str, preset: str, **changes: Any) -> Toy:
    assert name == "toy"
    return Toy(replace(PRESETS[preset], **changes))


def use_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlipbench.nets.build", build)
    monkeypatch.setattr("mlipbench.nets.load.build_from_config", lambda name, config: Toy(ToyConfig(**config)))


def lennard_jones(structures: StructureBatch, sigma: float = 3.0, epsilon: float = 0.2) -> Labels:
    energy, forces = np.zeros(structures.n_structures), np.zeros_like(structures.positions)
    for s, (first, last) in enumerate(zip(structures.offsets[:-1], structures.offsets[1:], strict=True)):
        for i in range(first, last):
            for j in range(first, i):
                apart = structures.positions[i] - structures.positions[j]
                r = np.linalg.norm(apart)
                x = (sigma / r) ** 6
                energy[s] += 4 * epsilon * (x * x - x)
                push = 24 * epsilon * (2 * x * x - x) / r**2 * apart
                forces[i] += push
                forces[j] -= push
    return Labels(energy - 10.0 * structures.counts, forces)


def clusters_of_atoms(n: int, seed: int = 0, fixed: bool = False) -> StructureBatch:
    """Return `n` clusters of two to four argon and neon atoms, about 3 Å apart."""
    rng = np.random.default_rng(seed)
    counts = 2 + np.arange(n) % 3
    corners = 3.1 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.87, 0], [0.5, 0.29, 0.82]])
    positions = np.concatenate([corners[:count] + rng.normal(scale=0.15, size=(count, 3)) for count in counts])
    numbers = np.where(np.arange(counts.sum()) % 2, 10, 18)
    return StructureBatch(
        numbers=numbers,
        positions=positions,
        cell=np.zeros((n, 3, 3)),
        pbc=np.zeros((n, 3)),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        fixed=np.arange(counts.sum()) % 3 == 0 if fixed else None,
        id=np.array([f"cluster{i}" for i in range(n)]),
    )


def save(folder: Path, structures: StructureBatch, labels: Labels | None = None) -> Split:
    with ColumnarWriter(folder) as writer:
        writer.append(structures, lennard_jones(structures) if labels is None else labels)
    return Split(folder, "toy", "train")


RECIPE: dict[str, Any] = {
    "recipe": "tiny",
    "version": 1,
    "preset": "small",
    "train": {"split": "train", "slice": [0, 8, None]},
    "validation": {"split": "train", "slice": [8, None, None]},
    "energy_reference": "per_element",
    "loss": {"energy": 1.0, "forces": 1.0},
    "learning_rates": [1e-2],
    "schedule": {"kind": "plateau", "patience": 1},
    "ema_decay": 0.9,
    "clip": 10.0,
    "batch": 3,
    "steps": 30,
    "evaluate_every": 10,
}


def job_for(split: Split, other: Split | None = None, /, *, net: str = "toy", **changes: Any) -> TrainingJob:
    """Return a job that trains on one split and validates on another, or on other structures of the same."""
    held_out = other or split
    free_only = changes.pop("free_atoms_only", False)
    data = TrainedOn(
        dataset="toy",
        title="Toy",
        level_of_theory="Lennard-Jones",
        energy_reference="total",
        free_atoms_only=free_only,
        n_train=8,
        n_validation=4,
        mean_atoms=3.0,
        train_hash=split.content_hash,
        validation_hash=held_out.content_hash,
    )
    return TrainingJob(
        name="tiny",
        net=net,
        recipe=Recipe.model_validate({**RECIPE, **changes}),
        data=data,
        train_columns=split.directory,
        validation_columns=held_out.directory,
        identity="0" * 64,
    )
