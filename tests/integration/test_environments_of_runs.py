"""Runs whose models need environments that have yet to be built."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pty
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from dummy_packages import wheel
from environment_place import Place
from integration_helpers import make_frames, one_error, predictions


@pytest.fixture
def place(tmp_path):
    """Models in the environments `base`, `acme`, which has yet to be built, and `broken`, which cannot be."""
    made = Place(tmp_path)
    made.write_frames("train", make_frames(8, seed=1))
    made.write_frames("test", make_frames(6, seed=2))
    made.entry()
    made.family("acme", "seen", "tiny")
    made.family("broken", "nothere>=3")
    wheel(made.wheels, "tiny", "1.0")
    # stands for all packages a worker needs: whatever the running interpreter has
    paths = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    wheel(made.wheels, "seen", "1.0", seen__pth="".join(f"import site; site.addsitedir({one!r})\n" for one in paths))
    made.cards = {
        name: made.card(f"in-{name}", "SpringAdapter", environment=name) for name in ("base", "acme", "broken")
    }
    yield made
    made.close()


def suite(place, *names):
    return place.suite([place.cards[name] for name in names])


def test_a_plan_says_what_would_be_built(place):
    done = place.ok("plan", suite(place, "base", "acme"), "--trust")
    folder = place.cache / "environments" / "acme-"
    assert f"environment acme: to be built from 2 requirements, in {folder}" in done.stdout
    assert f"environment base: running interpreter, {sys.executable}\n" in done.stdout
    assert (
        "missing: the environment 'acme' is not built, and the running interpreter lacks seen (missing)" in done.stdout
    )
    isolated = place.ok("plan", suite(place, "base"), "--trust", "--isolated")
    assert "environment base: to be built from 1 requirements" in isolated.stdout
    runs = json.loads(place.ok("plan", suite(place, "base", "acme"), "--trust", "--json").stdout)["runs"]
    assert [run["environment"]["how"] for run in runs] == ["running interpreter", "missing"]
    assert not (place.cache / "environments").exists()


def test_nothing_is_built_or_run_without_consent(place):
    line = one_error(place.cli("run", suite(place, "base", "acme", "broken"), "--trust", "--display", "plain"), 4)
    assert "the environments acme, broken have to be built" in line
    assert "give --yes, run `mlipbench env create acme broken`" in line
    assert not (place.cache / "environments").exists()
    assert not place.results.exists()


def test_what_is_missing_is_built_and_what_cannot_be_built_spoils_no_other_model(place):
    done = place.cli("run", suite(place, "base", "acme", "broken"), "--trust", "--yes", "--display", "none", "--json")
    assert done.returncode == 4
    answer = json.loads(done.stdout)
    assert {run["model"]: run["status"] for run in answer["runs"]} == {"in-base": "ok", "in-acme": "ok"}
    (problem,) = answer["problems"]
    assert problem.startswith("in-broken: the environment 'broken' cannot be built: ")
    assert "nothere was not found" in problem
    runs = place.runs()
    manifest = json.loads((runs["in-acme"] / "manifest.json").read_text())
    lock = (runs["in-acme"] / "requirements.lock").read_bytes()
    environment = manifest["environment"]
    assert (environment["name"], environment["how"]) == ("acme", "built")
    assert environment["packages"] == {"seen": "1.0", "tiny": "1.0"}
    assert environment["lock_sha256"] == hashlib.sha256(lock).hexdigest()
    assert environment["python"] == ".".join(str(part) for part in sys.version_info[:3])
    other = json.loads((runs["in-base"] / "manifest.json").read_text())["environment"]
    assert (other["how"], other["lock_sha256"]) == ("running interpreter", None)
    assert "numpy" in other["packages"]
    assert not (runs["in-base"] / "requirements.lock").exists()
    numbers = [json.loads((runs[model] / "metrics.json").read_text())["metrics"] for model in ("in-base", "in-acme")]
    values = [[metric["value"] for metric in metrics] for metrics in numbers]
    assert values[0] == values[1]


def test_isolated_models_run_in_what_was_built(place):
    place.family("base", "seen")
    done = place.ok("run", suite(place, "base"), "--trust", "--yes", "--isolated", "--display", "none", "--json")
    (run,) = json.loads(done.stdout)["runs"]
    manifest = json.loads((place.root / run["path"] / "manifest.json").read_text())
    assert manifest["environment"]["how"] == "built"
    again = place.ok("run", suite(place, "base"), "--trust", "--isolated", "--json")
    assert [one["run_id"] for one in json.loads(again.stdout)["runs"]] == [run["run_id"]]


CALCULATOR = """
import numpy as np
from ase.calculators.calculator import Calculator

class Counter(Calculator):
    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=(), changes=()):
        super().calculate(atoms, properties, changes)
        self.results = {"energy": 2.0 * len(atoms), "forces": np.full((len(atoms), 3), 0.5)}
"""


def test_a_calculator_of_ase_runs_in_whichever_environment_holds_it(place):
    wheel(place.wheels, "counter", "1.0", counter__py=CALCULATOR)
    place.family("acme", "seen", "counter")
    capabilities = {"dtypes": ["float64"]}
    place.cards["counter"] = place.card(
        "counter", "ase", environment="acme", kwargs={"calculator": "counter:Counter"}, capabilities=capabilities
    )
    assert importlib.util.find_spec("counter") is None
    place.ok("run", suite(place, "counter"), "--trust", "--yes", "--display", "none")
    sizes = [len(frame.symbols) for frame in make_frames(6, seed=2)]
    found = predictions(place.runs()["counter"])
    assert found["energy"] == [2.0 * size for size in sizes]
    assert [set(forces) for forces in found["forces"]] == [{0.5}] * 6


def test_a_run_is_not_resumed_with_other_packages(place):
    place.ok("run", suite(place, "acme"), "--trust", "--yes", "--display", "none")
    run = place.runs()["in-acme"]
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["status"] = manifest["splits"][0]["status"] = "running"
    path.write_text(json.dumps(manifest))
    wheel(place.wheels, "tiny", "1.1")
    place.ok("env", "remove", "acme")
    place.ok("env", "create", "acme")
    line = one_error(place.cli("run", suite(place, "acme"), "--trust", "--display", "none"), 2)
    assert "was begun in an environment of other packages" in line
    lock = run.relative_to(place.root) / "requirements.lock"
    assert f"mlipbench env create acme --from {lock}" in line
    place.ok("env", "create", "acme", "--from", lock)
    place.ok("run", suite(place, "acme"), "--trust", "--display", "none")
    assert len(json.loads(path.read_text())["resumed"]) == 1


def on_a_terminal(place, answer, *arguments):
    """Run a command that is asked on a terminal, and return its code and what the terminal showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place.root)
        os.execve(sys.executable, place.command(*arguments), {**place.env, "TERM": "dumb"})  # noqa: S606
    shown = b""
    asked = False
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        shown += part
        if b"[y/N]" in shown and not asked:
            asked = True
            os.write(terminal, f"{answer}\n".encode())
        if not part:
            break
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.mark.parametrize(("answer", "code", "models"), [("y", 0, {"in-base", "in-acme"}), ("n", 4, {"in-base"})])
def test_a_terminal_is_asked_once(place, answer, code, models):
    ended, shown = on_a_terminal(place, answer, "run", suite(place, "base", "acme"), "--trust")
    assert ended == code, shown
    assert shown.count("[y/N]") == 1
    assert "the environment acme has to be built. Build it now?" in shown
    assert place.runs().keys() == models
    left_out = "in-acme: the environment 'acme' is not built; run: mlipbench env create acme"
    assert (left_out in shown) is (code == 4)


def user_python(folder, *, packages):
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder), "platbase": str(folder)}))
    if packages:
        (site / "seen.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return folder / "bin" / "python"


def test_a_python_of_the_user_comes_first_and_is_recorded(place, tmp_path):
    place.configure(environments={"base": {"python": "../../own/bin/python"}})
    user_python(tmp_path / "own", packages=True)
    done = place.ok("run", suite(place, "base"), "--trust", "--isolated", "--display", "none", "--json")
    (run,) = json.loads(done.stdout)["runs"]
    manifest = json.loads((place.root / run["path"] / "manifest.json").read_text())
    assert manifest["environment"]["how"] == "user's python"
    assert str(tmp_path) not in json.dumps(manifest["environment"])


def test_a_python_of_the_user_that_lacks_packages_is_missing(place, tmp_path):
    python = user_python(tmp_path / "own", packages=False)
    place.configure(environments={"base": {"python": str(python)}})
    done = place.cli("run", suite(place, "base"), "--trust", "--display", "none")
    assert done.returncode == 4
    assert done.stderr == (
        f"mlipbench: in-base: {place.configuration}: environments.base.python: {python} lacks numpy>=1 (missing); "
        "install them there, or name another\n"
    )


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("/nowhere/python", "/nowhere/python: there is no such interpreter; give the path"),
        ("/bin/true", "/bin/true: is no Python interpreter; give the path"),
        ("/etc/passwd", "/etc/passwd: is not executable; give the path"),
        ("/", "/: is not executable; give the path"),
    ],
)
def test_a_path_that_is_no_interpreter_is_refused(place, python, said):
    place.configure(environments={"base": {"python": python}})
    for verb in ("plan", "run"):
        line = one_error(place.cli(verb, suite(place, "base"), "--trust"), 2)
        assert f"{place.configuration}: environments.base.python: {said}" in line
    line = one_error(place.cli("env", "create", "acme", "--python", python), 2)
    assert f"{said}" in line


def test_an_old_python_is_refused(place, tmp_path):
    old = tmp_path / "old"
    old.write_text(
        "#!/bin/sh\n"
        """echo 'mlipbench-probe {"python": "3.9.2", "packages": {}, "markers": {"python_version": "3.9"}}'\n"""
    )
    old.chmod(0o755)
    place.configure(environments={"base": {"python": str(old)}})
    line = one_error(place.cli("plan", suite(place, "base"), "--trust"), 2)
    assert f"{old}: is Python 3.9.2; Python 3.11 or later is needed" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "environments: {bse: {python: x}}",
            "config.yaml: environments.bse: unknown environment 'bse'; did you mean base?",
        ),
        ("environments: {base: {pyton: x}}", "line 1, environments.base.pyton: unknown key"),
        ("compute: gpu", "line 1, compute: Input should be 'cpu' or 'cuda' (given: 'gpu')"),
    ],
)
def test_a_wrong_configuration_is_refused(place, text, said):
    place.configure()
    place.configuration.write_text(text + "\n")
    assert said in one_error(place.cli("plan", suite(place, "base"), "--trust"), 2)


def test_a_configuration_that_is_named_has_to_be_there(place):
    line = one_error(place.cli("plan", suite(place, "base"), "--trust", MLIPBENCH_CONFIG="nowhere.yaml"), 4)
    assert "nowhere.yaml: cannot be read" in line
