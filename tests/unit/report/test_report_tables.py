from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mlipbench.comparison.collect import collect
from mlipbench.errors import ResultsError
from mlipbench.metrics.values import Kind
from mlipbench.report.markdown import to_markdown
from mlipbench.report.numbers import DisplayUnit, display_units, format_number
from mlipbench.report.rows import leaderboard_rows
from mlipbench.report.table import build_tables
from mlipbench.report.terminal import to_text
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from mlipbench.report.table import Table

    Make: TypeAlias = Callable[..., Path]


def tables(tmp_path: Path) -> tuple[Table, ...]:
    return build_tables(collect([tmp_path / "results"]))


def bold(table: Table) -> set[str]:
    return {row.model for row in table.rows if any(cell.best for cell in row.cells)}


def test_clear_winner_alone_is_bold(make_run: Make, tmp_path: Path) -> None:
    make_run("good", error=0.05, draw=1)
    make_run("bad", error=0.20, draw=2)
    (table,) = tables(tmp_path)
    assert bold(table) == {"good"}
    assert [row.model for row in table.rows] == ["good", "bad"]


def test_indistinguishable_models_are_all_bold(make_run: Make, tmp_path: Path) -> None:
    make_run("one", draw=1)
    make_run("two", draw=2)
    make_run("bad", error=0.20, draw=3)
    (table,) = tables(tmp_path)
    assert bold(table) == {"one", "two"}


def test_higher_is_better_where_the_metric_says_so(make_run: Make, tmp_path: Path) -> None:
    make_run("good", error=0.05, draw=1, metrics=("forces_cosine_similarity",))
    make_run("bad", error=0.20, draw=2, metrics=("forces_cosine_similarity",))
    (table,) = tables(tmp_path)
    assert bold(table) == {"good"}
    assert table.columns[0].unit == ""


def test_relaxations_are_ranked_by_their_own_metrics(make_run: Make, tmp_path: Path) -> None:
    metrics = ("average_distance_within_threshold", "steps")
    make_run("near", error=0.02, draw=1, task=Task.RELAXATION, metrics=metrics)
    make_run("far", error=0.10, draw=2, task=Task.RELAXATION, metrics=metrics)
    (table,) = tables(tmp_path)
    assert [[cell.best for cell in row.cells] for row in table.rows] == [[True, True], [False, False]]
    assert [column.title for column in table.columns] == ["ADwT", "Steps"]
    assert [column.unit for column in table.columns] == ["%", ""]


def test_what_improves_neither_way_is_shown_without_rank_or_arrow(make_run: Make, tmp_path: Path) -> None:
    make_run("low", error=0.02, draw=1, task=Task.RELAXATION, metrics=("adsorbate_height",))
    make_run("high", error=0.90, draw=2, task=Task.RELAXATION, metrics=("adsorbate_height",))
    (table,) = tables(tmp_path)
    assert bold(table) == set()
    assert [row.model for row in table.rows] == ["high", "low"]  # by name
    assert "Adsorbate height (Å) |" in to_markdown(collect([tmp_path / "results"]))


def test_unlike_keys_stand_in_tables_of_their_own_and_are_never_ranked(make_run: Make, tmp_path: Path) -> None:
    make_run("here", error=0.05, key="a")
    make_run("there", error=0.20, key="b")
    first, second = tables(tmp_path)
    assert {first.part, second.part} == {1, 2}
    assert not first.ranked
    assert not second.ranked
    assert any("not comparable" in sentence for sentence in first.about)


def test_one_column_is_divided_where_only_its_keys_differ(make_run: Make, tmp_path: Path) -> None:
    both = ("energy_mae", "forces_mae")
    make_run("plain", error=0.05, draw=1, metrics=both)
    converted = make_run("converted", error=0.20, draw=2, metrics=both)
    metrics = converted / "metrics.json"
    metrics.write_text(metrics.read_text().replace("k-energy_mae", "other-energy_mae"))
    (table,) = tables(tmp_path)
    assert [column.metric for column in table.columns] == ["energy_mae", "energy_mae", "forces_mae"]
    by_model = {row.model: row.cells for row in table.rows}
    assert [cell.best for cell in by_model["plain"]] == [False, False, True]
    assert not any(cell.best for cell in by_model["converted"])
    assert sorted(cells[0].record is None for cells in by_model.values()) == [False, True]
    assert all(column.notes for column in table.columns[:2])


@pytest.mark.parametrize("status", ["partial", "failed"])
def test_incomplete_rows_are_never_bold(make_run: Make, tmp_path: Path, status: str) -> None:
    make_run("best", error=0.01, draw=1, record={"status": status, "n_failed": 3, "reason": "out of memory"})
    make_run("one", draw=2)
    make_run("two", error=0.20, draw=3)
    (table,) = tables(tmp_path)
    assert bold(table) == {"one"}
    assert any("out of memory" in note for note in table.footnotes)


def test_models_of_unlike_training_are_never_ranked_together(make_run: Make, tmp_path: Path) -> None:
    make_run("zero", error=0.01, draw=1, record={"relation": "zero-shot"})
    make_run("none", error=0.02, draw=2, record={"relation": "zero-shot"})
    make_run("fitted", error=0.05, draw=3, record={"relation": "trained-on-split"})
    make_run("poor", error=0.20, draw=4, record={"relation": "trained-on-split"})
    make_run("alone", error=0.001, draw=5, record={"relation": "classical"})
    (table,) = tables(tmp_path)
    assert bold(table) == {"zero", "fitted"}
    order = ["fitted", "poor", "zero", "none", "alone"]
    assert [row.model for row in table.rows] == order
    assert [row.training for row in table.rows] == [*["trained-on-split"] * 2, *["zero-shot"] * 2, "classical"]


def test_contaminated_models_have_no_rank(make_run: Make, tmp_path: Path) -> None:
    make_run("seen", error=0.001, draw=1, record={"relation": "contaminated", "training": "has seen them"})
    make_run("too", error=0.002, draw=2, record={"relation": "contaminated"})
    make_run("one", draw=3)
    make_run("two", error=0.20, draw=4)
    (table,) = tables(tmp_path)
    assert bold(table) == {"one"}
    assert [row.model for row in table.rows] == ["one", "two", "seen", "too"]
    reason = "not ranked: trained on these very structures"
    assert [row.unranked for row in table.rows] == [None, None, reason, reason]
    assert table.footnotes == (reason, "has seen them")


def test_a_note_on_training_data_stands_at_the_row_or_else_at_the_numbers(make_run: Make, tmp_path: Path) -> None:
    make_run("same", metrics=("energy_mae", "forces_mae"), record={"training": "fitted"})
    run = make_run("unlike", metrics=("energy_mae", "forces_mae"), draw=2)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["metrics"][1] |= {"training": "1 of 40 is known"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    (table,) = tables(tmp_path)
    rows = {row.model: row for row in table.rows}
    notes = {model: [[table.footnotes[n - 1] for n in cell.notes] for cell in row.cells] for model, row in rows.items()}
    assert notes == {"same": [[], []], "unlike": [[], ["1 of 40 is known"]]}
    assert [table.footnotes[number - 1] for number in rows["same"].notes] == ["fitted"]
    assert rows["unlike"].notes == ()


def test_a_row_names_every_kind_of_training_of_its_splits(make_run: Make, tmp_path: Path) -> None:
    run = make_run("one", metrics=("energy_mae", "forces_mae"), record={"relation": "zero-shot"})
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["metrics"][1] |= {"split": "other", "relation": "contaminated"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    (table,) = tables(tmp_path)
    assert table.rows[0].training == "zero-shot, contaminated"


def test_pages_and_terminal_show_the_training(make_run: Make, tmp_path: Path) -> None:
    make_run("one", record={"relation": "zero-shot-other-level"})
    page = to_markdown(collect([tmp_path / "results"]))
    assert "| Model | Variant | Training |" in page
    assert "| one | float64 | zero-shot-other-level |" in page
    assert "zero-shot-other-level" in to_text(tables(tmp_path))


def test_intervals_over_two_factors_are_announced_and_stand_in_the_csv(make_run: Make, tmp_path: Path) -> None:
    run = make_run("one", record={"two_way_low": 0.01, "two_way_high": 0.25})
    make_run("two")
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["datasets"][0]["entry"] = {"factors": {"words": "adsorbates and materials"}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    (table,) = tables(tmp_path)
    (said,) = [sentence for sentence in table.about if "two_way_low" in sentence]
    assert said.startswith("Intervals are given these adsorbates and materials; ")
    rows = [row.as_dict() for row in leaderboard_rows(collect([tmp_path / "results"]), ())]
    assert [(row["two_way_low"], row["two_way_high"]) for row in rows] == [(0.01, 0.25), (None, None)]


def test_a_single_model_is_not_bold(make_run: Make, tmp_path: Path) -> None:
    make_run("alone")
    (table,) = tables(tmp_path)
    assert not table.ranked


def test_without_scores_nothing_is_ranked(make_run: Make, tmp_path: Path) -> None:
    make_run("good", scores=False)
    make_run("bad", error=0.2)
    (table,) = tables(tmp_path)
    assert not table.ranked


def test_damaged_scores_are_named(make_run: Make, tmp_path: Path) -> None:
    make_run("one")
    scores = make_run("two") / "scores" / "s2ef" / "toys" / "test.parquet"
    scores.write_bytes(b"PAR1 nothing")
    with pytest.raises(ResultsError, match=r"test\.parquet.*mlipbench score"):
        tables(tmp_path)


def test_empty_cells_are_explained(make_run: Make, tmp_path: Path) -> None:
    empty = {"value": None, "ci_low": None, "ci_high": None}
    make_run("fine")
    make_run("broken", record=empty | {"status": "failed", "reason": "the worker crashed"})
    make_run("narrow", record=empty | {"status": "not_applicable", "reason": "no Xe", "comparability_key": "other"})
    (table,) = tables(tmp_path)
    cells = {row.model: row.cells[0] for row in table.rows}
    assert cells["broken"].text == "failed"
    assert cells["narrow"].text == "n/a"
    notes = {model: [table.footnotes[number - 1] for number in cell.notes] for model, cell in cells.items()}
    assert notes == {
        "fine": [],
        "broken": ["failed: the worker crashed"],
        "narrow": ["not applicable: no Xe"],
    }


def test_a_note_of_all_numbers_stands_at_the_head_of_the_column(make_run: Make, tmp_path: Path) -> None:
    make_run("one", record={"conversion": "shift per element"})
    make_run("two", draw=2, record={"conversion": "shift per element"}, card={"note": "a floor"})
    (table,) = tables(tmp_path)
    assert table.footnotes == ("energies: shift per element", "a floor")
    assert table.columns[0].notes == (1,)
    assert not any(cell.notes for row in table.rows for cell in row.cells)
    assert {row.model: row.notes for row in table.rows} == {"one": (), "two": (2,)}


def test_seeds_are_named_where_there_are_several(make_run: Make, tmp_path: Path) -> None:
    make_run("one", seed=0)
    make_run("one", seed=1, draw=2)
    make_run("two", draw=3)
    (table,) = tables(tmp_path)
    assert {(row.model, row.variant) for row in table.rows} == {
        ("one", "float64, seed 0"),
        ("one", "float64, seed 1"),
        ("two", "float64"),
    }


def test_the_newest_finished_run_counts(make_run: Make, tmp_path: Path) -> None:
    make_run("one", started="2026-01-01T00:00:00Z")
    newest = make_run("one", started="2026-01-03T00:00:00Z")
    make_run("one", started="2026-01-04T00:00:00Z", manifest={"status": "running", "finished": None})
    (run,) = collect([tmp_path / "results"])
    assert run.directory == newest


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="nowhere: there is no such directory"):
        collect([tmp_path / "nowhere"])


def test_markdown_shows_third_party_text_as_it_is(make_run: Make, tmp_path: Path) -> None:
    make_run("a|b*c<script>", card={"note": "[x](javascript:1)\n# head\x1b[31m"})
    page = to_markdown(collect([tmp_path / "results"]))
    assert r"a\|b\*c&lt;script&gt;" in page
    assert "<script>" not in page
    assert "\x1b" not in page
    assert r"\[x\](javascript:1) \# head" in page


def test_markdown_says_where_numbers_come_from(make_run: Make, tmp_path: Path) -> None:
    make_run("one")
    page = to_markdown(collect([tmp_path / "results"]))
    for part in ("synthetic version 3", "0.1.0+abc", "Abacus 9000", "2026-01-02", "Made for tests.", "first 40"):
        assert part in page
    assert "meV/Å" in page


def test_terminal_text_is_clean_and_narrow(make_run: Make, tmp_path: Path) -> None:
    for number in range(9):
        make_run("evil\x1b[2J\u202e", split=f"split-{number}", plan=f"p{number}")
    text = to_text(tables(tmp_path), width=80)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert max(len(line) for line in text.splitlines() if "[" in line and "interval" not in line) <= 80


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((49.13, 45.01, 53.91), "49.1 [45.0, 53.9]"),
        ((0.9503, 0.941, 0.962), "0.950 [0.941, 0.962]"),
        ((1234.5, 1100.0, 1400.0), "1234 [1100, 1400]"),
        ((0.012345,), "0.0123"),
        ((0.0,), "0"),
        ((3.2e12, 1e12, 9e12), "3.2e+12 [1e+12, 9e+12]"),
        ((5.0, 5.0, 5.0), "5.00 [5.00, 5.00]"),
    ],
)
def test_digits_follow_the_interval(numbers: tuple[float, ...], text: str) -> None:
    assert format_number(*numbers) == text


def test_units_are_chosen_for_all_numbers_of_a_metric() -> None:
    assert display_units("eV/Å", [0.05, 3.0]) == (DisplayUnit("meV/Å", 1e3),)
    assert display_units("eV", [5.0, 3.0]) == (DisplayUnit("eV"),)
    assert display_units("1", [0.5], ["meV"], kind=Kind.FRACTION) == (DisplayUnit("%", 100.0),)


def test_a_suite_chooses_the_units_of_energies_and_what_follows_from_them() -> None:
    milli, kilo = display_units("eV/Å", [5.0], ["meV", "kcal/mol"])
    assert (milli.name, kilo.name) == ("meV/Å", "kcal/mol/Å")
    assert milli.factor == pytest.approx(1e3)
    assert 1.0 / kilo.factor == pytest.approx(0.0433641, rel=1e-6)  # eV in 1 kcal/mol, CODATA
