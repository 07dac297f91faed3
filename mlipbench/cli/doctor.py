"""``mlipbench doctor``."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlipbench.cli import completion, options
from mlipbench.cli.output import aligned, emit, emit_json
from mlipbench.errors import ExitCode, PrerequisiteError

if TYPE_CHECKING:
    from mlipbench.doctor.examine import Diagnosis
    from mlipbench.environments import Environment
    from mlipbench.execution.client import WorkerSpec
    from mlipbench.progress import Display


def doctor(  # noqa: PLR0913 - options
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Name of a model, path of a card, or folder of a checkpoint.",
            autocompletion=completion.models,
        ),
    ],
    *,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", metavar="NAME", help="Dataset whose checkpoint is loaded, or that a fitted model is fitted to."
        ),
    ] = None,
    device: options.DeviceOption = None,
    data_root: options.DataRootOption = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=1, help="Time between two signs of life of a check.")
    ] = 600.0,
    memory_limit: options.MemoryLimitOption = None,
    trust: options.TrustOption = False,
    isolated: options.IsolatedOption = False,
    yes: options.YesOption = False,
    display: options.DisplayOption = None,
    json: options.JsonOption = False,
) -> int:
    """Check that a model is wired up correctly: order, symmetry, units, signs, surroundings, resources.

    The exit code is 1 where a check failed; what is wrong and what would put it right stand below the table.
    """
    from mlipbench.cli.display import open_display
    from mlipbench.doctor.examine import examine
    from mlipbench.doctor.patient import Choice, find_patient
    from mlipbench.models.registry import load_card

    card = load_card(model, trust=trust)
    location = options.data_location(data_root)
    with open_display(display) as shown, tempfile.TemporaryDirectory(prefix="mlipbench-") as folder:

        def prepare() -> "WorkerSpec":
            environment = _environment(card.environment, location.cache, shown, isolated=isolated, consent=yes)
            return _spec(environment, Path(folder) / "log.txt", memory_limit, timeout)

        found = examine(find_patient(card, Choice(dataset, device), prepare, location), shown)
    emit_json(found.record().model_dump(mode="json")) if json else _show(found)
    return int(ExitCode.NEGATIVE_VERDICT if found.failed else ExitCode.DONE)


def _spec(environment: "Environment", log: Path, memory_limit: int | None, timeout: float) -> "WorkerSpec":
    """Return how workers are started."""
    from mlipbench.execution.client import WorkerSpec
    from mlipbench.execution.watch import machine_limit
    from mlipbench.plan.build import worker_threads

    return WorkerSpec(
        python=environment.interpreter(),
        log=log,
        threads=worker_threads(),
        memory_limit=memory_limit or machine_limit(),
        request_timeout=timeout,
    )


def _environment(name: str, cache: Path, display: "Display", *, isolated: bool, consent: bool) -> "Environment":
    """Return an environment, built if it has to be.

    Raises:
        PrerequisiteError: It cannot be built, or there is no consent.
    """
    from mlipbench.cli.env import build_missing
    from mlipbench.environments import Environments, Provision

    environments = Environments(cache, isolated=isolated)
    found = environments.find(name)
    if found.how is not Provision.MISSING:
        return found
    failed = build_missing(environments, [found], display, consent=consent)
    if failed:
        raise PrerequisiteError(*failed.values())
    return Environments(cache, isolated=isolated).find(name)


def _show(found: "Diagnosis") -> None:
    from mlipbench.doctor.text import COLUMNS, heading, problems, rows, verdict
    from mlipbench.report.text import clean

    parts = [clean(heading(found)), aligned(rows(found), COLUMNS)]
    wrong = [line[: len(line) - len(line.lstrip())] + clean(line) for line in problems(found)]
    if wrong:
        parts.append("\n".join(wrong))
    emit("\n\n".join([*parts, verdict(found)]))
