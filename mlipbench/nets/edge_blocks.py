"""The messages of `mlipbench.nets.messages` on a processor: block by block, without the Gaussians that are zero.

Written out, the tensors of all edges are far larger than the caches, and moving them costs more than computing them.
Here edges are taken in blocks that fit, both ways: backwards a block is computed anew, which saves the memory, too. A
filter is a sum over the few Gaussians that differ from zero in the precision at hand. Atoms stay whole, so that sums
have the same order, and bits, at every call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

if TYPE_CHECKING:
    from mlipbench.nets.graph import Graph
    from mlipbench.nets.segments import Segments

REACH: Final = MappingProxyType({torch.float32: 6, torch.float64: 9})
"""By precision, how many spacings away a Gaussian has sunk below half a unit in the last place."""
_BLOCK: Final = 2**20  # numbers in the largest tensor of one block


class Window(NamedTuple):
    """The Gaussians that matter at the distance of each edge, and last the factor of the bias.

    Attributes:
        indices: Shape (n_edges, n_window + 1), int64, which they are; the bias follows the last Gaussian.
        weights: Shape (n_edges, n_window + 1), their values times the envelope.
        slopes: Shape (n_edges, n_window + 1), derivatives of `weights` by the distance, 1/Å; None where not asked for.
    """

    indices: Tensor
    weights: Tensor
    slopes: Tensor | None


class Block(NamedTuple):
    """Atoms that follow one another, and their edges.

    Attributes:
        atoms: Which atoms.
        edges: Which entries of `Segments.order`.
        offsets: Shape (n_atoms of the block + 1,), where the edges of each atom begin, from the block's first one.
    """

    atoms: slice
    edges: slice
    offsets: Tensor


class Columns(NamedTuple):
    """The edges of a block that each Gaussian matters to, one Gaussian after the other.

    Attributes:
        edges: Shape (n_entries,), int64, from the block's first edge.
        weights: Shape (n_entries,).
        offsets: Shape (n_gaussians + 1,), int64, where the entries of each Gaussian begin.
    """

    edges: Tensor
    weights: Tensor
    offsets: Tensor


@dataclass(frozen=True, eq=False)
class BlockedEdges:
    """What filters and messages need to know of the edges; all layers share it.

    Attributes:
        distances: Shape (n_edges,), Å.
        units: Shape (n_edges, 3), unit vectors.
        window: The radial functions.
        radial: How many Gaussians there are.
        graph: Which atoms the edges join.
        columns: Of a layer's messages, at most; they decide the size of blocks.
    """

    distances: Tensor
    units: Tensor
    window: Window
    radial: int
    graph: Graph
    columns: int

    @cached_property
    def by_receiver(self) -> list[Block]:
        """The blocks of atoms with the edges they receive."""
        return _blocks(self.graph.receivers, self.columns)

    @cached_property
    def by_sender(self) -> list[Block]:
        """The blocks of atoms with the edges they send."""
        return _blocks(self.graph.senders, self.columns)

    @cached_property
    def by_gaussian(self) -> list[Columns]:
        """For each block of `by_sender` the edges by Gaussian, to sum up the derivatives of filters' weights."""
        order, width = self.graph.senders.order, self.window.indices.shape[1] - 1
        found = []
        for block in self.by_sender:
            rows = order[block.edges]
            indices = self.window.indices[rows, :-1].flatten()
            sorted_entries = torch.from_numpy(np.argsort(indices.numpy().astype(np.int16), kind="stable"))
            offsets = torch.zeros(self.radial + 1, dtype=torch.int64)
            offsets[1:] = torch.bincount(indices, minlength=self.radial).cumsum(0)
            weights = self.window.weights[rows, :-1].flatten()
            found.append(Columns(sorted_entries // width, weights[sorted_entries], offsets))
        return found


def _blocks(segments: Segments, columns: int) -> list[Block]:
    offsets = segments.offsets.numpy()
    cuts = 1 + np.flatnonzero(np.diff(offsets[:-1] // max(1, _BLOCK // columns)))
    bounds = np.concatenate([[0], cuts, [len(offsets) - 1]])
    blocks = []
    for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        start, stop = int(offsets[first]), int(offsets[last])
        blocks.append(Block(slice(first, last), slice(start, stop), segments.offsets[first : last + 1] - start))
    return blocks


def blocked_messages(
    values: Tensor, vectors: Tensor | None, edges: BlockedEdges, filters: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the sums of scalar and vector messages over the edges of each receiver.

    Arguments and result are those of `mlipbench.nets.messages.edge_messages`. The derivatives cannot be differentiated
    once more.
    """
    result: tuple[Tensor, Tensor] = _Messages.apply(values, vectors, edges.distances, edges.units, *filters, edges)
    return result


class _Messages(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        values, vectors, _, units, weight, bias, edges = inputs
        ctx.save_for_backward(values, vectors, units, weight, bias)
        ctx.edges = edges
        table = _table(weight, bias)
        n_atoms, width = values.shape[0], values.shape[1] // (2 if vectors is None else 3)
        scalar_sums, vector_sums = values.new_empty(n_atoms, width), values.new_empty(n_atoms, 3, width)
        for block in edges.by_receiver:
            senders = edges.graph.senders.owner[block.edges]
            messages = _filters(edges, block.edges, table).mul_(values.index_select(0, senders))
            scalar_sums[block.atoms] = _sums(messages[:, -width:], block.offsets)
            sums = vector_sums[block.atoms]
            for axis in range(3):
                along = messages[:, -2 * width : -width]
                sums[:, axis] = _sums(along, block.offsets, units[block.edges, axis])
            if vectors is not None:
                carried = vectors.index_select(0, senders).mul_(messages[:, None, :width])
                sums += _sums(carried.flatten(1), block.offsets).view_as(sums)
        return scalar_sums, vector_sums

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, vectors, units, weight, bias = ctx.saved_tensors
        edges: BlockedEdges = ctx.edges
        wanted = ctx.needs_input_grad
        table = _table(weight, bias)
        back = _Backward(
            values=torch.empty_like(values),
            vectors=None if vectors is None else torch.empty_like(vectors),
            table=torch.zeros_like(table) if wanted[4] or wanted[5] else None,
            distances=torch.empty_like(edges.distances) if wanted[2] else None,
            units=torch.empty_like(units) if wanted[3] else None,
        )
        for number, block in enumerate(edges.by_sender):
            _differentiate((values, vectors, units, table), (edges, number, block), gradients, back)
        by_weight = (None, None) if back.table is None else (back.table[:-1].t(), back.table[-1])
        return back.values, back.vectors, back.distances, back.units, *by_weight, None


class _Backward(NamedTuple):
    """Where derivatives go, by input; None where not asked for."""

    values: Tensor
    vectors: Tensor | None
    table: Tensor | None
    distances: Tensor | None
    units: Tensor | None


def _differentiate(
    inputs: tuple[Tensor, Tensor | None, Tensor, Tensor],
    place: tuple[BlockedEdges, int, Block],
    gradients: tuple[Tensor, ...],
    back: _Backward,
) -> None:
    """Add what the edges that a block of atoms sends contribute to all derivatives."""
    values, vectors, units, table = inputs
    edges, number, block = place
    rows = edges.graph.senders.order[block.edges]
    senders, receivers = edges.graph.senders.owner[rows], edges.graph.receivers.owner[rows]
    filters, sent, units = _filters(edges, rows, table), values.index_select(0, senders), units[rows]
    by_vectors = gradients[1].index_select(0, receivers)
    width = by_vectors.shape[2]
    by_messages = torch.empty_like(filters)
    by_messages[:, -width:] = gradients[0].index_select(0, receivers)
    _dot(by_vectors, units[:, :, None], by_messages[:, -2 * width : -width])
    if vectors is not None:
        _dot(by_vectors, vectors.index_select(0, senders), by_messages[:, :width])
    if back.units is not None:
        along = filters[:, -2 * width : -width] * sent[:, -2 * width : -width]
        back.units[rows] = torch.bmm(by_vectors, along[:, :, None])[:, :, 0]
    back.values[block.atoms] = _sums(by_messages * filters, block.offsets)
    if back.vectors is not None:
        carried = by_vectors.mul_((filters[:, :width] * sent[:, :width])[:, None, :])
        back.vectors[block.atoms] = _sums(carried.flatten(1), block.offsets).view_as(back.vectors[block.atoms])
    by_filters = by_messages.mul_(sent)
    if back.distances is not None and edges.window.slopes is not None:
        slopes = embedding_bag(
            edges.window.indices[rows], table, per_sample_weights=edges.window.slopes[rows], mode="sum"
        )
        back.distances[rows] = slopes.mul_(by_filters).sum(1)
    if back.table is not None:
        columns = edges.by_gaussian[number]
        back.table[:-1] += embedding_bag(
            columns.edges, by_filters, columns.offsets, per_sample_weights=columns.weights, mode="sum",
            include_last_offset=True,
        )  # fmt: skip
        back.table[-1] += edges.window.weights[rows, -1] @ by_filters


def _table(weight: Tensor, bias: Tensor) -> Tensor:
    """Return a row for each Gaussian, and one for the bias."""
    return torch.cat([weight.t(), bias[None]])


def _filters(edges: BlockedEdges, rows: slice | Tensor, table: Tensor) -> Tensor:
    window = edges.window
    return embedding_bag(window.indices[rows], table, per_sample_weights=window.weights[rows], mode="sum")


def _sums(rows: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return sums of rows that lie one after the other, each multiplied with its weight."""
    every = torch.arange(rows.shape[0])
    return embedding_bag(every, rows, offsets, per_sample_weights=weights, mode="sum", include_last_offset=True)


def _dot(first: Tensor, second: Tensor, result: Tensor) -> None:
    """Write the sum over the spatial axis of a product, shape (n_edges, n_channels)."""
    torch.mul(first[:, 0], second[:, 0], out=result)
    result.addcmul_(first[:, 1], second[:, 1]).addcmul_(first[:, 2], second[:, 2])
