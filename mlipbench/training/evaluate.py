"""Errors on the validation structures, and the verdict on whether a network counts as trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlipbench.checkpoint import TRAINED_SHARE, Verdict
from mlipbench.metrics.statistics import cluster_interval
from mlipbench.metrics.values import Kind, Scale
from mlipbench.nets.segments import segment_sum
from mlipbench.training.batches import ahead

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from mlipbench.nets import Network
    from mlipbench.training.batches import Batch, BatchMaker
    from mlipbench.training.data import LabelledStructures
    from mlipbench.typing import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Errors per structure.

    Attributes:
        energy: Shape (n_structures,), eV, |ΔE|.
        forces: Shape (n_structures,), eV/Å, Σ|ΔF| over the components that count; None where there are no forces.
        components: Number of all components that count.
    """

    energy: FloatArray
    forces: FloatArray | None
    components: int

    @property
    def energy_mae(self) -> float:
        """Mean of the energies' errors, eV."""
        return math.fsum(self.energy) / len(self.energy)

    @property
    def forces_mae(self) -> float | None:
        """Mean over components, eV/Å; None where none counts."""
        return math.fsum(self.forces) / self.components if self.forces is not None and self.components else None


def evaluate(fabric: Fabric, network: Network, maker: BatchMaker, size: int) -> Errors:
    """Return the errors of a network in evaluation mode.

    Each process takes every n-th batch, n the number of processes, and all get the whole result.

    Args:
        fabric: The processes.
        network: The network.
        maker: Of the structures.
        size: Structures at a time.
    """
    n = maker.data.n_structures
    parts = [np.arange(start, min(start + size, n)) for start in range(0, n, size)]
    sums = np.zeros((2, n))
    with torch.no_grad():
        mine = range(fabric.global_rank, len(parts), fabric.world_size)
        for batch in ahead(lambda k: maker.make(parts[k]), mine):
            sums[:, batch.members] = _sums(network, batch.to(fabric.device), maker.targets)
    if fabric.world_size > 1:
        total = torch.from_numpy(sums).to(fabric.device)
        sums = fabric.all_reduce(total, reduce_op="sum").cpu().numpy()
    components = int(maker.data.counted_components.sum())
    return Errors(sums[0], sums[1] if maker.data.forces is not None else None, components)


def judge(data: LabelledStructures, errors: Errors) -> Verdict:
    """Return whether force errors are certainly below a share of those of a model that predicts no forces.

    Args:
        data: The validation structures.
        errors: Errors on them.
    """
    n = data.n_structures
    components = errors.components
    if data.forces is None or errors.forces is None or components == 0:
        return Verdict(n_structures=n, zero_forces_mae=None, ratio=None, low=None, high=None, trained=False)
    magnitude = np.abs(data.forces).sum(axis=1) * data.counted
    floor = np.bincount(data.structures.structure_index, weights=magnitude, minlength=n).astype(np.float64)
    total = math.fsum(floor)
    interval = cluster_interval(errors.forces, floor, data.clusters, Scale(Kind.POSITIVE))
    return Verdict(
        n_structures=n,
        zero_forces_mae=total / components,
        ratio=math.fsum(errors.forces) / total if total else None,
        low=interval.low,
        high=interval.high,
        trained=interval.high is not None and interval.high < TRAINED_SHARE,
    )


def _sums(network: Network, batch: Batch, targets: FloatArray) -> FloatArray:
    """Return |ΔE| and Σ|ΔF| of the structures of a batch, shape (2, n_structures)."""
    output = network(batch.graph, forces=batch.forces is not None)
    sums = np.zeros((2, len(batch.members)))
    sums[0] = np.abs(output.energy.double().cpu().numpy() - targets[batch.members])
    if batch.forces is not None:
        error = (output.forces.double() - batch.forces.double()).abs().sum(dim=1, keepdim=True)
        if batch.counted is not None:
            error = error * batch.counted
        sums[1] = segment_sum(error, batch.graph.structures)[:, 0].cpu().numpy()
    return sums
