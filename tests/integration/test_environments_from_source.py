"""`mlipbench env create` for a family with a package that is built from source: nothing leaves this machine."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dummy_packages import BROKEN_BACKEND, source, wheel
from environment_place import Place
from integration_helpers import one_error

# Needs a tool beside the package, tells that it began, and writes a module that knows the variables of the build.
BACKEND = """
import os, pathlib, zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import tool
    with open(os.environ["TEST_BEGUN"], "a") as begun:
        begun.write("1")
    name = "heavy-1.0-py3-none-any.whl"
    with zipfile.ZipFile("payload.whl") as old, zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as new:
        for member in old.namelist():
            text = f"version = 'HEAVY={os.environ['HEAVY']} by tool {tool.version}'"
            new.writestr(member, text if member == "heavy.py" else old.read(member))
    return name
"""


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    made.family("acme", "heavy")
    wheel(made.wheels, "tool", "2.5")
    made.archive = source(made.wheels, "heavy", BACKEND)
    describe(made)
    yield made
    made.close()


def describe(place, variables=None):
    """Write how the package is built."""
    content = {"package": "heavy", "requires": ["tool>=2"], "variables": variables or {"HEAVY": "no"}}
    (place.families / "acme.source.yaml").write_text(yaml.safe_dump(content))


def built(place, *arguments):
    """Build the environment, and return its folder and what its module says."""
    folder = Path(place.ok("env", "create", "acme", *arguments, "--display", "none").stdout.strip())
    said = subprocess.check_output([folder / "bin/python", "-I", "-c", "import heavy; print(heavy.version)"], text=True)
    return folder, said.strip()


def test_a_package_is_built_in_its_environment_and_once_for_equal_builds(place):
    first, said = built(place)
    assert said == "HEAVY=no by tool 2.5"
    place.ok("env", "remove", "acme")
    again, said = built(place)
    assert (again, said) == (first, "HEAVY=no by tool 2.5")
    assert place.begun.read_text() == "1"
    describe(place, {"HEAVY": "yes"})
    other, said = built(place)
    assert (other != first, said) == (True, "HEAVY=yes by tool 2.5")
    assert place.begun.read_text() == "11"


def test_the_lock_holds_the_source_and_the_tools_with_their_checksums(place, tmp_path):
    folder, _ = built(place)
    lock = (folder / "requirements.lock").read_text()
    assert f"--hash=sha256:{hashlib.sha256(place.archive.read_bytes()).hexdigest()}" in lock
    assert "tool==2.5" in lock
    shutil.copy(folder / "requirements.lock", tmp_path / "mine.lock")
    assert built(place, "--from", "mine.lock")[1] == "HEAVY=no by tool 2.5"
    place.ok("env", "remove", "acme")
    shutil.rmtree(place.root / "uv")
    source(place.wheels, "heavy", BACKEND + "# another file of the same version\n")
    line = one_error(place.cli("env", "create", "acme", "--from", "mine.lock", "--display", "none"), 4)
    assert "the environment 'acme' cannot be built: " in line
    assert "hash" in line.lower()
    assert place.begun.read_text() == "1"


def test_where_there_is_no_compiler_the_line_says_so(place, tmp_path):
    source(place.wheels, "heavy", BROKEN_BACKEND)
    line = one_error(place.cli("env", "create", "acme", "--display", "none", PATH=str(tmp_path)), 4)
    assert "command 'nvcc' failed" in line
    assert "heavy is compiled: install a C++ compiler (Debian: apt-get install g++)" in line
    assert "install a C++ compiler" not in one_error(place.cli("env", "create", "acme", "--display", "none"), 4)
