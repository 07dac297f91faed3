"""Times of two versions of a model, measured in the same rounds."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from mlipbench.cost import Stage
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.execution.efficiency import Contest
from mlipbench.execution.turns import Contender
from mlipbench.metrics.paired_costs import TimeRatio, time_ratio
from mlipbench.models.registry import card_below
from mlipbench.runner.efficiency import measured_structures
from mlipbench.runner.session import RunSession
from mlipbench.runner.settings import WorkerCode
from mlipbench.runner.training import ensure_trained
from mlipbench.status import Status, Task
from mlipbench.store.rundir import RunDirectory
from mlipbench.version import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.cost import Call
    from mlipbench.environments.tree import Revision
    from mlipbench.execution.evaluate import Predictor
    from mlipbench.plan import Plan, PlannedSplit, RunPlan
    from mlipbench.progress import Display
    from mlipbench.runner.settings import RunSettings
    from mlipbench.structures import StructureBatch
    from mlipbench.suite.tasks import EfficiencyTask

BLOCKS: Final = (10, 30, 80)
"""Rounds measured at once, one block after the other while the noise is too large."""
MOST_ROUNDS: Final = sum(BLOCKS)
_PATIENCE: Final = 10.0
"""What is allowed for these rounds, over the seconds that the task gives a model."""


@dataclass(frozen=True, slots=True)
class SideBySide:
    """What one model took on one split, in two versions.

    Attributes:
        model: Name of the model.
        variant: Name of its settings.
        seed: Seed of the run.
        dataset: Name of the dataset.
        split: Name of the split.
        ratio: What the newer version took over the older one; None where one of them gave no times.
        reason: Why not.
        broken: Whether it was the newer version that failed.
    """

    model: str
    variant: str
    seed: int
    dataset: str
    split: str
    ratio: TimeRatio | None
    reason: str | None = None
    broken: bool = False

    @property
    def key(self) -> tuple[str, str, int, str, str]:
        """Model, variant, seed, dataset and split."""
        return self.model, self.variant, self.seed, self.dataset, self.split


def measure_sides(
    plan: Plan,
    base: Revision,
    settings: RunSettings,
    display: Display,
    only: Sequence[SideBySide] | None = None,
) -> list[SideBySide]:
    """Measure each model of a plan beside an older version of itself, each in a worker of its own.

    The newer version is what is installed. The older one has its own card where its packages ship one, and the same
    weights where a recipe trains them. A turn is one call that counts, after one that does not, so that what disturbs
    the machine falls on both versions. Rounds go on, from 10 to 40 and 120, until a twentieth of difference is five
    times what their scatter makes uncertain.

    Args:
        plan: The plan of a suite with the task ``efficiency``.
        base: The older version.
        settings: How workers are started.
        display: Shows progress.
        only: What is measured; None measures everything that the task names.

    Raises:
        ConfigError: The suite has no task ``efficiency``.
        PrerequisiteError: Something is missing that the installed version needs.
    """
    task = plan.suite.tasks.efficiency
    if task is None:
        remedy = "add the task `efficiency`, which says what is timed"
        raise ConfigError("times nothing", where=f"suite {plan.suite.suite}", remedy=remedy)
    keys = None if only is None else {one.key for one in only}
    measurement = _Measurement(plan, task, base, settings, display)
    return [
        measurement.of(run, split)
        for run in plan.runs
        if not run.missing
        for split in run.splits
        if split.task is Task.EFFICIENCY and split.status is Status.OK
        if keys is None or (run.model, run.variant.name, run.seed, split.dataset, split.split) in keys
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Measurement:
    """The arguments of `measure_sides`, and the task."""

    plan: Plan
    task: EfficiencyTask
    base: Revision
    settings: RunSettings
    display: Display

    def of(self, run: RunPlan, split: PlannedSplit) -> SideBySide:
        """Measure one model on one split."""
        if split.dataset in run.trainings:
            ensure_trained(run.trainings[split.dataset], self.display, trust=run.trusted)
        with TemporaryDirectory(prefix="mlipbench-sides-") as folder, ExitStack() as workers:
            older = self._session(Path(folder, "base"), _older(run, self.base), _code_of(self.base))
            newer = self._session(Path(folder, "head"), run, self.settings.code)
            predictors = [workers.enter_context(session.predictor(split.dataset)) for session in (older, newer)]
            title = f"{run.model}: {split.dataset}/{split.split} beside {self.base.name}"
            self.display.begin(title, MOST_ROUNDS, "rounds")
            structures = measured_structures(self.plan, split)
            pair = Pair((self.base.name, run.model), (predictors[0], predictors[1]), structures)
            reason, broken = pair.measure(self.task, run.threads, self.display)
            self.display.end(title, "done")
        place = (run.model, run.variant.name, run.seed, split.dataset, split.split)
        return SideBySide(*place, None if reason else time_ratio(*pair.calls), reason, broken)

    def _session(self, folder: Path, run: RunPlan, code: WorkerCode) -> RunSession:
        folder.mkdir()
        return RunSession(self.plan, run, RunDirectory(folder), replace(self.settings, code=code), self.display)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Both versions of one model, and what they took.

    Attributes:
        names: What messages call them, the older one first.
        predictors: Keep a worker of each.
        structures: What is timed.
        calls: Their calls.
    """

    names: tuple[str, str]
    predictors: tuple[Predictor, Predictor]
    structures: StructureBatch
    calls: tuple[list[Call], list[Call]] = field(default_factory=lambda: ([], []))

    def measure(self, task: EfficiencyTask, threads: int, display: Display) -> tuple[str | None, bool]:
        """Measure until it is enough; return why there are no times, and whether the newer version is to blame."""
        begun = 0
        for rounds in BLOCKS:
            both = [Contender(*one) for one in zip(self.names, self.predictors, strict=True)]
            Contest(both, self.structures, _block(task, begun, rounds), both[0], threads, display).compare()
            base, head = (one.error for one in both)
            if isinstance(head, PrerequisiteError):
                raise head
            if head is not None:
                return f"the version that is installed: {head.problem}", True
            if base is not None:
                return f"the older version: {base.problem}", False
            for own, one in zip(self.calls, both, strict=True):
                own.extend(replace(call, round=call.round + begun) for call in one.calls if call.stage is Stage.LATENCY)
            if time_ratio(*self.calls).fine:
                break
            begun += rounds
        return None, False


def _block(task: EfficiencyTask, begun: int, rounds: int) -> EfficiencyTask:
    """Return the task for the next rounds, with structures and movements of their own."""
    seconds = _PATIENCE * task.seconds
    return task.model_copy(update={"rounds": rounds, "calls": 1, "seed": task.seed + begun, "seconds": seconds})


def _older(run: RunPlan, base: Revision) -> RunPlan:
    card = card_below(base.packages, run.model)
    return run if card is None else replace(run, card=card)


def _code_of(base: Revision) -> WorkerCode:
    """Return the code of workers of another version: its own mlipbench, where it is one."""
    package = base.packages / "mlipbench"
    return WorkerCode(package if package.is_dir() else PACKAGE, base.packages)
