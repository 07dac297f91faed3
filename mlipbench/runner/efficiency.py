"""Measuring the costs of all models of a plan, side by side."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mlipbench.errors import PrerequisiteError
from mlipbench.execution.efficiency import Contest
from mlipbench.execution.turns import Contender, TooSlow
from mlipbench.runner.parity import Comparisons, baseline_of, failure, reference_of
from mlipbench.runner.record import planned_record
from mlipbench.status import Status, Task
from mlipbench.store.records import CostRecord
from mlipbench.store.timings import write_timings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlipbench.cost import ParityFacts
    from mlipbench.errors import MlipbenchError
    from mlipbench.execution.evaluate import Predictor
    from mlipbench.plan import Plan, PlannedSplit
    from mlipbench.progress import Display
    from mlipbench.runner.session import RunSession
    from mlipbench.structures import StructureBatch
    from mlipbench.suite.tasks import EfficiencyTask, Parity


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """A model that takes part in the measurement of one split.

    Attributes:
        contender: The model as it is measured.
        session: Its run.
        split: The split as planned.
    """

    contender: Contender
    session: RunSession
    split: PlannedSplit


def measure_costs(plan: Plan, waiting: Sequence[RunSession], finished: Sequence[RunSession], display: Display) -> None:
    """Measure what is not measured yet, split by split, and write it down.

    Args:
        plan: The plan.
        waiting: The runs of which something is to be measured.
        finished: The others; the reference model takes part again if it is among them, and so does the variant that
            others of the same model are compared with.
        display: Shows progress.

    Raises:
        MlipbenchError: Results cannot be written.
    """
    task = plan.suite.tasks.efficiency
    if task is None:
        return
    for dataset, planned in plan.datasets.items():
        with ExitStack() as workers:
            compared = [] if task.parity is None else _others(waiting, finished, dataset)
            beside = [one for one in finished if one.run.model == task.reference or one in compared]
            slow: dict[RunSession, tuple[int, TooSlow]] = {}
            predictors = {session: workers.enter_context(session.predictor(dataset)) for session in [*waiting, *beside]}
            for split in task.measured(planned.evaluated):
                entries = list(_entries(predictors, dataset, split))
                if any(entry.contender.counted for entry in entries):
                    _measure(entries, plan, task, display, slow)


def _others(waiting: Sequence[RunSession], finished: Sequence[RunSession], dataset: str) -> list[RunSession]:
    """Return the variants that those to be measured are compared with."""
    sessions = [*waiting, *finished]
    found = [choose(one.run, sessions, dataset) for one in waiting for choose in (reference_of, baseline_of)]
    return [one for one in found if one is not None]


def _entries(predictors: Mapping[RunSession, Predictor], dataset: str, split: str) -> Iterator[_Entry]:
    for session, predictor in predictors.items():
        for planned in session.run.splits:
            if planned.key == (Task.EFFICIENCY, dataset, split) and planned.status is Status.OK:
                counted = any(planned.key == one.key for one in session.open_costs)
                if counted or session.finished:
                    yield _Entry(Contender(session.title, predictor, counted), session, planned)


def _measure(
    entries: Sequence[_Entry],
    plan: Plan,
    task: EfficiencyTask,
    display: Display,
    slow: dict[RunSession, tuple[int, TooSlow]],
) -> None:
    """Measure all models on one split.

    Args:
        entries: The models.
        plan: The plan.
        task: The task.
        display: Shows progress.
        slow: The models that were too slow on an earlier split, and how many atoms its largest structure has; larger
            structures are not tried. Those of this split are added.
    """
    reference = next((one.contender for one in entries if one.session.run.model == task.reference), None)
    structures = measured_structures(plan, entries[0].split)
    for entry in entries:
        atoms, error = slow.get(entry.session, (structures.n_atoms, None))
        if error is not None and structures.counts.min() >= atoms:
            entry.contender.error = TooSlow(f"not tried: with {atoms} atoms {error.problem}")
    if task.parity is not None:
        _set_baselines(entries)
    contenders, threads = [one.contender for one in entries], entries[0].session.run.threads
    contest = Contest(contenders, structures, task, reference, threads, display)
    title = f"costs of {entries[0].split.dataset}/{entries[0].split.split}"
    display.begin(title, task.rounds, "rounds")
    contest.run()
    for entry in entries:
        if isinstance(entry.contender.error, TooSlow):
            slow.setdefault(entry.session, (int(structures.counts.max()), entry.contender.error))
    predictors = {one.session: one.contender.predictor for one in entries}
    comparisons = Comparisons(predictors, entries[0].split, structures, plan.runs, task.seed)
    for entry in entries:
        if isinstance(entry.contender.error, PrerequisiteError):  # the run can be resumed once it is there
            entry.session.missing = entry.contender.error
        elif entry.contender.counted:
            comparing = task.parity is not None and entry.contender.error is None
            parity = comparisons.of(entry.session) if comparing else None
            _write(entry, None if reference is None else task.reference, parity, task.parity)
    display.end(title, "done")


def _set_baselines(entries: Sequence[_Entry]) -> None:
    """Put the times of one variant of a model beside those of all."""
    contenders = {entry.session: entry.contender for entry in entries}
    for entry in entries:
        baseline = baseline_of(entry.session.run, contenders, entry.split.dataset)
        entry.contender.baseline = None if baseline is None else contenders[baseline]


def measured_structures(plan: Plan, split: PlannedSplit) -> StructureBatch:
    """Return the structures of a split that costs are measured on."""
    return split.taken(plan.datasets[split.dataset].splits[split.split]).structures(0, split.n_structures)


def _write(entry: _Entry, reference: str | None, parity: ParityFacts | None, tolerance: Parity | None) -> None:
    contender, split, directory = entry.contender, entry.split, entry.session.directory
    place = {"task": Task.EFFICIENCY.value, "dataset": split.dataset, "split": split.split}
    rows = [{**place, **asdict(call)} for call in contender.calls]
    write_timings(directory.timings.with_suffix("") / f"{'.'.join(split.key)}.parquet", rows)
    facts = contender.facts
    record = CostRecord(
        counts=None if isinstance(facts, str) else facts.as_header(),
        counts_reason=facts if isinstance(facts, str) else None,
        limit=contender.limit,
        reference=reference,
        parity=parity,
    )
    directory.write_costs(split.dataset, split.split, record)
    slow, failed = isinstance(contender.error, TooSlow), contender.error is not None
    apart = None if tolerance is None else failure(parity, tolerance)
    outcome = {
        "status": _status(contender.error, apart),
        "reason": apart if contender.error is None else contender.error.problem,
        "n_predicted": 0 if failed else split.n_structures,
        "n_failed": split.n_structures if failed and not slow else 0,
        "n_not_applicable": split.n_structures if slow else 0,
    }
    entry.session.settle(planned_record(split).model_copy(update=outcome))


def _status(error: MlipbenchError | None, apart: str | None) -> Status:
    if isinstance(error, TooSlow):
        return Status.NOT_APPLICABLE
    if error is not None:
        return Status.FAILED
    return Status.PARTIAL if apart else Status.OK
