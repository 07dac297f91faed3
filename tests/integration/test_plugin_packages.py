"""Cards and adapters of third-party packages."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest
from integration_helpers import PLUGIN, Workspace, install_plugin, make_frames, one_error, plugin_python, predictions


@pytest.fixture
def place(tmp_path, python_with_plugin):
    made = Workspace(tmp_path, python_with_plugin)
    made.write_frames("train", make_frames(10, seed=1))
    made.write_frames("test", make_frames(10, seed=2))
    made.entry()
    return made


def test_an_installed_package_brings_its_cards_without_being_imported(place):
    canary = place.root / "imported"
    rows = json.loads(place.ok("list", "models", "--json", TOY_POTENTIALS_CANARY=str(canary)).stdout)
    (row,) = [row for row in rows if row["name"] == "recorded-spring"]
    assert row["adapter"] == "toy_potentials.recorded:RecordedAdapter"
    place.ok("plan", place.suite(["recorded-spring"]), TOY_POTENTIALS_CANARY=str(canary))
    assert not canary.exists()


def test_a_third_partys_model_runs_in_the_worker_alone_and_without_consent(place):
    canary = place.root / "imported"
    process = place.start("run", place.suite(["recorded-spring"]), TOY_POTENTIALS_CANARY=str(canary))
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    imported = [int(line) for line in canary.read_text().split()]  # the canary works: the worker imported it
    assert imported
    assert process.pid not in imported
    (run,) = place.runs().values()
    assert predictions(run)["state"] == ["ok"] * 10
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["model"]["trusted_by_user"] is False


def test_two_packages_with_a_card_of_the_same_name_are_refused(tmp_path):
    python = plugin_python(tmp_path / "venv")
    places = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    install_plugin(Path(sysconfig.get_path("purelib", "venv", vars=places)), "copied-potentials")
    place = Workspace(tmp_path, python)
    line = one_error(place.cli("list", "models"), 2)
    assert "a model named 'recorded-spring' exists already in " in line
    assert line.startswith("mlipbench: error: ")
    assert "recorded-spring.yaml: " in line


def test_an_entry_point_without_a_folder_is_named(tmp_path):
    python = plugin_python(tmp_path / "venv")
    (points,) = (tmp_path / "venv").glob("lib/python*/site-packages/toy_potentials-*/entry_points.txt")
    points.write_text(points.read_text().replace(":cards", ":nowhere"))
    line = one_error(Workspace(tmp_path, python).cli("list", "models"), 2)
    assert "entry point toy = 'toy_potentials:nowhere' of the group mlipbench.models" in line
    assert line.endswith("reinstall or remove the package that declares it")


def test_the_package_is_not_seen_where_it_is_not_installed(place):
    stranger = Workspace(place.root)  # the interpreter of the tests, which lacks it
    line = one_error(stranger.cli("plan", place.suite(["recorded-spring"])), 2)
    assert "unknown model 'recorded-spring'" in line
    assert (PLUGIN / "toy_potentials/cards/recorded-spring.yaml").is_file()
