"""Optimiser steps as whole epochs, for packages that count epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from mlipbench.recipe import Recipe


class Epochs(NamedTuple):
    """Length of a training.

    Attributes:
        batch: Structures of an optimiser step.
        steps: Optimiser steps of an epoch.
        interval: Epochs between two validations.
        epochs: Epochs in all; the first and the last of them end with a validation.
    """

    batch: int
    steps: int
    interval: int
    epochs: int

    @classmethod
    def of(cls, recipe: Recipe, n_train: int) -> Self:
        """Return the smallest number of whole epochs that holds the steps of a recipe.

        An epoch leaves out the structures that fill no batch. There is a validation after the first epoch and after
        every ``interval`` ones from there on, ``interval`` being `Recipe.evaluate_every` in epochs, rounded; the
        number of epochs is raised until the last one ends with a validation.

        Args:
            recipe: The recipe.
            n_train: Number of training structures.
        """
        batch = min(recipe.batch, n_train)
        per_epoch = n_train // batch
        interval = max(1, round(recipe.evaluate_every / per_epoch))
        wanted = -(-(recipe.steps or 0) // per_epoch)
        return cls(batch, per_epoch, interval, 1 + interval * -(-(wanted - 1) // interval))
