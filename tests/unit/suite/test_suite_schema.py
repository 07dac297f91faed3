from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.names import entry_names
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.registry import card_names
from mlipbench.status import Task
from mlipbench.suite import catalogue, load_suite, suite_names, suite_path

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
suite: mine
version: 2
models: [lj, {name: emt, variant: double, precision: float64, settings: {skin: 0.5}, batch: {atoms: 100}}]
datasets:
  toy:
    splits: [a, b]
    entry: toy.yaml
    energy: [{models: [emt], shift: per_element, fit: a}, {correction: mp2020}]
tasks:
  s2ef: {metrics: [forces_mae]}
seeds: [0, 7]
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    return path


def refusal(path: Path, old: str, new: str) -> str:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_suite(str(path))
    return str(caught.value)


def test_suite_is_read_with_its_folder(suite_file: Path) -> None:
    suite = load_suite(str(suite_file))
    assert (suite.suite, suite.version, suite.seeds, suite.folder) == ("mine", 2, (0, 7), suite_file.parent)
    assert [choice.name for choice in suite.models] == ["lj", "emt"]
    assert suite.models[1].batch is not None
    assert suite.models[1].batch.atoms == 100
    assert suite.datasets["toy"].splits == ("a", "b")
    assert suite.tasks.s2ef.metrics == ("forces_mae",)


def test_defaults_are_one_seed_and_all_metrics(suite_file: Path) -> None:
    suite_file.write_text(GOOD.replace("seeds: [0, 7]\n", "").replace("{metrics: [forces_mae]}", "{}"))
    suite = load_suite(str(suite_file))
    assert suite.seeds == (0,)
    assert suite.tasks.s2ef.metrics is None


def test_suite_cannot_be_changed(suite_file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_suite(str(suite_file)).version = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds:", "seed:", ["line 11", "seed: unknown key", "did you mean seeds?"]),
        ("splits:", "split:", ["line 6", "datasets.toy.split: unknown key", "did you mean splits?"]),
        ("precision:", "precison:", ["line 3", "unknown key", "did you mean precision?"]),
        ("version: 2", "version: two", ["line 2", "version", "integer", "'two'"]),
        ("version: 2", "version: 0", ["line 2", "version", "greater than or equal to 1"]),
        ("float64", "float16", ["line 3", "precision", "float16"]),
        ("{atoms: 100}", "{atoms: 100, edges: 5}", ["batch", "one of atoms, edges and structures"]),
        ("{atoms: 100}", "{atoms: 0}", ["batch.atoms", "greater than 0"]),
        ("[0, 7]", "[0, 0]", ["seeds", "listed twice"]),
        ("[0, 7]", "[-1]", ["seeds[0]", "greater than or equal to 0"]),
        ("[0, 7]", "[4294967296]", ["seeds[0]", "4294967296"]),
        ("[0, 7]", "[]", ["seeds"]),
        ("[a, b]", "[a, a]", ["datasets.toy.splits", "listed twice"]),
        ("[a, b]", "[]", ["datasets.toy.splits"]),
        ("[forces_mae]", "[]", ["tasks.s2ef.metrics"]),
        ("suite: mine", "suite: ../mine", ["line 1", "suite"]),
        ("suite: mine", "suite: .", ["suite"]),
        ("  toy:\n", "  ../../toy:\n", ["datasets", "../../toy"]),
        ("variant: double", "variant: a/b", ["variant"]),
        ("{correction: mp2020}", "{correction: mp2019}", ["correction", "mp2019"]),
        ("{correction: mp2020}", "{}", ["either shift or correction"]),
        ("{correction: mp2020}", "{correction: mp2020, shift: per_element}", ["either shift or correction"]),
        ("{correction: mp2020}", "{correction: mp2020, fit: a}", ["fit goes with shift"]),
        ("{skin: 0.5}", "{calculator: 'os:system'}", ["'calculator' decides what is loaded"]),
        ("{skin: 0.5}", "{checkpoint: x.pt}", ["'checkpoint' decides what is loaded"]),
        ("{skin: 0.5}", "{arguments: {model: x.pt}}", ["'arguments' decides what is loaded"]),
        ("{skin: 0.5}", "{pass: {device: where}}", ["'pass' decides what is loaded"]),
        ("{skin: 0.5}", "{skin: .inf}", ["settings", "finite"]),
        ("{skin: 0.5}", "{api_key: x}", ["settings", "'api_key' does not belong in a file"]),
        ("{skin: 0.5}", "{since: 2020-01-01}", ["settings", "finite"]),
        ("models: [lj,", "models: [{name: lj, python: /bin/sh},", ["python", "unknown key"]),
        ("tasks:\n  s2ef: {metrics: [forces_mae]}\n", "", ["tasks", "missing"]),
    ],
)
def test_fault_is_named_with_its_place(suite_file: Path, old: str, new: str, said: list[str]) -> None:
    line = refusal(suite_file, old, new)
    assert line.startswith(f"{suite_file}: ")
    assert "\n" not in line
    for part in said:
        assert part in line


def test_two_rows_of_one_model_need_variant_names(suite_file: Path) -> None:
    assert "variant names" in refusal(suite_file, "models: [lj,", "models: [lj, {name: lj, variant: default},")


def test_two_rows_of_one_model_with_variant_names_are_accepted(suite_file: Path) -> None:
    suite_file.write_text(GOOD.replace("models: [lj,", "models: [lj, {name: lj, variant: other},"))
    assert len(load_suite(str(suite_file)).models) == 3


def test_expanding_aliases_are_refused_unread(tmp_path: Path) -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(["a0: &a0 [x, x]", *levels]))
    with pytest.raises(ConfigError, match="line 1: anchors and aliases are not allowed"):
        load_suite(str(path))


def test_shipped_suites_are_valid_and_name_what_is_shipped() -> None:
    assert set(suite_names()) >= {"quickstart", "oc20-sample", "mptrj-sample"}
    for name in suite_names():
        suite = load_suite(name)
        assert suite.suite == name
        assert suite.description
        assert {choice.name for choice in suite.models} <= set(card_names())
        for dataset, choice in suite.datasets.items():
            assert dataset in entry_names()
            assert set(choice.splits) <= set(load_entry(dataset).splits)


def test_unknown_name_lists_close_ones() -> None:
    with pytest.raises(ConfigError, match="'quikstart'; did you mean quickstart"):
        suite_path("quikstart")


def test_unknown_file_lists_the_shipped_suites() -> None:
    with pytest.raises(ConfigError, match=r"'zzz\.yaml'; shipped suites: .*quickstart"):
        suite_path("zzz.yaml")


def test_path_of_a_file_is_taken_as_it_is(suite_file: Path) -> None:
    assert suite_path(str(suite_file)) == suite_file


def test_folder_is_no_suite(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no suite file"):
        suite_path(str(tmp_path))


def test_unreadable_file_is_missing(suite_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(PrerequisiteError, match="Permission denied"):
        load_suite(str(suite_file))


@pytest.mark.parametrize("wheel", [True, False])
def test_shipped_suites_lie_in_the_wheel_or_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, wheel: bool
) -> None:
    package = tmp_path / "root/mlipbench/suite"
    folder = package / "shipped" if wheel else tmp_path / "root/suites"
    folder.mkdir(parents=True)
    package.mkdir(parents=True, exist_ok=True)
    for name in ("b.yaml", "a.yaml", "notes.txt"):
        (folder / name).write_text("")
    monkeypatch.setattr(catalogue, "__file__", str(package / "catalogue.py"))
    assert suite_names() == ["a", "b"]
    assert suite_path("a") == folder / "a.yaml"


def test_relaxations_have_the_parameters_of_oc20_unless_told(suite_file: Path) -> None:
    suite_file.write_text(GOOD.replace("s2ef: {metrics: [forces_mae]}", "relaxation: {fmax: 0.05, steps: 100}"))
    tasks = load_suite(str(suite_file)).tasks
    assert list(tasks.chosen()) == [Task.RELAXATION]
    parameters = {"fmax": 0.05, "steps": 100, "maxstep": 0.04, "memory": 50, "damping": 1.0, "alpha": 70.0}
    assert tasks.chosen()[Task.RELAXATION].model_dump(exclude={"metrics"}) == parameters


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ("{}", "tasks: name at least one task; there are s2ef, relaxation"),
        ("{relaxation: {fmax: 0}}", "tasks.relaxation.fmax"),
        ("{relaxation: {alpha: .inf}}", "tasks.relaxation.alpha"),
        ("{relaxation: {steps: 1.5}}", "tasks.relaxation.steps"),
        ("{relaxation: {optimizer: FIRE}}", "tasks.relaxation.optimizer"),
        ("{md: {}}", "tasks.md"),
    ],
)
def test_wrong_tasks_are_refused_in_one_line(suite_file: Path, new: str, expected: str) -> None:
    line = refusal(suite_file, "\n  s2ef: {metrics: [forces_mae]}", f" {new}")
    assert expected in line
    assert "\n" not in line
