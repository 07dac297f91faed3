"""Having the shards of a plan computed by an engine."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from mlipbench.errors import ExitCode
from mlipbench.plan.shards import ShardChoice, shard_at
from mlipbench.runner.session import RunSession, new_directory
from mlipbench.store.rundir import claim_run, find_run
from mlipbench.version import code_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.execution.engines import CommandEnd, Engine, EngineCommand
    from mlipbench.plan import Plan, RunPlan
    from mlipbench.progress import Display
    from mlipbench.runner.meter import Meter
    from mlipbench.runner.settings import RunSettings
    from mlipbench.store.rundir import RunDirectory

TRIES: Final = 3
"""How often a shard may fail before it is set aside."""
LOSSES: Final = 20
"""How often it may be lost with the job or the machine it ran in, which keep what they did, before that counts too."""
PAUSE: Final = 10.0
"""Seconds until a shard is given again that another process computes, or that its job had no time for."""
_TICK: Final = 0.1
NOT_SHARED: Final = "it ended well, and nothing of it is here: do all machines see the same --results?"
_DONE: Final = frozenset({int(ExitCode.DONE), int(ExitCode.TASKS_FAILED)})
"""Structures that fail are part of the result; a shard with some is done."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard of every split of all runs of one model.

    Attributes:
        model: Name of the model, or path of its card, as the suite has it.
        choice: Which shard.
        waits: Whether the first shard of the model has to be done before, because it trains the weights.
    """

    model: str
    choice: ShardChoice
    waits: bool

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.model}, shard {self.choice.number} of {self.choice.count}"


@dataclass(slots=True)
class CampaignOutcome:
    """What became of the shards.

    Attributes:
        aside: Shards that failed too often: what the last attempt said, by title.
        models: The models of these.
    """

    aside: dict[str, str] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)


def begin_runs(plan: Plan, count: int, settings: RunSettings, display: Display) -> dict[str, list[ShardTask]]:
    """Write the first manifest of each run that is to be cut, and return the shards that are not there, by model.

    Args:
        plan: The plan.
        count: Into how many shards splits are cut.
        settings: How runs are carried out; with ``again`` a new one begins where one was finished.
        display: Shows progress.

    Raises:
        ResultsError: An unfinished run belongs to other code or was cut otherwise.
        MlipbenchError: Results cannot be written.
    """
    numbers: dict[str, set[int]] = {}
    training: set[str] = set()
    for run in plan.runs:
        if run.missing or not run.splits:
            continue
        directory = _begun(plan, run, settings)
        if directory.unfinished:
            RunSession(plan, run, directory, settings, display).begin()
            choices = [ShardChoice(number, count) for number in range(1, count + 1)]
            lacking = {choice.number for choice in choices if _lacks(run, directory, choice)}
            numbers.setdefault(run.choice, set()).update(lacking)
            if not all(one.done for one in run.trainings.values()):
                training.add(run.choice)
    return {
        model: [
            ShardTask(model, ShardChoice(number, count), waits=model in training and number != min(found))
            for number in sorted(found)
        ]
        for model, found in numbers.items()
    }


def _begun(plan: Plan, run: RunPlan, settings: RunSettings) -> RunDirectory:
    """Return the directory of a run: the newest of its plan, or one that is not made yet."""
    root = settings.results / "runs" / plan.suite.suite / run.model
    fresh = new_directory(root, run)
    if settings.again:
        return fresh
    return find_run(root, run.sha256, code_version()) or claim_run(root, fresh.path.name, run.sha256)


def is_there(plan: Plan, task: ShardTask, settings: RunSettings) -> bool:
    """Return whether a shard is done, of all runs of its model.

    Args:
        plan: The plan.
        task: The shard.
        settings: Where results are.
    """
    for run in plan.runs:
        if run.choice == task.model and run.splits and not run.missing:
            known = find_run(settings.results / "runs" / plan.suite.suite / run.model, run.sha256, code_version())
            if known is None or (known.unfinished and _lacks(run, known, task.choice)):
                return False
    return True


def _lacks(run: RunPlan, directory: RunDirectory, choice: ShardChoice) -> bool:
    """Return whether the shard of any split is not there."""
    shards = [(directory.shards(*split.key), shard_at(run, split, choice)) for split in run.sharded]
    return any(shard is not None and not (folder / f"{shard.name}.json").exists() for folder, shard in shards)


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """A training as one job.

    Attributes:
        model: Name of the training.
        waits: False: there is nothing it has to wait for.
    """

    model: str
    waits: bool = False

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"training of {self.model}"


TaskT = TypeVar("TaskT", bound=ShardTask | TrainingTask)
TaskT_contra = TypeVar("TaskT_contra", contravariant=True)


class Work(Protocol[TaskT_contra]):
    """How tasks are carried out."""

    def command(self, task: TaskT_contra) -> EngineCommand:
        """Return the command that carries a task out."""

    def is_there(self, task: TaskT_contra) -> bool:
        """Return whether all that a task makes is there."""


class Campaign(Generic[TaskT]):
    """Hands tasks to an engine until all are done, or some have failed too often.

    Args:
        tasks: Shards by model, or a training.
        work: How one is carried out.
        engine: Carries the commands out.
        display: Shows progress.
        meter: Counts structures, whoever computes them; None where there are none.
        clock: Returns seconds; replaced in tests.
    """

    def __init__(
        self,
        tasks: Mapping[str, list[TaskT]],
        work: Work[TaskT],
        engine: Engine,
        display: Display,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Submit nothing yet."""
        self._ready = deque(task for found in tasks.values() for task in found if not task.waits)
        self._held = {model: [task for task in found if task.waits] for model, found in tasks.items()}
        self._work = work
        self._engine = engine
        self._display = display
        self._out: dict[str, TaskT] = {}
        self._failures: dict[TaskT, int] = {}
        self._losses: dict[TaskT, int] = {}
        self._later: list[tuple[float, TaskT]] = []
        self._meter = meter
        self._clock = clock
        self.outcome = CampaignOutcome()

    def run(self) -> CampaignOutcome:
        """Have everything computed, and return what became of it.

        Raises:
            MlipbenchError: The engine itself has failed.
        """
        total = len(self._ready) + sum(map(len, self._held.values()))
        if not total:
            return self.outcome
        title = self._ready[0].title if self._meter is None else f"{total} shards"
        self._display.begin(title, 0 if self._meter is None else self._meter.total)
        while self._ready or self._out or self._later:
            now = self._clock()
            self._ready.extend(task for due, task in self._later if due <= now)
            self._later = [(due, task) for due, task in self._later if due > now]
            while self._ready:
                self._submit(self._ready.popleft())
            ended = self._engine.wait()
            for end in ended:
                self._settle(self._out.pop(end.command.title), end)
            if self._meter is not None:
                self._display.advance(*self._meter.news())
            if not ended and not self._out:
                time.sleep(_TICK)
        self._display.end(title, f"{len(self.outcome.aside)} set aside" if self.outcome.aside else "done")
        return self.outcome

    def _submit(self, task: TaskT) -> None:
        self._out[task.title] = task
        self._engine.submit(self._work.command(task))

    def _settle(self, task: TaskT, end: CommandEnd) -> None:
        if end.status in _DONE and not self._work.is_there(task):
            self._fail(task, replace(end, told=NOT_SHARED))
        elif end.status in _DONE:
            self._ready.extend(self._held.pop(task.model, []))
        elif end.status == ExitCode.LATER:
            self._later.append((self._clock() + PAUSE, task))
        else:
            self._fail(task, end)

    def _fail(self, task: TaskT, end: CommandEnd) -> None:
        """Try a task again, or set it aside, and with it those that wait for it."""
        lost = end.status in {None, ExitCode.INTERRUPTED}  # a scheduler's SIGTERM comes before it kills a job
        counts, most = (self._losses, LOSSES) if lost else (self._failures, TRIES)
        counts[task] = counts.get(task, 0) + 1
        if counts[task] < most:
            self._display.note(f"{task.title}: {end.told}; tried again")
            self._ready.append(task)
            return
        self._display.note(f"{task.title}: {end.told}; set aside after {counts[task]} attempts")
        self.outcome.aside[task.title] = end.told
        self.outcome.models.add(task.model)
        if not task.waits:
            self._held.pop(task.model, [])
