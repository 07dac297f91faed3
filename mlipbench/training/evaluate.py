"""Errors of a network of ours on the validation structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from mlipbench.nets.segments import segment_sum
from mlipbench.training.batches import ahead
from mlipbench.training.verdict import Errors

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from mlipbench.nets import Network
    from mlipbench.training.batches import Batch, BatchMaker
    from mlipbench.typing import FloatArray


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
