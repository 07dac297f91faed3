"""What trainers of other packages refuse of a recipe."""

from __future__ import annotations

from typing import Any

import pytest

from mlipbench.errors import ConfigError
from mlipbench.models.registry import load_card
from mlipbench.recipe import Recipe, Trainer
from mlipbench.recipes import load_recipe, recipe_names
from mlipbench.trainers import OFFERS, check_recipe

PLAIN: dict[str, Any] = {
    "recipe": "mine",
    "version": 1,
    "preset": "small",
    "train": {"split": "train"},
    "validation": {"split": "val"},
    "energy_reference": "mean",
    "loss": {"kind": "mse", "energy": 1.0, "forces": 50.0},
    "learning_rates": [1e-3],
    "schedule": {"kind": "exponential"},
    "batch": 2,
    "steps": 100,
    "evaluate_every": 10,
}
L1 = {"kind": "l1", "energy": 1.0, "forces": 1.0}
REFUSED: dict[tuple[Trainer, str], dict[str, Any]] = {
    (Trainer.CHGNET, "seconds"): {"steps": None, "seconds": 5.0},
    (Trainer.CHGNET, "schedule.kind"): {"schedule": {"kind": "plateau"}},
    (Trainer.CHGNET, "schedule.warmup"): {"schedule": {"kind": "cosine", "warmup": 0.1}},
    (Trainer.CHGNET, "ema_decay"): {"ema_decay": 0.9},
    (Trainer.CHGNET, "clip"): {"clip": 1.0},
    (Trainer.CHGNET, "early_stopping"): {"early_stopping": 3},
    (Trainer.CHGNET, "changes"): {"changes": {"n_conv": 2}},
    (Trainer.CHGNET, "precision"): {"precision": "float64"},
    (Trainer.MACE, "seconds"): {"steps": None, "seconds": 5.0},
    (Trainer.MACE, "schedule.kind"): {"schedule": {"kind": "cosine"}},
    (Trainer.MACE, "early_stopping"): {"early_stopping": 3},
}
REFUSED |= {
    (Trainer.NEQUIP, "seconds"): {"steps": None, "seconds": 5.0},
    (Trainer.NEQUIP, "schedule.kind"): {"schedule": {"kind": "plateau"}},
    (Trainer.NEQUIP, "schedule.warmup"): {"schedule": {"kind": "cosine", "warmup": 0.1}},
    (Trainer.NEQUIP, "early_stopping"): {"early_stopping": 3},
    (Trainer.DEEPMD, "seconds"): {"steps": None, "seconds": 5.0},
    (Trainer.DEEPMD, "schedule.kind"): {"schedule": {"kind": "plateau"}},
    (Trainer.DEEPMD, "schedule.warmup"): {"schedule": {"kind": "cosine", "warmup": 0.1}},
    (Trainer.DEEPMD, "early_stopping"): {"early_stopping": 3},
    (Trainer.FAIRCHEM_V1, "seconds"): {"steps": None, "seconds": 5.0},
    (Trainer.FAIRCHEM_V1, "schedule.warmup"): {"schedule": {"kind": "cosine", "warmup": 0.1}},
    (Trainer.FAIRCHEM_V1, "early_stopping"): {"early_stopping": 3},
    (Trainer.FAIRCHEM_V1, "precision"): {"precision": "float64"},
    (Trainer.FAIRCHEM, "loss.kind"): {},
    (Trainer.FAIRCHEM, "schedule.kind"): {"loss": L1, "schedule": {"kind": "plateau"}},
    (Trainer.FAIRCHEM, "schedule.warmup"): {"loss": L1, "schedule": {"kind": "cosine", "warmup": 0.1}},
    (Trainer.FAIRCHEM, "early_stopping"): {"loss": L1, "schedule": {"kind": "cosine"}, "early_stopping": 3},
}
HONOURED: dict[str, tuple[Trainer, dict[str, Any]]] = {
    "l1 and a cosine by CHGNet": (Trainer.CHGNET, {"loss": L1, "schedule": {"kind": "cosine", "final": 0.1}}),
    "all that MACE has": (
        Trainer.MACE,
        {
            "schedule": {"kind": "exponential", "final": 0.1},
            "ema_decay": 0.9,
            "clip": 1.0,
            "changes": {"channels": 8},
            "precision": "float64",
            "weight_decay": 1e-6,
        },
    ),
    "all that NequIP has": (
        Trainer.NEQUIP,
        {
            "schedule": {"kind": "cosine", "final": 0.1},
            "ema_decay": 0.9,
            "clip": 1.0,
            "changes": {"l_max": 2},
            "precision": "float64",
        },
    ),
    "all that DeePMD has": (
        Trainer.DEEPMD,
        {
            "loss": L1,
            "schedule": {"kind": "cosine", "final": 0.1},
            "clip": 1.0,
            "changes": {"axis_neuron": 4},
            "ema_decay": 0.9,
            "precision": "float64",
            "weight_decay": 1e-6,
        },
    ),
    "all that fairchem-core 1 has": (
        Trainer.FAIRCHEM_V1,
        {"loss": L1, "schedule": {"kind": "plateau"}, "ema_decay": 0.9, "clip": 1.0, "changes": {"num_blocks": 1}},
    ),
    "all that fairchem-core 2 has": (
        Trainer.FAIRCHEM,
        {"loss": L1, "schedule": {"kind": "cosine"}, "ema_decay": 0.9, "clip": 1.0, "changes": {"num_layers": 1}},
    ),
    "everything by our own loop": (
        Trainer.NETS,
        {"steps": None, "seconds": 5.0, "early_stopping": 3, "ema_decay": 0.9, "schedule": {"kind": "plateau"}},
    ),
}


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate(PLAIN | changes)


@pytest.mark.parametrize(("trainer", "field"), REFUSED)
def test_a_field_that_cannot_be_honoured_is_named(trainer: Trainer, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_recipe(trainer, recipe(**REFUSED[trainer, field]))
    line = str(caught.value)
    assert line.startswith(f"recipe mine: {field}: the trainer of {OFFERS[trainer].name} ")
    assert "\n" not in line


@pytest.mark.parametrize("case", HONOURED)
def test_what_a_trainer_has_is_accepted(case: str) -> None:
    trainer, changes = HONOURED[case]
    check_recipe(trainer, recipe(**changes))


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_can_be_honoured_by_their_models(name: str) -> None:
    shipped = load_recipe(name)
    if shipped.model is not None:
        trainer = load_card(shipped.model).trainer
        assert trainer is not None
        check_recipe(trainer, shipped)


@pytest.mark.parametrize("trainer", OFFERS)
def test_a_plain_recipe_is_accepted_by_all(trainer: Trainer) -> None:
    offer = OFFERS[trainer]
    check_recipe(trainer, recipe(loss={**L1, "kind": offer.losses[0]}, schedule={"kind": offer.schedules[0]}))
