"""Batch normalisation for graphs that may have few rows."""

from __future__ import annotations

from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of rows.

    In training mode rows are normalised by the mean and variance of the batch, so that a prediction depends on its
    batch mates; in evaluation mode by the running ones, so that it does not. A training batch of fewer than two rows
    has no variance: it is normalised by the running statistics and does not change them.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Return rows of shape (n_rows, n_channels) normalised by channel."""
        if self.training and values.shape[0] < 2:  # noqa: PLR2004 - a variance takes two
            return nn.functional.batch_norm(
                values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        normalised: Tensor = super().forward(values)
        return normalised
