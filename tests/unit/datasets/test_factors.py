from __future__ import annotations

import json
import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dataset_helpers import save, slabs

from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.factor_files import write_factors
from mlipbench.datasets.factors import open_factors
from mlipbench.datasets.prepare import open_split
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.datasets.prepare import DataLocation

    MakeEntry: TypeAlias = Callable[..., DatasetEntry]

FACTORS = {"file": "map.pkl | other.pkl", "prefix": "random", "fields": ["ads_id", "bulk_mpid"], "words": "pairs"}
SYSTEMS: dict[str, Any] = {
    "random12": {"ads_id": 3, "bulk_mpid": "mp-7", "miller_index": (1, 1, 0), "shift": 0.25, "top": True},
    "random0": {"ads_id": 5, "bulk_mpid": "mp-7", "miller_index": (1, 0, 0), "shift": 0.0, "top": False},
    "random1": {"ads_id": 3, "bulk_mpid": "mp-9", "miller_index": (2, 1, 0), "shift": 0.5, "top": True},
}


def entry_of(make_entry: MakeEntry) -> DatasetEntry:
    keys = {"energy": "energy", "forces": "forces", "cluster": "sid"}
    return make_entry(cluster="key", keys=keys, factors=FACTORS | {"prefix": ""})


def put(location: DataLocation, systems: Any, name: str = "map.pkl", protocol: int = 4) -> Path:
    assert location.data_root is not None
    path = location.data_root / name
    path.write_bytes(pickle.dumps(systems, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_structures_have_the_levels_of_their_system(
    location: DataLocation, make_entry: MakeEntry, protocol: int
) -> None:
    save(location.data_root / "a.extxyz", slabs(5))  # systems random0 (two frames), random1 (two) and random2
    put(location, SYSTEMS | {"random2": SYSTEMS["random0"]}, protocol=protocol)
    entry = entry_of(make_entry)
    table = open_factors(entry, location)
    assert table is not None
    first, second = table.levels(open_split(entry, "all", location))
    assert [first[i] == first[0] for i in range(5)] == [True, True, False, False, True]
    assert [second[i] == second[0] for i in range(5)] == [True, True, False, False, True]


def test_equal_values_are_one_level_and_prefixes_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "map.pkl").write_bytes(pickle.dumps(SYSTEMS))
    write_factors(tmp_path / "map.pkl", tmp_path, FACTORS)
    names, first, second = (np.load(tmp_path / f"{name}.npy").tolist() for name in ("names", "first", "second"))
    assert names == [b"0", b"1", b"12"]
    assert (first[1] == first[2], first[0] == first[1]) == (True, False)
    assert (second[0] == second[2], second[0] == second[1]) == (True, False)


def test_without_the_file_there_are_no_factors(location: DataLocation, make_entry: MakeEntry) -> None:
    assert open_factors(entry_of(make_entry), location) is None
    assert open_factors(make_entry(), location) is None


def test_the_file_is_converted_once_and_again_when_it_changes(location: DataLocation, make_entry: MakeEntry) -> None:
    entry, path = entry_of(make_entry), put(location, SYSTEMS, "other.pkl")
    first = open_factors(entry, location)
    assert first is not None
    assert first.file == path
    before = {file: file.stat().st_mtime_ns for file in location.cache.rglob("*.npy")}
    again = open_factors(entry, location)
    assert again is not None
    assert {file: file.stat().st_mtime_ns for file in location.cache.rglob("*.npy")} == before
    assert again.sha256 == first.sha256
    put(location, SYSTEMS | {"random7": SYSTEMS["random1"]}, "other.pkl")
    changed = open_factors(entry, location)
    assert changed is not None
    assert (len(first.names), len(changed.names)) == (3, 4)
    assert changed.sha256 != first.sha256


def test_a_system_that_the_file_does_not_know_is_named(location: DataLocation, make_entry: MakeEntry) -> None:
    save(location.data_root / "a.extxyz", slabs(5))
    put(location, SYSTEMS)
    entry = entry_of(make_entry)
    table = open_factors(entry, location)
    assert table is not None
    with pytest.raises(DatasetError, match=r"map\.pkl: .*says nothing of 1 of the systems, the first is 'random2'"):
        table.levels(open_split(entry, "all", location))


class Hostile:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


FAULTS: dict[str, tuple[Any, str]] = {
    "not a dictionary": ([1, 2], "holds no dictionary of systems"),
    "empty": ({}, "holds no dictionary of systems"),
    "field": ({"random1": {"ads_id": 3}}, r"random1\.bulk_mpid: is missing, or neither text nor a whole number"),
    "kind": (
        {"random1": {"ads_id": [3], "bulk_mpid": "mp-1"}},
        r"random1\.ads_id: is missing, or neither text nor a whole number",
    ),
    "no fields": ({"random1": 5}, r"random1\.ads_id: is missing"),
    "prefix": ({"1": SYSTEMS["random1"]}, "1: a name does not begin with 'random'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_files_get_one_line(tmp_path: Path, fault: str) -> None:
    content, line = FAULTS[fault]
    (tmp_path / "map.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DatasetError, match=rf"map\.pkl: {line}") as caught:
        write_factors(tmp_path / "map.pkl", tmp_path, FACTORS)
    assert "\n" not in str(caught.value)


def test_code_in_the_file_never_runs(location: DataLocation, make_entry: MakeEntry, tmp_path: Path) -> None:
    put(location, {"random1": Hostile(tmp_path / "canary")})
    with pytest.raises(DatasetError, match=r"map\.pkl: names posix\.mkdir, which is not decoded"):
        open_factors(entry_of(make_entry), location)
    assert not (tmp_path / "canary").exists()
    assert list((location.cache / "datasets" / "toy").glob("factors-*")) == []


def test_oc20_declares_its_public_mapping() -> None:
    entry = load_entry("oc20")
    assert entry.factors is not None
    described = json.loads(entry.factors.model_dump_json())
    assert (described["prefix"], described["fields"]) == ("random", ["ads_id", "bulk_mpid"])
    (archive,) = [one for one in entry.sources if one.file == "oc20_data_mapping.pkl"]
    assert archive.md5 == "6b5d485019861f6e7efca38338375b61"
    assert not archive.serves("train_200k")
