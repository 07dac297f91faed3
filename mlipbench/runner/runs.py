"""Running a plan, one run after the other."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mlipbench.errors import ConfigError, DatasetError, ExitCode, PrerequisiteError, StorageError, WorkerError
from mlipbench.runner.efficiency import measure_costs
from mlipbench.runner.session import RunSession, new_directory
from mlipbench.status import Status
from mlipbench.store.rundir import claim_run, find_run
from mlipbench.version import code_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlipbench.plan import Plan, RunPlan
    from mlipbench.plan.shards import Shard, ShardChoice
    from mlipbench.progress import Display
    from mlipbench.runner.settings import RunSettings
    from mlipbench.store.records import ShardRecord
    from mlipbench.store.rundir import RunDirectory


@dataclass(slots=True)
class RunOutcome:
    """What became of a plan.

    Attributes:
        runs: Directories of the finished runs, in the order of the plan.
        problems: What went wrong or is missing, one line each.
        exit_code: 0, 3 (something failed), 4 (something is missing) or 5 (nothing could be measured).
        missing: Whether something is missing, whatever else failed.
    """

    runs: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    exit_code: ExitCode = ExitCode.DONE
    missing: bool = False


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard of one split of one run that is there.

    Attributes:
        run: Directory of the run.
        title: What the run and the split are called.
        shard: The shard.
        record: What became of it.
    """

    run: Path
    title: str
    shard: Shard
    record: ShardRecord


def run_shard(
    plan: Plan, choice: ShardChoice, settings: RunSettings, display: Display
) -> tuple[RunOutcome, list[ShardDone]]:
    """Compute one shard of every split of every run of a plan that nothing stands in the way of.

    Any number of processes may do this at the same time, each with a number of its own, on one machine or on several
    that share the results and the cache. Nothing is scored; `run_plan` does that, and computes what is missing.

    Args:
        plan: The plan.
        choice: Which shard, of how many.
        settings: How it is carried out.
        display: Shows progress.

    Raises:
        ResultsError: An unfinished run belongs to other code, was cut otherwise or is joined by another process.
        LaterError: Another process computes a shard now, or the job ends too soon.
        MlipbenchError: Results cannot be written.
    """
    tally = _Tally(plan)
    found: list[ShardDone] = []
    for run in plan.runs:
        if run.missing or not run.splits:
            tally.leave_out(run)
            continue
        with tally.blaming(run):
            root = settings.results / "runs" / plan.suite.suite / run.model
            known = find_run(root, run.sha256, code_version())
            directory = known or claim_run(root, new_directory(root, run).path.name, run.sha256)
            if not directory.unfinished:
                display.note(f"{run.model}: finished before, in {directory.path}")
                tally.count_shard(())
                continue
            with directory.lock(shared=True):
                session = RunSession(plan, run, directory, replace(settings, shards=choice.count), display)
                for split, shard, record in session.predict_shard(choice):
                    title = f"{session.title}: {run.place(*split.key)}"
                    found.append(ShardDone(directory.path, title, shard, record))
            tally.count_shard(found)
    return tally.outcome, found


def run_plan(plan: Plan, settings: RunSettings, display: Display) -> RunOutcome:
    """Carry out every run of a plan that nothing stands in the way of.

    An unfinished run of the same plan is resumed, a finished one is reported. A model that fails affects no other.
    Costs are measured once everything is predicted, of all models side by side.

    Args:
        plan: The plan.
        settings: How it is carried out.
        display: Shows progress.

    Raises:
        ResultsError: An unfinished run belongs to other code, or another process is writing it.
        MlipbenchError: Results cannot be written.
    """
    tally = _Tally(plan)
    with ExitStack() as locks:
        waiting: list[RunSession] = []
        finished: list[RunSession] = []
        for run in plan.runs:
            if run.missing or not run.splits:
                tally.leave_out(run)
                continue
            with tally.blaming(run):
                directory = _directory(plan, run, settings, display)
                if directory.unfinished:
                    locks.enter_context(directory.lock())
                session = RunSession(plan, run, directory, settings, display)
                if not session.finished:
                    session.predict()
                    if session.open_costs:
                        waiting.append(session)
                        continue
                    session.finish()
                finished.append(session)
                tally.count(session)
        measure_costs(plan, waiting, finished, display)
        for session in waiting:
            with tally.blaming(session.run):
                session.finish()
                tally.count(session)
    return tally.outcome


class _Tally:
    """Collects what became of the runs."""

    def __init__(self, plan: Plan) -> None:
        self._outcome = RunOutcome(problems=list(plan.missing))
        self._missing = bool(plan.missing)
        self._failed = self._measured = False

    @property
    def outcome(self) -> RunOutcome:
        """What became of the plan."""
        self._outcome.missing = self._missing
        self._outcome.exit_code = _exit_code(failed=self._failed, missing=self._missing, measured=self._measured)
        return self._outcome

    def leave_out(self, run: RunPlan) -> None:
        """Note what stands in the way of a run."""
        self._missing = self._missing or bool(run.missing)
        self._outcome.problems += [f"{run.model}: {line}" for line in run.missing]

    @contextmanager
    def blaming(self, run: RunPlan) -> Iterator[None]:
        """Note what goes wrong with one model, so that the others go on."""
        try:
            yield
        except (ConfigError, DatasetError, WorkerError) as error:  # no weights or no numbers; the predictions are kept
            self._outcome.problems.append(f"{run.model}: {error}")
            self._failed = True
        except StorageError:  # no model's fault, and nothing can be written for the others either
            raise
        except PrerequisiteError as error:  # weights that are not on this machine; the run can be resumed
            self._outcome.problems.append(f"{run.model}: {error}")
            self._missing = True

    def count_shard(self, done: Sequence[ShardDone]) -> None:
        """Count what is there of a run."""
        lost = [one for one in done if one.record.n_failed]
        lines = [f"{one.title}: {one.record.n_failed} structures failed: {one.record.failed}" for one in lost]
        self._outcome.problems += [line for line in lines if line not in self._outcome.problems]
        self._failed, self._measured = self._failed or bool(lost), True

    def count(self, session: RunSession) -> None:
        """Count a finished run."""
        self._outcome.runs.append(session.directory.path)
        self._outcome.problems += _problems(session)
        self._failed = self._failed or session.manifest.status in {Status.PARTIAL, Status.FAILED}
        self._measured = self._measured or any(record.value is not None for record in session.directory.metrics())


def _directory(plan: Plan, run: RunPlan, settings: RunSettings, display: Display) -> RunDirectory:
    """Return the directory of an earlier run of the same plan, or a new one that is not made yet."""
    root = settings.results / "runs" / plan.suite.suite / run.model
    found = None if settings.again else find_run(root, run.sha256, code_version())
    if found is None:
        return new_directory(root, run)
    if found.manifest().status is Status.RUNNING:
        display.note(f"{run.model}: resuming {found.path}")
    else:
        display.note(f"{run.model}: finished before, in {found.path} (--again starts another)")
    return found


def _problems(session: RunSession) -> list[str]:
    bad = [record for record in session.manifest.splits if record.status in {Status.PARTIAL, Status.FAILED}]
    places = [session.run.place(record.task, record.dataset, record.split) for record in bad]
    return [
        f"{session.title}: {place}: {record.status.value}: {record.reason}"
        for place, record in zip(places, bad, strict=True)
    ]


def _exit_code(*, failed: bool, missing: bool, measured: bool) -> ExitCode:
    if failed:
        return ExitCode.TASKS_FAILED
    if missing:
        return ExitCode.MISSING
    return ExitCode.DONE if measured else ExitCode.NOTHING
