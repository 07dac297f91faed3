"""What holds for all embedded datasets: checksums, size, splits that share no structure."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import mlipbench
from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import DataLocation, open_split
from mlipbench.structures.kinds import Kind, kind_of

MINI = Path(mlipbench.__file__).parent / "datasets" / "mini"
FOLDERS = ("ethanol", "isomers", "lips", "methane", "probes", "slabs", "systems", "water")
DATA = {".xz", ".txt", ".json", ".db", ".npz"}
SIZES = {
    "mini-ethanol": {"train": 150, "val": 30, "test": 60},
    "mini-isomers": {"train": 168, "val": 24, "test_within": 48, "test_other": 120},
    "mini-lips": {"train": 760, "val": 40, "test": 201},
    "mini-methane": {"train": 440, "val": 40, "test": 121},
    "mini-systems": {"train": 24, "val": 6, "slabs": 16, "lips": 8, "molecules": 16, "cu-12": 1, "cu-10192": 1},
    "mini-water": {"train": 660, "val": 40, "test": 201},
}
TRAJECTORIES = {
    "mini-ethanol": (240, 50.0),
    "mini-lips": (1001, 50.0),
    "mini-methane": (601, 50.0),
    "mini-water": (901, 20.0),
}
TOGETHER = [
    *((name, tuple(splits)) for name, splits in SIZES.items()),
    *((name, ("blocked_train", "blocked_val", "blocked_test")) for name in TRAJECTORIES),
    *(("mini-ethanol", (f"train_0{fold}", f"test_0{fold}")) for fold in range(1, 6)),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def opened(dataset, split, cache):
    return open_split(load_entry(dataset), split, DataLocation(None, cache))


def contents(split):
    """Return the bytes of the coordinates of every structure, each relative to its first atom."""
    batch = split.structures(0, len(split))
    parts = np.split(np.asarray(batch.positions), batch.offsets[1:-1])
    return {np.round(part - part[0], 4).tobytes() for part in parts}


@pytest.mark.parametrize("folder", FOLDERS)
def test_checksums_cover_every_data_file(folder):
    listed = dict(reversed(line.split("  ")) for line in (MINI / folder / "SHA256SUMS").read_text().splitlines())
    present = {p.relative_to(MINI / folder).as_posix() for p in (MINI / folder).rglob("*") if p.suffix in DATA}
    assert set(listed) == present
    for name, digest in listed.items():
        assert hashlib.sha256((MINI / folder / name).read_bytes()).hexdigest() == digest, name


def test_all_of_them_are_small():
    assert sum(path.stat().st_size for path in MINI.rglob("*") if path.suffix in DATA) < 5_000_000


@pytest.mark.parametrize(("dataset", "splits"), SIZES.items())
def test_sizes_of_splits(dataset, splits, cache):
    assert {name: len(opened(dataset, name, cache)) for name in splits} == splits


@pytest.mark.parametrize(("dataset", "splits"), TOGETHER)
def test_splits_share_no_structure(dataset, splits, cache):
    held = [opened(dataset, name, cache) for name in splits]
    for one, other in combinations(held, 2):
        assert not contents(one) & contents(other)
    assert all(len(contents(split)) == len(split) for split in held)


@pytest.mark.parametrize(("dataset", "expected"), TRAJECTORIES.items())
def test_trajectories_hold_all_frames_in_order_of_time(dataset, expected, cache):
    entry, trajectory = load_entry(dataset), opened(dataset, "trajectory", cache)
    assert (len(trajectory), entry.frame_interval_fs) == expected
    # structures are named by file and frame
    numbers = [int(str(name).rpartition(":")[2]) for name in trajectory.ids]
    assert numbers == list(range(len(trajectory)))


@pytest.mark.parametrize(
    ("mini", "large"),
    [
        ("mini-ethanol", "md17-ethanol"),
        ("mini-isomers", "iso17"),
        ("mini-lips", "lips"),
        ("mini-methane", "methane-aimd"),
        ("mini-water", "water"),
        ("mini-water", "water-aimd"),
    ],
)
def test_main_splits_have_the_names_of_the_large_dataset(mini, large):
    assert set(SIZES[mini]) <= set(load_entry(mini).splits) & set(load_entry(large).splits)


@pytest.mark.parametrize(
    ("dataset", "sizes"),
    [
        ("mini-slabs", {"atoms": 7, "dimers": 7, "molecules": 4, "crystals": 6, "slabs": 4}),
        ("mini-elements", {"atoms": 94, "dimers": 94}),
    ],
)
def test_probed_structures_are_of_their_kinds(dataset, sizes, cache):
    for name, size in sizes.items():
        split = opened(dataset, name, cache)
        structures = split.structures(0, len(split))
        kinds = {kind_of(structures.slice(index, index + 1)) for index in range(len(split))}
        assert (len(split), kinds) == (size, {Kind(name.removesuffix("s"))})
        assert not split.has_labels


def test_probed_elements_of_mini_slabs_are_those_that_models_learn(cache):
    known = opened("mini-slabs", "train", cache).elements
    for name in ("atoms", "dimers", "molecules", "crystals", "slabs"):
        assert set(opened("mini-slabs", name, cache).elements) <= set(known)
    assert set(opened("mini-slabs", "atoms", cache).elements) == set(known)
    assert set(opened("mini-elements", "dimers", cache).elements) == set(range(1, 95))


def test_folds_have_the_names_of_rmd17():
    assert set(load_entry("rmd17-ethanol").splits) <= set(load_entry("mini-ethanol").splits)
