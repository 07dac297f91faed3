"""Cards and adapters of third-party packages."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from integration_helpers import (
    EXAMPLE,
    PLUGIN,
    Workspace,
    install_plugin,
    make_frames,
    one_error,
    plugin_python,
    predictions,
)

CARDS = sorted(path.stem for path in (EXAMPLE / "mlipbench_sevennet" / "cards").glob("*.yaml"))


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


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A place that has the example package, and sevenn only if the interpreter of the tests has it."""
    folder = tmp_path_factory.mktemp("example")
    return Workspace(folder, plugin_python(folder / "venv", EXAMPLE))


def test_the_example_package_brings_cards_that_plans_take(example):
    assert "sevennet-0" in CARDS
    rows = {row["name"]: row for row in json.loads(example.ok("list", "models", "--json").stdout)}
    assert [rows[name]["adapter"] for name in CARDS] == ["ase"] * len(CARDS)
    plan = json.loads(example.ok("plan", "families", "--models", ",".join(CARDS), "--json").stdout)
    assert [run["model"] for run in plan["runs"]] == CARDS


@pytest.mark.parametrize("verb", [("doctor",), ("run", "families", "--models")])
def test_without_the_package_of_the_model_one_line_says_what_to_install(example, verb):
    if importlib.util.find_spec("sevenn") is not None:
        pytest.skip("sevenn is installed beside the tests")
    done = example.cli(*verb, "sevennet-0", "--display", "none")
    assert done.returncode == 4, done.stderr
    assert "the calculator sevenn.calculator:SevenNetCalculator cannot be imported" in done.stderr
    assert "install its package" in done.stderr


def test_the_readme_of_the_example_shows_commands_that_there_are(example):
    _, block, _ = (EXAMPLE / "README.md").read_text(encoding="utf-8").split("```")
    shown = [line.split()[1:] for line in block.splitlines() if line.startswith("mlipbench ")]
    assert [words[0] for words in shown] == ["list", "doctor", "run"]
    for words in shown:
        instead = {"run": ["plan", *words[1:]], "doctor": [*words, "--help"]}
        example.ok(*instead.get(words[0], words))


def test_a_wheel_of_the_example_holds_its_cards_and_the_entry_point(tmp_path):
    for package in ("build", "hatchling"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package} to build a wheel")
    source = shutil.copytree(EXAMPLE, tmp_path / "source")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        (points,) = [archive.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    assert {f"mlipbench_sevennet/cards/{card}.yaml" for card in CARDS} <= set(names)
    assert points == "[mlipbench.models]\nsevennet = mlipbench_sevennet:cards\n"
