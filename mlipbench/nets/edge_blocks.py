"""The messages of `mlipbench.nets.messages` on a processor: block by block, without the Gaussians that are zero.

Written out, the tensors of all edges are far larger than the caches, and moving them costs more than computing them. Here
edges are taken in blocks that fit, both ways: backwards a block is computed anew, which also saves the memory. A filter
is a sum over a few of the Gaussians: those that differ from zero in the precision at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.nets.graph import Graph
    from mlipbench.nets.segments import Segments

_BLOCK: Final = 2**20  # numbers in a tensor of one block of edges
# A Gaussian has sunk below half a unit of the last place at 6 spacings in float32, at 9 in float64.
_REACH: Final = {torch.float32: 6, torch.float64: 9}


class Window(NamedTuple):
    """The Gaussians that matter at the distance of each edge, and last the factor of the bias.

    Attributes:
        indices: Shape (n_edges, n_window + 1), int64, which they are; the bias is the last.
        weights: Shape (n_edges, n_window + 1), their values times the envelope.
        slopes: Shape (n_edges, n_window + 1), derivatives of `weights` with respect to the distance, 1/Å.
    """

    indices: Tensor
    weights: Tensor
    slopes: Tensor


def reach_of(dtype: torch.dtype) -> int | None:
    """Return how many spacings a Gaussian reaches in a precision, or None where blocks do not support it."""
    return _REACH.get(dtype)


def make_window(positions: Tensor, spacing: tuple[int, float], envelope: tuple[Tensor, Tensor], *, smooth: bool) -> Window:
    """Return the window of each edge.

    Args:
        positions: Shape (n_edges,), distances in units of the spacing of the Gaussians.
        spacing: Number of Gaussians, and how many there are to an Å.
        envelope: Value and derivative (1/Å) of the envelope, each of shape (n_edges, 1).
        smooth: Whether the bias is multiplied with the envelope.
    """
    size, scale = spacing
    value, slope = envelope
    reach = _REACH[positions.dtype]
    width = min(2 * reach, size)
    first = (positions.floor().long() - (reach - 1)).clamp(0, size - width)
    indices = first[:, None] + torch.arange(width)
    away = positions[:, None] - indices
    gaussians = torch.exp(-0.5 * away.square())
    last = torch.full_like(first[:, None], size)
    bias, bias_slope = (value, slope) if smooth else (torch.ones_like(value), torch.zeros_like(value))
    return Window(
        torch.cat([indices, last], 1),
        torch.cat([gaussians * value, bias], 1),
        torch.cat([gaussians * (slope - value * away * scale), bias_slope], 1),
    )
