from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from checkpoint_files import write_checkpoint
from plan_world import crystals, planned

from mlipbench.status import Training

if TYPE_CHECKING:
    from pathlib import Path

    from plan_world import World

    from mlipbench.plan import Plan
    from mlipbench.plan.exposure import Exposure
else:
    World = Any


def seen(plan: Plan, split: str = "val") -> Exposure:
    found = next(one.exposure for one in plan.runs[0].splits if one.split == split)
    assert found is not None
    cells = {(cell.relation, cell.training) for cell in plan.runs[0].cells if cell.split == split}
    assert cells == {(found.relation, found.note)}
    return found


def checkpoint(world: World, model: str = "leignn", **data: Any) -> Path:
    """Return the folder of a checkpoint that was trained on the world's data, its record changed."""
    training = planned(world, model, **RECIPES.get(model, {}))
    job = training.job
    write_checkpoint(
        world.folder / "given",
        identity=job.identity,
        job=job.model_copy(update={"data": job.data.model_copy(update=data)}),
        trainer=job.trainer,
    )
    world.suite["models"] = ["lj"]
    return world.folder / "given"


RECIPES: dict[str, dict[str, Any]] = {
    "chgnet-finetuned": {"loss": {"kind": "mse", "energy": 1.0, "forces": 1.0}, "preset": "pretrained"}
}


def test_fitted_models_are_trained_on_the_fit_split(world: World) -> None:
    found = seen(world.plan())
    assert (found.relation, found.note) == (Training.SPLIT, "fitted on toy/train")
    assert (found.n_trained, found.n_validated) == (0, None)


def test_a_model_fitted_on_the_split_itself_is_contaminated(world: World) -> None:
    world.suite["datasets"]["toy"]["splits"] = ["train"]
    found = seen(world.plan(), "train")
    assert (found.relation, found.n_trained) == (Training.CONTAMINATED, 6)
    assert found.note == "fitted on toy/train; 6 of 6 structures also stand there"


@pytest.mark.parametrize(("size", "relation"), [(100, Training.SPLIT), (99, Training.CONTAMINATED)])
def test_one_structure_in_a_hundred_is_a_note_and_more_are_contamination(
    world: World, size: int, relation: Training
) -> None:
    frames = crystals(size, seed=1)
    world.write("val", frames)
    world.write("train", [*crystals(4, seed=2), frames[17]])
    found = seen(world.plan())
    assert (found.relation, found.n_trained) == (relation, 1)
    assert found.note == f"fitted on toy/train; 1 of {size} structures also stand there"


def test_only_the_selected_structures_are_counted(world: World) -> None:
    frames = crystals(5, seed=1)
    world.write("val", frames)
    world.write("train", [*crystals(4, seed=2), frames[1], frames[3]])
    assert seen(world.plan()).n_trained == 2
    assert seen(world.plan(limit=3)).n_trained == 1  # of 1, 2 and 4


def test_a_recipe_trains_on_the_split(world: World) -> None:
    planned(world)
    found = seen(world.plan())
    assert (found.relation, found.note, found.n_trained, found.n_validated) == (Training.SPLIT, None, 0, 0)


def test_structures_a_recipe_trains_and_validates_on_are_counted_apart(world: World) -> None:
    frames = crystals(200, seed=1)
    world.write("val", frames)
    # the first four are trained on, the others validate
    world.write("train", [frames[0], frames[1], *crystals(2, seed=2), *frames[5:8]])
    planned(world)
    found = seen(world.plan())
    assert (found.relation, found.n_trained, found.n_validated) == (Training.SPLIT, 2, 3)
    assert found.note == (
        "trained on toy/train; 2 of 200 structures also stand there; 3 of 200 structures chose among its weights"
    )


def test_structures_that_only_chose_among_weights_are_no_contamination(world: World) -> None:
    planned(world, train={"split": "train"}, validation={"split": "val"})
    found = seen(world.plan())
    assert (found.relation, found.n_trained, found.n_validated) == (Training.SPLIT, 0, 5)


def test_a_checkpoint_tells_what_it_was_trained_on(world: World) -> None:
    folder = checkpoint(world)
    found = seen(world.plan(models=(str(folder),)))
    assert (found.relation, found.n_trained, found.n_validated) == (Training.SPLIT, 0, 0)


def test_a_checkpoint_whose_training_structures_are_not_at_hand_says_so(world: World) -> None:
    folder = checkpoint(world)
    world.write("train", crystals(6, seed=99))
    found = seen(world.plan(models=(str(folder),)))
    assert (found.relation, found.n_trained) == (Training.SPLIT, None)
    said = (
        "trained on toy/train, which is not here or has changed: structures that stand in both could not be looked up"
    )
    assert found.note == said
    (world.folder / "data/train.xyz").unlink()
    assert seen(world.plan(models=(str(folder),))).note == found.note


@pytest.mark.parametrize(("level", "relation"), [("PBE/PBE+U", Training.ZERO_SHOT), ("wB97X", Training.OTHER_LEVEL)])
def test_a_checkpoint_of_another_dataset_is_zero_shot(world: World, level: str, relation: Training) -> None:
    folder = checkpoint(world, dataset="other", level_of_theory=level)
    assert seen(world.plan(models=(str(folder),))).relation is relation


def test_a_checkpoint_trained_on_some_of_the_same_collection_is_unknown(world: World) -> None:
    world.entry["drawn_from"] = ["MPtrj"]
    folder = checkpoint(world, dataset="other", drawn_from=("MPtrj",))
    found = seen(world.plan(models=(str(folder),)))
    assert found.relation is Training.UNKNOWN
    assert found.note == "these structures may belong to MPtrj, which the model was trained on"


def test_foreign_weights_trained_further_are_fine_tuned(world: World) -> None:
    planned(world, "chgnet-finetuned", **RECIPES["chgnet-finetuned"])
    assert seen(world.plan()).relation is Training.FINE_TUNED
    world.entry["drawn_from"] = ["MPtrj"]
    assert seen(world.plan()).relation is Training.CONTAMINATED


CARDS: dict[str, tuple[list[str] | None, str | None, Training]] = {
    "other data of the same level": (["MPtrj"], "PBE/PBE+U", Training.ZERO_SHOT),
    "other data with corrected energies": (["MPtrj"], "PBE/PBE+U, MP2020-corrected", Training.ZERO_SHOT),
    "other data of another level": (["SPICE"], "wB97M-D3(BJ)/def2-TZVPPD", Training.OTHER_LEVEL),
    "other data of no known level": (["SPICE"], None, Training.UNKNOWN),
    "this dataset": (["toy"], "PBE/PBE+U", Training.SPLIT),
    "no structures": ([], None, Training.CLASSICAL),
    "nobody knows what": (None, "PBE/PBE+U", Training.UNKNOWN),
}


@pytest.mark.parametrize("what", CARDS)
def test_a_card_that_names(world: World, what: str) -> None:
    data, level, relation = CARDS[what]
    world.use_card()
    world.card["training_data"] = data
    world.card["capabilities"]["level_of_theory"] = level
    assert seen(world.plan()).relation is relation


def test_the_training_set_a_split_is_drawn_from_contaminates_that_split_alone(world: World) -> None:
    world.use_card()
    world.card["training_data"] = ["Big"]
    world.entry["splits"]["train"]["drawn_from"] = ["Big"]
    world.suite["datasets"]["toy"]["splits"] = ["train", "val"]
    plan = world.plan()
    assert seen(plan, "train").relation is Training.CONTAMINATED
    assert seen(plan, "train").note == "these structures are drawn from Big, which the model was trained on"
    assert (seen(plan).relation, seen(plan).note) == (Training.SPLIT, None)


def test_structures_that_may_be_part_of_the_training_data_are_unknown(world: World) -> None:
    world.use_card()
    world.card["training_data"] = ["OC20"]
    world.entry["perhaps_from"] = ["OC20", "OC22"]
    found = seen(world.plan())
    assert (found.relation, found.note) == (
        Training.UNKNOWN, "these structures may belong to OC20, which the model was trained on"
    )  # fmt: skip


def test_a_model_without_weights_is_unknown(world: World) -> None:
    world.suite["models"] = ["painn"]
    assert seen(world.plan()).relation is Training.UNKNOWN


def test_the_plan_as_json_says_what_a_model_has_seen(world: World) -> None:
    (split,) = world.plan().as_dict()["runs"][0]["splits"]
    assert (split["relation"], split["n_in_training"], split["n_in_validation"]) == ("trained-on-split", 0, None)
