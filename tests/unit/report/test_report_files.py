from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from synthetic_runs import PUBLISHED

from mlipbench.cli.app import main
from mlipbench.comparison.collect import collect
from mlipbench.report.rows import leaderboard_rows, to_csv
from mlipbench.report.table import build_tables
from mlipbench.report.write import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    Make: TypeAlias = Callable[..., Path]

HEADER = (
    "model,variant,training,seed,dataset,split,task,metric,value,unit,direction,ci_low,ci_high,two_way_low,two_way_high,"
    "design_effect,rank_low,rank_high,n,n_failed,status,reason,source,comparability_key,run_id,citation,distance,"
    "threshold,passes"
)


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def published_file(folder: Path, text: str = PUBLISHED) -> Path:
    folder.mkdir(parents=True)
    (folder / "rows.yaml").write_text(text, encoding="utf-8")
    return folder / "rows.yaml"


def test_columns_and_exact_floats(make_run: Make, tmp_path: Path) -> None:
    make_run("one", metrics=("energy_mae", "forces_mae"))
    records = collect([tmp_path / "results"])
    text = to_csv(leaderboard_rows(records, ()))
    assert text.splitlines()[0] == HEADER
    rows = {row["metric"]: row for row in read(text)}
    for metric in records[0].metrics:
        row = rows[metric.metric]
        assert [float(row[name]) for name in ("value", "ci_low", "ci_high")] == [
            metric.value, metric.ci_low, metric.ci_high
        ]  # fmt: skip
        assert (row["status"], row["source"], row["seed"], row["n"]) == ("ok", "measured", "0", "40")


def test_the_training_of_a_number_stands_beside_it(make_run: Make, tmp_path: Path) -> None:
    make_run("one", record={"relation": "fine-tuned", "training": "a sentence"})
    published_file(tmp_path / "results" / "published")
    records = collect([tmp_path / "results"])
    rows = {row["model"]: row["training"] for row in read(to_csv(leaderboard_rows(records, ())))}
    assert rows == {"one": "fine-tuned", "paper-net": "zero-shot"}


def test_order_does_not_depend_on_the_order_of_reading(make_run: Make) -> None:
    paths = [make_run(name) for name in ("b", "a", "c")]
    assert to_csv(leaderboard_rows(collect(paths), ())) == to_csv(leaderboard_rows(collect(paths[::-1]), ()))


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@sum"])
def test_formulas_are_escaped(make_run: Make, tmp_path: Path, name: str) -> None:
    make_run(name, record={"reason": "\t=1+1"})
    (row,) = read(to_csv(leaderboard_rows(collect([tmp_path / "results"]), ())))
    assert row["model"] == f"'{name}"
    assert row["reason"] == "'=1+1"


def test_ranks_stand_beside_their_numbers(make_run: Make, tmp_path: Path) -> None:
    make_run("good", error=0.05, draw=1, metrics=("forces_mae", "energy_mae"))
    make_run("bad", error=0.20, draw=2, metrics=("forces_mae",))
    make_run("worse", error=0.40, draw=3, metrics=("forces_mae",))
    records = collect([tmp_path / "results"])
    rows = read(to_csv(leaderboard_rows(records, build_tables(records))))
    ranks = {(row["model"], row["metric"]): (row["rank_low"], row["rank_high"]) for row in rows}
    assert ranks == {
        ("good", "energy_mae"): ("", ""),  # alone in its column
        ("good", "forces_mae"): ("1", "1"),
        ("bad", "forces_mae"): ("2", "2"),
        ("worse", "forces_mae"): ("3", "3"),
    }


def test_negative_numbers_are_numbers(make_run: Make, tmp_path: Path) -> None:
    make_run("one", metrics=("forces_cosine_similarity",), record={"value": -0.25, "ci_low": -0.5, "ci_high": 0.0})
    (row,) = read(to_csv(leaderboard_rows(collect([tmp_path / "results"]), ())))
    assert (row["value"], row["ci_low"], row["ci_high"]) == ("-0.25", "-0.5", "0.0")


def test_files_are_written_whole(make_run: Make, tmp_path: Path) -> None:
    make_run("one")
    board = write(collect([tmp_path / "results"]), tmp_path / "out" / "deep")
    assert sorted(path.name for path in (tmp_path / "out" / "deep").iterdir()) == ["leaderboard.csv", "leaderboard.md"]
    assert board.markdown.read_text(encoding="utf-8").startswith("# Leaderboard")


def test_report_writes_beside_the_runs_it_was_given(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("one")
    assert main(["report", str(tmp_path / "results" / "runs")]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == str(tmp_path / "results" / "runs" / "leaderboard.csv")
    assert "1 runs" in err
    assert main(["report", str(run), "--json", "--output", str(tmp_path / "here")]) == 0
    assert '"run_id"' in capsys.readouterr().out
    assert (tmp_path / "here" / "leaderboard.md").is_file()


def test_report_prefers_records_to_runs(make_run: Make, tmp_path: Path) -> None:
    make_run("one")
    published_file(tmp_path / "results" / "published")
    results = ["--results", str(tmp_path / "results")]
    assert main(["report", *results]) == 0
    text = (tmp_path / "results" / "leaderboard.csv").read_text(encoding="utf-8")
    assert [row["model"] for row in read(text)] == ["paper-net"]


def test_report_without_runs_ends_with_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", str(tmp_path)]) == 5
    assert capsys.readouterr().err.count("\n") == 1
