"""What energies count from, told by single atoms and compositions, and whether they are those of whole structures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.agreement import NONE_TAKEN
from mlipbench.conformance.result import Measured, failed, judged, not_applicable, not_supported, passed
from mlipbench.conformance.subject import RefusedError
from mlipbench.conformance.surroundings import supercell
from mlipbench.models.interface import EnergyReference

if TYPE_CHECKING:
    from mlipbench.conformance.result import CheckResult
    from mlipbench.conformance.subject import Subject

_CLEAR: Final = 0.25
"""How far the multiple of the stated energies may be from a whole number to be told."""
_ZERO: Final = 1e-6
"""eV, energy of a single atom that counts from single atoms."""
_MOST: Final = 3


def energy_extent(subject: Subject) -> CheckResult:
    """The energy is that of the whole structure: two copies of a crystal do not have the energy of one."""
    if not subject.crystals:
        return not_supported("energy_extent", NONE_TAKEN)
    ratios = []
    for one in subject.crystals:
        double = supercell(one, (2, 1, 1))
        energy, twice = subject.energy(one), subject.energy(double)
        noise = max(subject.tolerances.energy * one.n_atoms, subject.noise(double).energy)
        if abs(energy) > _MOST * noise:
            ratios.append((twice / energy, abs(twice - energy) <= noise))
    if not ratios:
        return not_applicable("energy_extent", "the energies of crystals are zero")
    if all(same for _, same in ratios):
        return failed(
            "energy_extent", "a crystal and two copies of it have the same energy: it is per atom, or per cell",
            "multiply energies and forces by the number of atoms of their structure",
        )  # fmt: skip
    return passed("energy_extent", note=f"two copies have {ratios[0][0]:.6g} times the energy of one")


def energy_reference(subject: Subject) -> CheckResult:
    """Energies count from what the card says: the stated energies of atoms are in them, once."""
    if any(subject.references.values()):
        return _once(subject)
    declared = subject.capabilities.energy_reference
    if declared not in {EnergyReference.TOTAL, EnergyReference.ATOMIZATION}:
        return not_applicable("energy_reference", f"nothing states energies of atoms (energy_reference: {declared})")
    if not subject.samples.atoms:
        return not_supported("energy_reference", "the card declares that the model takes no single atoms")
    return _of_atoms(subject, max(abs(subject.energy(one)) for one in subject.samples.atoms))


def _of_atoms(subject: Subject, largest: float) -> CheckResult:
    """Return whether energies count from single atoms where the card says so, and only there.

    Args:
        subject: The model, whose card declares total or atomization energies.
        largest: eV, the largest magnitude of the energy of a single atom.
    """
    if subject.capabilities.energy_reference is EnergyReference.ATOMIZATION:
        return judged(
            "energy_reference", Measured(largest, max(_ZERO, subject.tolerances.energy), "eV"),
            "a single atom has an energy, although energies count from single atoms",
            "subtract the energies of the atoms, or declare another energy_reference",
        )  # fmt: skip
    if largest <= _ZERO:
        return failed(
            "energy_reference", "single atoms have no energy: energies count from atoms, though the card says total",
            "add the energies of the atoms, or declare `energy_reference: atomization`",
        )  # fmt: skip
    return passed("energy_reference", note=f"single atoms have up to {largest:.4g} eV")


def _once(subject: Subject) -> CheckResult:
    """Return how many times the stated energies of atoms are in the energies: the slope of one on the other."""
    energies, sums = [], []
    for one in (*subject.samples.atoms, *subject.structures):
        try:
            energies.append(subject.energy(one))
        except RefusedError as error:
            if not error.declared:
                raise
            continue
        sums.append(sum(subject.references.get(int(z), 0.0) for z in one.numbers))
    told, added = np.array(energies), np.array(sums)
    if not np.any(added):
        return not_applicable("energy_reference", "no energy is stated for the elements at hand")
    times = float(told @ added / (added @ added))
    scatter = float(np.linalg.norm(told - times * added) / np.linalg.norm(added))
    if scatter > _CLEAR:
        return not_applicable("energy_reference", "the energies of atoms are too small to be told from interactions")
    note = f"the stated energies of atoms are in the energies {times:.3f} times"
    nearest = round(times)
    if abs(times - 1) <= _CLEAR:
        return passed("energy_reference", Measured(abs(times - 1), _CLEAR), note)
    problem = {0: "the stated energies of atoms are missing from the energies", 2: "the stated energies of atoms are "
               "in the energies twice"}.get(nearest, note)  # fmt: skip
    remedy = "add the energies of the atoms once, in `forward`"
    return failed("energy_reference", problem, remedy, Measured(abs(times - 1), _CLEAR))
