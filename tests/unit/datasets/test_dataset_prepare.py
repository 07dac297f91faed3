"""Finding files, converting them in child processes, and the cache."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dataset_helpers import save, slabs

from mlipbench.cachedir import default_cache
from mlipbench.datasets import children, prepare
from mlipbench.datasets.children import Limits
from mlipbench.datasets.prepare import (
    DataLocation,
    find_files,
    is_prepared,
    natural_key,
    open_split,
    verify,
)
from mlipbench.errors import ConfigError, DatasetError, ExitCode, PrerequisiteError

if TYPE_CHECKING:
    from dataset_helpers import MakeEntry


def test_files_are_read_in_natural_order(location: DataLocation, make_entry: MakeEntry, in_process: list[str]) -> None:
    for number in (10, 9, 1):
        save(location.data_root / f"{number}.extxyz", slabs(2, seed=number))
    entry = make_entry(cluster="file")
    assert [path.stem for path in find_files(entry, "all", location)] == ["1", "9", "10"]
    steps = []
    split = open_split(entry, "all", location, progress=lambda done, of: steps.append((done, of)))
    assert split.ids.tolist() == ["1:0", "1:1", "9:0", "9:1", "10:0", "10:1"]
    assert split.cluster_names.tolist() == ["1", "9", "10"]
    assert split.clusters.tolist() == [0, 0, 1, 1, 2, 2]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert (split.entry, split.name) == ("toy", "all")
    assert sorted(["b/10.x", "b/9.x", "a", "1"], key=natural_key) == ["1", "a", "b/9.x", "b/10.x"]


def test_a_folder_stands_for_the_data_files_in_it(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str]
) -> None:
    folder = location.data_root / "deep"
    folder.mkdir()
    save(folder / "b.extxyz", slabs(1))
    save(folder / "a.traj", slabs(1))
    (folder / "README.md").write_text("not data")
    entry = make_entry(splits={"all": {"files": ["deep"]}})
    assert open_split(entry, "all", location).ids.tolist() == ["deep/a:0", "deep/b:0"]


def test_missing_data_names_pattern_and_remedy(location: DataLocation, make_entry: MakeEntry) -> None:
    with pytest.raises(PrerequisiteError) as caught:
        open_split(make_entry(), "all", location)
    line = str(caught.value)
    assert line.startswith(f"{location.data_root}/*.extxyz: dataset toy, split all: no such file")
    assert "--data-root" in line
    assert "MLIPBENCH_DATA" in line
    assert caught.value.exit_code is ExitCode.MISSING
    with pytest.raises(PrerequisiteError, match=r"'toy' needs files and no data root is given.*--data-root"):
        open_split(make_entry(), "all", DataLocation(None, location.cache))
    with pytest.raises(ConfigError, match="no split 'test'"):
        open_split(make_entry(), "test", location)


def test_unknown_file_type(location: DataLocation, make_entry: MakeEntry, in_process: list[str]) -> None:
    (location.data_root / "a.cif").write_text("data")
    with pytest.raises(DatasetError, match=r"a\.cif: unknown file type '.cif'"):
        open_split(make_entry(splits={"all": {"files": ["*"]}}), "all", location)


def test_slices_and_seeded_selections_are_disjoint_and_stable(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str]
) -> None:
    frames = slabs(20)
    save(location.data_root / "a.extxyz", frames[:7])
    save(location.data_root / "b.extxyz", frames[7:])
    files = ["*.extxyz"]
    splits = {
        "all": {"files": files},
        "even": {"files": files, "slice": [None, None, 2]},
        "odd": {"files": files, "slice": [1, None, 2]},
        "fit": {"files": files, "shuffle_seed": 3, "slice": [None, 12, None]},
        "test": {"files": files, "shuffle_seed": 3, "slice": [12, None, None]},
        "none": {"files": files, "slice": [50, None, None]},
    }
    entry = make_entry(splits=splits, cluster="key", keys={"energy": "energy", "forces": "forces", "cluster": "sid"})
    opened = {name: open_split(entry, name, location) for name in splits if name != "none"}
    energies = {name: split.labels(0, len(split)).energy.tolist() for name, split in opened.items()}
    assert energies["all"] == [-10.0 - i for i in range(20)]
    assert energies["even"] == energies["all"][::2]
    assert energies["odd"] == energies["all"][1::2]
    assert sorted(energies["fit"] + energies["test"]) == sorted(energies["all"])
    assert energies["fit"] == sorted(energies["fit"], reverse=True)
    assert energies["test"] == [-10.0 - i for i in EXPECTED_TEST]
    chosen = opened["test"]
    forces = np.concatenate([frames[i].calc.results["forces"] for i in EXPECTED_TEST])
    np.testing.assert_allclose(chosen.labels(0, len(chosen)).forces, forces, atol=1e-8)
    names = chosen.cluster_names[chosen.clusters].tolist()
    assert names == [f"random{i // 2}" for i in EXPECTED_TEST]
    with pytest.raises(ConfigError, match=r"splits\.none\.slice: the slice selects no structure"):
        open_split(entry, "none", location)


EXPECTED_TEST = [2, 3, 8, 13, 14, 15, 17, 18]  # a change of these would change every published split


def test_repeated_ids_are_refused(location: DataLocation, make_entry: MakeEntry, in_process: list[str]) -> None:
    save(location.data_root / "a.extxyz", slabs(2))
    entry = make_entry(keys={"energy": "energy", "forces": "forces", "id": "sid"})
    with pytest.raises(DatasetError, match="dataset toy, split all: two structures are named 'random0'"):
        open_split(entry, "all", location)
    assert list((location.cache / "datasets" / "toy").glob("all-*")) == []


def test_files_are_converted_once_and_again_when_they_change(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str]
) -> None:
    path = save(location.data_root / "a.extxyz", slabs(3))
    entry = make_entry()
    assert not is_prepared(entry, "all", location)
    first = open_split(entry, "all", location)
    assert is_prepared(entry, "all", location)
    assert open_split(entry, "all", location).content_hash == first.content_hash
    assert in_process == ["a"]
    os.utime(path, ns=(1, 1))  # another time, the same content: the hash may not change
    assert not is_prepared(entry, "all", location)
    assert open_split(entry, "all", location).content_hash == first.content_hash
    assert in_process == ["a"] * 2
    save(path, slabs(3, seed=9))
    assert open_split(entry, "all", location).content_hash != first.content_hash
    assert first.labels(0, 3).energy[0] == -10  # a split that is open keeps its columns
    assert in_process == ["a"] * 3
    relabelled = make_entry(keys={"energy": "free_energy", "forces": "forces"})
    assert open_split(relabelled, "all", location).labels(0, 1).energy[0] == -10.5
    assert in_process == ["a"] * 4
    make_entry(title="Another", licence="MIT")
    open_split(make_entry(title="Another", licence="MIT"), "all", location)
    assert in_process == ["a"] * 4


@pytest.mark.parametrize("damage", ["cut", "meta", "gone"])
def test_a_damaged_cache_is_made_again(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str], damage: str
) -> None:
    save(location.data_root / "a.extxyz", slabs(3))
    first = open_split(make_entry(), "all", location)
    forces = first.directory / "forces.npy"
    if damage == "cut":
        forces.write_bytes(forces.read_bytes()[:-1])
    elif damage == "gone":
        forces.unlink()
    else:
        (first.directory / "meta.json").write_text("{")
    again = open_split(make_entry(), "all", location)
    assert again.content_hash == first.content_hash
    assert again.damaged_columns() == []
    assert len(in_process) == 2


def test_verify_hashes_again(location: DataLocation, make_entry: MakeEntry, in_process: list[str]) -> None:
    path = save(location.data_root / "a.extxyz", slabs(3))
    split = open_split(make_entry(), "all", location)
    report = verify(make_entry(), "all", location)
    assert report.problems == ()
    assert (report.n_structures, report.n_atoms, report.content_hash) == (3, 9, split.content_hash)
    assert report.files == (path,)
    raw = bytearray((split.directory / "energy.npy").read_bytes())
    raw[-3] ^= 4
    (split.directory / "energy.npy").write_bytes(raw)
    (problem,) = verify(make_entry(), "all", location).problems
    assert problem.startswith(f"{split.directory}: energy: damaged; delete {split.directory}")


def test_verify_counts_structures_that_stand_there_more_than_once(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str]
) -> None:
    frames = slabs(4)
    save(location.data_root / "a.extxyz", [*frames, frames[1]])
    assert verify(make_entry(keys={"energy": "energy", "forces": "forces"}), "all", location).n_repeated == 2
    save(location.data_root / "a.extxyz", frames)
    assert verify(make_entry(keys={"energy": "energy", "forces": "forces"}), "all", location).n_repeated == 0


def test_verify_sees_a_file_changed_behind_its_time(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str]
) -> None:
    path = save(location.data_root / "a.extxyz", slabs(3))
    open_split(make_entry(), "all", location)
    before = path.stat()
    path.write_text(path.read_text().replace("energy=-10.0", "energy=-99.0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (problem,) = verify(make_entry(), "all", location).problems
    assert problem.startswith(f"{path}: differs from the file that was converted; delete")
    assert in_process == ["a"]


def test_a_failed_conversion_leaves_nothing_behind(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str]
) -> None:
    (location.data_root / "a.extxyz").write_text("3\nenergy=1\nH 0 0 0\n")
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"a\.extxyz: frame 0: the file ends inside this frame"):
            open_split(make_entry(), "all", location)
    left = [path.name for path in (location.cache / "datasets" / "toy").iterdir()]
    assert all(name.endswith(".lock") for name in left)


def test_default_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLIPBENCH_CACHE", "/a")
    assert default_cache() == Path("/a")
    monkeypatch.delenv("MLIPBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert default_cache() == Path("/b/mlipbench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "mlipbench"


# from here on with real child processes


def test_conversion_in_child_processes(location: DataLocation, make_entry: MakeEntry) -> None:
    for number in range(3):
        save(location.data_root / f"{number}.extxyz", slabs(2, seed=number))
    steps = []
    split = open_split(
        make_entry(), "all", location, progress=lambda *step: steps.append(step), limits=Limits(parallel=3)
    )
    assert len(split) == 6
    assert steps[-1] == (3, 3)
    assert [path.name for path in split.directory.parent.iterdir() if "tmp" in path.name] == []


def test_errors_of_a_child_arrive_whole(location: DataLocation, make_entry: MakeEntry) -> None:
    save(location.data_root / "0.extxyz", slabs(2))
    text = (location.data_root / "0.extxyz").read_text().replace("forces", "f")
    (location.data_root / "1.extxyz").write_text(text)
    with pytest.raises(
        DatasetError, match=r"^.*1\.extxyz: frame 0: no 'forces'; name the right key.*present: "
    ) as caught:
        open_split(make_entry(), "all", location)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_child_that_needs_too_much_memory(location: DataLocation, make_entry: MakeEntry) -> None:
    big = np.zeros((1_500_000, 3, 3))
    np.savez_compressed(
        location.data_root / "a.npz", energy=np.zeros(1_500_000), forces=big, pos=big, numbers=np.array([1, 1, 1])
    )
    keys = {"energy": "energy", "forces": "forces", "positions": "pos", "numbers": "numbers"}
    entry = make_entry(keys=keys, splits={"all": {"files": ["a.npz"]}})
    with pytest.raises(DatasetError, match=r"a\.npz: reading needs more than the 0.29 GiB a converter may use"):
        open_split(entry, "all", location, limits=Limits(memory=300 << 20))


def test_a_child_that_hangs_is_stopped(location: DataLocation, make_entry: MakeEntry) -> None:
    os.mkfifo(location.data_root / "a.extxyz")  # opening it waits for ever
    with pytest.raises(DatasetError, match=r"a\.extxyz: reading took longer than 3 s and was stopped"):
        open_split(make_entry(), "all", location, limits=Limits(seconds=3))


@pytest.mark.parametrize("name", ["SIGBUS", "SIGKILL", "SIGSEGV"])
def test_a_child_killed_by_a_signal_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = subprocess.Popen

    def killed(command: Any, **options: Any) -> Any:
        return real([sys.executable, "-c", f"import os, signal; os.kill(os.getpid(), signal.{name})"], **options)

    monkeypatch.setattr(subprocess, "Popen", killed)
    job = children.Job(tmp_path / "a.db", "a", tmp_path / "out", {})
    with pytest.raises(DatasetError, match=rf"a\.db: the process that read it died \({name}\); the file is damaged"):
        children.convert_files([job], Limits())


def test_two_openers_convert_once(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(location.data_root / "a.extxyz", slabs(3))
    counted = prepare.convert_files
    gate = threading.Barrier(2)
    results = []

    def slow(jobs: Any, limits: Any, progress: Any = None) -> Any:
        threading.Event().wait(0.2)
        counted(jobs, limits, progress)

    def opener() -> Any:
        gate.wait()
        results.append(open_split(make_entry(), "all", location).content_hash)

    monkeypatch.setattr(prepare, "convert_files", slow)
    threads = [threading.Thread(target=opener) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert len(set(results)) == 1
    assert in_process == ["a"]
