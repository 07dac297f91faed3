"""All checks, by name and in the order in which they are made."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.conformance import bookkeeping, reference, resources, stress, surroundings, symmetry, units
from mlipbench.conformance.result import failed, not_supported
from mlipbench.conformance.subject import AdapterError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.conformance.result import CheckResult
    from mlipbench.conformance.subject import Subject


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: Its name.
        group: What it belongs to, such as ``symmetry``.
        title: What it asks for, in one sentence.
        run: Makes it.
    """

    name: str
    group: str
    title: str
    run: Callable[[Subject], CheckResult]


def _group(name: str, *functions: Callable[[Subject], CheckResult]) -> list[Check]:
    return [Check(f.__name__, name, (f.__doc__ or "").strip().rstrip("."), f) for f in functions]


_ALL: Final = [
    *_group(
        "bookkeeping",
        bookkeeping.output,
        bookkeeping.unchanged_input,
        bookkeeping.kept_results,
        bookkeeping.structure_order,
        bookkeeping.batch_single,
        bookkeeping.batch_mates,
        bookkeeping.determinism,
        bookkeeping.stale_cache,
        bookkeeping.property_sets,
        bookkeeping.fixed_atoms,
    ),
    *_group(
        "symmetry",
        symmetry.translation,
        symmetry.rotation,
        symmetry.rotated_cell,
        symmetry.reflection,
        symmetry.permutation,
        symmetry.left_handed_cell,
        symmetry.cell_choice,
        symmetry.lattice_shifts,
        symmetry.wrapping,
    ),
    *_group(
        "surroundings",
        surroundings.partial_pbc,
        surroundings.cell_of_molecule,
        surroundings.tiny_cell,
        surroundings.empty_batch,
        surroundings.empty_structure,
        surroundings.single_atom,
        surroundings.foreign_elements,
        surroundings.close_atoms,
    ),
    *_group(
        "units",
        units.force_units,
        units.force_gradient,
        stress.stress_units,
        stress.stress_components,
        reference.energy_extent,
        reference.energy_reference,
    ),
    *_group(
        "resources",
        resources.precision,
        resources.default_dtype,
        resources.threads,
        resources.memory_growth,
    ),
]
CHECKS: Final[Mapping[str, Check]] = MappingProxyType({check.name: check for check in _ALL})


def run_check(name: str, subject: Subject) -> CheckResult:
    """Make one check; what the adapter refuses or raises becomes its outcome.

    Raises:
        KeyError: There is no such check.
    """
    try:
        return make_check(name, subject)
    except AdapterError as error:
        remedy = "the tests of `mlipbench.testing.conformance` show where"
        return failed(name, f"the adapter raised {error}", remedy)


def make_check(name: str, subject: Subject) -> CheckResult:
    """Make one check; what the adapter refuses becomes its outcome.

    Raises:
        AdapterError: The adapter raises, or returns something other than predictions.
        KeyError: There is no such check.
    """
    try:
        return CHECKS[name].run(subject)
    except RefusedError as error:
        if error.declared:
            return not_supported(name, str(error))
        return failed(
            name, f"the model declines what its card declares: {error}",
            "declare it in the card's capabilities, or predict it",
        )  # fmt: skip
