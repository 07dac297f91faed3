"""Baselines: what comes back is what was stored, and a file that was touched is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from mlipbench.comparison.collect import single_run
from mlipbench.errors import ConfigError, NothingSelectedError, PrerequisiteError, ResultsError
from mlipbench.gate.baseline import opened, save
from mlipbench.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Path]


@pytest.fixture
def stored(make_run: Make, tmp_path: Path) -> tuple[Path, Path]:
    """Return a run with a failed structure, and the baseline that was made of it."""
    run = make_run("net", failed=1, metrics=("forces_mae", "forces_cosine_similarity"))
    save([single_run(run)], tmp_path / "baseline.json")
    return run, tmp_path / "baseline.json"


def test_a_run_comes_back_as_it_was(stored: tuple[Path, Path]) -> None:
    run, file = stored
    before = single_run(run)
    with opened(file) as runs:
        (after,) = runs
        assert after.manifest == before.manifest
        assert after.metrics == before.metrics
        assert after.directory is not None
        place = "scores/s2ef/toys/test.parquet"
        assert pq.read_table(after.directory / place).equals(pq.read_table(run / place))
        folder = after.directory
    assert not folder.exists()


def test_the_same_runs_make_the_same_bytes(stored: tuple[Path, Path], tmp_path: Path) -> None:
    run, file = stored
    save([single_run(run)], tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == file.read_bytes()


def test_a_change_of_one_number_is_a_change_of_one_line(stored: tuple[Path, Path]) -> None:
    lines = stored[1].read_text(encoding="utf-8").splitlines()
    content = json.loads(stored[1].read_text(encoding="utf-8"))
    assert len(content["runs"][0]["metrics"]) == 2
    assert sum('"metric": "forces_mae"' in line for line in lines) == 1
    assert sum('"force_abs_sum": [' in line for line in lines) == 1


@pytest.mark.parametrize(
    ("old", "new"), [('"seed": 0', '"seed": 1'), ('"n_failed": 1', '"n_failed": 0'), ('"s7"', '"s8"')]
)
def test_an_edited_file_is_refused(stored: tuple[Path, Path], old: str, new: str) -> None:
    text = stored[1].read_text(encoding="utf-8")
    assert old in text
    stored[1].write_text(text.replace(old, new, 1), encoding="utf-8")
    with (
        pytest.raises(ResultsError, match=r"baseline\.json: sha256: .* it was edited; save it anew"),
        opened(stored[1]),
    ):
        pass


def test_a_file_laid_out_anew_is_the_same_baseline(stored: tuple[Path, Path]) -> None:
    stored[1].write_text(json.dumps(json.loads(stored[1].read_text("utf-8")), indent=4), encoding="utf-8")
    with opened(stored[1]) as runs:
        assert [run.model for run in runs] == ["net"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "damaged: "),
        ('{"schema_version": 1, "sha256": "", "runs": []}', "runs: damaged: "),
        ('{"schema_version": 2, "sha256": "", "runs": []}', "schema_version: is version 2, and this mlipbench reads"),
        ('{"schema_version": 1, "sha256": "", "runs": [], "more": 1}', "damaged: "),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "baseline.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ResultsError) as caught, opened(file):
        pass
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(file))


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="there is no such baseline"), opened(tmp_path / "none.json"):
        pass


def test_what_cannot_be_saved(make_run: Make, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    with pytest.raises(NothingSelectedError):
        save([], file)
    net, twin = make_run("net"), make_run("net", started="2026-01-02T03:04:06Z")
    with pytest.raises(ConfigError, match="two runs of net float64: "):
        save([single_run(net), single_run(twin)], file)
    suite = {"name": "other", "version": 3, "sha256": "0" * 64}
    other = make_run("other", manifest={"suite": suite})
    with pytest.raises(ConfigError, match=r"of several suites \(other 3, synthetic 3\)"):
        save([single_run(net), single_run(other)], file)
    bare = make_run("bare", scores=False)
    with pytest.raises(ResultsError, match="there is no such file; rebuild them with `mlipbench score`"):
        save([single_run(bare)], file)
    assert not file.exists()


def test_the_baselines_of_the_project_are_small_and_whole() -> None:
    files = sorted((Path(__file__).parents[3] / "results" / "baselines").glob("*.json"))
    assert files
    for file in files:
        assert file.stat().st_size < 1_000_000
        with opened(file) as runs:
            assert all(record.status is Status.OK for run in runs for record in run.metrics)
