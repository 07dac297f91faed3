"""Files in the right container with any content give a split or a one-line error, and never run anything."""

from __future__ import annotations

import json
import pickle
import sqlite3
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.io.trajectory import TrajectoryWriter
from dataset_helpers import SGDML, arrays, fuzz_examples, reading, save, slabs, vasprun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

pytest.importorskip("lmdb")

from lmdb_helpers import fields_of, outcome, packed, row_of, write_lmdb
from pickle_helpers import call, data, done, name, text

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")
generated = settings(
    max_examples=fuzz_examples(), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NUMBERS = st.one_of(
    arrays_of.arrays(
        st.sampled_from(["<f8", "<f4", "<f2", "<i8", "<i4", "|u1", "|b1"]), SHAPES | st.sampled_from([(4, 3, 3), (3,)])
    ),
    st.floats(),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
)
WORDS = st.text(max_size=8)
ANYTHING = st.one_of(NUMBERS, WORDS, st.none())


def accepted_or_refused(path: Path, how: Any) -> bool:
    """Whether a file is read, or refused by a line that begins with its name."""
    return outcome(path, how).startswith(("accepted", f"refused {path}", "memory"))


@generated
@given(changes=st.dictionaries(st.sampled_from(["z", "R", "E", "F"]), NUMBERS | WORDS, min_size=1))
def test_npz(tmp_path: Path, changes: Any) -> None:
    np.savez(tmp_path / "a.npz", **arrays() | changes)
    assert accepted_or_refused(tmp_path / "a.npz", reading(SGDML))


@generated
@given(
    changes=st.dictionaries(st.sampled_from(["z", "R", "E", "F", "lengths", "angles"]), ANYTHING, min_size=1),
    whole=st.booleans() | ANYTHING,
)
def test_npy(tmp_path: Path, changes: Any, whole: Any) -> None:
    cell = {"lengths": np.full((4, 3), 9.0), "angles": np.full(3, 90.0)}
    np.save(tmp_path / "a.npy", arrays() | cell | changes if whole is True else whole, allow_pickle=True)
    outcome(tmp_path / "a.npy", reading(SGDML | {"cell": ["lengths", "angles"]}))


class Evil:
    """A pickle of it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return open, (str(self.canary), "w")


@pytest.mark.parametrize("key", ["z", "R", "E", "F"])
def test_pickles_in_npz_are_not_read(tmp_path: Path, key: str) -> None:
    evil = np.array([Evil(tmp_path / "canary")], dtype=object)
    np.savez(tmp_path / "a.npz", **arrays() | {key: evil})
    assert outcome(tmp_path / "a.npz", reading(SGDML)).startswith("refused")
    assert not (tmp_path / "canary").exists()
    pickle.loads(pickle.dumps(evil[0])).close()  # noqa: S301 (our own: the canary can sing)
    assert (tmp_path / "canary").exists()


TOKENS = st.one_of(
    st.sampled_from(["Cu", "O", "Xx", "1", "T", '"', "=", ":", "R", "3", "nan", "-inf", "1e400", "0x1", "_JSON [1]"]),
    st.floats(width=16).map(str),
    WORDS,
)
HEADERS = st.lists(
    st.tuples(st.sampled_from(["Lattice", "Properties", "energy", "forces", "pbc", "stress", "__class__"]), TOKENS),
    max_size=4,
).map(lambda pairs: " ".join(f'{key}="{value}"' for key, value in pairs))


@generated
@given(
    count=st.one_of(st.integers(-2, 4).map(str), TOKENS),
    header=st.one_of(
        HEADERS,
        st.just('Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.0 pbc="T T T"'),
    ),
    rows=st.lists(st.lists(TOKENS, max_size=8), max_size=4),
)
def test_extended_xyz(tmp_path: Path, count: str, header: str, rows: list[list[str]]) -> None:
    lines = [count, header, *(" ".join(row) for row in rows)]
    (tmp_path / "a.extxyz").write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    assert accepted_or_refused(tmp_path / "a.extxyz", reading())


@generated
@given(changes=st.dictionaries(st.sampled_from(["numbers", "positions", "cell", "pbc", "energy", "forces"]), NUMBERS))
def test_trajectories(tmp_path: Path, changes: Any) -> None:
    path = tmp_path / "a.traj"
    path.unlink(missing_ok=True)
    with TrajectoryWriter(path) as writer:
        backend, atoms = writer.backend, slabs(1)[0]
        fields = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": atoms.cell.array, "pbc": atoms.pbc}
        results = {"energy": -1.0, "forces": np.zeros((3, 3))}
        backend.write(version=1, ase_version="3")
        backend.write(**{key: changes.get(key, value) for key, value in fields.items()})
        child = backend.child("calculator")
        child.write(name="unknown", **{key: changes.get(key, value) for key, value in results.items()})
        backend.sync()
    assert accepted_or_refused(path, reading())


XML = vasprun(slabs(1))
NAMES = [
    "modeling",
    "atominfo",
    "calculation",
    "structure",
    "crystal",
    "varray",
    "energy",
    "scstep",
    "v",
    "i",
    "c",
    "rc",
]


@generated
@given(
    renamed=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(NAMES), max_size=2),
    place=st.integers(0, len(XML)),
    text=TOKENS | st.sampled_from(["<v> 1 2 3 </v>", "<i name='e_0_energy'> 1 </i>", "<!-- -->", "&amp;", "<set/>"]),
    taken=st.integers(0, 30),
)
def test_ionic_steps(tmp_path: Path, renamed: Any, place: int, text: str, taken: int) -> None:
    changed = XML[:place] + text + XML[place + taken :]
    for old, new in renamed.items():
        changed = changed.replace(f"<{old}", f"<{new}").replace(f"</{old}>", f"</{new}>")
    (tmp_path / "a.xml").write_text(changed, encoding="latin-1", errors="replace")
    outcome(tmp_path / "a.xml", reading())


CELLS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), WORDS, st.binary(max_size=80))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save(tmp_path_factory.mktemp("original") / "a.db", slabs(2)).read_bytes()


@generated
@given(
    column=st.sampled_from(
        ["numbers", "positions", "cell", "pbc", "energy", "forces", "key_value_pairs", "data", "natoms", "constraints"]
    ),
    value=CELLS,
)
def test_rows_of_ase(tmp_path: Path, database: bytes, column: str, value: Any) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(database)
    with sqlite3.connect(path) as connection:
        try:
            connection.execute(f"UPDATE systems SET {column} = ? WHERE id = 1", (value,))  # noqa: S608 (from the list)
        except UnicodeEncodeError:  # no such text can be in a database
            return
    connection.close()
    assert accepted_or_refused(path, reading())


@generated
@given(
    changes=st.dictionaries(
        st.sampled_from(["pos", "cell", "atomic_numbers", "energy", "forces", "tags", "fixed"]), ANYTHING
    )
)
def test_pickled_samples(tmp_path: Path, changes: Any) -> None:
    path = tmp_path / "a.lmdb"
    path.unlink(missing_ok=True)
    fields = fields_of(slabs(1)[0], energy="energy", forces="forces") | changes
    try:
        sample = done(data(fields))
    except (TypeError, UnicodeEncodeError, KeyError):  # the helper writes no such value
        return
    write_lmdb(path, {"0": sample})
    assert accepted_or_refused(path, reading(pbc=(True, True, True)))


@generated
@given(changes=st.dictionaries(st.sampled_from([*row_of(slabs(1)[0]), "__ase_objtype__"]), ANYTHING))
def test_rows_of_ase_in_lmdb(tmp_path: Path, changes: Any) -> None:
    path = tmp_path / "a.aselmdb"
    path.unlink(missing_ok=True)
    try:
        row = packed(row_of(slabs(1)[0]) | changes)
    except (TypeError, UnicodeEncodeError, ValueError):  # JSON holds no such value
        return
    write_lmdb(path, {"1": row, "nextid": packed(2)})
    assert accepted_or_refused(path, reading())


def orders(canary: Path) -> list[str]:
    """Return texts that would make a file wherever something evaluates, imports, loads or passes them to a shell."""
    path = str(canary)
    return [
        f"open({path!r}, 'w').close()",
        f"__import__('pathlib').Path({path!r}).touch()",
        f"$(touch {path})",
        f"`touch {path}`",
        f"; touch {path} #",
        f"!!python/object/apply:os.system ['touch {path}']",
        json.dumps({"__ase_objtype__": "os.system", "command": f"touch {path}"}),
        json.dumps({"py/reduce": [{"py/type": "os.system"}, {"py/tuple": [f"touch {path}"]}]}),
    ]


def test_code_in_extended_xyz_is_not_run(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "a.extxyz"
    for order in orders(canary):
        quoted = order.replace('"', '\\"')
        for key in ("energy", "Lattice", "Properties", "pbc", "other", "_JSON"):
            for value in (f'"{quoted}"', f'"_JSON {quoted}"', f"{{{order}}}"):
                path.write_text(
                    f"1\n{key}={value} energy=-1.0 Properties=species:S:1:pos:R:3:forces:R:3\nH 0 0 0 0 0 0\n"
                )
                assert accepted_or_refused(path, reading())
        path.write_text(f"1\nenergy=-1.0 Properties=species:S:1:pos:R:3:forces:R:3\n{order} 0 0 0 0 0 0\n")
        assert outcome(path, reading()).startswith(f"refused {path}")
    assert not canary.exists()


def test_code_in_databases_is_not_run(tmp_path: Path, database: bytes) -> None:
    canary, path = tmp_path / "canary", tmp_path / "a.db"
    contents: list[Any] = [pickle.dumps(Evil(canary)), *orders(canary)]
    for order in orders(canary):
        contents += [json.dumps({"forces": order}), json.dumps([{"name": order, "kwargs": {"indices": [0]}}])]
        contents += [json.dumps([{"name": "FixAtoms", "kwargs": {"indices": order}}])]
    for column in ("data", "key_value_pairs", "constraints", "calculator", "calculator_parameters", "forces", "energy"):
        for content in contents:
            path.write_bytes(database)
            with sqlite3.connect(path) as connection:
                connection.execute(f"UPDATE systems SET {column} = ? WHERE id = 1", (content,))  # noqa: S608 (from the list)
            connection.close()
            assert accepted_or_refused(path, reading())
    assert not canary.exists()


def test_code_in_rows_of_ase_in_lmdb_is_not_run(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "a.aselmdb"
    for order in orders(canary):
        for changes in (
            {"calculator": order},
            {"data": {"__ase_objtype__": order}},
            {"energy": order},
            {"constraints": [{"name": order, "kwargs": {}}]},
        ):
            path.unlink(missing_ok=True)
            write_lmdb(path, {"1": packed(row_of(slabs(1)[0]) | changes), "nextid": packed(2)})
            assert accepted_or_refused(path, reading())
    path.unlink()
    write_lmdb(path, {"1": zlib.compress(pickle.dumps(Evil(canary))), "nextid": packed(2)})
    assert outcome(path, reading()).startswith(f"refused {path}")
    assert not canary.exists()


def test_code_in_pickled_samples_is_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = done(call(name("builtins", "exec"), text(f"open({str(canary)!r}, 'w').close()")))
    path = write_lmdb(tmp_path / "a.lmdb", {"0": evil})
    assert outcome(path, reading()).startswith(f"refused {path}")
    assert not canary.exists()
