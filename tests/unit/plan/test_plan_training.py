from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from checkpoint_files import write_checkpoint
from plan_world import RECIPE, crystals, planned

from mlipbench.checkpoint import PICKLED_FILE, RECORD_FILE, WEIGHTS_FILE
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import EnergyReference
from mlipbench.recipe import Trainer
from mlipbench.status import Status

if TYPE_CHECKING:
    from plan_world import World

else:
    World = Any


def test_a_training_is_planned_and_described(world: World) -> None:
    training = planned(world)
    assert not training.done
    data = training.job.data
    assert (data.n_train, data.n_validation, data.mean_atoms) == (4, 2, 2.0)
    assert training.elements == {8, 12}
    assert training.folder == world.folder / "cache" / "checkpoints" / f"leignn-mine-{training.job.identity[:16]}"
    text = "recipe mine on toy/train (4 structures), 2 learning rates, 100 steps each: to be trained"
    assert training.describe().startswith(text)


CHANGES: dict[str, dict[str, Any]] = {
    "recipe": {"steps": 101},
    "version": {"version": 2},
    "network": {"model": "painn"},
    "changed network": {"changes": {"hidden": 8}},
    "seed": {"seed": 1},
    "slices": {"train": {"split": "train", "slice": [0, 3, None]}},
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_content_address_and_the_plan_change_with(world: World, what: str) -> None:
    before, plan = planned(world).job.identity, world.plan().runs[0].sha256
    changes = dict(CHANGES[what])
    after = planned(world, changes.pop("model", "leignn"), **changes)
    assert after.job.identity != before
    assert world.plan().runs[0].sha256 != plan


def test_the_content_address_changes_with_the_data_and_not_with_words(world: World) -> None:
    before = planned(world).job.identity
    assert planned(world, description="other words").job.identity == before
    world.write("train", crystals(6, seed=99))
    assert planned(world).job.identity != before


def test_the_seed_of_the_run_is_counted_on_from_the_recipes(world: World) -> None:
    world.suite["seeds"] = [0, 3]
    planned(world, seed=5)
    assert [run.trainings["toy"].job.recipe.seed for run in world.plan().runs] == [5, 8]


def test_a_checkpoint_that_is_there_is_used(world: World) -> None:
    training = planned(world)
    write_checkpoint(training.folder, identity=training.job.identity)
    found = planned(world)
    assert found.done
    assert found.describe().endswith(f"trained, in {training.folder}")


def test_the_estimate_is_scaled_from_earlier_trainings(world: World) -> None:
    first = planned(world)
    # 2 x 100 steps of 2 structures of 2 atoms took 50 s, so 300 such steps take 75 s
    write_checkpoint(first.folder, identity=first.job.identity, job=first.job, seconds=(20.0, 30.0))
    second = planned(world, steps=300, learning_rates=[1e-3])
    assert second.seconds == pytest.approx(75.0)
    assert "about 75 s" in second.describe()
    assert planned(world, steps=300, precision="float64").seconds is None


def test_a_training_by_wall_time_takes_that_time(world: World) -> None:
    assert planned(world, steps=None, seconds=40.0).seconds == 80.0


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "overlap": (
        {"validation": {"split": "train", "slice": [3, None, None]}},
        r"recipe mine: train, validation: 1 of the validation structures are .* the first is 'train:3'",
    ),
    "empty": ({"train": {"split": "train", "slice": [9, None, None]}}, "takes nothing of the 6 structures of train"),
    "split": ({"train": {"split": "trian"}}, "no split 'trian'.*did you mean train"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_recipes_get_one_line(world: World, fault: str) -> None:
    changes, line = FAULTS[fault]
    with pytest.raises(ConfigError, match=line) as caught:
        planned(world, **changes)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_the_trainer_cannot_honour_is_refused_before_anything_starts(world: World) -> None:
    with pytest.raises(ConfigError, match=r"recipe mine: schedule\.kind: the trainer of MACE has no schedule cosine"):
        planned(world, "mace")


def test_a_training_by_a_package_runs_in_its_environment(world: World) -> None:
    changes = {"loss": {"kind": "mse", "energy": 1.0, "forces": 1.0}, "schedule": {"kind": "exponential"}}
    training = planned(world, "mace", **changes)
    assert (training.environment.name, training.job.trainer) == ("mace", Trainer.MACE)
    ours = planned(world, "painn", **changes)
    assert (ours.environment.name, ours.job.trainer) == ("torch", Trainer.NETS)
    assert world.plan().runs[0].card.declared().energy_reference is EnergyReference.FITTED


def test_a_pickled_checkpoint_from_elsewhere_needs_consent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIPBENCH_CACHE", str(world.folder / "elsewhere"))
    folder = world.folder / "given"
    record = write_checkpoint(folder, identity="0" * 64, net="mace", trainer="mace", weights_file=PICKLED_FILE)
    (folder / WEIGHTS_FILE).rename(folder / PICKLED_FILE)
    with pytest.raises(PrerequisiteError, match=r"model\.pt: the checkpoint is a pickle, .* --trust") as caught:
        world.plan(models=(str(folder),), trust=False)
    assert caught.value.exit_code == 4
    run = world.plan(models=(str(folder),)).runs[0]
    assert run.card.name == record.name
    assert run.card.training_data == ("toy",)
    assert world.plan(models=(str(folder),), trust=False).runs  # consent is remembered


def test_overlap_between_splits_is_found_by_content(world: World) -> None:
    frames = crystals(5, seed=41)
    world.write("train", frames)
    world.write("val", [*crystals(2, seed=42), frames[3]])
    with pytest.raises(ConfigError, match="1 of the validation structures are training structures too"):
        planned(world, train={"split": "train"}, validation={"split": "val"})


def with_foreign_elements(world: World) -> None:
    """Let a suite train on MgO, fit a shift there, and evaluate MgO in ``refs`` and, not applicable, MgS in ``val``."""
    world.write("val", crystals(3, seed=5, symbols="MgS"))
    (world.folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    world.suite["models"] = [{"name": "leignn", "recipe": "recipe.yaml"}]
    world.suite["datasets"]["toy"] |= {"splits": ["val", "refs"], "energy": [{"shift": "per_element"}]}


def test_elements_outside_the_training_structures_are_not_applicable(world: World) -> None:
    with_foreign_elements(world)
    run = world.plan().runs[0]
    assert {split.split: (split.status, split.reason) for split in run.splits} == {
        "train": (Status.OK, None),
        "refs": (Status.OK, None),
        "val": (Status.NOT_APPLICABLE, "the training structures hold no S"),
    }
    assert list(run.trainings) == ["toy"]


def test_nothing_is_trained_or_predicted_for_splits_that_are_not_applicable(world: World) -> None:
    with_foreign_elements(world)
    world.suite["datasets"]["toy"]["splits"] = ["val"]
    run = world.plan().runs[0]
    assert [(split.split, split.status) for split in run.splits] == [("val", Status.NOT_APPLICABLE)]
    assert {cell.reason for cell in run.cells} == {"the training structures hold no S"}
    assert run.trainings == {}


def test_a_network_without_recipe_or_checkpoint_is_not_applicable(world: World) -> None:
    world.suite["models"] = ["painn"]
    reasons = {split.reason for split in world.plan().runs[0].splits}
    assert reasons == {"the model has no checkpoint for toy, and the suite names no recipe to train it"}


def test_a_recipe_for_another_dataset_is_not_applicable(world: World) -> None:
    (world.folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "dataset": "mini-slabs"}))
    world.suite["models"] = [{"name": "leignn", "recipe": "recipe.yaml"}]
    assert {split.reason for split in world.plan().runs[0].splits} == {"the recipe mine is one for mini-slabs"}


def test_only_networks_take_recipes(world: World) -> None:
    world.suite["models"] = [{"name": "lj", "recipe": "quickstart"}]
    with pytest.raises(ConfigError, match="model 'lj' is not trained by recipes"):
        world.plan()


def test_a_checkpoint_folder_is_a_model(world: World) -> None:
    training = planned(world)
    write_checkpoint(training.folder, identity=training.job.identity, job=training.job)
    world.suite["models"] = ["lj"]
    run = world.plan(models=(str(training.folder),), trust=False).runs[0]
    assert run.model == "leignn-mine"
    assert run.card.checkpoint_location() == str(training.folder)
    assert {split.status for split in run.splits} == {Status.OK}
    world.write("val", crystals(3, seed=5, symbols="MgS"))
    reasons = {split.reason for split in world.plan(models=(str(training.folder),)).runs[0].splits}
    assert reasons == {"the model does not cover S"}


def test_a_damaged_checkpoint_gets_one_line(world: World) -> None:
    training = planned(world)
    write_checkpoint(training.folder, identity=training.job.identity)
    (training.folder / WEIGHTS_FILE).write_bytes(b"other")
    with pytest.raises(ConfigError, match=r"model\.safetensors.*the weights have sha256"):
        planned(world)
    record = json.loads((training.folder / RECORD_FILE).read_text())
    (training.folder / RECORD_FILE).write_text(json.dumps(record | {"parameters": "many"}))
    write_checkpoint(training.folder, identity="0" * 64)
    with pytest.raises(ConfigError, match="holds a checkpoint of another training"):
        planned(world)
