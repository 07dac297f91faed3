"""Messages along edges in the manner of PaiNN: a filter of the distance times what the sender says."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from mlipbench.nets.edge_blocks import REACH, BlockedEdges, Window, blocked_messages
from mlipbench.nets.radial import GaussianBasis, polynomial_envelope, polynomial_envelope_slope
from mlipbench.nets.segments import segment_sum, take

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.nets.graph import Graph


class EdgeBasis(NamedTuple):
    """What filters and messages need to know of the edges; all layers share it.

    Attributes:
        radial: Shape (n_edges, n_radial), Gaussians times the envelope.
        envelope: Shape (n_edges, 1), what a filter's bias is multiplied with, or None for one. With the envelope the
            whole filter vanishes at the cutoff; with one it jumps there by the bias, as in the published LEIGNN.
        units: Shape (n_edges, 3), unit vectors.
    """

    radial: Tensor
    envelope: Tensor | None
    units: Tensor


class MessageBasis(nn.Module):
    """Radial functions and directions of edges.

    Args:
        size: Number of Gaussians.
        cutoff: Å.
        columns: Of the messages, three times the channels.
        smooth: Whether the envelope is applied to the bias of filters, too.
    """

    def __init__(self, size: int, cutoff: float, columns: int, *, smooth: bool) -> None:
        """Place the Gaussians."""
        super().__init__()
        self.gaussians = GaussianBasis(size, cutoff)
        self.cutoff = cutoff
        self.columns = columns
        self.smooth = smooth
        self.blocks = True

    def forward(self, vectors: Tensor, graph: Graph) -> EdgeBasis | BlockedEdges:
        """Return the basis of edges with these vectors, shape (n_edges, 3), Å; unit vectors keep the direction.

        On a processor edges go in blocks, unless a compiler does better, derivatives of forces are to be taken, or
        `as_written` forbids it.
        """
        distances = vectors.square().sum(1).sqrt()
        units = vectors / distances[:, None]
        twice = self.training and vectors.requires_grad
        blocks = self.blocks and vectors.device.type == "cpu" and vectors.dtype in REACH
        if blocks and not (twice or torch.compiler.is_compiling()):
            with torch.no_grad():
                window = self._window(distances, want_slopes=vectors.requires_grad)
            return BlockedEdges(distances, units, window, self.gaussians.size, graph, self.columns)
        envelope = polynomial_envelope(distances / self.cutoff)[:, None]
        return EdgeBasis(self.gaussians(distances) * envelope, envelope if self.smooth else None, units)

    def _window(self, distances: Tensor, *, want_slopes: bool) -> Window:
        """Return the Gaussians near each distance, and the factor of the bias."""
        size, scale, reach = self.gaussians.size, self.gaussians.scale, REACH[distances.dtype]
        scaled = distances[:, None] * scale
        width = min(2 * reach, size)
        indices = (scaled.long() - (reach - 1)).clamp(0, size - width) + torch.arange(width)
        away = scaled - indices
        values = torch.exp(-0.5 * away.square())
        t = distances[:, None] / self.cutoff
        envelope, last = polynomial_envelope(t), torch.full_like(indices[:, :1], size)
        weights = torch.cat([values * envelope, envelope if self.smooth else torch.ones_like(envelope)], 1)
        slopes = None
        if want_slopes:
            slope = polynomial_envelope_slope(t) / self.cutoff
            bias_slope = slope if self.smooth else torch.zeros_like(slope)
            slopes = torch.cat([values * (slope - envelope * away * scale), bias_slope], 1)
        return Window(torch.cat([indices, last], 1), weights, slopes)


@contextmanager
def as_written(network: nn.Module) -> Iterator[None]:
    """Let a network form the messages of all edges at once, with all Gaussians, as on a GPU."""
    bases = [part for part in network.modules() if isinstance(part, MessageBasis)]
    for basis in bases:
        basis.blocks = False
    try:
        yield
    finally:
        for basis in bases:
            basis.blocks = True


def edge_messages(
    values: Tensor,
    vectors: Tensor | None,
    basis: EdgeBasis | BlockedEdges,
    filters: tuple[Tensor, Tensor],
    graph: Graph,
) -> tuple[Tensor, Tensor]:
    """Return the sums of scalar and vector messages over the edges of each receiver.

    With ``[q1 | q2 | q3] = values[j] * (W radial + bias * envelope)`` an edge ``j -> i`` adds ``q3`` to the scalars of
    ``i`` and ``q1 * vectors[j] + q2 * unit`` to its vectors (Schütt et al., ICML 2021, eqs. 7 and 8).

    Args:
        values: Shape (n_atoms, 3 n_channels), or (n_atoms, 2 n_channels) without `vectors`, when there is no ``q1``.
        vectors: Shape (n_atoms, 3, n_channels), or None where all are zero.
        basis: The edges.
        filters: Weight, shape (columns of `values`, n_radial), and bias, shape (columns of `values`,).
        graph: Which atoms the edges join.

    Returns:
        Scalars of shape (n_atoms, n_channels) and vectors of shape (n_atoms, 3, n_channels).
    """
    if isinstance(basis, BlockedEdges):
        return blocked_messages(values, vectors, basis, filters)
    weight, bias = filters
    if basis.envelope is None:
        filtered = nn.functional.linear(basis.radial, weight, bias)
    else:
        filtered = nn.functional.linear(basis.radial, weight) + basis.envelope * bias
    messages = take(values, graph.senders) * filtered
    parts = messages.chunk(2 if vectors is None else 3, dim=1)
    along = parts[-2][:, None, :] * basis.units[:, :, None]
    if vectors is not None:
        along = along + parts[0][:, None, :] * take(vectors, graph.senders)
    return segment_sum(parts[-1], graph.receivers), segment_sum(along, graph.receivers)


def rows(linear: nn.Linear, start: int) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a layer without its first outputs."""
    return linear.weight[start:], linear.bias[start:]


def norms(vectors: Tensor) -> Tensor:
    """Return ``sqrt(|v|² + 1e-8)``, shape (n_atoms, n_channels), of vectors of shape (n_atoms, 3, n_channels).

    The small number keeps all derivatives finite where a vector vanishes; LEIGNN and the OC20 code base have it, too.
    """
    return torch.sqrt(vectors.square().sum(1) + 1e-8)


def joined(linear: nn.Linear, first: Tensor, second: Tensor) -> Tensor:
    """Return a linear layer of two inputs side by side, without writing them side by side."""
    width = first.shape[-1]
    return nn.functional.linear(first, linear.weight[:, :width], linear.bias) + nn.functional.linear(
        second, linear.weight[:, width:]
    )
