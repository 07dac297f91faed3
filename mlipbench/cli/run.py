"""``mlipbench run``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlipbench.cli import options
from mlipbench.cli.output import complain, emit, emit_json, say
from mlipbench.cli.shards import Cut, run_all, run_one
from mlipbench.errors import ExitCode

if TYPE_CHECKING:
    from mlipbench.comparison.collect import RunRecord
    from mlipbench.errors import MlipbenchError
    from mlipbench.plan import Plan
    from mlipbench.progress import Display
    from mlipbench.report.write import Leaderboard
    from mlipbench.runner import RunOutcome


_Again = Annotated[bool, typer.Option("--again", help="Start anew where a finished run exists.")]
_Shard = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Compute the I-th of N shards of every split and stop; run without it joins and scores them.",
    ),
]
_Shards = Annotated[
    int | None,
    typer.Option(
        "--shards",
        metavar="N",
        min=1,
        help="Cut every split into N shards and compute as many at a time as there is room for.",
    ),
]
_Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Time for one batch, or one step of a relaxation.")
]


def run(  # noqa: PLR0913 - options
    context: typer.Context,
    suite: options.SuiteArgument,
    *,
    models: options.ModelsOption = None,
    limit: options.LimitOption = None,
    device: options.DeviceOption = None,
    data: options.DataOption = None,
    profile: options.ProfileOption = None,
    data_root: options.DataRootOption = None,
    results: options.ResultsOption = options.DEFAULT_RESULTS,
    again: _Again = False,
    shard: _Shard = None,
    shards: _Shards = None,
    engine: options.EngineOption = None,
    engine_config: options.EngineConfigOption = None,
    timeout: _Timeout = 600.0,
    memory_limit: options.MemoryLimitOption = None,
    trust: options.TrustOption = False,
    isolated: options.IsolatedOption = False,
    yes: options.YesOption = False,
    display: options.DisplayOption = None,
    json: options.JsonOption = False,
) -> int:
    """Run a suite, print its table, and write it beside the runs.

    An interrupted run is resumed by the same command; a finished one is only reported.
    """
    from mlipbench.cli.display import open_display
    from mlipbench.execution.watch import machine_limit
    from mlipbench.runner import RunSettings, run_plan

    settings = RunSettings(results, again, tuple(context.obj or ()), memory_limit or machine_limit(), timeout)
    request = options.Request(suite, models, limit, device, data_root, trust, isolated, data, profile)
    cut = Cut.of(shards, engine, engine_config)
    with open_display(display) as shown:
        for line in request.wanted()[1]:
            shown.note(line)
        if shard is not None:
            return run_one(shard, ready_plan(request, shown, consent=yes, measure=False), settings, shown, json=json)
        plan = ready_plan(request, shown, consent=yes)
        aside: list[str] = []
        if cut is not None:
            plan, aside = run_all(cut, plan, replace(settings, memory_limit=memory_limit), request, shown)
        outcome = run_plan(plan, replace(settings, again=again and cut is None), shown)
    _tell(outcome, results / "runs" / plan.suite.suite, json=json)
    for line in aside:
        say(f"mlipbench: {line}")
    return int(ExitCode.TASKS_FAILED if aside else outcome.exit_code)


def _tell(outcome: "RunOutcome", directory: Path, *, json: bool) -> None:
    """Write the leaderboard of a suite, print the tables of its runs, and say what is wrong."""
    from mlipbench.comparison.collect import collect
    from mlipbench.report.write import write

    broken: list[MlipbenchError] = []
    board = write(collect([directory], broken), directory, broken) if outcome.runs else None
    records = collect(outcome.runs)
    emit_json(_as_dict(outcome, records, board)) if json else _show(records, board)
    for problem in outcome.problems:
        say(f"mlipbench: {problem}")
    complain(broken)


def ready_plan(request: options.Request, display: "Display", *, consent: bool, measure: bool = True) -> "Plan":
    """Return the plan once the environments it needs are built.

    Args:
        request: What is asked for.
        display: Shows progress.
        consent: Whether environments may be built without asking.
        measure: Whether the batch budgets that it needs are measured; otherwise such a run waits for them.
    """
    from mlipbench.cli.env import build_missing
    from mlipbench.environments import Environments
    from mlipbench.runner import BudgetSearch

    plan = request.plan()
    failed: dict[str, str] = {}
    if missing := plan.unbuilt():
        environments = Environments(plan.location.cache, isolated=request.isolated)
        failed = build_missing(environments, missing, display, consent=consent)
    if missing or (measure and any(run.variant.batch is None for run in plan.runs)):
        plan = request.plan(BudgetSearch(plan.location.cache, display) if measure else None, failed)
    return plan


def _show(records: "tuple[RunRecord, ...]", board: "Leaderboard | None") -> None:
    if board is None:
        return
    show_tables(records)
    emit(f"{board.csv}\n{board.markdown}")


def show_tables(records: "tuple[RunRecord, ...]") -> None:
    """Print the tables of some runs."""
    import shutil

    from mlipbench.report.table import build_tables
    from mlipbench.report.terminal import to_text

    text = to_text(build_tables(records), shutil.get_terminal_size((100, 24)).columns)
    if text:
        emit(f"{text}\n".rstrip() + "\n")


def as_dict(record: "RunRecord") -> dict[str, Any]:
    """Return a run and its numbers for ``--json``."""
    manifest = record.manifest
    return {
        "run_id": record.run_id,
        "path": None if record.directory is None else str(record.directory),
        "model": record.model,
        "variant": record.variant,
        "seed": record.seed,
        "source": record.source.value,
        "citation": None if record.reference is None else record.reference.citation,
        "status": None if manifest is None else manifest.status.value,
        "metrics": [metric.model_dump(mode="json") for metric in record.metrics],
    }


def _as_dict(outcome: "RunOutcome", records: "tuple[RunRecord, ...]", board: "Leaderboard | None") -> dict[str, Any]:
    return {
        "exit_code": int(outcome.exit_code),
        "problems": outcome.problems,
        "runs": [as_dict(record) for record in records],
        "leaderboard": None if board is None else {"csv": str(board.csv), "markdown": str(board.markdown)},
    }
