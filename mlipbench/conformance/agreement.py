"""Whether predictions that should be the same are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlipbench.conformance.compare import widest_gap
from mlipbench.conformance.result import failed, not_supported, passed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.conformance.compare import Gap, Tolerances
    from mlipbench.conformance.result import CheckResult
    from mlipbench.conformance.subject import Subject
    from mlipbench.models.interface import Predictions
    from mlipbench.structures import StructureBatch

NONE_TAKEN: Final = "the card declares no such structures, or the fit covers none of those tried"


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two predictions that should be the same.

    Attributes:
        structure: The structure, a batch of one.
        found: What is to be judged.
        expected: What it should be.
    """

    structure: StructureBatch
    found: Predictions
    expected: Predictions


@dataclass(frozen=True, slots=True)
class Fault:
    """What to say where predictions differ.

    Attributes:
        problem: What is wrong; what differs by how much is added.
        remedy: What would put it right.
    """

    problem: str
    remedy: str


def agree(
    check: str, subject: Subject, pairs: Sequence[Pair], fault: Fault, tolerances: Tolerances | None = None
) -> CheckResult:
    """Return whether all pairs agree, with the largest difference.

    Rounding is measured only where a difference is beyond the stated tolerance.

    Args:
        check: Name of the check.
        subject: The model.
        pairs: What is compared; none means that the model takes no such structures.
        fault: What to say where some do not agree.
        tolerances: How far they may differ; None takes those of the model's precision.
    """
    if not pairs:
        return not_supported(check, NONE_TAKEN)
    gaps = [gap for pair in pairs if (gap := _gap(subject, pair, tolerances or subject.tolerances)) is not None]
    worst = max(gaps, key=lambda gap: gap.measured.ratio)
    if worst.measured.within:
        return passed(check, worst.measured, f"{worst.quantity}, of {len(pairs)} comparisons")
    return failed(check, f"{fault.problem} ({worst.describe()})", fault.remedy, worst.measured)


def _gap(subject: Subject, pair: Pair, tolerances: Tolerances) -> Gap | None:
    n_atoms = pair.structure.n_atoms
    gap = widest_gap(pair.found, pair.expected, n_atoms, tolerances)
    if gap is None or gap.measured.within:
        return gap
    return widest_gap(pair.found, pair.expected, n_atoms, tolerances, subject.noise(pair.structure))
