"""``mlipbench gate``."""

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlipbench.cli import options
from mlipbench.cli.output import emit, emit_json, say
from mlipbench.errors import ConfigError, ExitCode, NothingSelectedError, PrerequisiteError, ResultsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.environments.tree import Revision
    from mlipbench.gate.findings import Finding
    from mlipbench.gate.judge import Judged
    from mlipbench.gate.verdict import Gate
    from mlipbench.plan import Plan
    from mlipbench.progress import Display
    from mlipbench.runner import RunSettings

_SUMMARY = "GITHUB_STEP_SUMMARY"
_ACTIONS = "GITHUB_ACTIONS"


@dataclass
class _Head:
    """What is judged.

    Attributes:
        runs: Its finished runs.
        problems: What went wrong or is missing, one line each.
        missing: Whether something is missing on this machine.
        plan: The plan of the suite; None where runs were given.
    """

    runs: "list[RunRecord]"
    problems: list[str] = field(default_factory=list)
    missing: bool = False
    plan: "Plan | None" = None


_Target = Annotated[
    str, typer.Argument(metavar="RUN|SUITE", help="A run, a directory above runs, or a suite, which is run first.")
]
_Baseline = Annotated[
    Path | None, typer.Option("--baseline", metavar="FILE", help="Baseline to judge by, made by --save.")
]
_Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="GIT_REF",
        help="Version of the project in this repository that the suite's times are measured beside.",
    ),
]
_Policy = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="What counts as worse, where not the defaults.")
]
_Save = Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write the runs as a baseline.")]
_Markdown = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Write what was found as Markdown, too.")
]


@dataclass(frozen=True)
class _By:
    """What is judged by.

    Attributes:
        baseline: File of the baseline.
        against: The version that times are measured beside.
        policy: File of the policy.
    """

    baseline: Path | None
    against: str | None
    policy: Path | None


def gate(  # noqa: PLR0913 - options
    context: typer.Context,
    target: _Target,
    *,
    baseline: _Baseline = None,
    against: _Against = None,
    policy: _Policy = None,
    save: _Save = None,
    markdown: _Markdown = None,
    models: options.ModelsOption = None,
    limit: options.LimitOption = None,
    device: options.DeviceOption = None,
    data: options.DataOption = None,
    profile: options.ProfileOption = None,
    data_root: options.DataRootOption = None,
    results: options.ResultsOption = options.DEFAULT_RESULTS,
    trust: options.TrustOption = False,
    isolated: options.IsolatedOption = False,
    yes: options.YesOption = False,
    display: options.DisplayOption = None,
    json: options.JsonOption = False,
) -> int:
    """Judge runs by a stored baseline, and times by another version of the code, and fail if a model got worse.

    Exit codes: 0 pass, 1 regression, 2 invalid input, 3 run incomplete, 4 something is missing, 5 nothing comparable.
    """
    from mlipbench.cli.display import open_display

    if baseline is None and against is None and save is None:
        raise ConfigError("nothing to judge by", where="gate", remedy="give --baseline, --against or --save")
    request = options.Request(target, models, limit, device, data_root, trust, isolated, data, profile)
    settings = _settings(results, tuple(context.obj or ()))
    with open_display(display) as shown:
        if save is not None:
            return _save(_head(request, settings, shown, consent=yes), save)
        found = _found(request, settings, shown, _By(baseline, against, policy), consent=yes)
    _tell(found, markdown, json=json)
    return int(found.exit_code)


def _found(request: options.Request, settings: "RunSettings", shown: "Display", by: _By, *, consent: bool) -> "Gate":
    """Return what is found; what is wrong with files and versions is known before anything runs."""
    from mlipbench.comparison.scores import ScoreReader
    from mlipbench.gate.baseline import opened
    from mlipbench.gate.judge import judge
    from mlipbench.gate.policy import Policy, read_policy

    if _is_stored(request.suite) and by.against is not None:
        raise ConfigError("times are measured anew", where="--against", remedy="give a suite, not a run")
    rules = Policy() if by.policy is None else read_policy(by.policy)
    with ExitStack() as open_files:
        stored = None if by.baseline is None else open_files.enter_context(opened(by.baseline))
        older = None if by.against is None else open_files.enter_context(_revision(by.against))
        head = _head(request, settings, shown, consent=consent, predict=stored is not None)
        judged = None if stored is None else judge(stored, head.runs, rules, ScoreReader())
        times = () if older is None or head.plan is None else _times(head.plan, older, settings, shown)
    return _gate(head, judged, times, by, rules.name)


def _head(
    request: options.Request, settings: "RunSettings", shown: "Display", *, consent: bool, predict: bool = True
) -> _Head:
    if _is_stored(request.suite):
        return _stored(Path(request.suite))
    return _run(request, settings, shown, consent=consent, predict=predict)


def _is_stored(target: str) -> bool:
    """Return whether a target is a folder, and no shipped suite that a folder shares its name with."""
    from mlipbench.suite.catalogue import suite_names

    return Path(target).is_dir() and target not in suite_names()


def _settings(results: Path, arguments: tuple[str, ...]) -> "RunSettings":
    from mlipbench.execution.watch import machine_limit
    from mlipbench.runner import RunSettings

    return RunSettings(results, again=True, arguments=arguments, memory_limit=machine_limit())


def _stored(directory: Path) -> _Head:
    """Return the finished runs below a directory.

    Raises:
        ResultsError: There is no run, or one is damaged.
    """
    from mlipbench.comparison.collect import MANIFEST, collect

    runs = list(collect([directory]))
    if runs:
        return _Head(runs)
    if next(directory.rglob(MANIFEST), None) is None:
        raise ResultsError("holds no run", file=directory, remedy="make one with `mlipbench run`")
    return _Head([], [f"{directory}: holds no finished run; give the command that began it again"])


def _run(request: options.Request, settings: "RunSettings", shown: "Display", *, consent: bool, predict: bool) -> _Head:
    """Return the runs of a suite, which is run.

    Raises:
        MlipbenchError: The suite is invalid, or results cannot be written.
    """
    from mlipbench.cli.run import ready_plan
    from mlipbench.comparison.collect import collect
    from mlipbench.runner import run_plan

    for line in request.wanted()[1]:
        shown.note(line)
    plan = ready_plan(request, shown, consent=consent)
    if not predict:
        lacking = [f"{run.model}: {line}" for run in plan.runs for line in run.missing]
        return _Head([], [*plan.missing, *lacking], bool(plan.missing or lacking), plan)
    outcome = run_plan(plan, settings, shown)
    return _Head(list(collect(outcome.runs)), outcome.problems, outcome.missing, plan)


def _save(head: _Head, path: Path) -> int:
    from mlipbench.gate.baseline import save

    for problem in head.problems:
        say(f"mlipbench: {problem}")
    if head.missing:
        raise PrerequisiteError("the suite did not run as a whole", where="--save", remedy="see above what is missing")
    save(head.runs, path)
    emit(str(path))
    return int(ExitCode.DONE)


@contextmanager
def _revision(against: str) -> "Iterator[Revision]":
    from tempfile import TemporaryDirectory

    from mlipbench.environments.tree import install_revision

    with TemporaryDirectory(prefix="mlipbench-against-") as folder:
        yield install_revision(against, Path.cwd(), Path(folder))


def _times(plan: "Plan", older: "Revision", settings: "RunSettings", shown: "Display") -> "tuple[Finding, ...]":
    """Measure times beside an older version of the code, once more where that seems slower."""
    from mlipbench.gate.times import judge_times, suspects
    from mlipbench.runner.sides import measure_sides

    first = measure_sides(plan, older, settings, shown)
    again = measure_sides(plan, older, settings, shown, suspects(first))
    return tuple(judge_times(first, again))


def _gate(head: _Head, judged: "Judged | None", times: "tuple[Finding, ...]", by: _By, policy: str) -> "Gate":
    from mlipbench.gate.findings import State
    from mlipbench.gate.verdict import Gate

    findings = (*(judged.findings if judged else ()), *times)
    needed = judged is None or any(finding.state is State.INCOMPLETE for finding in findings)
    return Gate(
        findings,
        judged.comparisons if judged else (),
        tuple(head.problems),
        head.missing and needed,
        None if by.baseline is None else str(by.baseline),
        by.against,
        policy,
    )


def _tell(found: "Gate", markdown: Path | None, *, json: bool) -> None:
    """Print what was found, and write it where it is wanted."""
    from mlipbench.gate.summary import as_annotations, as_dict, to_markdown, to_text
    from mlipbench.store.files import write_atomically

    for problem in found.problems:
        say(f"mlipbench: {problem}")
    emit_json(as_dict(found)) if json else emit(to_text(found))
    if os.environ.get(_ACTIONS) == "true" and not json:
        for line in as_annotations(found):
            emit(line)
    text = to_markdown(found)
    if markdown is not None:
        write_atomically(markdown, text.encode())
    if summary := os.environ.get(_SUMMARY):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text)
    if found.exit_code is ExitCode.NOTHING:
        raise NothingSelectedError("nothing could be compared", where="gate", remedy="the reasons stand in the result")
