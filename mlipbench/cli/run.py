"""``mlipbench run``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlipbench.cli import options
from mlipbench.cli.output import complain, emit, emit_json, say

if TYPE_CHECKING:
    from mlipbench.comparison.collect import RunRecord
    from mlipbench.errors import MlipbenchError
    from mlipbench.plan import Plan
    from mlipbench.progress import Display
    from mlipbench.report.write import Leaderboard
    from mlipbench.runner import RunOutcome


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
    again: Annotated[bool, typer.Option("--again", help="Start anew where a finished run exists.")] = False,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=1, help="Time for one batch, or one step of a relaxation."),
    ] = 600.0,
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
    from mlipbench.comparison.collect import collect
    from mlipbench.execution.watch import machine_limit
    from mlipbench.report.write import write
    from mlipbench.runner import RunSettings, run_plan

    settings = RunSettings(results, again, tuple(context.obj or ()), memory_limit or machine_limit(), timeout)
    with open_display(display) as shown:
        request = options.Request(suite, models, limit, device, data_root, trust, isolated, data, profile)
        for line in request.wanted()[1]:
            shown.note(line)
        plan = ready_plan(request, shown, consent=yes)
        outcome = run_plan(plan, settings, shown)
    directory = results / "runs" / plan.suite.suite
    broken: list[MlipbenchError] = []
    board = write(collect([directory], broken), directory, broken) if outcome.runs else None
    records = collect(outcome.runs)
    emit_json(_as_dict(outcome, records, board)) if json else _show(records, board)
    for problem in outcome.problems:
        say(f"mlipbench: {problem}")
    complain(broken)
    return int(outcome.exit_code)


def ready_plan(request: options.Request, display: "Display", *, consent: bool) -> "Plan":
    """Return the plan once the environments it needs are built and the batch budgets it needs are measured."""
    from mlipbench.cli.env import build_missing
    from mlipbench.environments import Environments
    from mlipbench.runner import BudgetSearch

    plan = request.plan()
    failed: dict[str, str] = {}
    if missing := plan.unbuilt():
        environments = Environments(plan.location.cache, isolated=request.isolated)
        failed = build_missing(environments, missing, display, consent=consent)
    if missing or any(run.variant.batch is None for run in plan.runs):
        plan = request.plan(BudgetSearch(plan.location.cache, display), failed)
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
