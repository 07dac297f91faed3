"""Files with changed bytes give a split or a one-line error, never anything else."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dataset_helpers import SGDML, arrays, fuzz_examples, reading, save, slabs, vasprun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("lmdb")

from lmdb_helpers import outcome, save_aselmdb, save_lmdb

from mlipbench.datasets.readers import read
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

ENDINGS = ["extxyz", "extxyz.xz", "traj", "db", "npz", "npy", "xml"]
ARRAYS = ["npz", "npy"]
MAPPED = ["lmdb", "aselmdb"]
SIGNALS = ("SIGBUS", "SIGSEGV", "SIGABRT", "SIGFPE")
N_EXAMPLES = fuzz_examples()
SIDECAR = {"columns": ["sid", "fid", "reference_energy"], "prefixes": {"sid": "random"}, "ending": ".txt"}
LINES = b"random17,frame0,-7.5\nrandom17,frame5,-7.5\nrandom4,frame0,-0.25\n"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    for ending in ENDINGS[:-3]:
        save(folder / f"a.{ending}", slabs(3))
    np.savez(folder / "a.npz", **arrays())
    np.save(folder / "a.npy", arrays(), allow_pickle=True)
    (folder / "a.xml").write_text(vasprun(slabs(3)))
    save_lmdb(folder / "a.lmdb", slabs(3), length=2, energy="energy", forces="forces", graph=True)
    save_aselmdb(folder / "a.aselmdb", slabs(3))
    bare = slabs(3)
    for atoms in bare:
        atoms.info = {}
    save(folder / "bare.xyz", bare)
    read_back = {ending: (folder / f"a.{ending}").read_bytes() for ending in ENDINGS + MAPPED}
    return read_back | {"bare": (folder / "bare.xyz").read_bytes()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("ending", ENDINGS + MAPPED)
@settings(max_examples=N_EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    kept=st.one_of(st.just(1.0), st.just(1.0), st.floats(0, 1)),
)
def test_changed_bytes(originals: Any, tmp_path: Path, ending: str, edits: Any, kept: Any) -> None:
    """In a process of its own, as in the converter: LMDB trusts its pages, so a signal may end its reader."""
    raw = bytearray(originals[ending])
    places = np.arange(len(raw))
    if ending in MAPPED:
        places = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8))  # most of a small file is empty pages
    for place, value in edits:
        raw[places[int(place * len(places))]] = value
    path = tmp_path / f"a.{ending}"
    path.write_bytes(raw[: int(kept * len(raw))])
    line = outcome(path, reading(SGDML if ending in ARRAYS else None, pbc=(True,) * 3 if ending in MAPPED else None))
    assert line.startswith(("accepted", f"refused {path}: ", "memory", *(SIGNALS if ending in MAPPED else ())))


@settings(max_examples=N_EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_changed_bytes_of_a_sidecar(originals: Any, tmp_path: Path, edits: Any, kept: Any) -> None:
    raw = bytearray(LINES)
    for place, value in edits:
        raw[int(place * len(raw))] = value
    (tmp_path / "a.xyz").write_bytes(originals["bare"])
    (tmp_path / "a.txt").write_bytes(raw[: int(kept * len(raw))])
    how = reading({"reference_energy": "reference_energy", "id": ["sid", "fid"]}, sidecar=SIDECAR)
    assert outcome(tmp_path / "a.xyz", how).startswith(("accepted 3", f"refused {tmp_path}"))


@settings(max_examples=N_EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(kept=st.integers(0, 10**6))
def test_a_cut_xyz_never_passes_for_a_whole_one(originals: Any, tmp_path: Path, kept: Any) -> None:
    raw = originals["extxyz"]
    kept %= len(raw)
    frame_ends = {0, *(len(part) for part in prefixes(raw))}
    path = tmp_path / "a.extxyz"
    path.write_bytes(raw[:kept])
    if kept in frame_ends - {0}:
        assert sum(len(chunk.structures) for chunk in read(path, reading(), "a")) == sorted(frame_ends).index(kept)
        return
    with pytest.raises(DatasetError):
        list(read(path, reading(), "a"))
    if kept:
        (tmp_path / "b.extxyz.xz").write_bytes(lzma.compress(raw)[: -1 - kept % 100])
        with pytest.raises(DatasetError):
            list(read(tmp_path / "b.extxyz.xz", reading(), "a"))


def prefixes(raw: bytes) -> list[bytes]:
    lines = raw.splitlines(keepends=True)
    return [b"".join(lines[:stop]) for stop in range(5, len(lines) + 1, 5)]
