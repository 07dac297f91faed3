"""Sums over segments, and the gathers they are the adjoint of.

Rows that belong together are listed together, so that a sum reads them one after the other and needs no atomic
additions: it gives the same bits every time. Sum and gather are each other's derivative, to any order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Segments(NamedTuple):
    """Which row belongs to which segment.

    Attributes:
        owner: Shape (n_rows,), int64, the segment of each row.
        offsets: Shape (n_segments + 1,), int64, segment ``s`` holds entries ``offsets[s]:offsets[s + 1]`` of `order`.
        order: Shape (n_rows,), int64, the rows sorted by segment.
    """

    owner: Tensor
    offsets: Tensor
    order: Tensor


def segment_sum(values: Tensor, segments: Segments) -> Tensor:
    """Return the sum of the rows of each segment.

    Args:
        values: Shape (n_rows, ...), floating.
        segments: The segments; an empty one sums up to zero.

    Returns:
        Shape (n_segments, ...).
    """
    result: Tensor = _Sum.apply(values, *segments)
    return result


def take(values: Tensor, segments: Segments) -> Tensor:
    """Return for each row the value of its segment.

    Args:
        values: Shape (n_segments, ...).
        segments: The segments.

    Returns:
        Shape (n_rows, ...).
    """
    result: Tensor = _Take.apply(values, *segments)
    return result


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, owner: Tensor, offsets: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(owner, offsets, order)
        return _summed(values, offsets, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _Take.apply(gradients[0], *ctx.saved_tensors), None, None, None


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, owner: Tensor, offsets: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(owner, offsets, order)
        return values.index_select(0, owner)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _Sum.apply(gradients[0], *ctx.saved_tensors), None, None, None


def _summed(values: Tensor, offsets: Tensor, order: Tensor) -> Tensor:
    """Sum rows; `embedding_bag` walks through each segment in turn, on processors and GPUs alike."""
    flat = values.reshape(values.shape[0], values.shape[1:].numel())
    sums = torch.nn.functional.embedding_bag(order, flat, offsets, mode="sum", include_last_offset=True)
    return sums.reshape(offsets.shape[0] - 1, *values.shape[1:])
