"""Learning-rate schedules and the running average of the weights."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

if TYPE_CHECKING:
    from mlipbench.nets import Network
    from mlipbench.recipe import Cosine, Exponential, Plateau

IMPROVEMENT: Final = 1e-4
"""Share by which a value must fall to count for the plateau schedule; torch's default."""


class PlateauState(NamedTuple):
    """State of the plateau schedule.

    Attributes:
        learning_rate: The learning rate now.
        best: The best value so far, None before the first.
        waited: Values since then, or since the learning rate was lowered.
    """

    learning_rate: float
    best: float | None = None
    waited: int = 0


def after_value(plateau: Plateau, state: PlateauState, value: float) -> PlateauState:
    """Return the state after another value, by the rule of `torch.optim.lr_scheduler.ReduceLROnPlateau`.

    A value improves where it is below the best one by `IMPROVEMENT`, relative. After more than ``patience`` values in
    a row that do not, the learning rate is multiplied by ``factor`` and the count starts anew.

    Args:
        plateau: The schedule.
        state: Before the value.
        value: Of a validation.
    """
    if state.best is None or value < state.best * (1.0 - IMPROVEMENT):
        return state._replace(best=value, waited=0)
    if state.waited < plateau.patience:
        return state._replace(waited=state.waited + 1)
    lowered = max(state.learning_rate * plateau.factor, plateau.min_learning_rate)
    return state._replace(learning_rate=min(state.learning_rate, lowered), waited=0)


def cosine_learning_rate(cosine: Cosine, learning_rate: float, done: float) -> float:
    """Return the learning rate after a share of the training.

    It rises linearly from 0 to ``learning_rate`` while ``done`` goes to ``warmup``, and from there follows half a
    cosine down to ``final * learning_rate`` at 1 (Loshchilov and Hutter, ICLR 2017, eq. 5, one cycle).

    Args:
        cosine: The schedule.
        learning_rate: The highest.
        done: Share of the training that is done, 0 to 1.
    """
    if done < cosine.warmup:
        return learning_rate * done / cosine.warmup
    angle = math.pi * (done - cosine.warmup) / (1.0 - cosine.warmup)
    return learning_rate * (cosine.final + (1.0 - cosine.final) * 0.5 * (1.0 + math.cos(angle)))


def exponential_learning_rate(exponential: Exponential, learning_rate: float, done: float) -> float:
    """Return the learning rate after a share of the training: ``learning_rate * final ** done``.

    Args:
        exponential: The schedule.
        learning_rate: That of the start.
        done: Share of the training that is done, 0 to 1.
    """
    return float(learning_rate * exponential.final**done)


class Average:
    """A copy of a network in evaluation mode, whose weights are the exponential moving average of the network's.

    ``a <- decay a + (1 - decay) w`` after every step, from the first on; ``a`` starts as the initial weights. Buffers
    (statistics of batch normalisation) are those of the network itself.

    Attributes:
        network: The copy.

    Args:
        network: The network in training.
        decay: The decay; None keeps the weights themselves.
    """

    def __init__(self, network: Network, decay: float | None) -> None:
        """Copy the network."""
        self.network: Network = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
        self._decay = decay
        self._blend = get_ema_multi_avg_fn(decay) if decay is not None else None
        self._sources = list(network.parameters()), list(network.buffers())
        self._copies = list(self.network.parameters()), list(self.network.buffers())

    def update(self) -> None:
        """Take the weights after a step in."""
        if self._blend is not None:
            self._blend(self._copies[0], self._sources[0], None)

    def catch_up(self) -> None:
        """Copy what is not averaged; to be called before the copy is used."""
        pairs = list(zip(self._copies[1], self._sources[1], strict=True))
        if self._blend is None:
            pairs += zip(self._copies[0], self._sources[0], strict=True)
        with torch.no_grad():
            for mine, theirs in pairs:
                mine.copy_(theirs)
