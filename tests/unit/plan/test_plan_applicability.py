from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlipbench.errors import ConfigError
from mlipbench.status import Role, Status, Task

if TYPE_CHECKING:
    from plan_world import World

    from mlipbench.plan import Plan, PlannedCell
else:
    World = Any

ENERGY = "energy_mae"


def cell(plan: Plan, metric: str, split: str = "val", run: int = 0) -> PlannedCell:
    (found,) = [one for one in plan.runs[run].cells if (one.metric, one.split) == (metric, split)]
    return found


def capabilities(world: World, **changes: Any) -> None:
    world.use_card()
    world.card["capabilities"] |= changes


def test_equal_reference_and_level_are_compared_as_they_are(world: World) -> None:
    world.use_card()
    found = cell(world.plan(), ENERGY)
    assert (found.status, found.reason, found.conversion) == (Status.OK, None, None)


def test_other_reference_is_refused_with_the_reason_and_forces_still_count(world: World) -> None:
    capabilities(world, energy_reference="adsorption")
    plan = world.plan()
    refused = cell(plan, ENERGY)
    assert refused.status is Status.NOT_APPLICABLE
    assert refused.reason == "the model's energies are adsorption, the labels' total; the suite declares no conversion"
    assert cell(plan, "energy_forces_within_threshold").status is Status.NOT_APPLICABLE
    assert cell(plan, "forces_mae").status is Status.OK


def test_two_arbitrary_references_are_not_the_same(world: World) -> None:
    capabilities(world, energy_reference="arbitrary")
    world.entry["energy_reference"] = "arbitrary"
    assert cell(world.plan(), ENERGY).status is Status.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("level", "words"),
    [("PBE/PBE+U, MP2020-corrected", "PBE/PBE+U, MP2020-corrected"), (None, "no level of theory of their own")],
)
def test_other_level_of_theory_is_refused_with_the_reason(world: World, level: str | None, words: str) -> None:
    capabilities(world, level_of_theory=level)
    found = cell(world.plan(), ENERGY)
    assert found.status is Status.NOT_APPLICABLE
    assert found.reason is not None
    assert found.reason.startswith(f"the model's energies are at {words}, the labels' at PBE/PBE+U; ")


def test_shift_makes_any_reference_comparable(world: World) -> None:
    capabilities(world, energy_reference="arbitrary", level_of_theory=None)
    world.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    plan = world.plan()
    found = cell(plan, ENERGY)
    assert (found.status, found.conversion) == (Status.OK, "per-element shift fitted on train")
    assert {split.split: split.role for split in plan.runs[0].splits} == {"train": Role.SHIFT, "val": Role.EVALUATE}


def test_shift_on_the_very_split_is_refused_for_energies_only(world: World) -> None:
    capabilities(world, energy_reference="arbitrary")
    world.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element", "fit": "val"}]
    plan = world.plan()
    assert cell(plan, ENERGY).reason == "the energy shift is fitted on this very split"
    assert cell(plan, "forces_mae").status is Status.OK


def test_shift_without_a_split_to_fit_on_is_refused(world: World) -> None:
    world.use_card()
    del world.entry["fit_split"]
    world.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    assert cell(world.plan(), ENERGY).reason == "the dataset names no split to fit the energy shift on"


def test_shift_that_cannot_be_fitted_is_refused_before_anything_runs(world: World) -> None:
    from plan_world import crystals

    capabilities(world, elements="O, Mg")
    world.write("train", crystals(3, seed=9, symbols="CuO"))
    world.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    found = cell(world.plan(), ENERGY)
    assert found.status is Status.NOT_APPLICABLE
    assert found.reason == "the energy shift cannot be fitted: the model does not cover Cu"


def test_split_that_no_wanted_metric_uses_is_not_predicted(world: World) -> None:
    world.use_card()
    world.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    world.suite["tasks"]["s2ef"]["metrics"] = ["forces_mae"]
    assert [split.split for split in world.plan().runs[0].splits] == ["val"]


def test_correction_brings_labels_to_the_model_s_level(world: World) -> None:
    pytest.importorskip("pymatgen", reason="pymatgen is not installed")
    capabilities(world, level_of_theory="PBE/PBE+U, MP2020-corrected")
    world.suite["datasets"]["toy"]["energy"] = [{"correction": "mp2020"}]
    found = cell(world.plan(), ENERGY)
    assert (found.status, found.conversion) == (Status.OK, "mp2020 correction added to the labels")


def test_correction_without_pymatgen_is_missing_before_anything_runs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: (name != "pymatgen" and real(name, *rest)) or None
    )
    world.use_card()
    world.suite["datasets"]["toy"]["energy"] = [{"correction": "mp2020"}]
    (line,) = world.plan().runs[0].missing
    assert "pymatgen" in line
    assert "pip install" in line


def test_correction_of_labels_at_another_level_is_refused(world: World) -> None:
    world.use_card()
    world.entry["level_of_theory"] = "RPBE"
    world.suite["datasets"]["toy"]["energy"] = [{"correction": "mp2020"}]
    assert cell(world.plan(), ENERGY).reason == "the mp2020 correction is not defined for labels at RPBE"


def test_uncorrected_model_on_corrected_labels_is_refused(world: World) -> None:
    world.use_card()
    world.suite["datasets"]["toy"]["energy"] = [{"correction": "mp2020"}]
    reason = cell(world.plan(), ENERGY).reason
    assert reason is not None
    assert reason.startswith("the model's energies are at PBE/PBE+U, the labels' at PBE/PBE+U, MP2020-corrected")


def test_fitted_model_has_the_labels_reference(world: World) -> None:
    plan = world.plan()
    assert cell(plan, ENERGY).status is Status.OK
    assert plan.runs[0].fits == {"toy": "train"}


def test_fitted_model_on_corrected_labels_is_refused(world: World) -> None:
    world.suite["datasets"]["toy"]["energy"] = [{"correction": "mp2020"}]
    assert (
        cell(world.plan(), ENERGY).reason
        == "the model is fitted to the labels as they are, and the suite corrects them"
    )


def test_fitted_model_without_a_split_to_fit_on_is_refused(world: World) -> None:
    del world.entry["fit_split"]
    plan = world.plan()
    assert cell(plan, "forces_mae").reason == "the dataset names no split to fit the model on"
    assert plan.runs[0].splits[0].status is Status.NOT_APPLICABLE
    assert plan.runs[0].splits[0].n_batches == 0


def test_conversion_is_for_the_models_it_names(world: World) -> None:
    world.suite["models"] = ["emt", "lj"]
    world.suite["datasets"]["toy"]["energy"] = [{"models": ["emt"], "shift": "per_element"}]
    plan = world.plan()
    assert plan.runs[0].routes["toy"].shift is not None
    assert plan.runs[1].routes["toy"].shift is None


@pytest.mark.parametrize(
    ("symbols", "pbc", "changes", "reason"),
    [
        ("CuO", True, {"elements": "H, O"}, "the model does not cover Cu"),
        ("MgO", True, {"pbc": False}, "the model takes no periodic structures"),
        ("MgO", False, {"molecules": False}, "the model takes periodic structures only"),
        ("MgO", False, {"needs": ["cell"]}, "the model needs a cell, and the split holds molecules"),
        ("MgO", True, {"needs": ["charge"]}, "the model needs charge, which the split does not hold"),
        ("MgO", True, {"needs": ["tags"]}, "the model needs tags, which the split does not hold"),
    ],
)
def test_split_the_model_does_not_cover_is_refused(
    world: World, symbols: str, reason: str, changes: dict[str, Any], *, pbc: bool
) -> None:
    from plan_world import crystals

    capabilities(world, **changes)
    world.write("val", crystals(3, seed=1, symbols=symbols, pbc=pbc))
    run = world.plan().runs[0]
    assert [(split.status, split.reason) for split in run.splits] == [(Status.NOT_APPLICABLE, reason)]
    assert {(one.status, one.reason) for one in run.cells} == {(Status.NOT_APPLICABLE, reason)}


def test_labels_without_forces_offer_no_force_metric(world: World) -> None:
    from plan_world import crystals

    world.use_card()
    world.entry["keys"]["forces"] = None
    for split in ("val", "train"):
        world.write(split, crystals(3, seed=1, forces=False))
    assert {one.metric for one in world.plan().runs[0].cells} == {
        "energy_mae",
        "energy_rmse",
        "energy_per_atom_mae",
        "energy_per_atom_rmse",
    }
    world.suite["tasks"]["s2ef"]["metrics"] = ["forces_rmse"]
    assert cell(world.plan(), "forces_rmse").reason == "the labels hold no forces"


def test_stress_needs_labels_and_a_model_that_predicts_it(world: World) -> None:
    world.use_card()
    world.suite["tasks"]["s2ef"]["metrics"] = ["stress_mae"]
    assert cell(world.plan(), "stress_mae").reason == "the labels hold no stress"
    from plan_world import crystals

    frames = crystals(3, seed=1)
    for atoms in frames:
        atoms.calc.results["stress"] = np.arange(6.0)
    world.write("val", frames)
    world.entry["keys"]["stress"] = "stress"
    world.entry["units"]["stress"] = "eV/A^3"
    world.entry["splits"] = {"val": world.entry["splits"]["val"]}
    del world.entry["fit_split"]
    assert cell(world.plan(), "stress_mae").reason == "the model predicts no stress"
    world.card["capabilities"]["stress"] = True
    assert cell(world.plan(), "stress_mae").status is Status.OK


def test_adsorption_energies_need_references(world: World) -> None:
    world.use_card()
    metric = "adsorption_energy_mae_self"
    assert metric not in {one.metric for one in world.plan().runs[0].cells}
    world.suite["tasks"]["s2ef"]["metrics"] = [metric]
    assert cell(world.plan(), metric).reason == "the dataset ships no reference structures"


def test_adsorption_energies_of_any_reference_are_comparable(world: World) -> None:
    capabilities(world, energy_reference="arbitrary", level_of_theory=None)
    world.entry["references"] = {"split": "refs", "map": "refs.json"}
    (world.folder / "data/refs.json").write_text('{"systems": {}}')
    world.suite["tasks"]["s2ef"]["metrics"] = ["adsorption_energy_mae_self"]
    plan = world.plan()
    assert cell(plan, "adsorption_energy_mae_self").status is Status.OK
    assert {split.split: split.role for split in plan.runs[0].splits} == {"refs": Role.REFERENCE, "val": Role.EVALUATE}


def test_adsorption_energies_with_references_the_model_does_not_cover_are_refused(world: World) -> None:
    from plan_world import crystals

    capabilities(world, elements="O, Mg")
    world.write("refs", crystals(2, seed=1, symbols="CO"))
    world.entry["references"] = {"split": "refs", "map": "refs.json"}
    (world.folder / "data/refs.json").write_text('{"systems": {}}')
    found = cell(world.plan(), "adsorption_energy_mae_self")
    assert found.reason == "the references cannot be predicted: the model does not cover C"


def test_without_energies_there_is_no_energy_metric_and_nothing_to_fit_on(world: World) -> None:
    world.use_card()
    world.entry["keys"]["energy"] = None
    with pytest.raises(ConfigError, match=r"split 'train': what is fitted on or referred to needs `keys\.energy`"):
        world.plan()
    del world.entry["fit_split"]
    assert {one.metric for one in world.plan().runs[0].cells} == {
        "forces_mae",
        "forces_rmse",
        "forces_cosine_similarity",
        "forces_magnitude_error",
    }
    world.suite["tasks"]["s2ef"]["metrics"] = [ENERGY]
    assert cell(world.plan(), ENERGY).reason == "the labels hold no energy"


def relaxing(world: World, **parameters: Any) -> None:
    """Let the suite relax structures whose relaxed energy is known, and nothing else of their relaxed state."""
    world.use_card()
    world.suite["tasks"] = {"relaxation": parameters}
    world.entry["keys"]["relaxed_energy"] = "lowest"
    from plan_world import crystals

    for split in ("train", "val"):
        frames = crystals(4, seed=3)
        for atoms in frames:
            atoms.info["lowest"] = -2.0
        world.write(split, frames)


def test_relaxations_offer_what_the_labels_allow_and_what_needs_none(world: World) -> None:
    relaxing(world)
    plan = world.plan()
    assert {one.metric for one in plan.runs[0].cells} == {
        "energy_mae",
        "energy_mse",
        "energy_within_threshold",
        "converged",
        "steps",
    }
    assert {one.status for one in plan.runs[0].cells} == {Status.OK}
    assert [(split.task, split.split) for split in plan.runs[0].splits] == [(Task.RELAXATION, "val")]
    world.suite["tasks"]["relaxation"]["metrics"] = ["positions_mae", "adsorbate_height"]
    assert cell(world.plan(), "positions_mae").reason == "the labels hold no relaxed positions"
    assert cell(world.plan(), "adsorbate_height").reason == "the structures hold no tags"


def test_relaxed_energies_of_another_reference_are_not_comparable(world: World) -> None:
    relaxing(world)
    world.card["capabilities"]["energy_reference"] = "adsorption"
    for metric in ("energy_mae", "energy_mse", "energy_within_threshold"):
        reason = cell(world.plan(), metric).reason
        assert reason is not None
        assert reason.startswith("the model's energies are adsorption, the labels' total; ")
    assert cell(world.plan(), "steps").status is Status.OK


def test_a_shift_for_relaxed_energies_is_fitted_on_structures_as_they_are(world: World) -> None:
    relaxing(world)
    world.suite["datasets"]["toy"]["energy"] = [{"shift": "per_element"}]
    splits = {(split.task, split.split): split.role for split in world.plan().runs[0].splits}
    assert splits == {(Task.S2EF, "train"): Role.SHIFT, (Task.RELAXATION, "val"): Role.EVALUATE}
    world.suite["tasks"]["relaxation"]["metrics"] = ["steps"]
    assert [split.role for split in world.plan().runs[0].splits] == [Role.EVALUATE]


def test_the_parameters_of_a_relaxation_are_part_of_plan_and_key(world: World) -> None:
    relaxing(world)
    first = world.plan()
    world.suite["tasks"]["relaxation"]["maxstep"] = 0.2
    second = world.plan()
    assert first.runs[0].sha256 != second.runs[0].sha256
    assert cell(first, "steps").comparability_key != cell(second, "steps").comparability_key


def test_an_unknown_metric_names_close_ones_of_its_task(world: World) -> None:
    world.suite["tasks"] = {"relaxation": {"metrics": ["energy_within_treshold"]}}
    with pytest.raises(ConfigError, match=r"tasks\.relaxation\.metrics.*did you mean energy_within_threshold"):
        world.plan()
