"""`mlipbench env`, with real builds from hand-made packages: nothing leaves this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from dummy_packages import BROKEN_BACKEND, SLOW_BACKEND, Index, metadata, source, wheel
from environment_place import Place
from integration_helpers import one_error

PASSWORD = "cana-ry%2Fword"  # noqa: S105 - of nothing
PLAIN = "cana-ry/word"


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    made.family("acme", "tiny")
    wheel(made.wheels, "tiny", "1.0")
    yield made
    made.close()


def built(place, *arguments):
    """Build an environment and return its folder."""
    done = place.ok("env", "create", *arguments, "--display", "plain")
    (line,) = done.stdout.splitlines()
    return Path(line), done


def environments(place):
    """Return everything in the folder of environments but locks and logs."""
    root = place.cache / "environments"
    return sorted(path.name for path in root.iterdir() if path.name not in {".locks", "logs"}) if root.is_dir() else []


def assert_gone(pid):
    """Check that a process ends soon."""
    deadline = time.monotonic() + 30
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_an_environment_is_built_listed_reused_and_removed(place):
    folder, done = built(place, "acme")
    assert folder.parent == place.cache / "environments"
    assert "acme: resolving 1 requirements" in done.stderr
    assert "acme: ready, 1 packages, " in done.stderr
    code = "import tiny; print(tiny.version)"
    assert subprocess.check_output([folder / "bin/python", "-I", "-c", code], text=True) == "1.0\n"
    marker = (folder / "environment.json").stat().st_mtime_ns
    again, done = built(place, "acme")
    assert again == folder
    assert done.stderr == ""
    assert (folder / "environment.json").stat().st_mtime_ns == marker
    rows = {row["name"]: row for row in json.loads(place.ok("list", "environments", "--json").stdout)}
    assert rows["acme"]["ready"] is True
    assert (rows["acme"]["how"], rows["acme"]["packages"]) == ("built", 1)
    assert rows["acme"]["path"] == str(folder)
    assert rows["acme"]["bytes"] > 0
    assert rows["base"]["how"] == "running interpreter"
    assert f"{folder}: removed, " in place.ok("env", "remove", "acme").stdout
    assert environments(place) == []
    assert "nothing was built of acme" in one_error(place.cli("env", "remove", "acme"), 5)


def test_the_lock_holds_versions_and_checksums_and_nothing_of_this_machine(place):
    wheel(place.wheels, "more-things", "2.5")
    wheel(place.wheels, "tiny", "1.1", ("more-things>=2",))
    folder, _ = built(place, "acme")
    lock = (folder / "requirements.lock").read_text()
    pins = [line for line in lock.splitlines() if not line.startswith("#")]
    checksum = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.wheels.iterdir()}
    assert pins == [
        "more-things==2.5 \\",
        f"    --hash=sha256:{checksum['more_things-2.5-py3-none-any.whl']}",
        "tiny==1.1 \\",
        f"    --hash=sha256:{checksum['tiny-1.1-py3-none-any.whl']}",
    ]
    assert str(place.root) not in lock
    assert f"# python: {sys.version_info[0]}.{sys.version_info[1]}\n" in lock
    content = json.loads((folder / "environment.json").read_text())
    assert content["lock_sha256"] == hashlib.sha256(lock.encode()).hexdigest()


def test_a_lock_is_repeated_where_newer_packages_are_at_hand(place, tmp_path):
    folder, _ = built(place, "acme")
    shutil.copy(folder / "requirements.lock", tmp_path / "mine.lock")
    place.ok("env", "remove", "acme")
    wheel(place.wheels, "tiny", "1.1")
    newer, _ = built(place, "acme")
    assert "tiny==1.1" in (newer / "requirements.lock").read_text()
    repeated, _ = built(place, "acme", "--from", "mine.lock")
    assert repeated != newer
    assert (repeated / "requirements.lock").read_bytes() == (tmp_path / "mine.lock").read_bytes()
    rows = [row for row in json.loads(place.ok("list", "environments", "--json").stdout) if row["name"] == "acme"]
    assert {(row["how"], row["path"]) for row in rows} == {("built", str(repeated)), ("built, not in use", str(newer))}
    assert built(place, "acme", "--from", newer / "requirements.lock")[0] == newer  # and is the one in use again
    assert built(place, "acme")[0] == newer


def test_another_file_of_the_same_version_is_refused(place, tmp_path):
    folder, _ = built(place, "acme")
    shutil.copy(folder / "requirements.lock", tmp_path / "mine.lock")
    place.ok("env", "remove", "acme")
    wheel(place.wheels, "tiny", "1.0", evil__py="pass\n")
    shutil.rmtree(place.root / "uv")  # where uv has kept the file that fits
    line = one_error(place.cli("env", "create", "acme", "--from", "mine.lock", "--display", "none"), 4)
    assert "the environment 'acme' cannot be built: " in line
    assert "tiny" in line
    assert "hash" in line.lower()
    assert environments(place) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tiny==1.0 --hash=sha256:" + "0" * 64 + "\n--index-url https://nowhere.invalid\n", "line 2: is no pinned"),
        ("tiny==1.0\n", "line 1: is no pinned package with hashes: 'tiny==1.0'"),
        ("", "holds no package"),
        ("other==1.0 --hash=sha256:" + "0" * 64, "does not fit the environment 'acme': tiny (missing)"),
    ],
)
def test_what_is_no_lock_of_the_family_is_refused(place, text, said):
    (place.root / "mine.lock").write_text(text)
    assert said in one_error(place.cli("env", "create", "acme", "--from", "mine.lock"), 2)


def test_a_lock_for_another_python_is_refused(place):
    (place.root / "mine.lock").write_text("# python: 3.9\ntiny==1.0 --hash=sha256:" + "0" * 64)
    line = one_error(place.cli("env", "create", "acme", "--from", "mine.lock"), 4)
    assert "mine.lock: was made for Python 3.9, and this is 3." in line


def test_requirements_that_cannot_be_met_are_told_in_one_line(place):
    place.family("acme", "tiny", "greedy")
    wheel(place.wheels, "greedy", "1.0", ("tiny>=7",))
    line = one_error(place.cli("env", "create", "acme", "--display", "none"), 4)
    assert "Because only tiny==1.0 is available and all versions of greedy depend on tiny>=7" in line
    log = Path(line.rpartition("; see ")[2])
    assert log.is_file()
    assert "No solution found" in log.read_text()
    assert environments(place) == []


def test_a_package_that_does_not_compile_is_told_by_its_last_error(place):
    place.family("acme", "broken")
    source(place.wheels, "broken", BROKEN_BACKEND)
    line = one_error(place.cli("env", "create", "acme", "--display", "none"), 4)
    assert "broken==1.0" in line
    assert "command 'nvcc' failed: No such file or directory" in line
    assert "compiling" not in line
    assert len(line) < 700
    assert environments(place) == []


def test_a_package_may_spell_its_version_in_another_way_than_its_file(place):
    spelt = {"tiny-1.0.post3.dist-info/METADATA": metadata("tiny", "1.0-3")}
    wheel(place.wheels, "tiny", "1.0.post3", **spelt)
    folder, _ = built(place, "acme")
    assert "tiny==1.0.post3" in (folder / "requirements.lock").read_text()


def test_overrides_take_the_place_of_what_packages_ask_for(place):
    place.family("acme", "picky", "tiny>=1", overrides=["tiny>=1"], cpu_overrides=["heavy; sys_platform == 'never'"])
    wheel(place.wheels, "picky", "1.0", ("tiny<1", "heavy"))
    folder, _ = built(place, "acme")
    packages = [line.split()[0] for line in (folder / "requirements.lock").read_text().splitlines() if "==" in line]
    assert packages == ["picky==1.0", "tiny==1.0"]
    place.configure(compute="cuda")
    line = one_error(place.cli("env", "create", "acme", "--display", "none"), 4)
    assert "heavy" in line  # only machines without CUDA do without it


def test_a_killed_build_leaves_nothing_that_counts_and_the_next_one_cleans_up(place):
    place.family("acme", "tiny", "slow")
    source(place.wheels, "slow", SLOW_BACKEND)
    process = place.start("env", "create", "acme", "--display", "none")
    (backend,) = place.wait_for_begun(1)
    assert [name for name in environments(place) if name.endswith(".partial")]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert_gone(backend)
    rows = {row["name"]: row for row in json.loads(place.ok("list", "environments", "--json").stdout)}
    assert (rows["acme"]["ready"], rows["acme"]["how"]) == (False, "missing")
    place.leave.touch()
    folder, _ = built(place, "acme")
    assert environments(place) == [folder.name]


def test_an_interrupted_build_ends_what_it_started(place):
    place.family("acme", "tiny", "slow")
    source(place.wheels, "slow", SLOW_BACKEND)
    process = place.start("env", "create", "acme", "--display", "none")
    (backend,) = place.wait_for_begun(1)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "mlipbench: interrupted; the same command resumes\n"
    assert environments(place) == []
    assert_gone(backend)


def test_two_processes_build_one_environment_once(place):
    place.family("acme", "tiny", "slow")
    source(place.wheels, "slow", SLOW_BACKEND)
    first = place.start("env", "create", "acme", "--display", "plain")
    place.wait_for_begun(1)
    second = place.start("env", "create", "acme", "--display", "plain")
    assert second.stderr is not None
    assert second.stderr.readline() == "acme: another process builds this environment; waiting for it\n"
    assert "another process builds this environment now" in one_error(place.cli("env", "remove", "acme"), 4)
    place.leave.touch()
    folders = {process.communicate(timeout=60)[0] for process in (first, second)}
    assert len(folders) == 1
    assert len(place.begun.read_text().split()) == 1


@pytest.fixture
def index(place):
    served = Index(place.wheels)
    yield served
    served.close()


def ours(place):
    """Return the text of every file that mlipbench itself wrote."""
    folders = [place.cache, place.results]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path: path.read_bytes().decode(errors="replace") for path in files}


@pytest.mark.parametrize("broken", [False, True])
def test_credentials_of_an_index_reach_the_index_and_nothing_else(place, index, broken):
    index.broken = broken
    url = f"http://mine:{PASSWORD}@127.0.0.1:{index.port}/simple?token=tok-en-canary"
    place.pip(f"index-url = {url.partition('?')[0]}\nretries = 0\n")
    done = place.cli("env", "create", "acme", "--display", "plain")
    assert f"mine:{PLAIN}" in index.logins
    assert done.returncode == (4 if broken else 0), done.stderr
    texts = {**ours(place), "stdout": done.stdout, "stderr": done.stderr}
    assert len(texts) > 3
    for where, text in texts.items():
        for secret in (PASSWORD, PLAIN, f":{index.port}"):
            assert secret not in text, where


CUDA = ("nvidia-cublas", "triton")


@pytest.fixture
def cuda(place, index):
    """A PyTorch that brings CUDA, as the public index has it."""
    place.family("acme", "torch~=2.13.0")
    for name in CUDA:
        wheel(place.wheels, name, "13.0")
    wheel(place.wheels, "torch", "2.13.0", CUDA)
    place.pip(f"index-url = http://127.0.0.1:{index.port}/simple\n")
    place.configure(compute="cpu")
    return index


def test_cuda_packages_are_refused_before_they_are_downloaded(place, cuda):
    line = one_error(place.cli("env", "create", "acme", "--display", "none"), 4)
    assert "CUDA packages" in line
    assert "nvidia-cublas==13.0, triton==13.0" in line
    assert f"write `compute: cuda` in {place.configuration}" in line
    assert "/simple/torch-2.13.0-py3-none-any.whl.metadata" in cuda.asked
    assert not [path for path in cuda.asked if path.endswith(".whl")]
    assert environments(place) == []
    place.configure(compute="cuda")
    assert "torch==2.13.0" in (built(place, "acme")[0] / "requirements.lock").read_text()


def test_the_cpu_build_that_pip_is_offered_is_taken(place, cuda, tmp_path):
    (tmp_path / "cpu").mkdir()
    wheel(tmp_path / "cpu", "torch", "2.13.0+cpu")
    place.pip(f"index-url = http://127.0.0.1:{cuda.port}/simple\nfind-links = {tmp_path / 'cpu'}\n")
    pins = (built(place, "acme")[0] / "requirements.lock").read_text()
    assert "torch==2.13.0+cpu" in pins
    assert not any(name in pins for name in CUDA)


def test_a_user_without_an_index_of_their_own_is_offered_that_of_pytorch(place, cuda, tmp_path):
    """A stand-in for uv knows another folder as PyTorch's index of CPU builds."""
    (tmp_path / "cpu").mkdir()
    wheel(tmp_path / "cpu", "torch", "2.13.0+cpu")
    place.pip(f"extra-index-url = http://127.0.0.1:{cuda.port}/simple\n")
    place.stand_in_for_uv(tmp_path / "cpu")
    folder, _ = built(place, "acme")
    lock = (folder / "requirements.lock").read_text()
    assert "torch==2.13.0+cpu" in lock
    assert "# torch-backend: cpu\n" in lock
    assert built(place, "acme", "--from", folder / "requirements.lock")[0] == folder
