"""Tables do not depend on the order in which runs are named or found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import Run

from mlipbench.comparison.collect import collect
from mlipbench.report.markdown import to_markdown
from mlipbench.report.rows import leaderboard_rows, to_csv
from mlipbench.report.table import build_tables

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHED = """\
publication: {name}
citation: Doe, Of nets, 2024
url: https://example.org/nets
tables:
  - name: main
    place: Table 2
    training: zero-shot
    protocol: {{dataset: toys, description: Toys as they are.}}
    columns: [{{task: s2ef, split: test, metric: forces_mae, unit: meV/Å}}]
    rows: [{{name: PaperNet, model: a, values: "42.5"}}]
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs with ties in all that could order them: codes, keys, values, starts; and two publications of one model."""
    results = tmp_path_factory.mktemp("results")
    old = {"code_version": "0.1.0+old"}
    runs = [
        Run("a", seed=0),
        Run("a", seed=1, draw=2),
        Run("b"),
        Run("c", error=0.2, draw=3, manifest=old),
        Run("d", draw=4, manifest=old),
        Run("e", draw=5, manifest=old),
        Run("f", key="x", draw=6),
        Run("g", key="y", draw=7),
        Run("h", dataset="others", metrics=("energy_mae", "forces_mae")),
        Run("i", dataset="others", record={"relation": "zero-shot", "conversion": "shift"}),
        Run("b", plan="again", started="2026-01-03T03:04:05Z"),
    ]
    found = [run.write(results) for run in runs]
    for name in ("doe", "roe"):
        path = results / f"{name}.yaml"
        path.write_text(PUBLISHED.format(name=name), encoding="utf-8")
        found.append(path)
    return found


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_files_do_not_depend_on_the_order_of_paths(paths: list[Path], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(paths))
    assert written(shuffled) == written(paths)


def written(paths: list[Path]) -> tuple[str, str]:
    records = collect(paths)
    tables = build_tables(records)
    return to_csv(leaderboard_rows(records, tables)), to_markdown(records, tables)
