"""Text files beside extended XYZ: ids, clusters and reference energies of OC20."""

from __future__ import annotations

import json
import lzma
import os
from typing import TYPE_CHECKING, Any

import pytest
from dataset_helpers import reading, save, slabs
from pydantic import ValidationError

from mlipbench.datasets.prepare import is_prepared, open_split, verify
from mlipbench.datasets.readers import read
from mlipbench.datasets.records import Reading
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from dataset_helpers import Convert, MakeEntry

    from mlipbench.datasets.prepare import DataLocation

OC20 = {"columns": ["sid", "fid", "reference_energy"], "prefixes": {"sid": "random", "fid": "frame"}, "ending": ".txt"}
KEYS = {"id": ["sid", "fid"], "cluster": "sid", "reference_energy": "reference_energy"}
LINES = "random17,frame0,-7.5\nrandom17,frame5,-7.5\nrandom4,frame0,-0.25\n"


def how(**changes: Any) -> Reading:
    return reading(KEYS, cluster="key", sidecar=OC20 | changes)


def frames_without_names(n: int = 3) -> Any:
    frames = slabs(n)
    for atoms in frames:
        atoms.info = {}
    return frames


def put(folder: Path, lines: str = LINES, *, ending: str = "extxyz", xz: bool = False) -> Path:
    path = save(folder / f"0.{ending}", frames_without_names())
    if xz:
        (folder / "0.txt.xz").write_bytes(lzma.compress(lines.encode()))
    else:
        (folder / "0.txt").write_text(lines)
    return path


@pytest.mark.parametrize("ending", ["extxyz", "xyz", "extxyz.xz", "xyz.xz"])
@pytest.mark.parametrize("xz", [False, True])
def test_adsorption_energies_ids_and_clusters(tmp_path: Path, convert: Convert, ending: str, xz: bool) -> None:
    split = convert(put(tmp_path, ending=ending, xz=xz), how())
    assert split.labels(0, 3).energy.tolist() == [-2.5, -3.5, -11.75]
    assert split.ids.tolist() == ["17_0", "17_5", "4_0"]
    assert split.cluster_names[split.clusters].tolist() == ["17", "17", "4"]


def test_names_alone_leave_the_energy_as_it_is(tmp_path: Path, convert: Convert) -> None:
    path = put(tmp_path, "random17,frame0\nrandom17,frame5\nrandom4,frame0\n")
    names = reading({"id": ["sid", "fid"]}, sidecar=OC20 | {"columns": ["sid", "fid"], "prefixes": {}})
    split = convert(path, names)
    assert split.labels(0, 3).energy.tolist() == [-10, -11, -12]
    assert split.ids.tolist() == ["random17_frame0", "random17_frame5", "random4_frame0"]


def test_a_reference_in_the_data_file_needs_no_sidecar(tmp_path: Path, convert: Convert) -> None:
    frames = slabs(2)
    for atoms in frames:
        atoms.info["reference_energy"] = -1.5
    for ending in ("extxyz", "traj"):
        path = save(tmp_path / f"a.{ending}", frames)
        split = convert(path, reading({"reference_energy": "reference_energy"}))
        assert split.labels(0, 2).energy.tolist() == [-8.5, -9.5]


def test_reference_energies_are_converted_like_the_others(tmp_path: Path, convert: Convert) -> None:
    units = {"energy": "Ha", "forces": "eV/A", "length": "A"}
    split = convert(put(tmp_path), reading(KEYS, cluster="key", sidecar=OC20, units=units))
    assert split.labels(0, 1).energy[0] == pytest.approx(-2.5 * 27.211386245988, rel=1e-15)


def test_other_formats_have_no_sidecar(tmp_path: Path, convert: Convert) -> None:
    path = save(tmp_path / "a.traj", slabs(2))
    assert len(convert(path, reading(sidecar=OC20))) == 2


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (LINES.replace("random4,frame0,-0.25\n", ""), "has 2 lines, but the data file holds more frames"),
        (LINES + "random4,frame1,-0.25\n", "has more lines than the 3 frames of the data file"),
        ("", "has 0 lines, but the data file holds more frames"),
        (LINES.replace("frame5,", ""), "line 2: has 2 columns instead of 3 (sid, fid, reference_energy)"),
        (LINES.replace("frame5", "frame5,1"), "line 2: has 4 columns instead of 3"),
        (LINES.replace("\nrandom4", "\n\nrandom4"), "line 3: has 1 columns instead of 3"),
        (LINES.replace("-0.25", "low"), "line 3: reference_energy 'low' is not a finite number"),
        (LINES.replace("-0.25", "nan"), "line 3: reference_energy 'nan' is not a finite number"),
        (LINES.replace("-0.25", "1e999"), "line 3: reference_energy '1e999' is not a finite number"),
        (LINES.replace("random4", "4"), "line 3: sid '4' does not begin with 'random'"),
        (LINES.replace("random4", "rand\x1b[2Jom4"), "line 3: sid 'rand\\x1b[2Jom4' does not begin"),
        ("x" * (1 << 22), "line 1: a line is longer than 4 MiB"),
    ],
)
def test_bad_lines_name_file_and_line(tmp_path: Path, lines: str, expected: str) -> None:
    path = put(tmp_path, lines)
    with pytest.raises(DatasetError) as caught:
        list(read(path, how(), "x"))
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / '0.txt'}: {expected}")
    assert line.isprintable()


def test_damaged_sidecars(tmp_path: Path) -> None:
    path = put(tmp_path)
    (tmp_path / "0.txt").write_bytes(b"random17,frame\xff0,-7.5\n")
    with pytest.raises(DatasetError, match=r"0\.txt: line 1: is not UTF-8 text"):
        list(read(path, how(), "x"))
    (tmp_path / "0.txt").unlink()
    (tmp_path / "0.txt.xz").write_bytes(b"not xz at all")
    with pytest.raises(DatasetError, match=r"0\.txt\.xz: line 1: the compressed data are damaged"):
        list(read(path, how(), "x"))
    (tmp_path / "0.txt.xz").write_bytes(lzma.compress(LINES.encode())[:-20])
    with pytest.raises(DatasetError, match=r"0\.txt\.xz: line \d: the compressed file ends"):
        list(read(path, how(), "x"))


def test_problems_of_the_data_file_still_name_it(tmp_path: Path) -> None:
    path = put(tmp_path)
    path.write_text(path.read_text().replace("energy=-11.0", "energy=nan"))
    with pytest.raises(DatasetError, match=r"0\.extxyz: frame 1: energy is not finite"):
        list(read(path, how(), "x"))


def test_a_value_may_not_stand_in_both_files(tmp_path: Path) -> None:
    path = put(tmp_path)
    save(path, slabs(3))
    with pytest.raises(DatasetError, match=r"0\.txt: line 1: 'fid' stands in the data file as well"):
        list(read(path, how(), "x"))


def test_a_missing_sidecar_is_named(tmp_path: Path) -> None:
    path = put(tmp_path)
    (tmp_path / "0.txt").unlink()
    with pytest.raises(DatasetError) as caught:
        list(read(path, how(), "x"))
    expected = (
        f"{tmp_path / '0.txt'}: there is neither this file nor 0.txt.xz, which the entry says belongs to 0.extxyz"
    )
    assert str(caught.value).startswith(expected)


def test_a_reading_survives_json() -> None:
    assert Reading.from_json(json.loads(json.dumps(how().to_json()))) == how()
    plain = reading(pbc=(True, False, True))
    assert Reading.from_json(json.loads(json.dumps(plain.to_json()))) == plain


ENTRY: dict[str, Any] = {
    "sidecar": {"columns": ["sid", "fid", "reference_energy"]},
    "keys": {"energy": "energy", "forces": "forces", **KEYS},
    "energy_reference": "adsorption",
    "cluster": "key",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"energy_reference": "total"}, "`keys.reference_energy` needs `energy_reference: adsorption`"),
        ({"sidecar": {"columns": []}}, "sidecar.columns"),
        ({"sidecar": {"columns": ["sid", "sid"]}}, "`columns` names one column twice"),
        ({"sidecar": {"columns": ["sid"], "prefixes": {"sd": "x"}}}, "there is no column 'sd'; did you mean sid?"),
        ({"sidecar": {"columns": ["sid"], "ending": "/../x"}}, "sidecar.ending"),
    ],
)
def test_bad_declarations_are_refused(make_entry: MakeEntry, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make_entry(**(ENTRY | changes))
    assert expected in str(caught.value)


def test_a_changed_sidecar_makes_the_columns_again(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str]
) -> None:
    put(location.data_root)
    entry = make_entry(**ENTRY)
    first = open_split(entry, "all", location)
    assert first.labels(0, 1).energy[0] == -2.5
    assert verify(entry, "all", location).problems == ()
    assert in_process == ["0"]
    beside = location.data_root / "0.txt"
    before = beside.stat()
    beside.write_text(LINES.replace("frame0,-7.5", "frame0,-6.5"))
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
    (problem,) = verify(entry, "all", location).problems
    assert problem.startswith(f"{beside}: differs from the file that was converted")
    os.utime(beside, ns=(1, 1))
    assert not is_prepared(entry, "all", location)
    assert open_split(entry, "all", location).labels(0, 1).energy[0] == -3.5


def test_errors_of_a_child_name_the_sidecar(location: DataLocation, make_entry: MakeEntry) -> None:
    put(location.data_root, LINES.replace("-0.25", "low"))
    with pytest.raises(DatasetError) as caught:
        open_split(make_entry(**ENTRY), "all", location)
    expected = f"{location.data_root / '0.txt'}: line 3: reference_energy 'low' is not a finite number"
    assert str(caught.value).startswith(expected)
