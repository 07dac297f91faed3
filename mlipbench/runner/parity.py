"""Comparing the variants of one model: do they predict the same, and how much faster is one than another?"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlipbench.cost import ParityFacts
from mlipbench.errors import MlipbenchError, StorageError
from mlipbench.execution.parity import STEPS, Conservation, Difference, ask, conservation, difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlipbench.execution.evaluate import Predictor
    from mlipbench.execution.parity import Answers
    from mlipbench.plan import PlannedSplit, RunPlan
    from mlipbench.runner.session import RunSession
    from mlipbench.structures import StructureBatch
    from mlipbench.suite.tasks import Parity


def related(one: RunPlan, other: RunPlan, dataset: str) -> bool:
    """Return whether two runs, or one twice, are of the same model with the same weights and seed."""
    identities = [run.trainings[dataset].job.identity if dataset in run.trainings else None for run in (one, other)]
    return one.card == other.card and one.seed == other.seed and identities[0] == identities[1]


def reference_of(run: RunPlan, sessions: Iterable[RunSession], dataset: str) -> RunSession | None:
    """Return the variant that a run's predictions are compared with: in float64 and without settings."""
    return next((one for one in _plain(run, sessions, dataset) if one.run.variant.precision == "float64"), None)


def baseline_of(run: RunPlan, sessions: Iterable[RunSession], dataset: str) -> RunSession | None:
    """Return the variant that a run's times are compared with: that of the predictions, or else the first plain one."""
    plain = _plain(run, sessions, dataset)
    return reference_of(run, plain, dataset) or next(iter(plain), None)


def _plain(run: RunPlan, sessions: Iterable[RunSession], dataset: str) -> list[RunSession]:
    return [one for one in sessions if related(run, one.run, dataset) and not one.run.variant.settings]


def plain_run(run: RunPlan) -> RunPlan:
    """Return a run as its card has it, with one thread, in float64 where the card offers it.

    It stands in where the suite lists no plain variant in float64.
    """
    offered = run.card.declared().dtypes
    precision = "float64" if "float64" in offered else offered[0]
    return replace(run, threads=1, variant=replace(run.variant, precision=precision, settings=MappingProxyType({})))


def _words(plain: RunPlan) -> str:
    precision = plain.variant.precision
    why = "" if precision == "float64" else " (it offers no float64)"
    return f"the card's own settings in {precision}{why}, one structure a call, one thread"


def failure(found: ParityFacts | None, tolerance: Parity) -> str | None:
    """Return what a variant fails for, None where it does not.

    Args:
        found: What the comparison found; None where nothing was to be compared.
        tolerance: How far it may be apart.
    """
    if found is None or found.is_reference:
        return None
    if found.energy is None or found.forces is None:
        return f"cannot be compared with {found.against}: {found.reason}"
    measured = (
        ("parity_energy", found.energy, tolerance.energy, "eV/atom"),
        ("parity_forces", found.forces, tolerance.forces, "eV/Å"),
    )
    beyond = [
        f"{metric} of {value:.3g} {unit} is beyond the tolerance of {most:g} {unit}"
        for metric, value, most, unit in measured
        if value > most
    ]
    return f"against {found.against}: {'; '.join(beyond)}" if beyond else None


class Comparisons:
    """The comparisons of variants on one split; each reference is asked once.

    Args:
        predictors: What keeps the workers of the sessions that take part.
        split: The split as planned, the same for all variants but for its batches.
        structures: What is measured.
        runs: All runs of the plan.
        seed: Of the directions that conservation is looked at along.
    """

    def __init__(
        self,
        predictors: Mapping[RunSession, Predictor],
        split: PlannedSplit,
        structures: StructureBatch,
        runs: tuple[RunPlan, ...],
        seed: int,
    ) -> None:
        """Keep the arguments."""
        self._predictors = predictors
        self._dataset = split.dataset
        self._key = split.key
        self._structures = structures
        self._runs = runs
        self._seed = seed
        self._known: list[tuple[RunSession, Answers | str]] = []
        self._plain: list[tuple[RunPlan, Answers | str]] = []

    def of(self, session: RunSession) -> ParityFacts | None:
        """Compare a variant; return None where the suite lists no other of the same model.

        Raises:
            StorageError: Nothing can be written.
        """
        run = session.run
        if sum(related(run, other, self._dataset) for other in self._runs) < 2:  # noqa: PLR2004 - a pair
            return None
        baseline = baseline_of(run, self._predictors, self._dataset)
        named = None if baseline is None else baseline.run.variant.name
        reference = reference_of(run, self._predictors, self._dataset)
        found = self._difference(session, reference)
        kept = self._conservation(session)
        return ParityFacts(
            against=_words(plain_run(run)) if reference is None else f"the variant {reference.run.variant.name}",
            energy=found.energy if isinstance(found, Difference) else None,
            forces=found.forces if isinstance(found, Difference) else None,
            n_structures=found.n_structures if isinstance(found, Difference) else 0,
            conservation=kept.error,
            n_conservation=kept.n_structures,
            step=kept.step,
            baseline=named,
            reason=found if isinstance(found, str) else None,
            is_reference=reference is session,
        )

    def _difference(self, session: RunSession, reference: RunSession | None) -> Difference | str:
        """Return how far a variant is from its reference, or why that cannot be said."""
        if session is reference:
            return "the others are compared with it"
        right = self._right(session) if reference is None else self._answers(reference)
        own = self._answers(session)
        if isinstance(right, str) or isinstance(own, str):
            return right if isinstance(right, str) else str(own)
        return difference(own, right)

    def _conservation(self, session: RunSession) -> Conservation:
        """Return how well a variant conserves the energy; without a number where it fails."""
        precision = session.run.variant.precision
        try:
            return conservation(self._predictors[session], self._structures, precision, self._seed)
        except StorageError:  # no model's fault
            raise
        except MlipbenchError:  # the comparison before it says why
            return Conservation(None, 0, STEPS[precision])

    def _answers(self, session: RunSession) -> Answers | str:
        """Return what a variant predicts in its own batches, or why it does not."""
        for known, answers in self._known:
            if known is session:
                return answers
        planned = next(split for split in session.run.splits if split.key == self._key)
        parts = [self._structures.slice(int(a), int(b)) for a, b in pairwise(planned.bounds)]
        answers = _asked(self._predictors[session], parts)
        self._known.append((session, answers))
        return answers

    def _right(self, session: RunSession) -> Answers | str:
        """Return what the model predicts by `plain_run`, one structure a call, or why it does not."""
        for known, answers in self._plain:
            if related(known, session.run, self._dataset):
                return answers
        singles = [self._structures.slice(one, one + 1) for one in range(self._structures.n_structures)]
        with session.predictor(self._dataset, plain_run(session.run)) as predictor:
            answers = _asked(predictor, singles)
        self._plain.append((session.run, answers))
        return answers


def _asked(predictor: Predictor, batches: list[StructureBatch]) -> Answers | str:
    try:
        return ask(predictor, batches)
    except StorageError:  # no model's fault
        raise
    except MlipbenchError as error:
        return error.problem
