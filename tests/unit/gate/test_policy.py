"""What counts as worse, without a file and with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mlipbench.comparison.changes import Place
from mlipbench.errors import ConfigError
from mlipbench.gate.policy import Effect, Policy, Rule, Worse, read_policy

if TYPE_CHECKING:
    from pathlib import Path


def place(metric: str, task: str = "s2ef") -> Place:
    return Place(task, "toys", "test", metric)


def written(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "gate.yaml"
    file.write_text(text, encoding="utf-8")
    return read_policy(file)


@pytest.mark.parametrize(
    ("task", "metric", "rule"),
    [
        ("s2ef", "forces_mae", Rule(worse=Worse.HIGHER, relative=0.01)),
        ("s2ef", "energy_rmse", Rule(worse=Worse.HIGHER, relative=0.01)),
        ("s2ef", "forces_cosine_similarity", Rule(worse=Worse.LOWER, absolute=0.005)),
        ("s2ef", "energy_forces_within_threshold", Rule(worse=Worse.LOWER, absolute=0.005)),
        ("md", "stability", Rule(worse=Worse.LOWER, relative=0.01)),
        ("md", "temperature", Rule(worse=Worse.EITHER, effect=Effect.IGNORE)),
        ("efficiency", "parameters", Rule(worse=Worse.HIGHER)),
        ("efficiency", "flops", Rule(worse=Worse.HIGHER)),
        ("efficiency", "mean_edges", Rule(worse=Worse.EITHER, effect=Effect.WARN)),
        ("efficiency", "latency_p50", Rule(worse=Worse.HIGHER, relative=0.05, effect=Effect.WARN)),
        ("efficiency", "throughput", Rule(worse=Worse.LOWER, relative=0.05, effect=Effect.WARN)),
    ],
)
def test_the_rules_without_a_file(task: str, metric: str, rule: Rule) -> None:
    assert Policy().rule(place(metric, task)) == rule


def test_nothing_is_known_of_a_metric_of_another_version() -> None:
    assert Policy().rule(place("quality")) is None
    assert Policy().rule(place("forces_mae", "divination")) is None


def test_a_tolerance_is_the_larger_of_the_two() -> None:
    rule = Rule(worse=Worse.HIGHER, absolute=0.02, relative=0.1)
    assert rule.tolerance(0.1) == 0.02
    assert rule.tolerance(-0.5) == 0.05


@pytest.mark.parametrize(("worse", "expected"), [("higher", 0.3), ("lower", -0.3), ("either", 0.3)])
def test_a_difference_is_for_the_worse_in_one_direction(worse: str, expected: float) -> None:
    assert Rule(worse=Worse(worse)).worsening(0.3) == expected


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    policy = written(
        tmp_path,
        "policy: mine\n"
        "metrics:\n"
        "  energy_mae: {relative: 0.02, effect: warn}\n"
        "  relaxation.energy_mae: {absolute: 0.5, relative: 0.0}\n"
        "  temperature: {worse: higher, effect: fail}\n",
    )
    assert policy.name == "mine"
    assert policy.rule(place("energy_mae")) == Rule(worse=Worse.HIGHER, relative=0.02, effect=Effect.WARN)
    relaxed = Rule(worse=Worse.HIGHER, absolute=0.5, relative=0.0, effect=Effect.WARN)
    assert policy.rule(place("energy_mae", "relaxation")) == relaxed
    assert policy.rule(place("temperature", "md")) == Rule(worse=Worse.HIGHER)
    assert policy.rule(place("forces_mae")) == Policy().rule(place("forces_mae"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy: p\nmetrics: {force_mae: {relative: 0.1}}", "metrics: unknown metric 'force_mae'; did you mean"),
        ("policy: p\nmetrics: {md.forces_mae: {}}", "metrics: unknown metric 'md.forces_mae'"),
        ("policy: p\nmetrics: {forces_mae: {relative: -1}}", "line 2, metrics.forces_mae.relative: "),
        ("policy: p\nmetrics: {forces_mae: {relative: .nan}}", "line 2, metrics.forces_mae.relative: "),
        ("policy: p\nmetrics: {forces_mae: {effect: shout}}", "line 2, metrics.forces_mae.effect: "),
        ("policy: p\nmetrics: {forces_mae: {tolerance: 1}}", "metrics.forces_mae.tolerance: unknown key"),
        ("metrics: {}", "policy: missing"),
    ],
)
def test_what_a_file_may_not_say(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, text)
    assert said in str(caught.value)
    assert str(tmp_path / "gate.yaml") in str(caught.value)
