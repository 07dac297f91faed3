"""Downloads against a server that cuts, lies and serves something else."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from file_server import Behaviour, serving

from mlipbench.datasets import download
from mlipbench.datasets import fetch as fetching
from mlipbench.datasets.entry import DatasetEntry
from mlipbench.datasets.fetch import Presence, fetch, presence
from mlipbench.errors import DatasetError, ExitCode, MlipbenchError, PrerequisiteError
from mlipbench.progress import SilentDisplay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLIPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download.time, "sleep", lambda _: None)


@pytest.fixture
def server() -> Iterator[tuple[str, Behaviour]]:
    with serving() as (address, behaviour):
        behaviour.files["/one.npz"] = CONTENT
        yield address, behaviour


def entry(*urls: str, **changes: Any) -> DatasetEntry:
    archive = {"file": "one.npz", "urls": urls, "folder": "toy/raw", "md5": MD5} | changes
    return DatasetEntry.model_validate(
        {
            "name": "toy",
            "title": "Toy",
            "licence": "CC0",
            "citation": "none",
            "level_of_theory": "toy",
            "energy_reference": "total",
            "units": {"energy": "eV", "forces": "eV/A", "length": "A"},
            "keys": {"energy": "E", "forces": "F"},
            "pbc": "file",
            "cluster": "structure",
            "root": "data",
            "splits": {"all": {"files": ["toy/raw/*"]}},
            "sources": [archive],
        }
    )


def get(given: DatasetEntry, root: Path) -> fetching.Fetched:
    return fetch(given.sources[0], root, SilentDisplay())


def error_of(given: DatasetEntry, root: Path) -> MlipbenchError:
    with pytest.raises(MlipbenchError) as caught:
        get(given, root)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_file_is_downloaded_once_and_verified(tmp_path, server):
    address, behaviour = server
    given = entry(f"{address}/one.npz", sha256=SHA256)
    assert presence(given.sources[0], tmp_path) is Presence.ABSENT
    found = get(given, tmp_path)
    assert (found.downloaded, found.sha256, found.folder) == (True, SHA256, tmp_path / "toy/raw")
    assert (tmp_path / "toy/raw/one.npz").read_bytes() == CONTENT
    assert presence(given.sources[0], tmp_path) is Presence.VERIFIED
    assert get(given, tmp_path).downloaded is False
    assert len(behaviour.asked) == 1
    assert {path.name for path in (tmp_path / "toy/raw").iterdir()} == {"one.npz", ".one.npz.json"}


def test_a_connection_that_is_cut_goes_on_where_it_was(tmp_path, server):
    address, behaviour = server
    behaviour.cut_after = [1_000_000, 700_000]
    get(entry(f"{address}/one.npz"), tmp_path)
    assert (tmp_path / "toy/raw/one.npz").read_bytes() == CONTENT
    assert behaviour.asked[0][1] is None
    assert all(wanted and wanted.startswith("bytes=") for _, wanted in behaviour.asked[1:])
    assert behaviour.sent <= len(CONTENT) + 2 * 2**16  # but for the pieces that were cut


def test_a_command_that_was_killed_goes_on_in_the_next_one(tmp_path, server, monkeypatch):
    address, behaviour = server
    behaviour.cut_after = [1_200_000]

    def killed(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download.time, "sleep", killed)
        with pytest.raises(KeyboardInterrupt):
            get(entry(f"{address}/one.npz"), tmp_path)
    come = (tmp_path / "toy/raw/one.npz.part").stat().st_size
    assert 0 < come <= 1_200_000
    get(entry(f"{address}/one.npz"), tmp_path)
    assert behaviour.asked[-1][1] == f"bytes={come}-"
    assert (tmp_path / "toy/raw/one.npz").read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["no ranges", "another version"])
def test_it_starts_anew_where_going_on_would_mix_files(tmp_path, server, change):
    address, behaviour = server
    behaviour.cut_after = [1_000_000]
    behaviour.ranges = change != "no ranges"
    folder = tmp_path / "toy/raw"
    folder.mkdir(parents=True)
    if change == "another version":
        (folder / "one.npz.part").write_bytes(b"x" * 500_000)
        note = {"url": f"{address}/one.npz", "validator": '"older"'}
        (folder / "one.npz.part.json").write_text(json.dumps(note))
    get(entry(f"{address}/one.npz"), tmp_path)
    assert (folder / "one.npz").read_bytes() == CONTENT


def test_a_server_that_promises_more_than_it_sends_is_given_up(tmp_path, server):
    address, behaviour = server
    behaviour.length = 100
    error = error_of(entry(f"{address}/one.npz"), tmp_path)
    assert error.exit_code is ExitCode.MISSING
    assert f"{address}/one.npz: " in str(error)
    assert str(error).endswith(
        f"get it elsewhere and store it as {tmp_path}/toy/raw/one.npz, then give the command again"
    )
    assert not (tmp_path / "toy/raw/one.npz").exists()


@pytest.mark.parametrize("wrong", ["shorter", "other bytes"])
def test_wrong_bytes_are_not_kept(tmp_path, server, wrong):
    address, behaviour = server
    behaviour.files["/one.npz"] = CONTENT[:-5] if wrong == "shorter" else b"x" * len(CONTENT)
    error = error_of(entry(f"{address}/one.npz"), tmp_path)
    assert f"what came has not the published md5:{MD5}" in str(error)
    assert list((tmp_path / "toy/raw").iterdir()) == []
    behaviour.files["/one.npz"] = CONTENT  # the next attempt starts from nothing
    get(entry(f"{address}/one.npz"), tmp_path)
    assert behaviour.asked[-1][1] is None


def test_mirrors_are_tried_in_turn(tmp_path, server):
    address, behaviour = server
    found = get(entry(f"{address}/gone.npz", "http://127.0.0.1:9/one.npz", f"{address}/one.npz"), tmp_path)
    assert found.downloaded
    assert [path for path, _ in behaviour.asked] == ["/gone.npz", "/one.npz"]


def test_a_server_that_fails_for_a_moment_is_asked_again(tmp_path, server):
    address, behaviour = server
    behaviour.status = [503, 503]
    assert get(entry(f"{address}/one.npz"), tmp_path).downloaded


def test_without_a_network_one_line_names_the_file_and_its_place(tmp_path):
    error = error_of(entry("http://127.0.0.1:9/one.npz"), tmp_path)
    assert isinstance(error, PrerequisiteError)
    assert str(error) == (
        "one.npz cannot be downloaded (http://127.0.0.1:9/one.npz: the server cannot be reached); get it elsewhere and"
        f" store it as {tmp_path}/toy/raw/one.npz, then give the command again"
    )


def test_a_file_placed_by_hand_is_verified(tmp_path):
    given = entry("http://127.0.0.1:9/one.npz")
    path = tmp_path / "toy/raw/one.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert presence(given.sources[0], tmp_path) is Presence.PLACED
    assert get(given, tmp_path).downloaded is False
    assert presence(given.sources[0], tmp_path) is Presence.VERIFIED
    path.write_bytes(b"x" + CONTENT[1:])
    assert presence(given.sources[0], tmp_path) is Presence.PLACED
    error = error_of(given, tmp_path)
    assert isinstance(error, DatasetError)
    assert f"{path}: has md5 " in str(error)
    assert f"published is {MD5}; delete it and fetch it again" in str(error)
    assert path.exists()  # it is the user's


def test_a_checksum_that_nobody_published_is_recorded_at_first_use(tmp_path, server):
    address, behaviour = server
    given = entry(f"{address}/one.npz", md5=None)
    assert get(given, tmp_path / "first").sha256 == SHA256
    behaviour.files["/one.npz"] = b"x" * 10
    error = error_of(given, tmp_path / "second")
    assert f"at its first use here it had {SHA256}" in str(error)


def archive_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def packed(server: tuple[str, Behaviour], content: bytes, **changes: Any) -> DatasetEntry:
    address, behaviour = server
    behaviour.files["/one.tar.gz"] = content
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return entry(f"{address}/one.tar.gz", file="one.tar.gz", md5=md5, unpack=True, **changes)


def test_an_archive_is_unpacked_and_deleted(tmp_path, server):
    members = [(tarfile.TarInfo("one/a.txt"), b"A"), (tarfile.TarInfo("one/deep/b.txt"), b"B")]
    given = packed(server, archive_of(members))
    get(given, tmp_path)
    folder = tmp_path / "toy/raw"
    assert (folder / "one/a.txt").read_bytes() == b"A"
    assert (folder / "one/deep/b.txt").read_bytes() == b"B"
    assert {path.name for path in folder.iterdir()} == {"one", ".one.tar.gz.json"}
    assert get(given, tmp_path).downloaded is False


def _link(name: str, target: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


HOSTILE = {
    "absolute": ([(tarfile.TarInfo("/canary"), b"x")], "holds a path that leaves the folder"),
    "parent": ([(tarfile.TarInfo("a/../../canary"), b"x")], "holds a path that leaves the folder"),
    "link": ([_link("a", "/etc/passwd", tarfile.SYMTYPE)], "holds a link or a device"),
    "hard link": ([_link("a", "../canary", tarfile.LNKTYPE)], "holds a link or a device"),
    "device": ([_link("a", "", tarfile.CHRTYPE)], "holds a link or a device"),
    "bomb": ([(tarfile.TarInfo("a"), bytes(2_000_000))], "holds more than the 0 MB and 2000000 files expected"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path, server, name):
    members, problem = HOSTILE[name]
    before = [(tarfile.TarInfo("one/a.txt"), b"A")]
    error = error_of(packed(server, archive_of(before + members), unpacked=1000), tmp_path)
    assert problem in str(error)
    assert "one.tar.gz: " in str(error)
    folder = tmp_path / "toy/raw"
    assert {path.name for path in folder.iterdir()} == {"one.tar.gz"}
    assert not list(tmp_path.rglob("canary"))


def test_a_damaged_archive_gets_one_line(tmp_path, server):
    whole = archive_of([(tarfile.TarInfo("a"), CONTENT[:50_000])])
    error = error_of(packed(server, whole[: len(whole) // 2]), tmp_path)
    assert "the archive is damaged (" in str(error)
