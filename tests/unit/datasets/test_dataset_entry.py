from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlipbench.datasets.entry import ENTRIES, entry_names, load_entry
from mlipbench.errors import ConfigError

if TYPE_CHECKING:
    from dataset_helpers import MakeEntry


@pytest.mark.parametrize("name", entry_names())
def test_shipped_entries_are_valid(name: str) -> None:
    entry = load_entry(name)
    assert entry.name == name
    assert entry.level_of_theory
    assert entry.fit_split is None or entry.fit_split in entry.splits


@pytest.mark.parametrize("name", [name for name in entry_names() if load_entry(name).frame_interval_fs is not None])
def test_entries_with_a_frame_interval_have_all_frames_in_order(name: str) -> None:
    entry = load_entry(name)
    assert list(entry.splits["trajectory"].model_dump(exclude_defaults=True)) == ["files"]
    assert {spec.files for spec in entry.splits.values()} == {entry.splits["trajectory"].files}
    if entry.mini is not None and load_entry(entry.mini.dataset).frame_interval_fs is not None:
        assert entry.mini.splits["trajectory"] == "trajectory"


def test_listing_names_loads_nothing_heavy() -> None:
    code = "import sys, mlipbench.datasets.names as n; n.entry_names(); print({'pydantic', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_package_does_not_import_ase_or_torch_to_open_splits() -> None:
    code = "import sys, mlipbench.datasets.references; print({'ase', 'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_unknown_names_list_close_matches(make_entry: MakeEntry) -> None:
    with pytest.raises(ConfigError, match="unknown dataset 'mini-slab'; did you mean mini-slabs"):
        load_entry("mini-slab")
    with pytest.raises(ConfigError, match=r"dataset 'toy' has no split 'al'; did you mean all\?"):
        make_entry().split("al")


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = (ENTRIES / "mptrj-sample.yaml").read_text()
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "energy: eV,",
            "energy: kcal,",
            "line 9, units.energy: unknown energy unit 'kcal'; known units: eV, meV, kcal/mol",
        ),
        ("forces: eV/A,", "forces: eV/Ang,", "line 9, units.forces: unknown forces unit 'eV/Ang'"),
        ("length: A,", "length: Angstrom,", "units.length: unknown length unit"),
        ("stress: eV/A^3", "stress: Pa", "units.stress: unknown stress unit"),
        (", stress: eV/A^3", "", "`keys.stress` needs `units.stress`"),
        (", cluster: mptrj_traj_id", "", "`cluster: key` needs `keys.cluster`"),
        ("licence:", "license:", "license: unknown key (1 more); did you mean licence?"),
        ("energy_reference: total", "energy_reference: absolute", "energy_reference: Input should be 'total'"),
        ("fit_split: fit", "fit_split: fitt", "there is no split 'fitt'; did you mean fit?"),
        ("[mptrj/mptrj-random-1k.xyz]", "[../secret.xyz]", "splits.all.files[0]: must be a path below the root"),
        ("[mptrj/mptrj-random-1k.xyz]", "[/etc/passwd]", "must be a path below the root"),
        ("slice: [null, 800, null]", "slice: [null, 800, 0]", "the step of `slice` is zero"),
        (
            "  all: {files: [mptrj/mptrj-random-1k.xyz]}",
            "  all: {files: [a.npz], order: id, slice: [0, 5, 1], keys: {energy: E, forces: F, cluster: z}}",
            "split 'all': `order: id` needs one key as `keys.id`",
        ),
        ("pbc: file", "pbc: maybe", "pbc"),
        ("pbc: file", "pbc: file\nframe_interval_fs: 0", "line 12, frame_interval_fs: Input should be greater than 0"),
        ("pbc: file", "pbc: file\nframe_interval_fs: .inf", "frame_interval_fs: Input should be a finite number"),
        ("pbc: file", "pbc: file\nformula: C9H8OH", "line 12, formula: 'C9H8OH' is no formula such as C9H8O4"),
        ("pbc: file", "pbc: file\nformula: [C9H8O4]", "line 12, formula: Input should be a valid string"),
        ("name: mptrj-sample", "name: ../evil", "line 1, name"),
        ("  all: {", "  ../all: {", "splits"),
    ],
)
def test_bad_entries_are_refused_in_one_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    path = edited(tmp_path, old, new)
    with pytest.raises(ConfigError) as caught:
        load_entry("mine.yaml", base=tmp_path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_entry_of_the_documentation_is_valid(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "datasets" / "adding.md"
    blocks = re.findall(r"^( *)```yaml\n(.*?)^ *```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    entry, oc20, splits, folds, sources = (textwrap.dedent(block) for _, block in blocks)
    (tmp_path / "water.yaml").write_text(entry)
    assert load_entry(tmp_path / "water.yaml").name == "water"
    (tmp_path / "oc20.yaml").write_text(oc20)
    assert load_entry(tmp_path / "oc20.yaml").sidecar.columns == ("sid", "fid", "reference_energy")
    (tmp_path / "more.yaml").write_text(entry[: entry.index("splits:")] + splits)
    assert load_entry("more.yaml", base=tmp_path).splits["test"].shuffle_seed == 0
    (tmp_path / "folds.yaml").write_text(entry[: entry.index("splits:")] + folds)
    assert load_entry("folds.yaml", base=tmp_path).splits["train_01"].indices.first == 0
    (tmp_path / "fetched.yaml").write_text(f"{entry}{sources}")
    assert load_entry("fetched.yaml", base=tmp_path).sources[0].serves("test")
