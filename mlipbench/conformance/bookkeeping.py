"""Whether results are complete, in order, of this call alone, and the same the next time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.agreement import NONE_TAKEN, Fault, Pair, agree
from mlipbench.conformance.compare import SUMMATION, part, widest_gap
from mlipbench.conformance.result import failed, judged, not_supported, passed
from mlipbench.models.interface import Property
from mlipbench.structures.batch import concatenate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.conformance.result import CheckResult
    from mlipbench.conformance.subject import Subject
    from mlipbench.models.interface import Predictions
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray

_REPEATS: Final = 5
_NUDGE: Final = 0.02
"""Å, how far atoms move between two structures that a cache could take for one."""


def output(subject: Subject) -> CheckResult:
    """Everything that the card declares comes, in the shapes and types of the interface, and is finite."""
    for batch in (*subject.structures, *subject.primitive):
        found = subject.predict(batch)
        for name in sorted(subject.properties(batch)):
            bad = int(np.sum(~np.isfinite(getattr(found, name))))
            if bad:
                return failed(
                    "output",
                    f"{bad} numbers of the {name} of a structure of {batch.n_atoms} atoms are not finite",
                    "look for an overflow, a division by a distance of zero or a root of nothing",
                )
    if not (subject.structures or subject.primitive):
        return not_supported("output", NONE_TAKEN)
    return passed("output", note=f"{', '.join(sorted(subject.capabilities.properties))}")


def unchanged_input(subject: Subject) -> CheckResult:
    """A call leaves the structures as they were."""
    for batch in subject.structures:
        given = _copy(batch)
        subject.predict(given)
        for name, column in given.columns().items():
            if not np.array_equal(column, getattr(batch, name)):
                return failed(
                    "unchanged_input",
                    f"the call changed the column {name!r} of its structures",
                    "copy what is changed, such as positions that are wrapped into the cell",
                )
    return passed("unchanged_input") if subject.structures else not_supported("unchanged_input", NONE_TAKEN)


def kept_results(subject: Subject) -> CheckResult:
    """Results of one call stay as they are during the next one."""
    structures = subject.structures
    if not structures:
        return not_supported("kept_results", NONE_TAKEN)
    first = subject.predict(structures[0])
    before = {name: np.array(value) for name, value in _arrays(first).items()}
    subject.predict(_nudged(structures[0]))
    for batch in structures:
        subject.predict(batch)
    for name, value in _arrays(first).items():
        if not np.array_equal(value, before[name], equal_nan=True):
            return failed(
                "kept_results", f"a later call changed the {name} that an earlier one had returned",
                "return copies of arrays that the model keeps and writes to again",
            )  # fmt: skip
    return passed("kept_results")


def batch_single(subject: Subject) -> CheckResult:
    """Structures have the same predictions alone and in a batch, whatever place they come back in."""
    pairs = []
    for group in _groups(subject):
        batch = concatenate(group)
        together = subject.predict(batch)
        alone = [subject.predict(one, subject.properties(batch)) for one in group]
        order = _order(subject, batch, together, alone)
        for index, one in enumerate(group):
            place = index if order is None else order[index]
            pairs.append(Pair(one, part(batch, together, place), alone[index]))
    fault = Fault(
        "structures alone and in a batch have different predictions",
        "look at what is padded, averaged or normalised over the batch, and at offsets into its columns",
    )
    return agree("batch_single", subject, pairs, fault, SUMMATION[subject.dtype])


def structure_order(subject: Subject) -> CheckResult:
    """Predictions of a batch come back in the order of its structures."""
    for group in _groups(subject):
        batch = concatenate(group)
        together = subject.predict(batch)
        order = _order(subject, batch, together, [subject.predict(one, subject.properties(batch)) for one in group])
        if order is not None:
            return failed(
                "structure_order",
                f"a batch of {len(group)} structures comes back in the order {', '.join(str(i) for i in order)}",
                "undo what sorts structures, for instance by size, before predictions are returned",
            )
    return passed("structure_order") if subject.structures else not_supported("structure_order", NONE_TAKEN)


def batch_mates(subject: Subject) -> CheckResult:
    """The prediction of a structure does not depend on which others are in its batch."""
    pairs = []
    for group in _groups(subject):
        for index, one in enumerate(group):
            others = [mate for place, mate in enumerate(group) if place != index]
            settings = [[one, one], [one, *others], [one, *others, *others]]
            first, *rest = (_first(subject, setting) for setting in settings)
            pairs += [Pair(one, found, first) for found in rest]
    fault = Fault(
        "the prediction of a structure depends on what else is in its batch",
        "look for means, norms or neighbours that reach over the structures of a batch",
    )
    return agree("batch_mates", subject, pairs, fault, SUMMATION[subject.dtype])


def determinism(subject: Subject) -> CheckResult:
    """Repeated calls on one structure give one result; the spread is told where it is within the tolerance."""
    pairs = []
    for one in subject.structures:
        first, *rest = (subject.predict(one) for _ in range(_REPEATS))
        pairs += [Pair(one, found, first) for found in rest]
    if not pairs:
        return not_supported("determinism", NONE_TAKEN)
    n_atoms = [pair.structure.n_atoms for pair in pairs]
    gaps = [widest_gap(p.found, p.expected, n, subject.tolerances) for p, n in zip(pairs, n_atoms, strict=True)]
    worst = max((gap for gap in gaps if gap is not None), key=lambda gap: gap.measured.ratio)
    note = "bit for bit" if worst.measured.value == 0 else f"not bit for bit: {worst.describe()}"
    return judged(
        "determinism", worst.measured,
        f"{_REPEATS} calls on one structure do not give one result ({worst.describe()})",
        "put the model into evaluation mode (dropout, noise), and fix its seed", note,
    )  # fmt: skip


def stale_cache(subject: Subject) -> CheckResult:
    """Nothing of a structure is left when the next one comes, even where both have the same atoms and cell."""
    pairs = []
    for one in subject.structures:
        other = _nudged(one)
        first, second = subject.predict(one), subject.predict(other)
        if _same(first, second) and not _is_constant(first):
            return failed(
                "stale_cache",
                f"a structure whose atoms have moved by {_NUDGE} Å gets the numbers of the one before",
                "drop what the calculator keeps before each call, or compare positions before it is used",
            )
        pairs.append(Pair(one, subject.predict(one), first))
        prepared = [subject.adapter.prepare(structure) for structure in (one, other)]
        wanted = subject.properties(one)
        later, earlier = (subject.adapter.forward(part, wanted) for part in reversed(prepared))
        pairs += [Pair(other, later, second), Pair(one, earlier, first)]
    fault = Fault(
        "predictions depend on which structure came before",
        "keep nothing between calls, and nothing of `prepare` outside of what it returns",
    )
    return agree("stale_cache", subject, pairs, fault)


def property_sets(subject: Subject) -> CheckResult:
    """A property has the same value whatever else is asked for."""
    pairs = []
    for one in subject.structures:
        everything = subject.predict(one)
        sets = [{Property.ENERGY}, {Property.ENERGY, Property.FORCES}]
        pairs += [Pair(one, subject.predict(one, frozenset(wanted)), everything) for wanted in sets]
    fault = Fault(
        "a property has another value where other properties are asked for",
        "take every property from the same forward pass and in the same units",
    )
    return agree("property_sets", subject, pairs, fault)


def fixed_atoms(subject: Subject) -> CheckResult:
    """Forces are those of all atoms, held by a constraint or not."""
    pairs = []
    for one in subject.structures:
        held = replace(one, fixed=np.arange(one.n_atoms) % 2 == 0)
        pairs.append(Pair(one, subject.predict(held), subject.predict(one)))
    fault = Fault(
        "predictions change where atoms are marked as fixed",
        "return the forces of all atoms, without constraints (in ASE `get_forces(apply_constraint=False)`)",
    )
    return agree("fixed_atoms", subject, pairs, fault)


def _groups(subject: Subject) -> list[Sequence[StructureBatch]]:
    """Return structures that are put into one batch: all that have no stress, and those that may have one."""
    groups = [(*subject.molecules, *subject.slabs), subject.crystals]
    return [group for group in groups if group]


def _first(subject: Subject, group: Sequence[StructureBatch]) -> Predictions:
    batch = concatenate(group)
    return part(batch, subject.predict(batch), 0)


def _order(
    subject: Subject, batch: StructureBatch, together: Predictions, alone: Sequence[Predictions]
) -> list[int] | None:
    """Return where the predictions of each structure stand in those of the batch, where not in its own place."""
    energies = np.array([one.energy[0] for one in alone])
    allowed = SUMMATION[subject.dtype]
    reach = allowed.energy * batch.counts + allowed.energy_relative * np.abs(energies)
    close = np.abs(together.energy[None, :] - energies[:, None]) <= reach[:, None]
    if close.diagonal().all():
        return None
    order = [int(np.flatnonzero(row)[0]) if row.sum() == 1 else -1 for row in close]
    return order if sorted(order) == list(range(len(alone))) else None


def _nudged(batch: StructureBatch) -> StructureBatch:
    steps = np.random.default_rng(batch.n_atoms).normal(0, _NUDGE, batch.positions.shape)
    return batch.moved(batch.positions + steps)


def _copy(batch: StructureBatch) -> StructureBatch:
    return type(batch)(**{name: np.array(column) for name, column in batch.columns().items()})


def _arrays(predictions: Predictions) -> dict[str, AnyArray]:
    values = {name.value: getattr(predictions, name) for name in Property}
    return {name: value for name, value in values.items() if value is not None}


def _same(one: Predictions, other: Predictions) -> bool:
    pairs = zip(_arrays(one).values(), _arrays(other).values(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _is_constant(predictions: Predictions) -> bool:
    """Return whether a model has no forces, as one does whose energy depends on the composition alone."""
    return predictions.forces is not None and not predictions.forces.any()
