from __future__ import annotations

import json
import lzma
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dataset_helpers import save, slabs

from mlipbench.datasets.entry import MINI, load_entry
from mlipbench.datasets.prepare import DataLocation, open_split
from mlipbench.datasets.references import reference_map
from mlipbench.errors import DatasetError, PrerequisiteError

if TYPE_CHECKING:
    from pathlib import Path

    from dataset_helpers import MakeEntry

    from mlipbench.datasets.entry import DatasetEntry

TABLE = {"random0": {"random2": 1.0, "random3": 0.5}, "random1": {"random3": -2.0}}


@pytest.fixture
def prepared(location: DataLocation, make_entry: MakeEntry, in_process: list[str]) -> Any:
    frames = slabs(8)
    save(location.data_root / "train.extxyz", [frames[i] for i in (2, 0, 1, 3)])
    save(location.data_root / "references.extxyz", [frames[6], frames[4]])
    (location.data_root / "references.json").write_text(json.dumps({"systems": TABLE}))
    keys = {"energy": "energy", "forces": "forces", "id": ["sid", "fid"], "cluster": "sid"}
    return make_entry(
        keys=keys,
        cluster="key",
        splits={
            "train": {"files": ["train.extxyz"]},
            "references": {"files": ["references.extxyz"], "keys": keys | {"id": "sid"}},
        },
        references={"split": "references", "map": "references.json"},
    )


def test_terms_of_every_structure(prepared: DatasetEntry, location: DataLocation) -> None:
    found = reference_map(prepared, "train", location)
    assert found.split == "references"
    # train holds random1, random0, random0, random1; references random3, random2
    np.testing.assert_array_equal(found.offsets, [0, 1, 3, 5, 6])
    np.testing.assert_array_equal(found.index, [0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(found.coefficient, [-2, 1, 0.5, 1, 0.5, -2])
    np.testing.assert_array_equal(found.reference_energy(np.array([3.0, 10.0])), [-6, 11.5, 11.5, -6])
    assert reference_map(prepared, "references", location) is None


def test_terms_of_some_structures(prepared: DatasetEntry, location: DataLocation) -> None:
    found = reference_map(prepared, "train", location).subset(np.array([3, 1]))
    np.testing.assert_array_equal(found.offsets, [0, 1, 3])
    np.testing.assert_array_equal(found.coefficient, [-2, 1, 0.5])
    np.testing.assert_array_equal(found.reference_energy(np.array([3.0, 10.0])), [-6, 11.5])


def test_no_references(location: DataLocation, make_entry: MakeEntry) -> None:
    assert reference_map(make_entry(), "all", location) is None


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"random0": TABLE["random0"]}, "systems.random1: there are no references for this system"),
        (TABLE | {"random1": {"random9": 1}}, "systems.random1: 'random9' is not in the references split"),
        (TABLE | {"random1": {"random3": "1"}}, "systems.random1: the coefficient of 'random3' is not a finite number"),
        (TABLE | {"random1": {"random3": True}}, "is not a finite number"),
        (TABLE | {"random1": {"random3": float("nan")}}, "is not a finite number"),
        (TABLE | {"random1": {}}, "there are no references"),
        ([], "there is no mapping `systems`"),
    ],
)
def test_bad_maps_are_one_line(prepared: DatasetEntry, location: DataLocation, table: Any, expected: str) -> None:
    path = location.data_root / "references.json"
    path.write_text(json.dumps({"systems": table}))
    with pytest.raises(DatasetError) as caught:
        reference_map(prepared, "train", location)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)


def test_missing_or_broken_map(prepared: DatasetEntry, location: DataLocation) -> None:
    path = location.data_root / "references.json"
    path.write_text("{")
    with pytest.raises(DatasetError, match="not valid JSON"):
        reference_map(prepared, "train", location)
    path.unlink()
    with pytest.raises(PrerequisiteError, match="cannot be read"):
        reference_map(prepared, "train", location)


def test_the_embedded_slabs(tmp_path: Path, in_process: list[str]) -> None:
    """Ids, clusters and adsorption energies against a direct parse of the files."""
    if not (MINI / "slabs" / "references.json").exists():
        pytest.skip("mini/slabs/references.json is not there")
    entry = load_entry("mini-slabs")
    location = DataLocation(None, tmp_path)
    energies = {}
    for split in ("references", "val_id"):
        text = lzma.decompress((MINI / "slabs" / split / "0.extxyz.xz").read_bytes()).decode()
        for line in text.splitlines():
            if "Properties=" in line:
                sid, fid = re.search(r"sid=(\S+)", line)[1], re.search(r"fid=(\S+)", line)[1]
                energies[split, sid, fid] = float(re.search(r"\senergy=(\S+)", line)[1])
    opened = open_split(entry, "val_id", location)
    assert opened.ids.tolist() == [f"{sid}_{fid}" for split, sid, fid in energies if split == "val_id"]
    found = reference_map(entry, "val_id", location)
    references = open_split(entry, "references", location)
    adsorption = opened.labels(0, len(opened)).energy
    adsorption = adsorption - found.reference_energy(references.labels(0, len(references)).energy)
    systems = json.loads((MINI / "slabs" / "references.json").read_text())["systems"]
    expected = [
        energy - sum(value * energies["references", name, "0"] for name, value in systems[sid].items())
        for (split, sid, _), energy in energies.items()
        if split == "val_id"
    ]
    np.testing.assert_allclose(adsorption, expected, atol=1e-9)
