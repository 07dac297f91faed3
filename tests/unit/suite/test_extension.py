"""Suites that take what they do not say themselves from a shipped one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mlipbench.cli.app import main
from mlipbench.errors import ConfigError
from mlipbench.suite import load_suite, suite_names, suite_path
from mlipbench.suite.extension import extended
from mlipbench.suite.profiles import find_profile, with_profile
from mlipbench.yamlfile import read_yaml

if TYPE_CHECKING:
    from pathlib import Path

BASE = {
    "suite": "base",
    "version": 3,
    "description": "the base",
    "models": ["emt"],
    "datasets": {"toy": {"splits": ["a"]}},
    "tasks": {"s2ef": {"metrics": ["forces_mae"]}, "efficiency": {"seconds": 5, "rounds": 9}},
    "units": ["meV"],
    "profiles": {"quick": {"data": "mini"}},
}
OWN: dict[str, Any] = {"suite": "mine", "version": 1, "extends": "base"}


def test_what_is_not_said_is_taken_over_but_for_names_and_profiles() -> None:
    taken = extended(BASE, OWN)
    assert taken == {
        **{name: BASE[name] for name in ("models", "datasets", "tasks", "units")},
        "suite": "mine",
        "version": 1,
    }


def test_parameters_of_tasks_are_replaced_one_by_one_and_all_else_as_a_whole() -> None:
    changes = {"tasks": {"efficiency": {"seconds": 7}}, "datasets": {"other": {"splits": ["b"]}}, "models": ["lj"]}
    taken = extended(BASE, OWN | changes)
    assert taken["tasks"] == {"s2ef": {"metrics": ["forces_mae"]}, "efficiency": {"seconds": 7, "rounds": 9}}
    assert (taken["datasets"], taken["models"]) == (changes["datasets"], ["lj"])
    assert BASE["tasks"]["efficiency"]["seconds"] == 5  # the other suite is left as it was


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("suite: mine\nversion: 4\nextends: quickstart\nmodels: [emt]\nseeds: [0, 1]\n")
    return path


def test_a_file_that_extends_a_shipped_suite(file: Path) -> None:
    mine, base = load_suite(str(file)), load_suite("quickstart")
    assert (mine.suite, mine.version, mine.seeds, mine.folder) == ("mine", 4, (0, 1), file.parent)
    assert [choice.name for choice in mine.models] == ["emt"]
    assert (mine.datasets, mine.tasks) == (base.datasets, base.tasks)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "extends: quickstart",
            "extends: quickstrat",
            ["extends: no shipped suite 'quickstrat'; did you mean quickstart"],
        ),
        (
            "extends: quickstart",
            "extends: paper_table1",
            ["the suite paper_table1 extends another itself; extend oc20"],
        ),
        ("seeds: [0, 1]", "seeds: [0, 0]", ["seeds", "listed twice"]),
        ("models: [emt]", "model: [emt]", ["line 4", "model: unknown key", "did you mean models"]),
        ("seeds: [0, 1]", "tasks: {s2ef: {metric: [x]}}", ["line 5", "tasks.s2ef.metric: unknown key"]),
        ("version: 4\n", "", ["version", "missing"]),
    ],
)
def test_faults_are_named_with_their_place(file: Path, old: str, new: str, said: list[str]) -> None:
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_suite(str(file))
    line = str(caught.value)
    assert line.startswith(f"{file}: ")
    assert "\n" not in line
    assert all(part in line for part in said), line


def test_the_schema_has_both_kinds_of_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "suite"]) == 0
    names = {part["$ref"].rpartition("/")[2] for part in json.loads(capsys.readouterr().out)["anyOf"]}
    assert names == {"Suite", "Extension"}


def test_lists_show_what_is_taken_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "suites", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["paper_fig4"]["models"] == rows["efficiency"]["models"]
    assert rows["paper_table1"]["datasets"] == ["oc20"]


def test_a_profile_may_have_seeds_of_its_own() -> None:
    suite = load_suite("paper_table2")
    profile = find_profile(suite, "mini")
    assert with_profile(suite, "mini", profile, suite.suite).seeds == (0, 1, 2)
    assert with_profile(suite, "200k", find_profile(suite, "200k"), suite.suite).seeds == suite.seeds == (0,)


def test_the_tables_of_the_paper_are_made_of_other_suites() -> None:
    papers = [name for name in suite_names() if name.startswith("paper_")]
    assert papers == ["paper_fig4", "paper_table1", "paper_table2", "paper_table3"]
    assert all("extends" in read_yaml(suite_path(name)) for name in papers)
