"""Cells, periodicity and inputs at the edge of what a model takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.agreement import NONE_TAKEN, Fault, Pair, agree
from mlipbench.conformance.compare import NOISE_FACTOR, part
from mlipbench.conformance.result import Measured, failed, judged, not_applicable, not_supported, passed
from mlipbench.conformance.samples import boxed
from mlipbench.conformance.subject import AdapterError, RefusedError
from mlipbench.elements import SYMBOLS
from mlipbench.models.interface import Need, Property
from mlipbench.structures import StructureBatch
from mlipbench.structures.batch import PER_ATOM, PER_STRUCTURE, concatenate

if TYPE_CHECKING:
    from mlipbench.conformance.result import CheckResult
    from mlipbench.conformance.subject import Subject
    from mlipbench.models.interface import Predictions

_VACUUM: Final = 40.0
"""Å of vacuum along a direction, which no image reaches over."""
_STRETCH: Final = 1.03
_CLEAR: Final = 20.0
"""A change of energy is clear where it is so many times what rounding may make of it."""
_DOUBLED: Final = (2, 2, 2)
_HEIGHT: Final = 8.0
"""Å, the least height of cells that a small one is compared with."""
_MARGIN: Final = 10.0
"""How many times more a small cell may depart from its supercell than large ones do among themselves."""
_SQUEEZED: Final = (0.7, 0.5, 0.35)
"""Factors that a molecule is shrunk by."""
_UNKNOWN: Final = (len(SYMBOLS) - 1, 0)
"""The heaviest element there is, and the number that stands for an unknown one."""


def partial_pbc(subject: Subject) -> CheckResult:
    """Along a direction without periodicity there are no images, however short the cell; along the others there are."""
    pairs = []
    for one in subject.slabs:
        cell = one.cell.copy()
        cell[0, 2] *= 1 + _VACUUM / np.linalg.norm(cell[0, 2])
        expected = subject.predict(one)
        pairs.append(Pair(one, expected, subject.predict(replace(one, cell=cell))))
        whole = replace(one, cell=cell, pbc=np.ones((1, 3), dtype=np.bool_))
        pairs.append(Pair(one, expected, subject.predict(whole, subject.properties(one))))
    fault = Fault(
        "a slab without periodicity along its third lattice vector depends on that vector",
        "pass on each structure's own flags of periodicity, and look for images along periodic directions alone",
    )
    return agree("partial_pbc", subject, pairs, fault)


def cell_of_molecule(subject: Subject) -> CheckResult:
    """The cell around a structure without periodicity changes nothing, even one smaller than it."""
    pairs = []
    for one in subject.molecules:
        cells = [boxed(one), boxed(one, 1.0)]
        if Need.CELL not in subject.capabilities.needs:
            cells.append(np.zeros((1, 3, 3)))
        first, *rest = (subject.predict(replace(one, cell=cell)) for cell in cells)
        pairs += [Pair(one, found, first) for found in rest]
    fault = Fault(
        "the cell around a molecule without periodicity changes predictions",
        "look for images along periodic directions alone, and do not wrap atoms along the others",
    )
    return agree("cell_of_molecule", subject, pairs, fault)


def tiny_cell(subject: Subject) -> CheckResult:
    """A cell smaller than the cutoff has all its images: its energy is a fraction of that of its supercell."""
    if not subject.primitive:
        return not_supported("tiny_cell", NONE_TAKEN)
    one = subject.primitive[0]
    reach = subject.capabilities.cutoff
    nearest = float(np.linalg.norm(one.cell[0], axis=1).min())
    if reach is not None and reach <= _STRETCH * nearest:
        return not_applicable("tiny_cell", f"the cutoff of {reach:g} Å is shorter than the distances in a crystal")
    change = _stretched(subject, one)
    if change.within:
        if any(_stretched(subject, crystal).ratio < _CLEAR for crystal in subject.crystals):
            return not_applicable("tiny_cell", "the energy hardly depends on the cell")
        return failed(
            "tiny_cell", f"a crystal of one atom keeps its energy where its cell grows by {_STRETCH - 1:.0%}",
            "let an atom be a neighbour of its own images", change,
        )  # fmt: skip
    misses = {crystal: _supercell_miss(subject, crystal) for crystal in (one, *subject.crystals)}
    crystal = max(misses, key=lambda key: misses[key].ratio)
    if misses[crystal].within:
        return passed("tiny_cell", misses[crystal], "of the energy per atom, against the supercell")
    return _against_large_cells(subject, crystal)


def _against_large_cells(subject: Subject, crystal: StructureBatch) -> CheckResult:
    """Return whether a small cell departs from what one, two and three large cells say of its energy.

    Energies of n cells are o + n e where a constant o is part of the model, as an energy that counts once for each
    structure. Large cells give both, and how far they depart from such a line themselves.
    """
    copies = np.ceil(_HEIGHT * np.linalg.norm(np.linalg.inv(crystal.cell[0]), axis=0)).astype(np.int64)
    large = [supercell(crystal, (n * int(copies[0]), int(copies[1]), int(copies[2]))) for n in (1, 2, 3)]
    first, second, third = (subject.energy(one) for one in large)
    constant, bend = 2 * first - second, abs(third - 2 * second + first) / large[0].n_atoms
    miss = _supercell_miss(subject, crystal, constant)
    allowed = max(miss.tolerance, _MARGIN * bend, NOISE_FACTOR * subject.noise(large[1]).energy / crystal.n_atoms)
    return judged(
        "tiny_cell", Measured(miss.value, allowed, miss.unit),
        "a cell smaller than the cutoff has another energy per atom than its supercell",
        "find all images of each pair within the cutoff, not only the nearest",
        f"beside {constant:.6g} eV that count once, and a departure of large cells by {bend:.2g} eV/atom",
    )  # fmt: skip


def empty_batch(subject: Subject) -> CheckResult:
    """A batch of no structures has no predictions, of the right shapes."""
    if not subject.structures:
        return not_supported("empty_batch", NONE_TAKEN)
    nothing = subject.structures[0].slice(0, 0)
    try:
        subject.attempt(nothing, subject.capabilities.properties)
    except AdapterError as error:
        return failed("empty_batch", f"a batch of no structures ends in {error}",
                      "return arrays of shape (0,), (0, 3) and (0, 6)")  # fmt: skip
    return passed("empty_batch")


def empty_structure(subject: Subject) -> CheckResult:
    """A structure of no atoms is predicted or declined, and its batch mates are as without it."""
    structures = subject.structures[:2]
    if not structures:
        return not_supported("empty_structure", NONE_TAKEN)
    try:
        batch, found = _between(subject, structures, _of_number(structures[0], None))
    except AdapterError as error:
        return failed("empty_structure", f"a structure of no atoms takes its whole batch with it: {error}",
                      "decline it in `not_applicable`")  # fmt: skip
    if 1 not in found.not_applicable and not np.isfinite(found.energy[1]):
        return failed("empty_structure", "a structure of no atoms has an energy that is not finite, and no reason",
                      "decline it in `not_applicable`, or return zero")  # fmt: skip
    return _mates_unharmed("empty_structure", subject, batch, found)


def single_atom(subject: Subject) -> CheckResult:
    """A single atom without periodicity has a finite energy and no force."""
    atoms = subject.samples.atoms
    if not atoms:
        return not_supported("single_atom", NONE_TAKEN)
    largest = Measured(0.0, subject.tolerances.forces, "eV/Å")
    for one in atoms:
        try:
            found = subject.predict(one)
        except RefusedError as error:
            if error.declared:
                continue
            raise
        if found.forces is None or not np.isfinite(found.energy).all() or not np.isfinite(found.forces).all():
            return failed(
                "single_atom", f"a single atom of {SYMBOLS[one.numbers[0]]} has no finite energy and forces",
                "look for a mean over no neighbours",
            )  # fmt: skip
        if subject.conservative:
            force = Measured(float(np.abs(found.forces).max()), largest.tolerance, largest.unit)
            largest = max(largest, force, key=lambda one: one.ratio)
    return judged("single_atom", largest, "there is a force on an atom that is alone",
                  "look for neighbours that are padded in, or images without periodicity")  # fmt: skip


def foreign_elements(subject: Subject) -> CheckResult:
    """An element that no model knows is declined, not predicted as if it were another one."""
    structures = subject.structures[:2]
    if not structures:
        return not_supported("foreign_elements", NONE_TAKEN)
    known = subject.capabilities.elements or frozenset()
    for number in (z for z in _UNKNOWN if z not in known):
        try:
            batch, found = _between(subject, structures, _of_number(structures[0], number))
        except AdapterError:
            continue  # the harness tries each structure alone then
        if 1 not in found.not_applicable and np.isfinite(found.energy[1]):
            return failed(
                "foreign_elements", f"an atom of the undeclared atomic number {number} has an energy",
                "decline such structures in `not_applicable` before their numbers index a table",
            )  # fmt: skip
        harmed = _mates_unharmed("foreign_elements", subject, batch, found)
        if harmed.problem is not None:
            return harmed
    return passed("foreign_elements")


def close_atoms(subject: Subject) -> CheckResult:
    """Molecules that are squeezed have finite energies and forces, however large."""
    for one in subject.molecules:
        centre = one.positions.mean(axis=0)
        for size in _SQUEEZED:
            try:
                found = subject.predict(one.moved(centre + size * (one.positions - centre)))
            except RefusedError:
                continue  # a model may decline what is that close
            if not (np.isfinite(found.energy).all() and np.isfinite(found.forces).all()):  # type: ignore[arg-type]
                return failed(
                    "close_atoms", f"a molecule squeezed to {size:.0%} has no finite energy and forces",
                    "compute in a precision that holds large numbers: half precision ends at 65504",
                )  # fmt: skip
    return passed("close_atoms") if subject.molecules else not_supported("close_atoms", NONE_TAKEN)


def supercell(crystal: StructureBatch, copies: tuple[int, int, int]) -> StructureBatch:
    """Return so many copies of a crystal along its lattice vectors, as one structure."""
    images = np.stack(np.meshgrid(*[np.arange(n) for n in copies], indexing="ij"), axis=-1).reshape(-1, 3)
    columns = crystal.columns()
    made = {name: np.concatenate([column] * len(images)) for name, column in columns.items() if name in PER_ATOM}
    made["positions"] = np.concatenate([crystal.positions + image @ crystal.cell[0] for image in images])
    return replace(
        crystal, **made, cell=np.asarray(copies)[:, None] * crystal.cell, offsets=np.array([0, len(made["positions"])])
    )


def _stretched(subject: Subject, crystal: StructureBatch) -> Measured:
    """Return by how much the energy of a crystal changes where all of it grows, and what would be rounding."""
    grown = replace(crystal, cell=_STRETCH * crystal.cell, positions=_STRETCH * crystal.positions)
    change = abs(subject.energy(grown) - subject.energy(crystal))
    return Measured(change, NOISE_FACTOR * subject.noise(crystal).energy, "eV")


def _supercell_miss(subject: Subject, crystal: StructureBatch, constant: float = 0.0) -> Measured:
    """Return by how much a supercell misses the energy per atom of a crystal, and what is allowed.

    Args:
        subject: The model.
        crystal: The crystal.
        constant: eV, the part of the energy that counts once for each structure.
    """
    large = supercell(crystal, _DOUBLED)
    energy = (subject.energy(crystal) - constant) / crystal.n_atoms
    whole = (subject.energy(large) - constant) / large.n_atoms
    noise = subject.noise(large).energy / large.n_atoms + subject.noise(crystal).energy / crystal.n_atoms
    allowed = subject.tolerances.energy + subject.tolerances.energy_relative * abs(energy)
    return Measured(abs(whole - energy), max(allowed, NOISE_FACTOR * noise), "eV/atom")


def _between(
    subject: Subject, structures: tuple[StructureBatch, ...], odd: StructureBatch
) -> tuple[StructureBatch, Predictions]:
    """Return a batch of structures with an odd one in the second place, and what is said of it."""
    batch = concatenate([structures[0], odd, *structures[1:]])
    return batch, subject.attempt(batch, subject.capabilities.properties - {Property.STRESS})


def _mates_unharmed(check: str, subject: Subject, batch: StructureBatch, found: Predictions) -> CheckResult:
    """Return whether the others of a batch have the predictions that they have alone."""
    pairs = []
    for index in (i for i in range(batch.n_structures) if i != 1):
        one = batch.slice(index, index + 1)
        expected = subject.predict(one, subject.capabilities.properties - {Property.STRESS})
        pairs.append(Pair(one, part(batch, found, index), expected))
    fault = Fault("the other structures of the batch have other predictions than alone",
                  "look at offsets where structures are left out")  # fmt: skip
    return agree(check, subject, pairs, fault)


def _of_number(like: StructureBatch, number: int | None) -> StructureBatch:
    """Return a structure of one atom of a number, or of none, with the optional columns of another structure."""
    count = 0 if number is None else 1
    columns = {name: column[:count] for name, column in like.columns().items() if name in PER_ATOM}
    columns |= {name: column for name, column in like.columns().items() if name in PER_STRUCTURE}
    if number is not None:
        columns["numbers"] = np.array([number])
    return StructureBatch(**columns, offsets=np.array([0, count]))
