"""Regressions that are planted are found, and chance is none: each test says how often it may fail to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlipbench.comparison.collect import single_run
from mlipbench.comparison.scores import ScoreReader
from mlipbench.errors import ConfigError, ExitCode, ResultsError
from mlipbench.gate.findings import Finding, State
from mlipbench.gate.judge import judge
from mlipbench.gate.policy import Effect, MetricPolicy, Policy, PolicyFile
from mlipbench.gate.verdict import Gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlipbench.typing import FloatArray

    Make = Callable[..., Path]

CARD = {
    "capabilities": {
        "forces": "conservative",
        "stress": True,
        "elements": "H, O, Cu",
        "energy_reference": "total",
        "dtypes": ["float32", "float64"],
    }
}


def errors(n: int, seed: int = 0) -> FloatArray:
    """Return sizes of errors as models have them: a few structures are far worse than most."""
    return 0.05 * np.random.default_rng(seed).lognormal(0.0, 0.7, n)


def gate(base: Path | list[Path], head: Path | list[Path], policy: Policy | None = None) -> Gate:
    sides = [[single_run(run) for run in (one if isinstance(one, list) else [one])] for one in (base, head)]
    found = judge(sides[0], sides[1], policy or Policy(), ScoreReader())
    return Gate(found.findings, found.comparisons)


def only(found: Gate, *states: State) -> Finding:
    (one,) = found.of(*states)
    return one


def with_costs(run: Path, **numbers: float) -> Path:
    """Add counted numbers to a run."""
    path = run / "metrics.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for metric, value in numbers.items():
        place = {"dataset": "toys", "split": "test", "task": "efficiency", "metric": metric}
        more = {"unit": "1", "direction": "lower", "n": 4, "status": "ok", "comparability_key": f"c-{metric}"}
        content["metrics"].append({**place, **more, "value": value})
    path.write_text(json.dumps(content), encoding="utf-8")
    return run


def changed(run: Path, file: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a file of a run."""
    content = json.loads((run / file).read_text(encoding="utf-8"))
    change(content)
    (run / file).write_text(json.dumps(content), encoding="utf-8")
    return run


def test_the_same_numbers_pass(make_run: Make) -> None:
    found = gate(make_run("net"), make_run("net", started="2026-01-02T03:04:06Z"))
    assert found.exit_code is ExitCode.DONE
    assert only(found, State.UNCHANGED).said == "the same"


def repeated(make_run: Make, times: int, grown: Callable[[FloatArray, int], FloatArray]) -> list[ExitCode]:
    """Return verdicts on 200 structures whose errors are changed, with new draws each time."""
    codes = []
    for seed in range(times):
        sizes = errors(200, seed)
        sides = [
            make_run("net", sizes=one, plan=f"plan{seed}", started=f"2026-01-02T03:0{side}:00Z")
            for side, one in enumerate((sizes, grown(sizes, seed)))
        ]
        codes.append(gate(*sides).exit_code)
    return codes


def test_errors_that_grow_by_3_percent_are_found(make_run: Make) -> None:
    """Each structure's error grows by its own share, 3 % on average with a spread of 5 %.

    The standard error of the mean growth is 5 % / √200 = 0.35 %, or some 0.5 % with these unequal errors. The change
    is six of these, and four above the 1 % that is tolerated: a miss in 40 has a probability below 1 %.
    """
    codes = repeated(make_run, 40, lambda sizes, seed: sizes * grown_by(0.03, 0.05, seed))
    assert codes.count(ExitCode.NEGATIVE_VERDICT) == 40


def test_errors_that_change_by_chance_are_none(make_run: Make) -> None:
    """Each structure's error changes by 5 %, and by nothing on average.

    The mean must pass 1 %, two of its standard errors, and be significant at 2.5 %: at most one in forty does.
    """
    codes = repeated(make_run, 40, lambda sizes, seed: sizes * grown_by(0.0, 0.05, seed))
    assert codes.count(ExitCode.NEGATIVE_VERDICT) <= 2
    assert set(codes) <= {ExitCode.DONE, ExitCode.NEGATIVE_VERDICT}


def grown_by(mean: float, spread: float, seed: int) -> FloatArray:
    return 1.0 + np.random.default_rng([seed, 1]).normal(mean, spread, 200)


def test_one_element_that_is_broken_is_found(make_run: Make) -> None:
    """The errors of one structure in ten, those that hold an element, double: the mean grows by some 10 %.

    Its standard error is about 10 % / √20 = 2 %, so that a miss in 40 has a probability of a few per cent at most.
    """

    def broken(sizes: FloatArray, seed: int) -> FloatArray:
        holds = np.random.default_rng([seed, 2]).permutation(len(sizes)) < len(sizes) // 10
        return np.where(holds, 2.0 * sizes, sizes)

    assert repeated(make_run, 40, broken).count(ExitCode.NEGATIVE_VERDICT) >= 39


def test_a_change_that_is_tolerated_passes_however_significant(make_run: Make) -> None:
    sizes = errors(200)
    found = gate(make_run("net", sizes=sizes), make_run("net", sizes=1.008 * sizes, started="2026-01-03T03:04:06Z"))
    assert found.exit_code is ExitCode.DONE
    assert only(found, State.UNCHANGED).said == "worse by no more than is tolerated"
    strict = Policy(PolicyFile(policy="strict", metrics={"forces_mae": MetricPolicy(relative=0.005)}))
    found = gate(
        make_run("net", sizes=sizes, plan="p"),
        make_run("net", sizes=1.008 * sizes, plan="p", started="2026-01-04T03:04:06Z"),
        strict,
    )
    assert found.exit_code is ExitCode.NEGATIVE_VERDICT
    assert only(found, State.REGRESSION).tolerance == pytest.approx(0.005 * sizes.mean(), rel=1e-12)


def pair(make_run: Make, base: dict[str, Any], head: dict[str, Any]) -> tuple[Path, Path]:
    return make_run("net", **base), make_run("net", **head, started="2026-01-03T03:04:06Z")


def test_a_metric_that_only_warns_does_not_fail(make_run: Make) -> None:
    sizes = errors(200)
    warn = Policy(PolicyFile(policy="soft", metrics={"forces_mae": MetricPolicy(effect=Effect.WARN)}))
    found = gate(*pair(make_run, {"sizes": sizes}, {"sizes": 1.1 * sizes}), warn)
    assert found.exit_code is ExitCode.DONE
    assert only(found, State.WARNING).about == "forces_mae"


def test_errors_that_shrink_are_better(make_run: Make) -> None:
    sizes = errors(200)
    found = gate(*pair(make_run, {"sizes": sizes}, {"sizes": 0.9 * sizes}))
    assert found.exit_code is ExitCode.DONE
    assert only(found, State.IMPROVED).said == "better"


def test_one_structure_in_500_that_fails_is_found(make_run: Make) -> None:
    sizes = errors(500)
    found = gate(*pair(make_run, {"sizes": sizes}, {"sizes": sizes, "failed": 1}))
    assert found.exit_code is ExitCode.NEGATIVE_VERDICT
    one = only(found, State.REGRESSION)
    assert (one.about, one.said) == ("failed structures", "0 -> 1 of 500")


def test_failures_that_were_there_before_pass(make_run: Make) -> None:
    found = gate(*pair(make_run, {"failed": 2}, {"failed": 2}))
    assert found.exit_code is ExitCode.DONE


def test_a_smaller_test_set_is_found(make_run: Make) -> None:
    sizes = errors(200)
    found = gate(*pair(make_run, {"sizes": sizes}, {"sizes": sizes[:199]}))
    assert found.exit_code is ExitCode.NEGATIVE_VERDICT
    assert only(found, State.REGRESSION).said == "199 of 200"


def test_a_split_that_is_gone_is_found(make_run: Make) -> None:
    base, head = pair(make_run, {}, {})
    changed(head, "manifest.json", lambda content: content["splits"].clear())
    found = gate(base, head)
    assert found.exit_code is ExitCode.NEGATIVE_VERDICT
    assert [one.about for one in found.of(State.REGRESSION)] == ["lost split"]


def test_a_number_that_is_gone_is_found(make_run: Make) -> None:
    base, head = pair(make_run, {}, {})
    number = {"value": None, "ci_low": None, "ci_high": None, "status": "not_applicable", "reason": "no forces"}
    changed(head, "metrics.json", lambda content: content["metrics"][0].update(number))
    found = gate(base, head)
    assert found.exit_code is ExitCode.NEGATIVE_VERDICT
    assert only(found, State.REGRESSION).said == "the number is lost: B: not applicable: no forces"


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        ({"stress": False}, "stress: yes -> no"),
        ({"forces": "direct"}, "forces: conservative -> direct"),
        ({"elements": "H, Cu"}, "elements: without O"),
        ({"dtypes": ["float32"]}, "dtypes: without float64"),
        ({"needs": ["charge"]}, "needs charge"),
        ({"molecules": False}, "molecules: yes -> no"),
    ],
)
def test_a_capability_that_is_lost_is_found(make_run: Make, capabilities: dict[str, Any], said: str) -> None:
    poorer = {"capabilities": CARD["capabilities"] | capabilities}
    found = gate(*pair(make_run, {"card": CARD}, {"card": poorer}))
    assert found.exit_code is ExitCode.NEGATIVE_VERDICT
    assert only(found, State.REGRESSION).said == said


def test_a_capability_that_is_won_passes(make_run: Make) -> None:
    poorer = {"capabilities": CARD["capabilities"] | {"stress": False, "elements": "H"}}
    assert gate(*pair(make_run, {"card": poorer}, {"card": CARD})).exit_code is ExitCode.DONE


@pytest.mark.parametrize(
    ("metric", "before", "after", "code"),
    [
        ("flops", 100.0, 105.0, ExitCode.NEGATIVE_VERDICT),
        ("flops", 100.0, 95.0, ExitCode.DONE),
        ("parameters", 1000.0, 1001.0, ExitCode.NEGATIVE_VERDICT),
        ("mean_edges", 40.0, 41.0, ExitCode.DONE),
    ],
)
def test_what_is_counted_needs_no_test(
    make_run: Make, metric: str, before: float, after: float, code: ExitCode
) -> None:
    base, head = pair(make_run, {}, {})
    found = gate(with_costs(base, **{metric: before}), with_costs(head, **{metric: after}))
    assert found.exit_code is code
    state = {100.0: State.REGRESSION, 1000.0: State.REGRESSION, 40.0: State.WARNING}[before]
    expected = State.IMPROVED if after < before else state
    assert only(found, expected).about == metric


def test_a_run_that_is_not_there_is_incomplete(make_run: Make) -> None:
    net, other = make_run("net"), make_run("other")
    found = gate([net, other], [net])
    assert found.exit_code is ExitCode.TASKS_FAILED
    assert only(found, State.INCOMPLETE).run == "other float64"


def test_a_run_without_a_baseline_is_said_to_have_none(make_run: Make) -> None:
    net, other = make_run("net"), make_run("other")
    found = gate([net], [net, other])
    assert found.exit_code is ExitCode.DONE
    assert only(found, State.NOT_COMPARABLE).said == "the baseline holds no run of it"


def test_other_data_are_not_comparable_and_neither_pass_nor_fail(make_run: Make) -> None:
    found = gate(*pair(make_run, {}, {"key": "other", "error": 0.5}))
    assert found.exit_code is ExitCode.NOTHING
    assert only(found, State.NOT_COMPARABLE).about == "forces_mae"


def test_times_on_another_processor_are_not_comparable(make_run: Make) -> None:
    base, head = pair(make_run, {}, {})
    other = {"parent": {"processor": "Difference Engine", "cores": 2}}
    changed(head, "manifest.json", lambda content: content.update(hardware=other))
    for run, value, key in ((base, 10.0, "abacus"), (head, 30.0, "engine")):
        with_costs(run, latency_ratio=value)
        changed(run, "metrics.json", lambda content, key=key: content["metrics"][-1].update(comparability_key=key))
    found = gate(base, head)
    assert found.exit_code is ExitCode.DONE
    assert "processor: Abacus 9000 against Difference Engine" in only(found, State.NOT_COMPARABLE).said


def test_a_change_with_too_few_clusters_is_not_judged(make_run: Make) -> None:
    sizes = errors(5)
    found = gate(*pair(make_run, {"sizes": sizes}, {"sizes": 2.0 * sizes}))
    assert found.exit_code is ExitCode.NOTHING
    assert "nothing tells whether by chance (5 clusters" in only(found, State.NOT_JUDGED).said


def test_a_change_that_one_structure_makes_is_not_judged_and_not_silent(make_run: Make) -> None:
    sizes = errors(40)
    worse = sizes.copy()
    worse[3] *= 100.0
    found = gate(*pair(make_run, {"sizes": sizes}, {"sizes": worse}))
    assert found.exit_code is ExitCode.NOTHING
    assert "too few of which differ" in only(found, State.NOT_JUDGED).said


def test_scores_that_are_missing_are_named(make_run: Make) -> None:
    with pytest.raises(ResultsError, match=r"scores/s2ef/toys/test\.parquet: there is no such file; rebuild them"):
        gate(*pair(make_run, {}, {"scores": False}))


def test_a_baseline_of_another_suite_or_version_is_refused(make_run: Make) -> None:
    suite = {"name": "synthetic", "version": 4, "sha256": "0" * 64}
    with pytest.raises(ConfigError, match="the suite synthetic version 3, the run of synthetic version 4"):
        gate(*pair(make_run, {}, {"manifest": {"suite": suite}}))


@pytest.mark.parametrize(
    ("states", "missing", "code"),
    [
        ((State.REGRESSION, State.INCOMPLETE), True, ExitCode.MISSING),
        ((State.REGRESSION, State.INCOMPLETE), False, ExitCode.NEGATIVE_VERDICT),
        ((State.INCOMPLETE, State.UNCHANGED), False, ExitCode.TASKS_FAILED),
        ((State.NOT_COMPARABLE, State.NOT_JUDGED), False, ExitCode.NOTHING),
        ((), False, ExitCode.NOTHING),
        ((State.WARNING, State.NOT_COMPARABLE), False, ExitCode.DONE),
    ],
)
def test_which_verdict_goes_first(states: tuple[State, ...], missing: bool, code: ExitCode) -> None:
    told = {State.UNCHANGED, State.WARNING, State.IMPROVED}
    findings = tuple(Finding(state, "net", "x", "", measured=state in told) for state in states)
    assert Gate(findings, missing=missing).exit_code is code
