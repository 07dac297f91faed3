"""Model cards."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.card import ModelCard
from mlipbench.models.interface import EnergyReference, ForceKind, NeighborSource, Property

SHA = "0" * 63 + "a"


def card(**changes: object) -> ModelCard:
    capabilities = {"forces": "direct", "elements": "1-89", "energy_reference": "total"}
    data = {"name": "toy", "adapter": "ase", "environment": "base", "capabilities": capabilities}
    return ModelCard.model_validate(data | changes)


def capable(**changes: object) -> ModelCard:
    return card(capabilities={"forces": "direct", "elements": "1-89", "energy_reference": "total"} | changes)


def test_a_small_card_declares_energy_and_forces_of_anything():
    declared = card().declared()
    assert declared.properties == {Property.ENERGY, Property.FORCES}
    assert declared.forces is ForceKind.DIRECT
    assert declared.elements == frozenset(range(1, 90))
    assert declared.energy_reference is EnergyReference.TOTAL
    assert declared.neighbors is NeighborSource.OWN
    assert declared.pbc
    assert declared.molecules


def test_capabilities_carry_every_field():
    declared = capable(
        stress=True, needs=["charge"], dtypes=["float32"], devices=["cuda", "cpu"], cutoff=6, pbc=False, molecules=True
    ).declared()
    assert Property.STRESS in declared.properties
    assert declared.needs == {"charge"}
    assert declared.dtypes == ("float32",)
    assert declared.devices == ("cuda", "cpu")
    assert declared.cutoff == 6.0
    assert not declared.pbc


@pytest.mark.parametrize(("given", "elements"), [("H, O, 26-28", {1, 8, 26, 27, 28}), (["H", 8], {1, 8}), (29, {29})])
def test_elements_are_symbols_numbers_and_ranges(given, elements):
    assert capable(elements=given).declared().elements == elements


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"colour": "red"}, "colour"),
        ({"name": "Toy card"}, "lower-case"),
        ({"adapter": "a:b:c"}, "package.module:Class"),
        ({"checkpoint": {"name": "a", "path": "b"}}, "either a name or a path"),
        ({"checkpoint": {}}, "either a name or a path"),
        ({"checkpoint": {"name": "a", "sha256": "xyz"}}, "64 lower-case"),
        ({"checkpoint": {"name": "a"}, "checkpoints": {"d": {"name": "b"}}}, "either checkpoint or checkpoints"),
        ({"checkpoint": {"name": "a"}, "fitted": True}, "no checkpoint"),
        ({"kwargs": {"hf_token": "x"}}, "'hf_token' does not belong in a file"),
        ({"trainer": "torch"}, "'nets'"),
        ({"trainer": "mace"}, "energy_reference fitted"),
        ({"trainer": "mace", "fitted": True}, "either fitted or trainer"),
        ({"batch": {"atoms": 3, "edges": 4}}, "one of atoms"),
        ({"batch": {}}, "one of atoms"),
        ({"batch": {"atoms": 0}}, "greater than 0"),
    ],
)
def test_refuses_what_makes_no_sense(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        card(**changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"elements": None}, "left out only where fitted"),
        ({"elements": "1-200"}, "neither a chemical symbol"),
        ({"pbc": False, "molecules": False}, "both be false"),
        ({"dtypes": []}, "at least 1"),
        ({"forces": "numerical"}, "conservative"),
    ],
)
def test_refuses_capabilities_that_make_no_sense(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        capable(**changes)


def test_a_model_that_recipes_train_has_the_energies_and_elements_of_its_labels():
    fitted = {"forces": "direct", "energy_reference": "fitted"}
    assert card(trainer="mace", capabilities=fitted).declared().elements is None
    with pytest.raises(ValidationError, match="no checkpoint of its own"):
        card(trainer="mace", capabilities=fitted, checkpoint={"name": "small"})


def test_checkpoints_go_by_dataset_and_paths_start_at_the_card(tmp_path):
    several = card(checkpoints={"md17": {"path": "weights/a.safetensors", "sha256": SHA}}).in_folder(tmp_path)
    assert several.checkpoint_for("md17").sha256 == SHA
    assert several.checkpoint_location("md17") == str(tmp_path / "weights" / "a.safetensors")
    assert several.checkpoint_location("oc20") is None
    assert several.checkpoint_location() is None
    single = card(checkpoint={"name": "0.3.0"})
    assert single.checkpoint_location("anything") == single.checkpoint_location() == "0.3.0"
    assert card().checkpoint_location() is None


def test_a_file_is_held_to_the_checksum_that_the_card_declares(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"abc")
    found = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", FIPS 180-2 appendix B.1
    for declared in (None, found):
        given = card(checkpoint={"path": "weights.pt", "sha256": declared}).in_folder(tmp_path)
        assert given.checkpoint_sha256() == found
    wrong = card(checkpoint={"path": "weights.pt", "sha256": SHA}).in_folder(tmp_path)
    with pytest.raises(ConfigError, match=rf"weights\.pt: the checkpoint has sha256 {found}, the card declares {SHA}"):
        wrong.checkpoint_sha256()
    with pytest.raises(PrerequisiteError, match=r"absent\.pt: the checkpoint cannot be read"):
        card(checkpoint={"path": "absent.pt"}).in_folder(tmp_path).checkpoint_sha256()


def test_the_folder_is_no_part_of_the_card(tmp_path):
    assert str(tmp_path) not in card().in_folder(tmp_path).model_dump_json()
