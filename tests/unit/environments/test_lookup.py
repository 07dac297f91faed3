"""Which installation serves a family of models."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from mlipbench.environments import Environments, Provision, environment_facts, environment_names
from mlipbench.environments.built import BuiltEnvironment, environments_folder, family_identity, find_built, folder_name
from mlipbench.environments.families import Compute, load_family, read_requirements
from mlipbench.environments.installed import Installation, unmet_requirements
from mlipbench.environments.lock import Lock
from mlipbench.errors import ConfigError, ExitCode, PrerequisiteError

PIN = "tiny==1.0 --hash=sha256:" + "0" * 64


def pretend(cache, name, *, created=1.0, folder=None, compute=Compute.CPU):
    """Put down what a finished build of a family leaves."""
    identity = family_identity(load_family(name, compute), compute)
    place = environments_folder(cache) / (folder or folder_name(identity, name, "3.11.7", None))
    (place / "bin").mkdir(parents=True)
    (place / "bin" / "python").symlink_to(sys.executable)
    (place / "requirements.lock").write_text(PIN)
    built = BuiltEnvironment(place, name, identity, "3.11.7", "cpu", 1, 10, created, Lock.parse(PIN).sha256)
    built.write(place)
    return built


def test_shared_files_and_overrides_are_no_environments(families):
    for name in ("worker", "acme", "acme.overrides", "acme.cpu-overrides", "zebra-v1"):
        (families / f"{name}.txt").write_text("")
    assert environment_names() == ("acme", "zebra-v1")


def test_the_shipped_families_are_resolved():
    assert {"base", "chgnet", "torch"} <= set(environment_names())
    for name in environment_names():
        requirements = load_family(name, Compute.CPU).requirements
        assert any(line.startswith("vesin") for line in requirements), name


@pytest.mark.parametrize(("torch", "serves"), [("2.11.0", True), ("2.13.0+cpu", True), ("2.10.0", False)])
def test_deepmd_takes_the_torch_of_its_wheel_too(torch, serves):
    family = load_family("deepmd", Compute.CPU)
    wanted = [line for line in family.effective() if line.startswith("torch")]
    assert bool(unmet_requirements(wanted, Installation("3.11.7", {"torch": torch}, {}))) is not serves
    assert family.source.package == "deepmd-kit"
    assert set(family.resolved) == {*family.requirements, *family.source.requires}


def test_the_running_interpreter_serves_what_its_metadata_meet(families, tmp_path):
    (families / "base.txt").write_text("numpy>=1\n")
    environments = Environments(tmp_path)
    found = environments.find("base")
    assert found.python == found.interpreter() == Path(sys.executable)
    assert (found.how, found.problem, found.identity) == (Provision.RUNNING, None, None)
    assert environments.find("base") is found
    facts = environment_facts(found)
    assert facts.packages["numpy"] == np.__version__
    assert facts.lock_sha256 is None


def test_includes_and_comments_are_resolved(families, tmp_path):
    (families / "worker.txt").write_text("# shared\nnumpy>=1  # comment\n\n")
    (families / "acme.txt").write_text("-r worker.txt\nscipy>=1\n")
    assert list(read_requirements(families / "acme.txt")) == ["numpy>=1", "scipy>=1"]
    assert Environments(tmp_path).find("acme").requirements == ("numpy>=1", "scipy>=1")


def test_overrides_replace_a_requirement_and_count_by_machine(families):
    (families / "acme.txt").write_text("numpy==0.1\nscipy>=1\n")
    (families / "acme.overrides.txt").write_text("NumPy>=1\n")
    (families / "acme.cpu-overrides.txt").write_text("cuda-python; sys_platform == 'never'\n")
    on_cpu, on_cuda = load_family("acme", Compute.CPU), load_family("acme", Compute.CUDA)
    assert on_cpu.effective() == on_cuda.effective() == ("NumPy>=1", "scipy>=1")
    assert on_cpu.overrides == ("NumPy>=1", "cuda-python; sys_platform == 'never'")
    assert on_cuda.overrides == ("NumPy>=1",)


def test_unmet_lines_and_the_remedy_are_named(families, tmp_path):
    (families / "acme.txt").write_text("numpy==0.1\n" + "".join(f"no-such-package-{i}>=2\n" for i in range(4)))
    found = Environments(tmp_path).find("acme")
    assert found.how is Provision.MISSING
    with pytest.raises(PrerequisiteError) as caught:
        found.interpreter()
    message = str(caught.value)
    assert f"numpy==0.1 (found {np.__version__})" in message
    assert "no-such-package-1>=2 (missing) and 2 more; run: mlipbench env create acme" in message
    assert caught.value.exit_code == ExitCode.MISSING


def test_markers_and_local_versions_count():
    installed = Installation("3.11.7", {"torch": "2.13.0+cpu"}, {"python_version": "3.11"})
    assert unmet_requirements(("torch~=2.13.0", "nothing>=1; python_version < '3.11'"), installed) == []
    assert unmet_requirements(("torch~=2.12.0",), installed) == ["torch~=2.12.0 (found 2.13.0+cpu)"]
    assert unmet_requirements(("nothing>=1; python_version < '3.12'",), installed) != []


def test_an_unknown_environment_lists_close_names(tmp_path):
    with pytest.raises(ConfigError, match="did you mean chgnet"):
        Environments(tmp_path).find("chgnt")


def test_the_running_interpreter_comes_before_what_was_built_unless_isolated(families, tmp_path):
    (families / "base.txt").write_text("numpy>=1\n")
    (tmp_path / "config/mlipbench").mkdir(parents=True)
    (tmp_path / "config/mlipbench/config.yaml").write_text("compute: cpu\n")
    built = pretend(tmp_path, "base")
    assert Environments(tmp_path).find("base").how is Provision.RUNNING
    found = Environments(tmp_path, isolated=True).find("base")
    assert (found.how, found.python, found.lock) == (Provision.BUILT, built.interpreter, built.lock)
    assert environment_facts(found).packages == {"tiny": "1.0"}


def test_the_python_of_the_user_comes_first(families, tmp_path):
    (families / "base.txt").write_text("numpy>=1\n")
    pretend(tmp_path, "base")
    (tmp_path / "config/mlipbench").mkdir(parents=True)
    content = {"compute": "cpu", "environments": {"base": {"python": sys.executable}}}
    (tmp_path / "config/mlipbench/config.yaml").write_text(json.dumps(content))
    for isolated in (False, True):
        found = Environments(tmp_path, isolated=isolated).find("base")
        assert (found.how, found.python) == (Provision.USER, Path(sys.executable))


def test_why_a_build_failed_is_the_problem(families, tmp_path):
    (families / "acme.txt").write_text("no-such-package\n")
    found = Environments(tmp_path, failed={"acme": "it broke; see the log"}).find("acme")
    assert (found.how, found.problem) == (Provision.MISSING, "it broke; see the log")


def test_the_newest_build_of_equal_requirements_serves(families, tmp_path):
    (families / "acme.txt").write_text("no-such-package\n")
    old = pretend(tmp_path, "acme", created=1.0)
    new = pretend(tmp_path, "acme", created=2.0, folder="acme-000000000000")
    assert find_built(tmp_path, "acme", old.family) == new
    (families / "acme.txt").write_text("no-such-package>=2\n")
    assert find_built(tmp_path, "acme", family_identity(load_family("acme", Compute.CPU), Compute.CPU)) is None


@pytest.mark.parametrize("lost", ["environment.json", "requirements.lock", "bin/python"])
def test_what_is_incomplete_serves_no_one(families, tmp_path, lost):
    (families / "acme.txt").write_text("no-such-package\n")
    built = pretend(tmp_path, "acme")
    assert find_built(tmp_path, "acme", built.family) == built
    (built.folder / lost).unlink()
    assert find_built(tmp_path, "acme", built.family) is None


def test_a_folder_is_named_by_all_that_decides_its_content(families):
    (families / "acme.txt").write_text("numpy>=1\nscipy>=1\n")

    def identity(compute=Compute.CPU):
        return family_identity(load_family("acme", compute), compute)

    first = identity()
    assert identity() == first
    assert identity(Compute.CUDA) != first
    (families / "acme.overrides.txt").write_text("numpy>=2\n")
    overridden = identity()
    assert overridden != first
    (families / "acme.txt").write_text("scipy>=1\nnumpy>=1\n")  # their order decides nothing
    assert identity() == overridden
    names = [
        folder_name(first, "acme", "3.11.7", None),
        folder_name(first, "acme", "3.12.1", None),
        folder_name(first, "acme", "3.11.7", "0" * 64),
        folder_name(overridden, "acme", "3.11.7", None),
    ]
    assert len(set(names)) == len(names)
    assert folder_name(first, "acme", "3.11.9", None) == names[0]
