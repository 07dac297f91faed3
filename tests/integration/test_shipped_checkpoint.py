"""The checkpoint in the package is the one its recipe makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlipbench.checkpoint import read_checkpoint
from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import DataLocation, open_split
from mlipbench.environments import Environments
from mlipbench.models.registry import card_names, load_card
from mlipbench.plan.training import TrainingPlace, plan_training
from mlipbench.recipes import load_recipe

SHIPPED = sorted(
    (name, dataset) for name in card_names() if load_card(name).trainer for dataset in load_card(name).checkpoints
)
MOST = 1_000_000  # bytes


def test_one_ships() -> None:
    assert ("leignn", "mini-slabs") in SHIPPED


@pytest.mark.parametrize(("model", "dataset"), SHIPPED)
def test_it_counts_as_trained(model: str, dataset: str) -> None:
    location = load_card(model).checkpoint_location(dataset)
    assert location is not None
    assert read_checkpoint(Path(location)).verdict.trained


@pytest.mark.parametrize(("model", "dataset"), SHIPPED)
def test_its_content_address_is_that_of_the_recipe_on_the_data(model: str, dataset: str, tmp_path: Path) -> None:
    location = load_card(model).checkpoint_location(dataset)
    assert location is not None
    record = read_checkpoint(Path(location))
    recipe, entry = load_recipe(record.recipe.recipe), load_entry(dataset)
    place = DataLocation(None, tmp_path)
    splits = {subset.split: open_split(entry, subset.split, place) for subset in (recipe.train, recipe.validation)}
    where = TrainingPlace(tmp_path, Environments(tmp_path).find("torch"), "cpu", 1)
    planned = plan_training(load_card(model), recipe, entry, splits, where)
    assert record.identity == planned.job.identity
    assert (Path(location) / "model.safetensors").stat().st_size < MOST


@pytest.mark.torch
@pytest.mark.parametrize(("model", "dataset"), SHIPPED)
def test_its_validation_error_is_what_its_record_says(model: str, dataset: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from mlipbench.adapters.nets import NetsAdapter
    from mlipbench.models.interface import LoadRequest, Property

    location = load_card(model).checkpoint_location(dataset)
    assert location is not None
    record = read_checkpoint(Path(location))
    split = open_split(load_entry(dataset), record.recipe.validation.split, DataLocation(None, tmp_path))
    chosen = record.recipe.validation.indices(split.clusters)
    adapter = NetsAdapter.load(LoadRequest(checkpoint=location, dtype="float32"))
    differences, energies = [], []
    for index in chosen.tolist():
        structure, labels = split.structures(index, index + 1), split.labels(index, index + 1)
        found = adapter.predict(structure, frozenset({Property.ENERGY, Property.FORCES}))
        assert found.forces is not None
        errors = np.abs(found.forces - labels.forces)
        differences.append(errors if structure.fixed is None else errors[~structure.fixed])
        energies.append(abs(found.energy[0] - labels.energy[0]))
    best = next(candidate for candidate in record.candidates if candidate.learning_rate == record.learning_rate)
    assert np.concatenate(differences).mean() == pytest.approx(best.forces_mae, rel=1e-4)
    assert np.mean(energies) == pytest.approx(best.energy_mae, rel=1e-4)
