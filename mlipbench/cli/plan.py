"""``mlipbench plan``."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlipbench.cli import options
from mlipbench.cli.forecast import Forecast
from mlipbench.cli.output import aligned, complain, emit, emit_json
from mlipbench.errors import ExitCode
from mlipbench.report.text import clean

if TYPE_CHECKING:
    from mlipbench.plan.plan import Plan, RunPlan

_COLUMNS = ("task", "dataset", "split", "role", "structures", "atoms", "batches", "status")


def plan(  # noqa: PLR0913 - options
    suite: options.SuiteArgument,
    *,
    models: options.ModelsOption = None,
    limit: options.LimitOption = None,
    device: options.DeviceOption = None,
    data: options.DataOption = None,
    profile: options.ProfileOption = None,
    data_root: options.DataRootOption = None,
    results: options.ResultsOption = options.DEFAULT_RESULTS,
    shards: Annotated[
        int | None,
        typer.Option("--shards", metavar="N", min=1, help="Show the shards that splits are cut into, N at most."),
    ] = None,
    trust: options.TrustOption = False,
    isolated: options.IsolatedOption = False,
    json: options.JsonOption = False,
) -> int:
    """Show what a suite would run, what is missing, what is not applicable and why, and what it takes.

    Times and differences that can be found are told by the runs below --results, as far as these allow. No model is
    loaded.
    """
    request = options.Request(suite, models, limit, device, data_root, trust, isolated, data, profile)
    made = request.plan()
    forecast = Forecast.of(made, results, shards)
    if json:
        emit_json({**made.as_dict(), **forecast.as_dict()})
    else:
        lines = [_line("data", line) for line in request.wanted()[1]]
        emit("\n".join([*lines, _describe(made, forecast), *map(clean, forecast.lines())]))
    complain(forecast.problems)
    return int(ExitCode.DONE)


def _describe(plan: "Plan", forecast: Forecast) -> str:
    parts = [f"{plan.suite.suite} version {plan.suite.version}"]
    parts.extend(_line("missing", text) for text in plan.missing)
    used = {run.environment.name: run.environment for run in plan.runs}
    parts.extend(_line(f"environment {name}", environment.describe()) for name, environment in used.items())
    for run in plan.runs:
        parts.extend(["", *_describe_run(run, forecast)])
    batches = sum(split.n_batches for run in plan.runs for split in run.splits)
    structures = sum(split.n_structures for run in plan.runs for split in run.splits if not split.reason)
    parts.extend(
        ["", f"{_count(len(plan.runs), 'run')}, {_count(structures, 'structure')}, {_count(batches, 'batch')}"]
    )
    return "\n".join(parts)


def _describe_run(run: "RunPlan", forecast: Forecast) -> list[str]:
    variant = run.variant
    parts = [_line(run.model, f"{variant.name}, {variant.precision}, {variant.device}, seed {run.seed}")]
    rows = [
        {
            "task": split.task,
            "dataset": split.dataset,
            "split": split.split,
            "role": split.role.value,
            "structures": split.n_structures,
            "atoms": split.n_atoms,
            "batches": split.n_batches,
            "status": split.status.value.replace("_", " "),
        }
        for split in run.splits
    ]
    if rows:
        parts.extend(f"  {line}" for line in aligned(rows, _COLUMNS).splitlines())
    parts.extend(_line(f"  {head}", text) for head, text in forecast.of_run(run))
    parts.extend(_line("  training", training.describe()) for training in run.trainings.values())
    parts.extend(_line("  training data", text) for text in _exposures(run))
    parts.extend(_line("  missing", text) for text in run.missing)
    parts.extend(_line("  not applicable", text) for text in _refusals(run))
    parts.extend(_line("  conversion", text) for text in _conversions(run))
    return parts


def _refusals(run: "RunPlan") -> list[str]:
    """Return what is not applicable: whole splits, then metrics with the same reason together."""
    whole = {(split.dataset, split.split): split.reason for split in run.splits if split.reason}
    lines = [f"{dataset}/{split}: {reason}" for (dataset, split), reason in whole.items()]
    reasons: dict[tuple[str, str, str], list[str]] = {}
    for cell in run.cells:
        if cell.reason and (cell.dataset, cell.split) not in whole:
            reasons.setdefault((cell.dataset, cell.split, cell.reason), []).append(cell.metric)
    lines.extend(
        f"{dataset}/{split} {', '.join(metrics)}: {reason}" for (dataset, split, reason), metrics in reasons.items()
    )
    return lines


def _exposures(run: "RunPlan") -> list[str]:
    """Return how the model's training data relate to what it is evaluated on, splits with the same answer together."""
    answers: dict[tuple[str, str], list[str]] = {}
    for split in run.splits:
        if split.exposure is not None and not split.reason:
            said = f" ({split.exposure.note})" if split.exposure.note else ""
            answers.setdefault((split.dataset, f"{split.exposure.relation.value}{said}"), []).append(split.split)
    return [f"{dataset}/{', '.join(splits)}: {answer}" for (dataset, answer), splits in answers.items()]


def _conversions(run: "RunPlan") -> list[str]:
    return list(
        dict.fromkeys(f"{cell.dataset}/{cell.split}: {cell.conversion}" for cell in run.cells if cell.conversion)
    )


def _line(head: str, text: str) -> str:
    indent = head[: len(head) - len(head.lstrip())]
    return f"{indent}{clean(head)}: {clean(text)}"


def _count(number: int, what: str) -> str:
    plural = "es" if what.endswith("ch") else "s"
    return f"{number} {what}{'' if number == 1 else plural}"
