"""Batch normalisation whose statistics can be held fixed."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

_EPSILON: Final = 1e-5
_MOMENTUM: Final = 0.1


class Statistics(NamedTuple):
    """What rows are normalised by.

    Attributes:
        mean: Shape (n_channels,).
        variance: Shape (n_channels,).
    """

    mean: Tensor
    variance: Tensor


class BatchNorm(nn.Module):
    """Batch normalisation of rows (Ioffe and Szegedy, ICML 2015).

    In training mode rows are normalised by the mean and variance of the batch, so that a prediction depends on its
    batch mates; in evaluation mode by the running ones, so that it does not. PyTorch's own layer keeps a running
    variance that is larger than what it normalises by, by ``n / (n - 1)`` for n rows, and a network that has learned a
    small set by heart then misses it in evaluation; here the running variance is that of the rows themselves.

    Args:
        channels: Number of columns.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        """Start with scale one, shift zero and the statistics of the normal distribution."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def statistics(self, values: Tensor) -> Statistics:
        """Return what rows of shape (n_rows, n_channels) are normalised by, and in training mode remember it.

        A training batch of fewer than two rows has no variance: it is normalised by the running statistics and does not
        change them.
        """
        if not self.training or values.shape[0] < 2:  # noqa: PLR2004 - a variance takes two
            return Statistics(self.running_mean, self.running_var)
        variance, mean = torch.var_mean(values, dim=0, correction=0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, _MOMENTUM)
            self.running_var.lerp_(variance, _MOMENTUM)
        return Statistics(mean, variance)

    def forward(self, values: Tensor, statistics: Statistics | None = None) -> Tensor:
        """Return the rows normalised, scaled and shifted by channel.

        Args:
            values: Shape (n_rows, n_channels).
            statistics: What to normalise by; None takes those of `statistics`.
        """
        mean, variance = self.statistics(values) if statistics is None else statistics
        scale = self.weight * torch.rsqrt(variance + _EPSILON)
        return torch.addcmul(self.bias - mean * scale, values, scale)
