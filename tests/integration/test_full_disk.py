"""A full disk: exit code 4 in one line, and the same command finishes once there is space."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest
from integration_helpers import Workspace, fingerprints, make_frames


def namespace():
    """Return the command that gives a mount namespace of our own, which ends with its process, or None."""
    options = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]
    command = [shutil.which("unshare") or "", *options]
    if not command[0]:
        return None
    probe = 'd=$(mktemp -d) && mount -t tmpfs -o size=1m tmpfs "$d"'
    tried = subprocess.run([*command, "sh", "-c", probe], capture_output=True, check=False)
    return command if tried.returncode == 0 else None


SCRIPT = """
set -u
mount -t tmpfs -o size={size}k tmpfs {results} || exit 99
{command} >out1 2>err1; echo $? >code1
mount -o remount,size=64m {results} || exit 99
{command} >out2 2>err2; echo $? >code2
cp -r {results} kept
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A workspace, a command, and what it leaves where there is space."""
    workspace = Workspace(tmp_path_factory.mktemp("disk"))
    workspace.write_frames("train", make_frames(40, seed=1))
    workspace.write_frames("test", make_frames(1000, seed=2))
    workspace.entry()
    suite = workspace.suite([workspace.card("spring", "SpringAdapter"), "composition"])
    command = ["run", suite, "--trust", "--display", "none"]
    workspace.ok(*command)
    return workspace, command, {name: fingerprints(run) for name, run in workspace.runs().items()}


@pytest.mark.parametrize("size", [24, 120, *(pytest.param(size, marks=pytest.mark.slow) for size in (8, 60, 200, 300))])
def test_a_full_disk_is_told_in_one_line_and_the_same_command_finishes(whole, tmp_path, size):
    workspace, command, expected = whole
    unshare = namespace()
    if unshare is None:
        pytest.skip("needs unshare with mount namespaces, to mount a small tmpfs")
    used = sum(path.stat().st_size for path in workspace.results.rglob("*") if path.is_file()) // 1024
    assert used > size  # or there would be nothing to see

    results = tmp_path / "small"
    results.mkdir()
    shown = shlex.join(workspace.command(*command, "--results", results))
    script = SCRIPT.format(size=size, results=shlex.quote(str(results)), command=shown)
    done = subprocess.run(
        [*unshare, "sh", "-c", script], cwd=tmp_path, env=workspace.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    assert (tmp_path / "code1").read_text() == "4\n", (tmp_path / "err1").read_text()
    told = (tmp_path / "err1").read_text().splitlines()
    assert len(told) == 1, told
    assert told[0].startswith(f"mlipbench: error: {results}")
    assert told[0].endswith("no space left on the device; free some space and give the same command again")
    assert (tmp_path / "out1").read_text() == ""

    assert (tmp_path / "code2").read_text() == "0\n", (tmp_path / "err2").read_text()
    assert (tmp_path / "err2").read_text() == ""
    assert {name: fingerprints(run) for name, run in workspace.runs(results=tmp_path / "kept").items()} == expected


@pytest.mark.slow
def test_shards_without_space_are_set_aside_with_what_they_said_and_done_when_there_is_some(whole, tmp_path):
    workspace, command, _ = whole
    unshare = namespace()
    if unshare is None:
        pytest.skip("needs unshare with mount namespaces, to mount a small tmpfs")
    results = tmp_path / "small"
    results.mkdir()
    cut = [*command[:-2], "--models", workspace.root / "spring.yaml", "--shards", "3", *command[-2:]]
    shown = shlex.join(workspace.command(*cut, "--results", results))
    script = SCRIPT.format(size=120, results=shlex.quote(str(results)), command=shown)
    done = subprocess.run(
        [*unshare, "sh", "-c", script], cwd=tmp_path, env=workspace.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "code1").read_text() == "3\n", (tmp_path / "err1").read_text()
    told = (tmp_path / "err1").read_text().splitlines()
    assert told
    for line in told:
        assert ": failed too often, the last time: mlipbench: error: " in line
        assert "no space left on the device" in line
    assert (tmp_path / "code2").read_text() == "0\n", (tmp_path / "err2").read_text()
    (run,) = workspace.runs(results=tmp_path / "kept").values()
    known = workspace.runs()["spring"]
    assert fingerprints(run, "scores/**/*", "metrics.json") == fingerprints(known, "scores/**/*", "metrics.json")
