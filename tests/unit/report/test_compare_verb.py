"""`mlipbench compare`: what stands on stdout, exit codes, and one line for each thing that is wrong."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from mlipbench.cli.app import main
from mlipbench.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    Make: TypeAlias = Callable[..., Path]


def test_a_table_with_verdicts_and_the_structures_that_changed(
    make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run("old", error=0.2), make_run("new", error=0.1, draw=2)
    assert main(["compare", str(a), str(b.parent), "--worst", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == f"A: old, float64, seed 0 ({a})"
    assert lines[1] == f"B: new, float64, seed 0 ({b})"
    (row,) = [line for line in lines if line.endswith("better")]
    assert row.startswith("s2ef  toys     test   forces_mae ↓  meV/Å")
    assert " 40  40 " in row
    assert " -5" in row  # half: about -50 %
    structures = [line for line in lines if "  s" in line and line.startswith("s2ef") and line != row]
    assert len(structures) == 2
    assert "Holm" in lines[-1]
    assert lines[-1].endswith("Here: 1 test.")


def test_json_is_one_document_of_all_comparisons(make_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = make_run("a", error=0.2), make_run("b", error=0.1), make_run("c", error=0.2, key="other")
    assert main(["compare", str(a), str(b), str(c), "--json", "--worst", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["baseline"]["path"] == str(a)
    assert [one["run"]["model"] for one in found["comparisons"]] == ["b", "c"]
    first, second = (one["metrics"][0] for one in found["comparisons"])
    assert (first["verdict"], first["unit"], first["n"], first["n_clusters"]) == ("better", "eV/Å", 40, 40)
    assert first["difference"]["ci_low"] <= first["difference"]["value"] == pytest.approx(first["b"] - first["a"])
    assert first["relative"]["value"] == pytest.approx(first["b"] / first["a"] - 1)
    assert first["p_adjusted"] == first["p"] < 0.05
    assert (second["verdict"], second["difference"], second["p"]) == ("not comparable", None, None)
    assert second["differs"] == [{"field": "comparability key", "a": "k-forces_mae", "b": "other-forces_mae"}]
    (largest,) = found["comparisons"][0]["largest_changes"]
    (structure,) = largest["structures"]
    assert largest["family"] == "forces"
    assert structure["change"] == pytest.approx(structure["b"] - structure["a"])


def test_what_could_have_been_found_stands_where_nothing_was(
    make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, far = make_run("a", error=0.2), make_run("b", error=0.2, draw=2), make_run("far", error=0.4, draw=3)
    assert main(["compare", str(a), str(b), str(far), "--json", "--worst", "0"]) == 0
    near, apart = (one["metrics"][0] for one in json.loads(capsys.readouterr().out)["comparisons"])
    assert (near["verdict"], apart["verdict"]) == ("not distinguishable", "worse")
    assert abs(near["relative"]["value"]) < near["detectable"] / near["a"] < 0.1
    main(["compare", str(a), str(b), "--worst", "0"])
    (head, row) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("Task", "s2ef")))
    place = head.index("Detectable")
    shown, share = row[place : head.index("  n ")].split(" ", maxsplit=1)
    assert float(shown) == pytest.approx(1000 * near["detectable"], rel=0.01)
    assert share.strip().startswith("(")
    main(["compare", str(a), str(far), "--worst", "0"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.endswith("worse"))
    assert "(" not in row


def test_hostile_names_are_text(make_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\u202eevil\n| **x**"
    a, b = make_run("a", key="1"), make_run("b", key="2")
    path = b / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["variant"]["name"] = hostile
    content["splits"][0]["selection"] = hostile
    path.write_text(json.dumps(content), encoding="utf-8")
    assert main(["compare", str(a), str(b)]) == ExitCode.NOTHING
    out, _ = capsys.readouterr()
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "B: b, [2Jevil | **x**, seed 0" in out
    assert "(1) selection: first 40 against [2Jevil | **x**" in out


def test_nothing_comparable_ends_with_5_after_the_reasons(make_run: Make, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run("a", dataset="one"), make_run("b", dataset="two")
    assert main(["compare", str(a), str(b)]) == ExitCode.NOTHING
    out, err = capsys.readouterr()
    assert "missing (1)" in out
    assert "(1) B: holds no such number" in out
    assert err.count("\n") == 1
    assert "no number of one run can be compared" in err


def _truncated(run: Path) -> None:
    path = run / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def _newer(run: Path) -> None:
    path = run / "metrics.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"schema_version": 1', '"schema_version": 2'))


def _unfinished(run: Path) -> None:
    path = run / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"status": "ok"', '"status": "running"', 1))


def _bad_scores(run: Path) -> None:
    next(run.glob("scores/*/*/*.parquet")).write_bytes(b"PAR1")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncated, "manifest.json: damaged: "),
        (_newer, "metrics.json: schema_version: is version 2, and this mlipbench reads version 1; use "),
        (_unfinished, "holds no finished run; give the command that began it again"),
    ],
)
def test_damaged_runs_are_one_line_and_exit_2(
    damage: Callable[[Path], None], message: str, make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run("a"), make_run("b")
    damage(b)
    assert main(["compare", str(a), str(b)]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert str(b) in err


@pytest.mark.parametrize("damage", [_truncated, _newer, _unfinished])
def test_a_damaged_run_among_others_is_left_out_and_ends_with_3(
    damage: Callable[[Path], None], make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = make_run("a", error=0.2), make_run("b"), make_run("c", error=0.1, draw=2)
    damage(b)
    assert main(["compare", str(a), str(b), str(c)]) == ExitCode.TASKS_FAILED
    out, err = capsys.readouterr()
    assert "B: c" in out
    assert "better" in out
    assert err.count("\n") == 1
    assert str(b) in err


def test_two_runs_of_one_id_are_not_compared(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, c = make_run("a", error=0.2), make_run("c", error=0.1, plan="other")
    copy = tmp_path / "copy"
    shutil.copytree(a, copy)
    assert main(["compare", str(a), str(copy), str(c)]) == ExitCode.TASKS_FAILED
    out, err = capsys.readouterr()
    assert "B: c" in out
    assert err == f"mlipbench: {copy}: run_id: has the id of the run in {a}; name each run once\n"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_bad_scores, "test.parquet: damaged scores"),
        (
            lambda run: next(run.glob("scores/*/*/*.parquet")).unlink(),
            "test.parquet: there is no such file; rebuild it",
        ),
    ],
)
def test_what_has_no_scores_is_not_compared_but_the_rest_is(
    damage: Callable[[Path], None], said: str, make_run: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = make_run("a", error=0.2), make_run("b"), make_run("c", error=0.1, draw=2)
    damage(b)
    assert main(["compare", str(a), str(b), str(c)]) == ExitCode.TASKS_FAILED
    out, err = capsys.readouterr()
    assert "there are no scores of B" in out
    assert "better" in out
    assert err.count("\n") == 1
    assert said in err
    assert main(["compare", str(a), str(b)]) == ExitCode.NOTHING


def test_wrong_use_is_one_line_and_exit_2(make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run("a"), make_run("b")
    (tmp_path / "empty").mkdir()
    for line, message in (
        ([], "A B..."),
        ([a], "one run alone cannot be compared; name two runs or more"),
        ([a, tmp_path / "nowhere"], "nowhere: there is no such directory"),
        ([a, tmp_path / "empty"], "empty: holds no finished run; make one with `mlipbench run`"),
        ([a, b.parents[1]], "holds 2 finished runs"),
        ([a, a.parent], f"is the run that {a} is; name each run once"),
        ([a, b, "--worst", "-1"], "--worst"),
    ):
        assert main(["compare", *map(str, line)]) == ExitCode.USAGE
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert message in err
