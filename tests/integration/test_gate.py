"""The gate as a maintainer meets it: a repository with a model of its own, in which a change breaks the model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from integration_helpers import Workspace, make_frames, one_error, plugin_python

REPETITIONS = int(os.environ.get("MLIPBENCH_GATE_REPETITIONS", "3"))
PROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "spring-lab"
version = "0.1"

[project.entry-points."mlipbench.models"]
lab = "spring_lab:cards"
"""
MODEL = '''\
"""Springs, after some work that takes time."""

from mlipbench.testing.toys import BusyAdapter

STIFFNESS = 1.0
WORK = 150


class Model(BusyAdapter):
    @classmethod
    def load(cls, request):
        return cls({"stiffness": STIFFNESS, "work": WORK})
'''
CARD = """\
name: spring-lab
adapter: spring_lab.model:Model
environment: base
capabilities: {forces: conservative, elements: 1-94, energy_reference: total, level_of_theory: springs}
batch: {structures: 20}
"""
SUITE = """\
suite: lab
version: 1
models: [spring-lab]
datasets: {toy: {splits: [test], entry: toy.yaml}}
tasks:
  s2ef: {}
  efficiency: {structures: 8, rounds: 1, batch: 1, reference: spring-lab}
"""


class Lab(Workspace):
    """A repository with the package `spring_lab`, installed as pip installs it with ``-e``.

    `intact` is the run of the model before any test changed it.
    """

    intact: Path

    def __init__(self, root: Path) -> None:
        super().__init__(root, plugin_python(root / "venv"))
        self.model = root / "spring_lab" / "model.py"
        self.write_frames("train", make_frames(10, seed=1))
        self.write_frames("test", make_frames(60, seed=2))
        self.entry()
        files = {"pyproject.toml": PROJECT, "spring_lab/__init__.py": "", "suite.yaml": SUITE}
        files |= {"spring_lab/model.py": MODEL, "spring_lab/cards/spring-lab.yaml": CARD}
        files[".gitignore"] = "*\n!pyproject.toml\n!spring_lab/\n!spring_lab/**\n!*.yaml\n"
        for name, text in files.items():
            (root / name).parent.mkdir(exist_ok=True, parents=True)
            (root / name).write_text(text, encoding="utf-8")
        base = {"base": str(root / "venv"), "platbase": str(root / "venv")}
        site = Path(sysconfig.get_path("purelib", "venv", vars=base))
        (site / "spring_lab.pth").write_text(f"{root}\n", encoding="utf-8")
        info = site / "spring_lab-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spring-lab\nVersion: 0.1\n", encoding="utf-8")
        (info / "entry_points.txt").write_text("[mlipbench.models]\nlab = spring_lab:cards\n", encoding="utf-8")
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit()

    def git(self, *words: str) -> None:
        told = ["-c", "user.name=Lab", "-c", "user.email=lab@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *told, *words]
        subprocess.run(command, cwd=self.root, check=True, capture_output=True)

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "-m", "A step")

    def change(self, old: str, new: str, file: str = "spring_lab/model.py") -> None:
        text = (self.root / file).read_text(encoding="utf-8")
        assert old in text
        (self.root / file).write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Return the repository with a baseline, `baseline.json`."""
    made = Lab(tmp_path_factory.mktemp("lab"))
    assert made.ok("gate", "suite.yaml", "--save", "baseline.json").stdout == "baseline.json\n"
    (made.intact,) = (path.parent for path in made.results.glob("runs/lab/*/*/manifest.json"))
    return made


@pytest.fixture(scope="module")
def alarms() -> list[int]:
    """Return the list of the repetitions that gave a false alarm, empty at first."""
    return []


@pytest.fixture(autouse=True)
def _as_committed(lab: Lab) -> None:
    """Undo the changes of the test before."""
    lab.git("checkout", "--quiet", "--", ".")


def test_a_change_that_breaks_the_model_fails_and_its_repair_passes(lab: Lab, tmp_path: Path) -> None:
    judge = ("gate", "suite.yaml", "--baseline", "baseline.json")
    done = lab.ok(*judge)
    assert done.stdout.endswith("verdict: pass\n")
    lab.change("STIFFNESS = 1.0", "STIFFNESS = 1.3")
    summary = tmp_path / "summary.md"
    told = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    done = lab.cli(*judge, "--markdown", "gate.md", **told)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("regression: spring-lab: toy/test: ")
    assert "verdict: regression" in lines
    assert any(line.startswith("::error title=mlipbench%3A regression::spring-lab: toy/test: ") for line in lines)
    text = summary.read_text(encoding="utf-8")
    assert text == (lab.root / "gate.md").read_text(encoding="utf-8")
    assert "### Structures that got worse" in text
    assert "mlipbench gate suite.yaml --baseline baseline.json --markdown gate.md" in text
    lab.change("STIFFNESS = 1.3", "STIFFNESS = 1.0")
    assert lab.cli(*judge).returncode == 0


def test_a_model_that_raises_is_a_regression(lab: Lab) -> None:
    lab.change("class Model", 'def forward(*_):\n    raise ValueError("broken")\n\n\nclass Model')
    lab.change("    @classmethod", "    forward = forward\n\n    @classmethod")
    done = lab.cli("gate", "suite.yaml", "--baseline", "baseline.json", "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "regression"
    said = {(one["task"], one["about"]): one["said"] for one in found["findings"] if one["state"] == "regression"}
    assert said["s2ef", "failed structures"].startswith("0 -> 60 of 60")
    assert "broken" in said["s2ef", "failed structures"]


def test_a_model_that_takes_twice_as_long_is_found(lab: Lab) -> None:
    """Noise would have to be 14 % of the ratio of ten rounds or more to hide it."""
    lab.change("WORK = 150", "WORK = 300")
    done = lab.cli("gate", "suite.yaml", "--against", "HEAD")
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("regression: ")]
    assert line.startswith("regression: spring-lab: toy/test: time of one structure: ")
    assert "; once more: " in line


def test_an_environment_that_is_missing_is_no_verdict(lab: Lab) -> None:
    lab.change("environment: base", "environment: mace", "spring_lab/cards/spring-lab.yaml")
    done = lab.cli("gate", "suite.yaml", "--baseline", "baseline.json", "--isolated", "--display", "none")
    assert "--yes" in one_error(done, 4)


def test_an_older_version_that_lacks_the_model_is_not_comparable(lab: Lab) -> None:
    lab.git("checkout", "--quiet", "-b", "older")
    lab.change("class Model", "class Another")
    lab.commit()
    lab.git("checkout", "--quiet", "main")
    done = lab.cli("gate", "suite.yaml", "--against", "older")
    assert done.returncode == 5, done.stdout + done.stderr
    assert "not comparable: spring-lab: toy/test: time of one structure: the older version: " in done.stdout
    assert "verdict: nothing comparable" in done.stdout


def test_a_run_that_did_not_finish_is_incomplete(lab: Lab, tmp_path: Path) -> None:
    manifest = json.loads((lab.intact / "manifest.json").read_text(encoding="utf-8")) | {"status": "running"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    done = lab.cli("gate", tmp_path, "--baseline", "baseline.json")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "incomplete: spring-lab: run: there is no finished run of it" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["suite.yaml"], 2, "gate: nothing to judge by; give --baseline, --against or --save"),
        (["suite.yaml", "--baseline", "none.json"], 4, "none.json: there is no such baseline; make one with"),
        (["nowhere.yaml", "--baseline", "baseline.json"], 2, "no suite file or shipped suite 'nowhere.yaml'"),
        (["data", "--baseline", "baseline.json"], 2, "data: holds no run; make one with `mlipbench run`"),
        (["data", "--against", "HEAD"], 2, "--against: times are measured anew; give a suite, not a run"),
        (["suite.yaml", "--against", "no-such-branch"], 2, "no-such-branch: there is no such version; name a branch"),
        (["suite.yaml", "--baseline", "baseline.json", "--policy", "odd.yaml"], 2, "metrics: unknown metric 'forces'"),
        (["empty.yaml", "--baseline", "baseline.json"], 2, "empty.yaml: line 3, models: "),
        (["suite.yaml", "--baseline", "baseline.json", "--models", ","], 5, "--models: no model is named"),
        (["bare", "--baseline", "baseline.json"], 2, "test.parquet: there is no such file; rebuild them with"),
        (["results", "--baseline", "edited.json"], 2, "edited.json: sha256: "),
        (["results", "--baseline", "other.json"], 2, "the baseline is of the suite lab version 2, the run of lab ver"),
    ],
)
def test_bad_input_is_one_line(lab: Lab, words: list[str], code: int, said: str) -> None:
    (lab.root / "odd.yaml").write_text("policy: odd\nmetrics: {forces: {relative: 1}}\n", encoding="utf-8")
    text = (lab.root / "baseline.json").read_text(encoding="utf-8")
    (lab.root / "edited.json").write_text(text.replace('"toy"', '"boy"'), encoding="utf-8")
    if "other.json" in words:
        _other_version(lab)
    (lab.root / "empty.yaml").write_text(SUITE.replace("[spring-lab]", "[]"), encoding="utf-8")
    shutil.copytree(lab.intact, lab.root / "bare", ignore=shutil.ignore_patterns("scores"), dirs_exist_ok=True)
    words = [str(lab.intact) if word == "results" else word for word in words]
    assert said in one_error(lab.cli("gate", *words, "--display", "none"), code)


def _other_version(lab: Lab) -> None:
    """Save a baseline of version 2 of the suite."""
    lab.change("version: 1", "version: 2", "suite.yaml")
    lab.ok("gate", "suite.yaml", "--save", "other.json", "--results", "other-results")
    lab.git("checkout", "--quiet", "--", ".")


@pytest.mark.parametrize("repetition", range(REPETITIONS))
def test_nothing_is_found_where_nothing_changed(lab: Lab, alarms: list[int], repetition: int) -> None:
    """The whole gate, accuracy and times, on a machine that does other things: at most one false alarm in 200."""
    done = lab.cli("gate", "suite.yaml", "--baseline", "baseline.json", "--against", "HEAD", "--display", "none")
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    if done.returncode:
        alarms.append(repetition)
    assert len(alarms) <= REPETITIONS // 200, done.stdout
