"""The axes that a model can fail on, in the order in which they matter: what is wrong early spoils what comes later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlipbench.metrics.catalogue import find_metric
from mlipbench.report.verdicts import verdict
from mlipbench.status import CheckStatus, Role, Task, Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.store.diagnoses import DiagnosisRecord
    from mlipbench.store.records import MetricRecord

_NAMED: Final = 3
_SURVIVED: Final = "survived"


@dataclass(frozen=True, slots=True)
class Axis:
    """What is known of a model on one axis.

    Attributes:
        name: The axis.
        passes: Whether nothing is wrong; None where nobody looked.
        said: What was found.
    """

    name: str
    passes: bool | None
    said: str

    @property
    def word(self) -> str:
        """The outcome in a word."""
        return {True: "passes", False: "fails", None: "not looked at"}[self.passes]


def axes(runs: Sequence[RunRecord], diagnoses: Sequence[DiagnosisRecord]) -> tuple[Axis, ...]:
    """Return what runs and diagnoses of one model say on each axis, in order.

    Cost is no axis: nothing says how much is too much.
    """
    return (_wiring(diagnoses), _coverage(runs), _training(runs), _stability(runs), _physics(runs))


def _wiring(diagnoses: Sequence[DiagnosisRecord]) -> Axis:
    """Whether doctor found nothing wrong."""
    if not diagnoses:
        return Axis("wiring", None, "doctor has not examined the model")
    wrong = [check.check for one in diagnoses for check in one.checks if check.status is CheckStatus.FAILED]
    made = sum(len(one.checks) for one in diagnoses)
    said = f"{len(wrong)} of {made} checks failed: {_some(wrong)}" if wrong else f"none of {made} checks failed"
    return Axis("wiring", not wrong, said)


def _coverage(runs: Sequence[RunRecord]) -> Axis:
    """Whether every structure that the model covers has a prediction."""
    splits = [
        split for run in runs if run.manifest for split in run.manifest.splits
        if split.role is Role.EVALUATE and split.task is not Task.EFFICIENCY and split.n_predicted + split.n_failed
    ]  # fmt: skip
    if not splits:
        return Axis("coverage", None, "no structures were predicted")
    failed, all_of_them = sum(one.n_failed for one in splits), sum(one.n_predicted + one.n_failed for one in splits)
    return Axis("coverage", not failed, f"{failed} of {all_of_them} structures failed")


def _training(runs: Sequence[RunRecord]) -> Axis:
    """Whether its weights are trained, and on other structures than it is evaluated on.

    Runs that measure costs alone may have weights that are not.
    """
    runs = [run for run in runs if any(record.task != Task.EFFICIENCY for record in run.metrics)]
    facts = [one for run in runs if run.manifest for one in run.manifest.model.checkpoints.values()]
    untrained = [str(one.get("recipe")) for one in facts if "verdict" in one and not one["verdict"]["trained"]]
    kinds = {record.relation for run in runs for record in run.metrics if record.value is not None}
    if not runs:
        return Axis("training", None, "there is no run but of costs")
    if untrained:
        return Axis(
            "training", passes=False, said=f"untrained by {_some(untrained)}: forces are no better than half of none"
        )
    if Training.CONTAMINATED in kinds:
        return Axis("training", passes=False, said="it was trained on structures that it is evaluated on")
    return Axis("training", passes=True, said=", ".join(sorted(kinds)) or "no numbers")


def _stability(runs: Sequence[RunRecord]) -> Axis:
    """Whether all replicas of its simulations are stable to the end."""
    found = [one for run in runs for one in run.metrics if (one.task, one.metric) == (Task.MD, _SURVIVED)]
    known = [one for one in found if one.value is not None]
    if not known:
        return Axis("stability", None, "no simulations that can collapse")
    lost = [f"{one.dataset}/{one.split} ({one.value:.0%})" for one in known if one.value is not None and one.value < 1]
    said = f"replicas survive in part on {_some(lost)}" if lost else f"all replicas of {len(known)} suites survive"
    return Axis("stability", not lost, said)


def _physics(runs: Sequence[RunRecord]) -> Axis:
    """Whether all numbers of physics keep to their thresholds."""
    judged = [(one, verdict(run, one)) for run in runs for one in run.metrics if one.task == Task.PHYSICS]
    judged = [(one, passes) for one, passes in judged if passes is not None]
    if not judged:
        return Axis("physics", None, "not probed")
    wrong = list(dict.fromkeys(_title(one) for one, passes in judged if not passes))
    said = f"beyond the threshold: {_some(wrong)}" if wrong else f"all {len(judged)} numbers keep to their thresholds"
    return Axis("physics", not wrong, said)


def _title(record: MetricRecord) -> str:
    definition = find_metric(record.task, record.metric)
    return record.metric if definition is None else definition.title


def _some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
