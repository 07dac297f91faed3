"""Reductions over groups of rows, with the names and conventions of torch-scatter 2.1."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_REDUCTIONS: Final = ("sum", "add", "mean", "min", "max")


def broadcast(src: Tensor, other: Tensor, dim: int) -> Tensor:
    """Return an index along `dim` of another tensor, expanded to its shape.

    Args:
        src: The index, of one dimension or of as many as `other`.
        other: The tensor to be indexed.
        dim: The dimension the index runs along.
    """
    if src.dim() == 1:
        shape = [1] * other.dim()
        shape[dim] = -1
        src = src.view(shape)
    return src.expand_as(other)


def scatter(src: Tensor, index: Tensor, dim: int = -1, *, dim_size: int | None = None, reduce: str = "sum") -> Tensor:
    """Reduce the entries of each group along a dimension; groups without entries are zero.

    Means of integers are rounded down.

    Args:
        src: The entries.
        index: The group of each entry, of one dimension or of the shape of `src`.
        dim: The dimension to reduce.
        dim_size: Number of groups; None takes the largest index plus one.
        reduce: ``sum``, ``add``, ``mean``, ``min`` or ``max``.

    Raises:
        ValueError: The reduction is none of these.
    """
    return _reduced(src, index, (dim, dim_size), reduce, "floor")


def _reduced(src: Tensor, index: Tensor, sizes: tuple[int, int | None], reduce: str, rounding: str) -> Tensor:
    """Reduce the entries of each group; `sizes` holds the dimension and the number of groups."""
    dim, dim_size = sizes
    if reduce not in _REDUCTIONS:
        raise ValueError(f"unknown reduction {reduce!r}; known: {', '.join(_REDUCTIONS)}")
    if dim_size is None:
        dim_size = int(index.max()) + 1 if index.numel() else 0
    index = broadcast(index, src, dim)
    size = list(src.shape)
    size[dim] = dim_size
    out = src.new_zeros(size)
    if reduce in {"min", "max"}:
        return out.scatter_reduce(dim, index, src, f"a{reduce}", include_self=False)
    total = out.scatter_add(dim, index, src)
    if reduce != "mean":
        return total
    count = out.scatter_add(dim, index, torch.ones_like(src)).clamp(min=1)
    return total / count if total.is_floating_point() else total.div(count, rounding_mode=rounding)


def segment_coo(src: Tensor, index: Tensor, *, dim_size: int | None = None, reduce: str = "sum") -> Tensor:
    """Reduce the rows of each group, as `scatter` along the first dimension, but that means of integers are cut off.

    Args:
        src: The rows.
        index: Shape (n_rows,), the group of each row, ascending.
        dim_size: Number of groups; None takes the last index plus one.
        reduce: As for `scatter`.
    """
    return _reduced(src, index, (0, dim_size), reduce, "trunc")


def segment_csr(src: Tensor, indptr: Tensor, *, reduce: str = "sum") -> Tensor:
    """Reduce the rows between consecutive bounds, as `segment_coo`.

    Args:
        src: The rows.
        indptr: Shape (n_groups + 1,), ascending; group ``g`` holds rows ``indptr[g]:indptr[g + 1]``.
        reduce: As for `scatter`.
    """
    groups = torch.arange(len(indptr) - 1, device=indptr.device)
    index = groups.repeat_interleave(indptr.diff())
    return segment_coo(src[int(indptr[0]) : int(indptr[-1])], index, dim_size=len(groups), reduce=reduce)
