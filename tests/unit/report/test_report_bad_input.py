"""`mlipbench report` on damaged runs and files: one line each, the rest is made, exit code 3."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING

import pytest
from synthetic_runs import PUBLISHED

from mlipbench.cli.app import main
from mlipbench.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    Make: TypeAlias = Callable[..., Path]
    Capture: TypeAlias = pytest.CaptureFixture[str]


def models(folder: Path) -> list[str]:
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as stream:
        return sorted(row["model"] for row in csv.DictReader(stream))


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _newer(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) | {"schema_version": 2, "invention": {}}
    path.write_text(json.dumps(content), encoding="utf-8")


def _unknown_status(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace('"status": "ok"', '"status": "fine"', 1), encoding="utf-8")


def _garbage(path: Path) -> None:
    path.write_bytes(b"PAR1 nothing")


def _removed(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("manifest.json", _truncated, ": damaged: Invalid JSON"),
        (
            "manifest.json",
            _newer,
            ": schema_version: is version 2, and this mlipbench reads version 1; use the mlipbench",
        ),
        ("manifest.json", _unknown_status, "status: damaged: Input should be"),
        ("metrics.json", _truncated, ": damaged: Invalid JSON"),
        (
            "metrics.json",
            _newer,
            ": schema_version: is version 2, and this mlipbench reads version 1; use the mlipbench",
        ),
        ("metrics.json", _unknown_status, "metrics.0.status: damaged: Input should be"),
        ("metrics.json", _removed, ": there is no such file; rebuild it with `mlipbench score`"),
    ],
)
def test_a_damaged_run_is_left_out(
    name: str, damage: Callable[[Path], None], said: str, make_run: Make, tmp_path: Path, capsys: Capture
) -> None:
    broken = make_run("broken", error=0.01, draw=1)
    make_run("one", draw=2)
    make_run("two", error=0.2, draw=3)
    damage(broken / name)
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path)]) == ExitCode.TASKS_FAILED
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]
    assert err.count("\n") == 2  # what was read, and what was not
    assert line.startswith(f"mlipbench: {broken / name}: ")
    assert said in line
    assert out.splitlines()[0] == str(tmp_path / "leaderboard.csv")
    assert models(tmp_path) == ["one", "two"]
    assert "**" in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "said"), [(_removed, "there is no such file; rebuild it"), (_garbage, "damaged scores")]
)
def test_a_run_without_scores_keeps_its_numbers_and_has_no_rank(
    damage: Callable[[Path], None], said: str, make_run: Make, tmp_path: Path, capsys: Capture
) -> None:
    broken = make_run("broken", error=0.01, draw=1)
    make_run("one", draw=2)
    make_run("two", error=0.2, draw=3)
    scores = broken / "scores" / "s2ef" / "toys" / "test.parquet"
    damage(scores)
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path)]) == ExitCode.TASKS_FAILED
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"mlipbench: {scores}: {said}")
    assert models(tmp_path) == ["broken", "one", "two"]
    page = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    rows = {line.split()[1]: line for line in page.splitlines() if "float64" in line}
    assert "**" in rows["one"]
    assert "**" not in rows["broken"]
    assert "not ranked: the scores that it would be compared by cannot be read" in page


def test_of_two_runs_with_one_id_the_first_is_shown(make_run: Make, tmp_path: Path, capsys: Capture) -> None:
    run = make_run("one")
    copy = tmp_path / "results" / "runs" / "zzz"
    shutil.copytree(run, copy)
    for paths in ([run, copy], [copy, run]):
        assert main(["report", *map(str, paths), "--output", str(tmp_path)]) == ExitCode.TASKS_FAILED
        line = capsys.readouterr().err.splitlines()[-1]
        assert line == (
            f"mlipbench: {copy / 'manifest.json'}: run_id: has the id of the run in {run}, which is taken; "
            "remove one of them"
        )
        assert models(tmp_path) == ["one"]


def test_one_run_by_two_paths_is_one_run(make_run: Make, tmp_path: Path, capsys: Capture) -> None:
    run = make_run("one")
    again = run / ".." / run.name
    assert main(["report", str(run), str(again), str(tmp_path / "results"), "--output", str(tmp_path)]) == 0
    assert models(tmp_path) == ["one"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("name: main", "nam: main"), "line 5, tables[0].nam: unknown key"),
        (("42.50", "much"), "tables[0].rows[0].values: "),
        (("publication: doe", "publication: [doe"), "doe.yaml: line "),
    ],
)
def test_an_invalid_file_of_published_rows_is_left_out(
    change: tuple[str, str], said: str, make_run: Make, tmp_path: Path, capsys: Capture
) -> None:
    make_run("one")
    folder = tmp_path / "results" / "published"
    folder.mkdir()
    (folder / "doe.yaml").write_text(PUBLISHED.replace(*change, 1), encoding="utf-8")
    (folder / "roe.yaml").write_text(PUBLISHED.replace("doe", "roe", 1), encoding="utf-8")
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path)]) == ExitCode.TASKS_FAILED
    err = capsys.readouterr().err
    assert err.count("\n") == 2
    assert err.splitlines()[-1].startswith(f"mlipbench: {folder / 'doe.yaml'}: ")
    assert said in err
    assert models(tmp_path) == ["one", "paper-net"]


def test_two_publications_of_one_name_are_one(make_run: Make, tmp_path: Path, capsys: Capture) -> None:
    make_run("one")
    folder = tmp_path / "results" / "published"
    folder.mkdir()
    for name in ("a.yaml", "b.yaml"):
        (folder / name).write_text(PUBLISHED, encoding="utf-8")
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path)]) == ExitCode.TASKS_FAILED
    said = f"publication: 'doe' is the name of the publication in {folder / 'a.yaml'}; choose another"
    assert capsys.readouterr().err.splitlines()[-1] == f"mlipbench: {folder / 'b.yaml'}: {said}"
    assert models(tmp_path) == ["one", "paper-net"]


def test_where_nothing_is_left_it_ends_with_5(make_run: Make, tmp_path: Path, capsys: Capture) -> None:
    run = make_run("one")
    _truncated(run / "manifest.json")
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "out")]) == ExitCode.NOTHING
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[1] for line in err.splitlines()] == [str(run / "manifest.json"), "error"]
    assert not (tmp_path / "out").exists()


def test_a_wrong_path_is_wrong_use(make_run: Make, tmp_path: Path, capsys: Capture) -> None:
    run = make_run("one")
    assert main(["report", str(run), str(tmp_path / "nowhere")]) == ExitCode.USAGE
    assert capsys.readouterr().err.count("\n") == 1
