"""What ships: the quickstart from an editable install and from a wheel."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from integration_helpers import CHECKOUT, Workspace

import mlipbench
from mlipbench.suite import suite_names, suite_path

PACKAGE = Path(mlipbench.__file__).parent
SPLITS = ["val_id", "val_ood_ads", "val_ood_cat", "val_ood_both"]


def console_script():
    script = Path(sys.executable).with_name("mlipbench")
    if not script.exists():
        pytest.skip(f"there is no console script {script.name} beside the interpreter")
    return script


def quickstart(workspace, *arguments):
    """Run the quickstart by its console script from a folder outside the checkout."""
    assert CHECKOUT not in [workspace.root, *workspace.root.parents]
    environment = {name: value for name, value in workspace.env.items() if name != "MLIPBENCH_DATA"}
    return subprocess.run(
        [console_script(), "run", "quickstart", *arguments],
        cwd=workspace.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def table(workspace):
    """Return the leaderboard's rows by model, split and metric."""
    with (workspace.results / "runs/quickstart/leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return {(row["model"], row["split"], row["metric"]): row for row in csv.DictReader(file)}


def test_suites_are_read_from_the_checkout_or_out_of_the_wheel():
    editable = not (PACKAGE / "suite" / "shipped").is_dir()
    expected = PACKAGE.parent / "suites" if editable else PACKAGE / "suite" / "shipped"
    assert "quickstart" in suite_names()
    assert [suite_path(name).parent for name in suite_names()] == [expected] * len(suite_names())
    assert suite_names() == sorted(path.stem for path in (CHECKOUT / "suites").glob("*.yaml"))
    for name in suite_names():
        assert suite_path(name).read_bytes() == (CHECKOUT / "suites" / f"{name}.yaml").read_bytes()


def test_the_quickstart_without_its_network_runs_from_anywhere(tmp_path):
    workspace = Workspace(tmp_path)
    done = quickstart(workspace, "--models", "composition,emt,lj", "--json", "--display", "none")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    runs = {run["model"]: run for run in json.loads(done.stdout)["runs"]}
    assert {model: run["status"] for model, run in runs.items()} == dict.fromkeys(["composition", "emt", "lj"], "ok")
    for run in runs.values():
        assert list(dict.fromkeys(metric["split"] for metric in run["metrics"])) == [*SPLITS, "gap"]
        assert {metric["status"] for metric in run["metrics"]} <= {"ok", "not_applicable"}
        forces = [metric for metric in run["metrics"] if metric["metric"] == "forces_mae"]
        fitted = [metric for metric in forces if run["model"] != "lj" or metric["split"] in {"val_id", "val_ood_ads"}]
        assert all(metric["value"] > 0 and metric["n"] > 0 for metric in fitted)
        others = [metric for metric in forces if metric not in fitted]  # pairs of metals the fit split does not hold
        assert all(metric["status"] == "not_applicable" and "pair" in metric["reason"] for metric in others)
    assert table(workspace).keys() == {
        (model, metric["split"], metric["metric"]) for model, run in runs.items() for metric in run["metrics"]
    }


@pytest.mark.chgnet
def test_the_whole_quickstart(tmp_path):
    workspace = Workspace(tmp_path)
    done = quickstart(workspace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("results/runs/quickstart/leaderboard.md")
    rows = table(workspace)
    assert {model for model, _, _ in rows} == {"composition", "emt", "lj", "leignn", "chgnet"}
    for split in SPLITS:
        floor = float(rows["composition", split, "forces_mae"]["value"])
        assert 0 < float(rows["chgnet", split, "forces_mae"]["value"]) < floor
        assert float(rows["chgnet", split, "adsorption_energy_mae_self"]["value"]) < 10
    text = (workspace.results / "runs/quickstart/leaderboard.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    again = quickstart(workspace)
    assert again.stdout == done.stdout
    assert again.stderr.count("finished before") == 5


def test_the_command_says_the_version_of_the_package():
    done = subprocess.run([console_script(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"mlipbench {mlipbench.__version__}\n"
    assert importlib.metadata.version("mlipbench") == mlipbench.__version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The content of a wheel of the checkout, unpacked."""
    for package in ("build", "hatchling"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the package {package} to build a wheel")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("mlipbench", "suites"):
        shutil.copytree(CHECKOUT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_a_wheel_holds_all_that_is_needed_and_nothing_else(wheel):
    names = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    package = {f"mlipbench/{path.relative_to(CHECKOUT / 'mlipbench').as_posix()}" for path in shipped_files()}
    suites = {f"mlipbench/suite/shipped/{path.name}" for path in (CHECKOUT / "suites").glob("*.yaml")}
    assert {name for name in names if ".dist-info/" not in name} == package | suites
    for name in (
        "mlipbench/py.typed",
        "mlipbench/models/cards/chgnet.yaml",
        "mlipbench/models/checkpoints/leignn-quickstart/model.safetensors",
        "mlipbench/recipes/quickstart.yaml",
        "mlipbench/datasets/entries/mini-slabs.yaml",
        "mlipbench/environments/requirements/base.txt",
        "mlipbench/suite/shipped/quickstart.yaml",
    ):
        assert name in names
    metadata = [name for name in names if ".dist-info/" in name]
    assert any(name.endswith("licenses/LICENSE") for name in metadata)
    points = next(wheel / name for name in metadata if name.endswith("entry_points.txt"))
    assert "mlipbench = mlipbench.cli.app:main" in points.read_text(encoding="utf-8")


def shipped_files():
    """Return the files of the package that belong into a wheel."""
    found = [path for path in (CHECKOUT / "mlipbench").rglob("*") if path.is_file()]
    return [path for path in found if "__pycache__" not in path.parts and path.suffix != ".pyc"]


def test_a_wheel_holds_the_embedded_data(wheel):
    mini = wheel / "mlipbench/datasets/mini"
    slabs = mini / "slabs"
    for split in ["train", "references", *SPLITS]:
        assert list((slabs / split).glob("*.extxyz.xz")), f"no data of the split {split}"
    for name in ("slabs/references.json", "ethanol/ethanol.npz", "isomers/reference.db", "lips/lips.extxyz.xz"):
        assert (mini / name).is_file()


def test_a_wheel_runs_its_own_suites(wheel, tmp_path):
    workspace = Workspace(tmp_path)
    listed = json.loads(workspace.ok("list", "suites", "--json", PYTHONPATH=str(wheel)).stdout)
    assert [row["name"] for row in listed] == suite_names()
    code = "import mlipbench.suite as s; print(s.suite_path('quickstart'))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={**workspace.env, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == wheel / "mlipbench/suite/shipped/quickstart.yaml"
    done = workspace.ok("run", "quickstart", "--models", "composition", "--json", PYTHONPATH=str(wheel))
    (run,) = json.loads(done.stdout)["runs"]
    assert run["status"] == "ok"
    manifest = json.loads((tmp_path / run["path"] / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["git"] is None  # no checkout around it
