"""Pairs of edges that meet in an atom."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mlipbench.nets.graph import Graph


class Triplets(NamedTuple):
    """Ways k -> j -> i of two edges each, sorted by the second edge.

    Attributes:
        edge_ji: Shape (n_triplets,), int64, the edge from ``j`` to ``i``.
        edge_kj: Shape (n_triplets,), int64, the edge from ``k`` to ``j``.
    """

    edge_ji: Tensor
    edge_kj: Tensor


def find_triplets(graph: Graph) -> Triplets:
    """Return all pairs of edges of which the second leaves from where the first arrives, but for ways straight back.

    A way leads back where ``k`` is ``i`` itself. An image of ``i`` is another atom, so that a cell and its supercells
    have the same triplets per atom. Only the list of edges matters, not where the atoms are.

    How many there are depends on the edges: on a GPU the call waits for the device, once for the pairs and once for the
    ways back among them.
    """
    sender, receiver = graph.senders.owner, graph.receivers.owner
    first = graph.receivers.offsets[sender]
    counts = graph.receivers.offsets[sender + 1] - first
    edge_ji = torch.repeat_interleave(counts)
    # The edges to an atom stand together: count up from the first of them, anew for each edge_ji.
    run = counts.cumsum(0) - counts
    edge_kj = torch.arange(len(edge_ji), device=sender.device) - (run - first)[edge_ji]
    same_image = (graph.shifts[edge_kj] == -graph.shifts[edge_ji]).all(dim=1)
    onward = ~(same_image & (sender[edge_kj] == receiver[edge_ji]))
    return Triplets(edge_ji[onward], edge_kj[onward])
