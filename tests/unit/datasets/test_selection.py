"""Published numbers of structures, and files with several names."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mlipbench.datasets.entry import SplitSpec, entry_names, load_entry
from mlipbench.datasets.prepare import DataLocation, find_files, open_split
from mlipbench.datasets.rules import LeignnSplit, MdsimSplit
from mlipbench.datasets.selection import leignn_part, mdsim_part, read_indices, selection
from mlipbench.errors import DatasetError, PrerequisiteError
from mlipbench.units import energy_factor, forces_factor

if TYPE_CHECKING:
    from pathlib import Path

N = 12
OLD_INDICES = [50, 7, 999, 3, 120, 8, 41, 600, 2, 77, 1000, 90]  # as numbers and as text in other orders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What rMD17's archive unpacks to, with twelve frames of a molecule of three atoms."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data/rmd17"
    (folder / "npz_data").mkdir(parents=True)
    (folder / "splits").mkdir()
    np.savez(
        folder / "npz_data/rmd17_ethanol.npz",
        nuclear_charges=np.array([6, 6, 8, 1, 1, 1, 1, 1, 1], dtype=np.uint8),
        coords=rng.normal(size=(N, 9, 3)),
        energies=np.arange(N) - 97_000.0,
        forces=rng.normal(size=(N, 9, 3)),
        old_indices=np.array(OLD_INDICES),
    )
    for name, numbers in {"train_01": [7, 0, 3], "test_01": [11, 1]}.items():
        text = "".join(f"{number}\n" for number in numbers)
        (folder / f"splits/index_{name}.csv").write_text(text)
    return tmp_path / "data"


def opened(root: Path, split: str = "train_01") -> list[float]:
    """Return the energies in kcal/mol."""
    location = DataLocation(root, root.parent / "cache")
    data = open_split(load_entry("rmd17-ethanol"), split, location)
    return (data.labels(0, len(data)).energy / energy_factor("kcal/mol")).round(6).tolist()


def test_published_folds_are_taken_in_the_order_of_the_file(root):
    assert opened(root) == [-97_000.0, -96_997.0, -96_993.0]
    assert opened(root, "test_01") == [-96_999.0, -96_989.0]


def test_a_changed_list_is_read_again(root):
    opened(root)
    (root / "rmd17/splits/index_train_01.csv").write_text("5\n")
    assert opened(root) == [-96_995.0]


def test_units_are_those_of_the_entry(root):
    location = DataLocation(root, root.parent / "cache")
    data = open_split(load_entry("rmd17-ethanol"), "test_01", location)
    with np.load(root / "rmd17/npz_data/rmd17_ethanol.npz") as file:
        expected = file["forces"][[1, 11]].reshape(-1, 3) * forces_factor("kcal/mol/A")
    np.testing.assert_allclose(data.labels(0, 2).forces, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1\ntwo\n", "line 2: 'two' is no number of a structure; there are 0 to 11; get the file again, and"),
        ("1\n12\n", "line 2: '12' is no number of a structure"),
        ("-1\n", "line 1: '-1' is no number of a structure"),
        ("9" * 5000, "line 1: '99999999999999999999' is no number of a structure"),
        ("3\n4\n3\n", "the number 3 stands there twice; get the file again"),
    ],
)
def test_lists_of_something_else_get_one_line(root, text, problem):
    path = root / "rmd17/splits/index_train_01.csv"
    path.write_text(text)
    with pytest.raises(DatasetError) as caught:
        opened(root)
    assert str(caught.value).startswith(f"{path}: {problem}")


def test_numbers_may_begin_with_one(tmp_path):
    path = tmp_path / "train_ids.txt"
    path.write_bytes(b"1\r\n4\r\n\r\n")
    assert read_indices(path, 4, 1).tolist() == [0, 3]
    path.write_text("0\n")
    with pytest.raises(DatasetError, match="there are 1 to 4"):
        read_indices(path, 4, 1)


def test_seed_and_slice_choose_among_published_numbers(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("\n".join(str(number) for number in range(0, 100, 2)))
    parts = []
    for part in ([None, 30, None], [30, None, None]):
        spec = SplitSpec(files=("a.npz",), indices={"file": "list.csv"}, shuffle_seed=1, slice=part)
        parts.append(selection(100, spec, path))
    assert [len(part) for part in parts] == [30, 20]
    assert sorted(np.concatenate(parts).tolist()) == list(range(0, 100, 2))


@pytest.mark.parametrize(
    "name", ["md17/md17_ethanol.npz", "md17/ethanol_dft.npz", "md17_ethanol.npz", "ethanol_dft.npz"]
)
def test_old_and_new_names_and_places_of_md17_are_known(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert find_files(load_entry("md17-ethanol"), "val", DataLocation(tmp_path, tmp_path)) == [path]


def test_what_is_missing_can_be_fetched(tmp_path):
    with pytest.raises(PrerequisiteError) as caught:
        find_files(load_entry("md17-benzene"), "test", DataLocation(tmp_path, tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}/md17/md17_benzene2017.npz: dataset md17-benzene, split test: no such file; give `mlipbench data"
        " fetch md17-benzene:test`, or put the file there, or give its folder with --data-root or MLIPBENCH_DATA"
    )


# what scikit-learn 1.9.1 draws by two calls of train_test_split with random_state=123, as MDSim does: number, first
# five, sum, and SHA-256 of the sorted indices as little-endian int64
LIPS = {"pool": 20000, "size": 20000, "val": 1000}
ETHANOL = {"test": 10000, "size": 10000, "val": 500}
DRAWN = [
    (25001, LIPS, "train", 19000, [0, 1, 2, 3, 4], 236946881, "c1423861e8650ed3"),
    (25001, LIPS, "val", 1000, [17, 72, 87, 109, 129], 12580604, "1d0411cb84b147bd"),
    (25001, LIPS, "test", 5001, [8, 19, 20, 23, 24], 62985015, "228ac0cb367bec33"),
    (555092, ETHANOL, "train", 9500, [109, 151, 154, 191, 304], 2637828774, "6842e4b39f0e90ec"),
    (555092, ETHANOL, "val", 500, [2099, 2420, 2447, 3034, 6256], 135304133, "667f70a69f767f3b"),
    (555092, ETHANOL, "test", 10000, [104, 122, 153, 248, 251], 2766229312, "b2917675a203ed96"),
]


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda drawn: f"{drawn[0]}-{drawn[2]}")
def test_mdsims_splits_are_those_of_its_code(drawn):
    n, sizes, part, *expected = drawn
    found = mdsim_part(n, MdsimSplit(part=part, **sizes))
    digest = hashlib.sha256(found.astype("<i8").tobytes()).hexdigest()[:16]
    assert [len(found), found[:5].tolist(), int(found.sum()), digest] == expected


FRAMES = {  # as published
    "aspirin": 211762,
    "azobenzene": 99999,
    "benzene": 627983,
    "ethanol": 555092,
    "malonaldehyde": 993237,
    "naphthalene": 326250,
    "paracetamol": 106490,
    "salicylic": 320231,
    "toluene": 442790,
    "uracil": 133770,
}


@pytest.mark.parametrize("molecule", FRAMES)
def test_blocks_of_md17_follow_each_other_in_time(molecule):
    splits = load_entry(f"md17-{molecule}").splits
    n = FRAMES[molecule]
    train, val, test = (selection(n, splits[f"blocked_{part}"], None) for part in ("train", "val", "test"))
    assert (len(train), len(val)) == (950, 50)
    assert train[-1] < 0.6 * n < val[0]
    assert val[-1] < 0.75 * n < test[0]
    assert len(test) == pytest.approx(0.2 * n, abs=1)
    assert test[-1] == n - 1


WATER = [
    ("train_1k", 950, [48, 155, 200, 413, 546], 46829247, "ae56bf8fe2ab2799"),
    ("val_1k", 50, [1402, 7450, 8794, 8827, 9405], 2590639, "ac80e78049a9ce8e"),
    ("train", 9500, [8, 13, 23, 24, 29], 475966638, "531325a2af1240e9"),
    ("val", 500, [249, 293, 367, 629, 630], 25266303, "e1b14d4ddf1a0495"),
    ("train_90k", 85500, [0, 1, 3, 4, 5], 4280658834, "9f2be6a676e56198"),
    ("val_90k", 4500, [6, 14, 39, 44, 45], 227724045, "ffac05aa97b9a941"),
    ("test", 10000, [2, 43, 53, 62, 68], 491651396, "a3f5564451ff0efa"),
]


def described(found):
    digest = hashlib.sha256(found.astype("<i8").tobytes()).hexdigest()[:16]
    return [len(found), found[:5].tolist(), int(found.sum()), digest]


@pytest.mark.parametrize("drawn", WATER, ids=lambda drawn: drawn[0])
def test_splits_of_water_are_those_of_mdsims_code(drawn):
    split, *expected = drawn
    assert described(selection(100001, load_entry("water").splits[split], None)) == expected


# likewise, by test_size=0.2 and train_size=0.8, then 0.1 and 0.9
LEIGNN_MD = [
    (10000, "train", 7200, [0, 1, 2, 5, 8], 36169737, "b48ad6e4199006ab"),
    (10000, "val", 800, [13, 21, 22, 43, 53], 3922697, "be79fa27242e43e2"),
    (10000, "test", 2000, [3, 4, 6, 7, 10], 9902566, "4c9cba35c24e5d81"),
    (7503, "train", 5401, [0, 2, 3, 5, 7], 20191804, "a5539fd330faf62a"),
    (7503, "val", 601, [1, 10, 17, 34, 53], 2271532, "f54a88db80ef1865"),
    (7503, "test", 1501, [4, 6, 9, 11, 20], 5680417, "f980a43092facc5a"),
    (33, "train", 23, [0, 1, 2, 3, 7], 359, "9a4a7943de79f08b"),
    (33, "val", 3, [4, 6, 27], 37, "f3287815de54738a"),
    (33, "test", 7, [5, 8, 13, 21, 26], 132, "438d898e026b0950"),
]


@pytest.mark.parametrize("drawn", LEIGNN_MD, ids=lambda drawn: f"{drawn[0]}-{drawn[1]}")
@pytest.mark.parametrize("dataset", ["water-aimd", "methane-aimd"])
def test_splits_of_leignns_dynamics_are_those_of_its_code(dataset, drawn):
    n, part, *expected = drawn
    assert described(selection(n, load_entry(dataset).splits[part], None)) == expected


def rmd17_by_time(root, cut, **keys):
    """Open a part of rMD17 in order of time."""
    entry = load_entry("rmd17-ethanol")
    spec = entry.splits["blocked_train"]
    spec = spec.model_copy(update={"slice": cut, "keys": spec.keys.model_copy(update=keys)})
    entry = entry.model_copy(update={"splits": {"part": spec}})
    return open_split(entry, "part", DataLocation(root, root.parent / "cache"))


def test_blocks_of_rmd17_go_by_places_in_the_trajectory(root):
    assert opened(root, "blocked_train") == [-96_992.0]  # of twelve frames the first in time, number 8 of the file
    part = rmd17_by_time(root, (0, 6, 2))  # the places 2, 7 and 41, in the order of the file
    assert part.ids.tolist() == ["7", "41", "2"]
    energies = part.labels(0, 3).energy / energy_factor("kcal/mol")
    np.testing.assert_allclose(energies, [-96_999.0, -96_994.0, -96_992.0], rtol=1e-12)
    assert rmd17_by_time(root, (-2, None, None)).ids.tolist() == ["999", "1000"]


def test_names_that_are_no_places_get_one_line(root):
    with pytest.raises(DatasetError) as caught:
        rmd17_by_time(root, (0, 6, 2), id="energies")
    assert str(caught.value) == (
        f"{root}/rmd17/npz_data/rmd17_ethanol.npz: structure 0: '-97000.0' says nothing about the order of structures;"
        " name a key of whole numbers in `keys.id`, or leave out `order: id`"
    )


@pytest.mark.parametrize("molecule", FRAMES)
def test_blocks_of_rmd17_follow_each_other_in_time(molecule):
    splits, n = load_entry(f"rmd17-{molecule}").splits, 99_988 if molecule == "azobenzene" else 100_000
    ids = np.arange(n)[::-1].astype(str)  # the last frame of the file is the first in time
    train, val, test = (
        n - 1 - selection(n, splits[f"blocked_{part}"], None, ids)[::-1] for part in ("train", "val", "test")
    )
    assert (len(train), len(val), len(test)) == (950, 50, n - 80_000)
    assert train[-1] < 0.6 * n < val[0]
    assert val[-1] < 0.75 * n < test[0]


def test_leignns_split_is_pythons_shuffle():
    order = list(range(10))
    random.seed(234)
    random.shuffle(order)
    rule = {"seed": 234, "share": 1.0}
    assert leignn_part(10, LeignnSplit(part="train", **rule)).tolist() == sorted(order[:8])
    assert leignn_part(10, LeignnSplit(part="val", **rule)).tolist() == sorted(order[8:])
    sizes = [len(leignn_part(200_000, LeignnSplit(part=part, seed=123, share=0.25))) for part in ("train", "val")]
    assert sizes == [40_000, 10_000]


def test_too_few_structures_for_mdsims_split_get_one_line():
    with pytest.raises(DatasetError, match="20000 structures are too few for this split; the file does not hold the "):
        mdsim_part(20000, MdsimSplit(part="test", **LIPS))


@pytest.mark.parametrize(
    "changes",
    [
        {"mdsim": {"part": "val", "size": 10, "val": 5}},
        {"mdsim": {**LIPS, "part": "val"}, "slice": [0, 5, None]},
        {"order": "id"},
        {"order": "id", "slice": [0, 5, None], "shuffle_seed": 1},
        {"order": "id", "slice": [0, 5, None], "indices": {"file": "a.csv"}},
    ],
)
def test_rules_that_contradict_each_other_are_refused(changes):
    faults = r"give either test or pool|mdsim, leignn and leignn_md leave nothing|order is for a slice"
    with pytest.raises(ValueError, match=faults):
        SplitSpec(files=("a.npz",), **changes)


def test_a_missing_list_is_missing(root):
    (root / "rmd17/splits/index_train_01.csv").unlink()
    with pytest.raises(PrerequisiteError, match=r"index_train_01\.csv: dataset rmd17-ethanol, split train_01: no such"):
        opened(root)


def test_alternatives_do_not_leave_the_root():
    with pytest.raises(ValueError, match="below the root"):
        SplitSpec(files=("a.npz | ../b.npz",))


@pytest.mark.parametrize("name", entry_names())
def test_shipped_entries_are_valid_and_say_where_they_come_from(name):
    entry = load_entry(name)
    assert entry.licence
    assert entry.citation
