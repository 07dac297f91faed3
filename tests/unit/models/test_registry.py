"""The registry of cards: shipped, installed, given by path."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import mlipbench
from mlipbench.datasets.entry import entry_names, load_entry
from mlipbench.environments import environment_names
from mlipbench.errors import ConfigError, ExitCode, PrerequisiteError
from mlipbench.models import registry
from mlipbench.models.registry import BUILT_IN_ADAPTERS, adapter_target, card_names, load_card

CARD = """
name: {name}
adapter: {adapter}
environment: base
capabilities: {{forces: direct, elements: 1-10, energy_reference: total}}
"""


def write(folder, name: str, adapter: str = "ase", stem: str | None = None):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem or name}.yaml"
    path.write_text(CARD.format(name=name, adapter=adapter))
    return path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package on the path that fails when imported, with its entry point."""
    package = tmp_path / "acme_potentials"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "deep" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(value: str):
        point = EntryPoint("acme", value, registry.ENTRY_POINT_GROUP)
        monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [point])
        return package

    return install


def defines(target):
    """Return whether a module defines a class, without importing it: its package may not be installed here."""
    module, _, class_name = target.partition(":")
    source = Path(mlipbench.__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py")
    nodes = ast.parse(source.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.ClassDef) and node.name == class_name for node in nodes)


@pytest.mark.parametrize("name", card_names())
def test_every_shipped_card_loads_and_names_an_adapter_and_an_environment(name):
    card = load_card(name)
    assert defines(adapter_target(card))
    assert card.environment in environment_names()
    assert card.declared().properties


@pytest.mark.parametrize("name", card_names())
def test_every_shipped_card_says_what_its_weights_were_trained_on(name):
    card = load_card(name)
    assert card.fitted or card.trainer or card.training_data is not None


def test_training_sets_that_datasets_name_are_named_by_cards():
    known = {data for name in card_names() for data in load_card(name).training_data or ()}
    for entry in map(load_entry, entry_names()):
        named = {*entry.drawn_from, *entry.perhaps_from}
        named |= {data for split in entry.splits.values() for data in split.drawn_from}
        assert named <= known, entry.name


def test_built_in_adapters_exist():
    assert all(defines(target) for target in BUILT_IN_ADAPTERS.values())


def test_names_are_listed_without_pydantic_or_a_model_package():
    code = (
        "import sys; from mlipbench.models.registry import card_names; assert 'emt' in card_names();"
        "print([m for m in ('pydantic', 'yaml', 'ase', 'numpy', 'torch') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_unknown_names_list_close_ones():
    with pytest.raises(ConfigError, match="did you mean chgnet") as caught:
        load_card("chgnt")
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("value", "where"), [("acme_potentials:cards", "cards"), ("acme_potentials.deep", "deep/cards")]
)
def test_an_installed_package_ships_cards_without_being_imported(installed, value, where):
    package = installed(value)
    write(package / where, "acme", "acme_potentials.adapter:Acme")
    assert "acme" in card_names()
    assert adapter_target(load_card("acme")) == "acme_potentials.adapter:Acme"


def test_two_cards_of_one_name_are_refused(installed):
    write(installed("acme_potentials:cards") / "cards", "emt")
    with pytest.raises(ConfigError, match=r"emt\.yaml: a model named 'emt' exists already"):
        card_names()


def test_an_entry_point_without_its_folder_is_named(installed):
    installed("acme_potentials:nowhere")
    with pytest.raises(ConfigError, match=r"entry point acme = 'acme_potentials:nowhere'"):
        card_names()


def test_a_package_that_is_gone_is_named(installed):
    installed("acme_gone:cards")
    with pytest.raises(ConfigError, match="acme_gone"):
        card_names()


def test_a_card_by_path_needs_trust(tmp_path):
    path = write(tmp_path, "mine")
    for given in (path, str(path)):
        with pytest.raises(PrerequisiteError, match="--trust") as caught:
            load_card(given)
        assert caught.value.exit_code == ExitCode.MISSING
        assert load_card(given, trust=True).name == "mine"


def test_the_name_in_the_file_must_be_the_name_of_the_file(installed):
    write(installed("acme_potentials:cards") / "cards", "other", stem="acme")
    with pytest.raises(ConfigError, match="differs"):
        load_card("acme")


def test_an_unknown_adapter_lists_the_known_ones(tmp_path):
    card = load_card(write(tmp_path, "mine", "compositon"), trust=True)
    with pytest.raises(ConfigError, match="did you mean composition"):
        adapter_target(card)


def test_an_invalid_card_names_file_and_field(tmp_path):
    path = write(tmp_path, "mine")
    path.write_text(path.read_text() + "licens: MIT\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: .*licens.*licence"):
        load_card(path, trust=True)
