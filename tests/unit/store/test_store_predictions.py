from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlipbench.errors import ResultsError
from mlipbench.status import Task
from mlipbench.store import predictions
from mlipbench.store.predictions import PredictionBlock, SplitStore, State, read_predictions

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.typing import AnyArray, IntArray, StrArray

COUNTS = np.array([2, 1, 3, 2, 1, 4])
BOUNDS = np.array([0, 2, 3, 6])
REASONS = {2: "worker died", 4: "no parameters for Xe"}  # structure 2 fails, structure 4 is declined


def names(start: int, stop: int) -> StrArray:
    return np.array([f"s{i}" for i in range(start, stop)], dtype=np.str_)


def block(first: int, last: int, *, forces: bool = True, stress: bool = True) -> PredictionBlock:
    """Make predictions whose values tell structure and atom: energy -i/3, forces atom + component / 4, stress i / 8."""
    counts = COUNTS[first:last]
    atoms = np.arange(COUNTS[:first].sum(), COUNTS[:last].sum())
    state = np.array([{2: State.FAILED, 4: State.NOT_APPLICABLE}.get(i, State.OK) for i in range(first, last)])
    lost = state != State.OK
    energy = -np.arange(first, last) / 3
    energy[lost] = np.nan
    force_rows = (atoms[:, None] + np.arange(3) / 4).astype(np.float32)
    force_rows[np.repeat(lost, counts)] = np.nan
    stress_rows = np.repeat(np.arange(first, last)[:, None] / 8, 6, axis=1).astype(np.float32)
    columns: dict[str, AnyArray] = {"energy": energy}
    columns |= {"forces": force_rows} if forces else {}
    columns |= {"stress": stress_rows} if stress else {}
    return PredictionBlock(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        columns=columns,
        state=state,
        reasons={i - first: reason for i, reason in REASONS.items() if first <= i < last},
    )


def timing(batch: int) -> dict[str, Any]:
    return {"batch": batch, "forward_seconds": 0.5 * batch, "cold": batch == 0}


def write(path: Path, order: tuple[int, ...] = (0, 1, 2), reopen: int | None = None, **what: bool) -> Path:
    store = SplitStore(path, COUNTS, BOUNDS, Task.S2EF)
    for done, batch in enumerate(order):
        if done == reopen:
            store.close()
            store = SplitStore(path, COUNTS, BOUNDS, Task.S2EF)
        store.commit(batch, block(int(BOUNDS[batch]), int(BOUNDS[batch + 1]), **what), [timing(batch)])
    store.finish(names)
    return path


def test_rows_hold_what_was_predicted_in_the_order_of_the_plan(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", (2, 0, 1))
    rows = pq.read_table(path).to_pylist()
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [row["id"] for row in rows] == ["s0", "s1", "s2", "s3", "s4", "s5"]
    assert [row["n_atoms"] for row in rows] == [2, 1, 3, 2, 1, 4]
    assert [row["energy"] for row in rows] == [0.0, -1 / 3, None, -1.0, None, -5 / 3]
    assert [row["state"] for row in rows] == ["ok", "ok", "failed", "ok", "not_applicable", "ok"]
    assert [row["reason"] for row in rows] == [None, None, "worker died", None, "no parameters for Xe", None]
    assert rows[1]["forces"] == [2.0, 2.25, 2.5]
    assert rows[3]["forces"] == [6.0, 6.25, 6.5, 7.0, 7.25, 7.5]
    assert [row["forces"] is None for row in rows] == [False, False, True, False, True, False]
    assert rows[5]["stress"] == [0.625] * 6
    assert rows[2]["stress"] is None


def test_types_are_float64_energies_and_float32_forces(tmp_path: Path) -> None:
    schema = pq.read_schema(write(tmp_path / "x.parquet"))
    assert str(schema.field("energy").type) == "double"
    assert str(schema.field("forces").type) == "list<element: float not null>"
    assert str(schema.field("stress").type) == "list<element: float not null>"


def test_ledger_is_removed_when_the_file_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == [path]


def test_blocks_are_read_back_equal(tmp_path: Path) -> None:
    (read,) = read_predictions(write(tmp_path / "x.parquet"), Task.S2EF)
    expected = block(0, 6)
    np.testing.assert_array_equal(read.offsets, [0, 2, 3, 6, 8, 9, 13])
    np.testing.assert_array_equal(read.columns["energy"], expected.columns["energy"])
    np.testing.assert_array_equal(read.state, expected.state)
    assert read.columns["forces"].dtype == np.float32
    np.testing.assert_array_equal(read.columns["forces"], expected.columns["forces"])
    np.testing.assert_array_equal(read.columns["stress"][3], [0.375] * 6)
    assert np.isnan(read.columns["stress"][[2, 4]]).all()
    assert read.reasons == REASONS


@pytest.mark.parametrize(("forces", "stress"), [(True, False), (False, True), (False, False)])
def test_properties_that_were_not_asked_for_are_absent(tmp_path: Path, *, forces: bool, stress: bool) -> None:
    (read,) = read_predictions(write(tmp_path / "x.parquet", forces=forces, stress=stress), Task.S2EF)
    assert ("forces" in read.columns, "stress" in read.columns) == (forces, stress)


@given(order=st.permutations([0, 1, 2]), reopen=st.one_of(st.none(), st.integers(0, 2)))
@settings(max_examples=24, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_file_is_the_same_to_the_byte_whatever_the_order(tmp_path: Path, order: list[int], reopen: int | None) -> None:
    expected = write(tmp_path / "expected.parquet").read_bytes()
    assert write(tmp_path / "x.parquet", tuple(order), reopen).read_bytes() == expected


def test_reopened_store_knows_what_is_committed_and_how_long_it_took(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    store = SplitStore(path, COUNTS, BOUNDS, Task.S2EF)
    store.commit(2, block(3, 6), [timing(2)])
    store.commit(0, block(0, 2), [timing(0), timing(0)])
    store.close()
    again = SplitStore(path, COUNTS, BOUNDS, Task.S2EF)
    assert set(again.committed) == {0, 2}
    assert again.timings == [timing(2), timing(0), timing(0)]
    again.close()


def test_batch_after_a_torn_tail_is_open_again(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    store = SplitStore(path, COUNTS, BOUNDS, Task.S2EF)
    for batch in (0, 1):
        store.commit(batch, block(int(BOUNDS[batch]), int(BOUNDS[batch + 1])), [])
    store.close()
    ledger = tmp_path / "x.ledger"
    ledger.write_bytes(ledger.read_bytes()[:-1])
    again = SplitStore(path, COUNTS, BOUNDS, Task.S2EF)
    assert set(again.committed) == {0}
    again.close()


def test_finishing_too_early_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    store = SplitStore(path, COUNTS, BOUNDS, Task.S2EF)
    store.commit(0, block(0, 2), [])
    with pytest.raises(ResultsError, match="2 batches were never committed"):
        store.finish(names)
    store.close()
    assert not path.exists()
    assert (tmp_path / "x.ledger").exists()


def test_names_come_from_the_rows_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "ROW_GROUP_VALUES", 9)
    path = write(tmp_path / "x.parquet")
    assert pq.read_table(path)["id"].to_pylist() == ["s0", "s1", "s2", "s3", "s4", "s5"]


def test_row_groups_hold_about_the_wanted_number_of_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # batches hold 9, 9 and 21 force components
    for limit, sizes in ((1, [2, 1, 3]), (10, [3, 3]), (19, [6]), (10**9, [6])):
        monkeypatch.setattr(predictions, "ROW_GROUP_VALUES", limit)
        path = write(tmp_path / f"{limit}.parquet")
        with pq.ParquetFile(path) as file:
            assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == sizes
        energy = np.concatenate([part.columns["energy"] for part in read_predictions(path, Task.S2EF)])
        np.testing.assert_array_equal(energy, block(0, 6).columns["energy"])


def test_group_of_failures_only_reads_as_missing_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "ROW_GROUP_VALUES", 1)
    parts = list(read_predictions(write(tmp_path / "x.parquet"), Task.S2EF))
    assert parts[1].state.tolist() == [State.FAILED]
    assert np.isnan(parts[1].columns["energy"]).all()
    assert np.isnan(parts[1].columns["forces"]).all()


def test_split_without_structures_is_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    empty: IntArray = np.zeros(0, dtype=np.int64)
    SplitStore(path, empty, np.zeros(1, dtype=np.int64), Task.S2EF).finish(names)
    assert pq.read_table(path).num_rows == 0
    assert list(read_predictions(path, Task.S2EF)) == []


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_damaged_file_is_one_line(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "x.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    with pytest.raises(ResultsError, match=r"x\.parquet: damaged: ") as caught:
        list(read_predictions(path, Task.S2EF))
    assert "\n" not in str(caught.value)


def test_file_of_another_schema_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["state"]), path)
    with pytest.raises(ResultsError, match=r"x\.parquet: damaged: "):
        list(read_predictions(path, Task.S2EF))


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"x\.parquet: there is no such file; the run did not finish this split"):
        list(read_predictions(tmp_path / "x.parquet", Task.S2EF))


def test_asking_for_one_batch_does_not_copy_all(tmp_path: Path) -> None:
    store = SplitStore(tmp_path / "x.parquet", COUNTS, BOUNDS, Task.S2EF)
    view = store.committed
    store.commit(1, block(2, 3), [])
    assert 1 in view
    store.close()


def relaxed_block() -> PredictionBlock:
    """Make three relaxations of 2, 1 and 3 atoms, the second of which failed."""
    return PredictionBlock(
        offsets=np.array([0, 2, 3, 6]),
        columns={
            "energy": np.array([-1 / 3, np.nan, 2.0]),
            "positions": np.where(np.arange(6)[:, None] == 2, np.nan, np.arange(18).reshape(6, 3) / 7),
            "steps": np.array([12, 0, 300]),
            "converged": np.array([True, False, False]),
            "fmax": np.array([0.01, np.nan, 0.5]),
        },
        state=np.array([State.OK, State.FAILED, State.OK]),
        reasons={1: "worker died"},
    )


def test_relaxations_are_stored_with_every_digit_of_their_positions(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    store = SplitStore(path, np.array([2, 1, 3]), np.array([0, 3]), Task.RELAXATION)
    store.commit(0, relaxed_block(), [])
    store.finish(names)
    rows = pq.read_table(path).to_pylist()
    assert [row["steps"] for row in rows] == [12, None, 300]
    assert [row["converged"] for row in rows] == [True, None, False]
    assert [row["fmax"] for row in rows] == [0.01, None, 0.5]
    assert rows[0]["positions"] == [k / 7 for k in range(6)]
    assert rows[1]["positions"] is None
    assert rows[2]["positions"] == [k / 7 for k in range(9, 18)]
    (read,) = read_predictions(path, Task.RELAXATION)
    for name, values in relaxed_block().columns.items():
        np.testing.assert_array_equal(read.columns[name], values)
    assert read.reasons == {1: "worker died"}


def test_predictions_of_another_task_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet")
    with pytest.raises(ResultsError, match=r"x\.parquet: damaged: "):
        list(read_predictions(path, Task.RELAXATION))


def cut(folder: Path, *shards: tuple[int, range]) -> Path:
    """Write shards of the split, each with the place of its first structure and its batches."""
    for number, (start, batches) in enumerate(shards):
        store = SplitStore(folder / f"{start:03d}-{number}.parquet", COUNTS, BOUNDS, Task.S2EF, batches)
        for batch in batches:
            store.commit(batch, block(int(BOUNDS[batch]), int(BOUNDS[batch + 1])), [timing(batch)])
        store.finish(names)
    return folder


def test_shards_hold_the_rows_of_the_whole_and_are_read_as_one(tmp_path: Path) -> None:
    whole = pq.read_table(write(tmp_path / "whole.parquet"))
    folder = cut(tmp_path / "cut.parquet", (3, range(2, 3)), (0, range(2)))
    assert pq.read_table(folder).combine_chunks() == whole.combine_chunks()
    energy = [part.columns["energy"] for part in read_predictions(tmp_path / "whole.parquet", Task.S2EF)]
    parts = [part.columns["energy"] for part in read_predictions(folder, Task.S2EF)]
    np.testing.assert_array_equal(np.concatenate(parts), np.concatenate(energy))


@pytest.mark.parametrize(
    ("shards", "place"),
    [
        (((3, range(2, 3)),), 0),
        (((0, range(1)), (3, range(2, 3))), 2),
        (((0, range(2)), (2, range(1, 2))), 3),
        (((0, range(3)), (0, range(3))), 6),
    ],
)
def test_a_gap_and_a_repetition_between_shards_are_found(
    tmp_path: Path, shards: tuple[tuple[int, range], ...], place: int
) -> None:
    folder = cut(tmp_path / "cut.parquet", *shards)
    with pytest.raises(ResultsError, match=f"structure {place} is missing, or stands there twice; remove the file"):
        list(read_predictions(folder, Task.S2EF))


def test_a_shard_knows_which_of_its_batches_are_missing(tmp_path: Path) -> None:
    store = SplitStore(tmp_path / "x.parquet", COUNTS, BOUNDS, Task.S2EF, range(1, 3))
    store.commit(2, block(3, 6), [])
    with pytest.raises(ResultsError, match="1 batches were never committed"):
        store.finish(names)
    store.close()
