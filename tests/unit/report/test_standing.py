"""Rows and numbers that are shown without a rank, each with its reason."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mlipbench.comparison.collect import collect
from mlipbench.report.markdown import to_markdown
from mlipbench.report.table import build_tables
from mlipbench.report.terminal import to_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from mlipbench.report.table import Table, TableRow

    Make: TypeAlias = Callable[..., Path]

OLD = {"code_version": "0.1.0+old"}
OTHER_CODE = "not ranked: made by other code (mlipbench 0.1.0+old) than most of the table (0.1.0+abc)"


def only_table(results: Path) -> Table:
    (table,) = build_tables(collect([results]))
    return table


def by_model(table: Table) -> dict[str, TableRow]:
    return {row.model: row for row in table.rows}


def test_a_run_of_other_code_than_most_is_shown_without_rank(make_run: Make, tmp_path: Path) -> None:
    make_run("stale", error=0.01, draw=1, started="2026-02-01T00:00:00Z", manifest=OLD)
    make_run("one", draw=2)
    make_run("two", error=0.20, draw=3)
    table = only_table(tmp_path / "results")
    rows = by_model(table)
    assert {name: row.unranked for name, row in rows.items()} == {"stale": OTHER_CODE, "one": None, "two": None}
    assert {name: row.cells[0].best for name, row in rows.items()} == {"stale": False, "one": True, "two": False}
    assert [row.model for row in table.rows] == ["one", "two", "stale"]
    assert rows["stale"].cells[0].unranked == OTHER_CODE
    assert [table.footnotes[number - 1] for number in rows["stale"].notes] == [OTHER_CODE]
    assert rows["stale"].cells[0].notes == ()
    assert OTHER_CODE.replace("_", r"\_") in to_markdown(collect([tmp_path / "results"]))
    assert OTHER_CODE in to_text([table])


@pytest.mark.parametrize(("started", "stale"), [("2026-01-01T00:00:00Z", "old"), ("2026-03-01T00:00:00Z", "new")])
def test_of_two_equally_frequent_codes_the_newest_is_ranked(
    make_run: Make, tmp_path: Path, started: str, stale: str
) -> None:
    for draw, name in enumerate(("old-a", "old-b")):
        make_run(name, draw=draw, started=started, manifest=OLD)
    for draw, name in enumerate(("new-a", "new-b"), start=2):
        make_run(name, draw=draw, started="2026-02-01T00:00:00Z")
    table = only_table(tmp_path / "results")
    assert {row.model for row in table.rows if row.unranked} == {f"{stale}-a", f"{stale}-b"}
    assert {row.model for row in table.rows if row.cells[0].best} & {f"{stale}-a", f"{stale}-b"} == set()


def test_code_matters_within_one_table_only(make_run: Make, tmp_path: Path) -> None:
    make_run("here", dataset="one", manifest=OLD)
    make_run("there", dataset="two")
    tables = build_tables(collect([tmp_path / "results"]))
    assert [row.unranked for table in tables for row in table.rows] == [None, None]


def test_a_number_of_fewer_structures_is_not_ranked(make_run: Make, tmp_path: Path) -> None:
    make_run("narrow", error=0.01, draw=1, record={"n": 35, "reason": "5 structures hold Xe"})
    make_run("one", draw=2)
    make_run("two", error=0.20, draw=3)
    table = only_table(tmp_path / "results")
    row = by_model(table)["narrow"]
    assert row.unranked == "not ranked: 35 structures counted, of others 40"
    assert {row.model for row in table.rows if row.cells[0].best} == {"one"}
    assert " [" in row.cells[0].text  # a number with its interval all the same


def test_a_reason_of_some_numbers_stands_at_these(make_run: Make, tmp_path: Path) -> None:
    run = make_run("mixed", error=0.01, draw=1, metrics=("energy_mae", "forces_mae"))
    make_run("one", draw=2, metrics=("energy_mae", "forces_mae"))
    make_run("two", error=0.20, draw=3, metrics=("energy_mae", "forces_mae"))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["metrics"][0] |= {"status": "partial", "n_failed": 3, "n": 37, "reason": "out of memory"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    table = only_table(tmp_path / "results")
    row = by_model(table)["mixed"]
    reason = "partial, not ranked: out of memory (37 structures counted, 3 failed)"
    assert row.unranked is None
    assert [cell.unranked for cell in row.cells] == [reason, None]
    assert [[table.footnotes[number - 1] for number in cell.notes] for cell in row.cells] == [[reason], []]
    assert [cell.best for cell in row.cells] == [False, True]


def test_a_number_alone_under_its_key_says_what_differs(make_run: Make, tmp_path: Path) -> None:
    make_run("one", draw=1)
    make_run("two", error=0.20, draw=2)
    whole = make_run("whole", error=0.01, draw=3, key="other")
    manifest = json.loads((whole / "manifest.json").read_text())
    manifest["splits"][0]["selection"] = "all"
    (whole / "manifest.json").write_text(json.dumps(manifest))
    first, second = build_tables(collect([tmp_path / "results"]))
    assert [row.unranked for row in first.rows] == [None, None]
    (row,) = second.rows
    assert row.unranked == "not ranked: another comparability key than others (selection: all against first 40)"
    assert second.about[-1] == (
        "These numbers are not comparable with those of the other tables of this dataset. "
        "Between this table and the first one differ: selection: all against first 40."
    )


def test_in_a_divided_column_the_number_that_is_alone_says_why(make_run: Make, tmp_path: Path) -> None:
    both = ("energy_mae", "forces_mae")
    for draw, name in enumerate(("one", "two")):
        make_run(name, draw=draw, metrics=both, record={"conversion": "shift per element"})
    lone = make_run("lone", error=0.01, draw=3, metrics=both, record={"conversion": "none fitted"})
    text = (lone / "metrics.json").read_text()
    (lone / "metrics.json").write_text(text.replace("k-energy_mae", "other-energy_mae"))
    table = only_table(tmp_path / "results")
    row = by_model(table)["lone"]
    assert row.unranked is None
    difference = "conversion of energies: none fitted against shift per element"
    reason = f"not ranked: another comparability key than others ({difference})"
    assert [cell.unranked for cell in row.cells if cell.record] == [reason, None]
    assert {row.model for row in table.rows if row.cells[-1].best} == {"lone"}
    assert [cell.unranked for name in ("one", "two") for cell in by_model(table)[name].cells] == [None] * 6
