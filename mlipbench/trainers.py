"""What the trainers of other packages can honour of a recipe.

A recipe says what our own loop does. A package's trainer offers part of it, and sometimes under another definition; a
field that it cannot honour is refused before anything is started, never left out silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ConfigError
from mlipbench.recipe import Cosine, Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlipbench.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Offer:
    """What a package's trainer honours; the defaults are what the fewest can do.

    Attributes:
        name: The package, as in messages.
        losses: Kinds of the loss.
        schedules: Kinds of the schedule.
        warmup: Whether a cosine can begin with a warm-up.
        ema: Whether weights can be averaged.
        clip: Whether gradients can be clipped.
        early_stopping: Whether it can stop early.
        changes: Whether fields of a preset can be changed.
        precisions: Precisions it trains in.
    """

    name: str
    losses: tuple[str, ...]
    schedules: tuple[str, ...]
    warmup: bool = False
    ema: bool = False
    clip: bool = False
    early_stopping: bool = False
    changes: bool = True
    precisions: tuple[str, ...] = ("float32",)


OFFERS: Final[Mapping[Trainer, Offer]] = MappingProxyType(
    {
        Trainer.CHGNET: Offer("CHGNet", losses=("l1", "mse"), schedules=("cosine", "exponential"), changes=False),
        # its early stopping works in distributed training only, and its plateau goes by the loss
        Trainer.MACE: Offer(
            "MACE",
            losses=("l1", "mse"),
            schedules=("exponential",),
            ema=True,
            clip=True,
            precisions=("float32", "float64"),
        ),
        Trainer.FAIRCHEM_V1: Offer(
            "fairchem-core 1", losses=("l1", "mse"), schedules=("cosine", "exponential", "plateau"), ema=True, clip=True
        ),
        # its validations come with its epochs
        Trainer.NEQUIP: Offer(
            "NequIP",
            losses=("l1", "mse"),
            schedules=("cosine", "exponential"),
            ema=True,
            clip=True,
            precisions=("float32", "float64"),
        ),
        Trainer.DEEPMD: Offer(
            "DeePMD",
            losses=("l1", "mse"),
            schedules=("cosine", "exponential"),
            ema=True,
            clip=True,
            precisions=("float32", "float64"),
        ),
        # its squared errors cannot leave out atoms
        Trainer.FAIRCHEM: Offer("fairchem-core 2", losses=("l1",), schedules=("cosine",), ema=True, clip=True),
    }
)


def check_recipe(trainer: Trainer, recipe: Recipe) -> None:
    """Refuse a recipe with a field that a trainer cannot honour.

    Args:
        trainer: Who is to train.
        recipe: The recipe.

    Raises:
        ConfigError: There is such a field; it names the first.
    """
    if trainer is Trainer.NETS:
        return
    offer = OFFERS[trainer]
    for field, problem, remedy in _faults(offer, recipe):
        raise ConfigError(
            f"the trainer of {offer.name} {problem}", where=f"recipe {recipe.recipe}: {field}", remedy=remedy
        )


def _faults(offer: Offer, recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Yield the field, what the trainer cannot do, and what to write instead."""
    leave = "leave it out"
    if recipe.seconds is not None:
        yield "seconds", "counts steps and knows no wall time", "give steps"
    if recipe.loss.kind not in offer.losses:
        yield "loss.kind", f"has no loss of kind {recipe.loss.kind}", f"give {' or '.join(offer.losses)}"
    schedule = recipe.schedule
    if schedule.kind not in offer.schedules:
        yield "schedule.kind", f"has no schedule {schedule.kind}", f"give {' or '.join(offer.schedules)}"
    elif isinstance(schedule, Cosine) and schedule.warmup and not offer.warmup:
        yield "schedule.warmup", "has no warm-up", leave
    for field, given, offered, problem in (
        ("ema_decay", recipe.ema_decay, offer.ema, "averages no weights"),
        ("clip", recipe.clip, offer.clip, "does not clip gradients"),
        ("early_stopping", recipe.early_stopping, offer.early_stopping, "does not stop early"),
    ):
        if given is not None and not offered:
            yield field, problem, leave
    if recipe.changes and not offer.changes:
        yield "changes", "starts from pretrained weights, whose network is what it is", leave
    if recipe.precision not in offer.precisions:
        yield "precision", f"does not work in {recipe.precision}", f"give {offer.precisions[0]}"
