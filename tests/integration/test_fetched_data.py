"""`mlipbench data fetch`, and that the other verbs find what it got."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from integration_helpers import Workspace, make_frames

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "datasets"))  # the server

from file_server import Behaviour, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    del made.env["MLIPBENCH_DATA"]
    made.env["no_proxy"] = "127.0.0.1"
    return made


@pytest.fixture
def server(workspace: Workspace) -> Iterator[tuple[str, Behaviour]]:
    """Serve two splits, and declare where they are."""
    with serving() as (address, behaviour):
        for seed, name in enumerate(("train", "test")):
            behaviour.files[f"/{name}.extxyz"] = workspace.write_frames(name, make_frames(6, seed=seed)).read_bytes()
            (workspace.data / f"{name}.extxyz").unlink()
        sources = [
            {
                "file": f"{name}.extxyz",
                "urls": [f"{address}/{name}.extxyz"],
                "md5": hashlib.md5(behaviour.files[f"/{name}.extxyz"], usedforsecurity=False).hexdigest(),
                "folder": ".",
                "splits": [name],
            }
            for name in ("train", "test")
        ]
        workspace.entry(sources=sources)
        yield address, behaviour


def test_a_split_is_fetched_and_then_found_without_naming_its_place(
    workspace: Workspace, server: tuple[str, Behaviour]
) -> None:
    suite = workspace.suite(["composition"])
    missing = workspace.cli("plan", suite)
    assert "give `mlipbench data fetch toy`, or the folder that holds them with --data-root" in missing.stdout
    rows = json.loads(workspace.ok("data", "fetch", "toy.yaml:test", "--json", "--display", "none").stdout)
    assert [(row["file"], row["status"]) for row in rows] == [("test.extxyz", "downloaded")]
    workspace.ok("data", "fetch", "toy.yaml", "--display", "none")
    assert [path for path, _ in server[1].asked] == ["/test.extxyz", "/train.extxyz"]
    again = workspace.ok("data", "fetch", "toy.yaml", "--display", "none")
    assert again.stdout.count("there") == 2
    assert len(server[1].asked) == 2
    workspace.ok("run", suite, "--display", "none")


def test_without_the_server_one_line_says_what_to_place_where(
    workspace: Workspace, server: tuple[str, Behaviour]
) -> None:
    server[1].files.clear()
    done = workspace.cli("data", "fetch", "toy.yaml:test", "--display", "none")
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    place = workspace.root / "cache/data/test.extxyz"
    assert f"404 client error: not found); get it elsewhere and store it as {place}, then give" in line
