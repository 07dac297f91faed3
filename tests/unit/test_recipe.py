from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from mlipbench.errors import ConfigError
from mlipbench.recipe import Recipe, Subset
from mlipbench.recipes import load_recipe, recipe_names

if TYPE_CHECKING:
    from pathlib import Path

FIELDS: dict[str, Any] = {
    "recipe": "mine",
    "version": 1,
    "preset": "small",
    "train": {"split": "train"},
    "validation": {"split": "val"},
    "energy_reference": "mean",
    "loss": {"energy": 1.0, "forces": 50.0},
    "learning_rates": [1e-3],
    "schedule": {"kind": "plateau"},
    "batch": 2,
    "steps": 100,
    "evaluate_every": 10,
}


def test_a_slice_of_structures() -> None:
    clusters = np.array([0, 0, 1, 2, 2, 2])
    assert Subset(split="train").indices(clusters).tolist() == [0, 1, 2, 3, 4, 5]
    assert Subset(split="train", slice=(1, None, 2)).indices(clusters).tolist() == [1, 3, 5]


def test_a_slice_of_clusters_takes_all_their_structures() -> None:
    clusters = np.array([0, 0, 1, 2, 2, 2])
    first = Subset(split="train", slice=(0, 2, None), whole_clusters=True)
    assert first.indices(clusters).tolist() == [0, 1, 2]
    assert Subset(split="train", slice=(2, None, None), whole_clusters=True).indices(clusters).tolist() == [3, 4, 5]


def test_shares_of_clusters_partition_the_split() -> None:
    clusters = np.repeat(np.arange(7), 2)
    train, validation = (
        Subset(split="train", shuffle_seed=1, share=share, whole_clusters=True).indices(clusters)
        for share in ((0, 0.8), (0.8, 1))
    )
    assert sorted([*train, *validation]) == list(range(14))
    assert len(train) == 2 * 5  # five of seven clusters: 5.6, rounded down
    assert not set(clusters[train]) & set(clusters[validation])


@pytest.mark.parametrize("whole", [False, True])
def test_shuffled_slices_of_one_seed_partition_the_split(whole: bool) -> None:
    clusters = np.repeat(np.arange(40), 3)
    n = 40 if whole else 120
    parts = [
        Subset(split="train", shuffle_seed=3, slice=limits, whole_clusters=whole).indices(clusters)
        for limits in ((None, 10, None), (10, n, None))
    ]
    assert sorted(np.concatenate(parts).tolist()) == list(range(120))
    assert len(parts[0]) == (30 if whole else 10)
    assert parts[0].tolist() != list(range(len(parts[0])))
    other = Subset(split="train", shuffle_seed=4, slice=(None, 10, None), whole_clusters=whole).indices(clusters)
    assert other.tolist() != parts[0].tolist()


def test_an_empty_split() -> None:
    assert Subset(split="train", whole_clusters=True).indices(np.zeros(0, dtype=np.int64)).tolist() == []


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "slice and share": (
        {"train": {"split": "train", "slice": [0, 9, None], "share": [0, 0.5]}},
        "either slice or share",
    ),
    "both lengths": ({"seconds": 5.0}, "either steps or seconds"),
    "no length": ({"steps": None}, "either steps or seconds"),
    "no weight": ({"loss": {"energy": 0, "forces": 0}}, "cannot both have weight zero"),
    "step zero": ({"train": {"split": "train", "slice": [0, 5, 0]}}, "the step of `slice` is zero"),
    "rate twice": ({"learning_rates": [1e-3, 1e-3]}, "a value is listed twice"),
    "negative rate": ({"learning_rates": [-1.0]}, "greater than 0"),
    "unknown schedule": ({"schedule": {"kind": "steps"}}, "schedule"),
    "unknown loss": ({"loss": {"kind": "huber", "energy": 1, "forces": 1}}, "loss"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault: str) -> None:
    changes, text = FAULTS[fault]
    with pytest.raises(ValidationError, match=text):
        Recipe.model_validate(FIELDS | changes)


def test_a_recipe_file_with_a_misspelt_field(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**FIELDS, "learning_rate": 1e-3}))
    with pytest.raises(ConfigError, match=r"mine\.yaml.*learning_rate.*did you mean learning_rates") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_lists_close_names() -> None:
    with pytest.raises(ConfigError, match="unknown recipe 'rmd71'; did you mean rmd17"):
        load_recipe("rmd71")


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load_under_their_own_names(name: str) -> None:
    assert load_recipe(name).recipe == name


def test_recipes_for_cost_differ_in_the_network_and_what_its_trainer_lacks() -> None:
    found = [load_recipe(name) for name in recipe_names() if name.startswith("cost-")]
    assert len(found) == 5
    own = {"recipe", "description", "model", "preset", "schedule"}
    first = found[0]
    assert all(recipe.model_dump(exclude=own) == first.model_dump(exclude=own) for recipe in found)
    # one epoch of full batches: trainers that count epochs do as many steps as the others
    n_train = 24  # of mini-systems, whose files tests/unit/datasets/test_mini_files.py looks at
    assert first.batch * first.steps == len(first.train.indices(np.arange(n_train)))
