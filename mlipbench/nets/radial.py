"""Radial functions that several networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def polynomial_envelope(t: Tensor, p: int = 5) -> Tensor:
    """Return the envelope of DimeNet (Gasteiger et al., ICLR 2020, eq. 8), one at 0 and zero from 1 on.

    ``1 + a t^p + b t^(p+1) + c t^(p+2)`` with ``a = -(p+1)(p+2)/2``, ``b = p(p+2)``, ``c = -p(p+1)/2``: value and the
    first two derivatives vanish at 1.

    Args:
        t: Any shape, distances over the cutoff.
        p: The exponent.
    """
    a, b, c = -(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2
    value = 1 + t**p * (a + t * (b + c * t))
    return torch.where(t < 1, value, torch.zeros_like(value))


def polynomial_envelope_slope(t: Tensor, p: int = 5) -> Tensor:
    """Return the derivative of `polynomial_envelope` with respect to `t`."""
    a, b, c = -(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2
    value = t ** (p - 1) * (a * p + t * (b * (p + 1) + t * (c * (p + 2))))
    return torch.where(t < 1, value, torch.zeros_like(value))


class GaussianBasis(nn.Module):
    """Gaussians of the scaled distance ``t = d / cutoff``, with centres from 0 to 1.

    ``exp(-(t - mu_k)² / (2 δ²))``, δ the spacing of the centres: the basis of LEIGNN and of the OC20 code base's PaiNN,
    without its envelope.

    Args:
        size: Number of functions, at least 2.
        cutoff: Å.
    """

    centres: Tensor

    def __init__(self, size: int, cutoff: float) -> None:
        """Place the centres."""
        super().__init__()
        # in units of their spacing, whole numbers, the centres are exact in every precision
        self.size = size
        self.scale = (size - 1) / cutoff
        self.register_buffer("centres", torch.arange(float(size)), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Return the functions, shape (n_edges, size), at distances of shape (n_edges,), Å."""
        return torch.exp(-0.5 * (distances[:, None] * self.scale - self.centres) ** 2)


class ScaledSiLU(nn.Module):
    """``SiLU(x) / 0.6``, which roughly keeps the variance."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation, same shape."""
        return nn.functional.silu(x) * (1 / 0.6)
