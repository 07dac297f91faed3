"""The loss of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from mlipbench.nets import Output
    from mlipbench.recipe import Loss
    from mlipbench.training.batches import Batch


class Counts(NamedTuple):
    """What the sums of a loss are divided by: counts of the whole batch, whichever process holds which part.

    Attributes:
        structures: Number of structures.
        components: Number of force components that count.
    """

    structures: int
    components: int


def loss_share(loss: Loss, output: Output, batch: Batch, counts: Counts) -> Tensor:
    """Return what some structures add to the loss of the batch they are part of.

    The shares of all parts sum up to ``energy * mean_structures e(ΔE) + forces * mean_components e(ΔF)`` of
    `mlipbench.recipe.Loss`.

    Args:
        loss: Kind and weights.
        output: Prediction of the part.
        batch: The part.
        counts: Of the whole batch.

    Returns:
        A number with a gradient.
    """
    share = _sum(loss, output.energy - batch.energy) * (loss.energy / counts.structures)
    if output.forces is not None and batch.forces is not None:
        error = output.forces - batch.forces
        if batch.counted is not None:
            error = error * batch.counted
        share = share + _sum(loss, error) * (loss.forces / max(counts.components, 1))
    return share * 0.0 if batch.padding else share


def _sum(loss: Loss, error: Tensor) -> Tensor:
    return error.abs().sum() if loss.kind == "l1" else error.square().sum()
