"""Running a plan, one run after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlipbench.errors import ConfigError, DatasetError, ExitCode, PrerequisiteError, StorageError, WorkerError
from mlipbench.runner.session import RunSession
from mlipbench.status import Status
from mlipbench.store.rundir import RunDirectory, find_run
from mlipbench.version import code_version

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.plan import Plan, RunPlan
    from mlipbench.progress import Display
    from mlipbench.runner.settings import RunSettings
    from mlipbench.store.records import Manifest


@dataclass(slots=True)
class RunOutcome:
    """What became of a plan.

    Attributes:
        runs: Directories of the finished runs, in the order of the plan.
        problems: What went wrong or is missing, one line each.
        exit_code: 0, 3 (something failed), 4 (something is missing) or 5 (nothing could be measured).
    """

    runs: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    exit_code: ExitCode = ExitCode.DONE


def run_plan(plan: Plan, settings: RunSettings, display: Display) -> RunOutcome:
    """Carry out every run of a plan that nothing stands in the way of.

    An unfinished run of the same plan is resumed, a finished one is reported. A model that fails affects no other.

    Args:
        plan: The plan.
        settings: How it is carried out.
        display: Shows progress.

    Raises:
        ResultsError: An unfinished run belongs to other code, or another process is writing it.
        MlipbenchError: Results cannot be written.
    """
    outcome = RunOutcome(problems=list(plan.missing))
    missing = bool(plan.missing)
    failed = False
    measured = False
    for run in plan.runs:
        if run.missing:
            missing = True
            outcome.problems += [f"{run.model}: {line}" for line in run.missing]
            continue
        if not run.splits:
            continue
        try:
            directory, manifest = _carry_out(plan, run, settings, display)
        except (ConfigError, DatasetError, WorkerError) as error:  # no weights or no numbers; the predictions are kept
            outcome.problems.append(f"{run.model}: {error}")
            failed = True
            continue
        except StorageError:  # no model's fault, and nothing can be written for the others either
            raise
        except PrerequisiteError as error:  # weights that are not on this machine; the run can be resumed
            outcome.problems.append(f"{run.model}: {error}")
            missing = True
            continue
        outcome.runs.append(directory.path)
        outcome.problems += _problems(run, manifest)
        failed = failed or manifest.status in {Status.PARTIAL, Status.FAILED}
        measured = measured or any(record.value is not None for record in directory.metrics())
    outcome.exit_code = _exit_code(failed=failed, missing=missing, measured=measured)
    return outcome


def _carry_out(plan: Plan, run: RunPlan, settings: RunSettings, display: Display) -> tuple[RunDirectory, Manifest]:
    root = settings.results / "runs" / plan.suite.suite / run.model
    found = None if settings.again else find_run(root, run.sha256, code_version())
    if found is not None:
        manifest = found.manifest()
        if manifest.status is not Status.RUNNING:
            display.note(f"{run.model}: finished before, in {found.path} (--again starts another)")
            return found, manifest
        display.note(f"{run.model}: resuming {found.path}")
    session = RunSession(plan, run, settings, display)
    return session.carry_out(found or session.new_directory(root))


def _problems(run: RunPlan, manifest: Manifest) -> list[str]:
    bad = [record for record in manifest.splits if record.status in {Status.PARTIAL, Status.FAILED}]
    places = [run.place(record.task, record.dataset, record.split) for record in bad]
    return [
        f"{run.model}: {place}: {record.status.value}: {record.reason}"
        for place, record in zip(places, bad, strict=True)
    ]


def _exit_code(*, failed: bool, missing: bool, measured: bool) -> ExitCode:
    if failed:
        return ExitCode.TASKS_FAILED
    if missing:
        return ExitCode.MISSING
    return ExitCode.DONE if measured else ExitCode.NOTHING
