"""Does a structure get the same prediction alone and in a batch?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.models.interface import Property
from mlipbench.protocol import Message, MessageKind, batch_from_arrays
from mlipbench.worker.s2ef import asked_properties, run

if TYPE_CHECKING:
    from mlipbench.models.interface import Predictions
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray
    from mlipbench.worker.session import Session


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a structure alone and in a batch may differ: ``absolute + relative * largest magnitude``.

    Attributes:
        energy: eV per atom.
        energy_relative: Of the energy's magnitude.
        forces: eV/Å for forces; the same number in eV/Å³ serves stress.
        forces_relative: Of the largest component of that structure.
    """

    energy: float
    energy_relative: float
    forces: float
    forces_relative: float


# Sums in float32 over some 100 neighbours, in another order, differ by about 1e-5 relative; ten to a hundred times
# that is still far below the difference between two unlike structures, which is what the check has to see.
_TOLERANCES: Final = {
    "float32": Tolerances(energy=1e-4, energy_relative=1e-5, forces=1e-3, forces_relative=1e-3),
    "float64": Tolerances(energy=1e-5, energy_relative=1e-7, forces=1e-4, forces_relative=1e-5),
}


def verify(session: Session, message: Message) -> Message:
    """Predict the batch of `message`, then each of its structures alone, and say where they differ.

    The reply is ``verified`` with ``reason`` None where they agree. Two to four unlike structures suffice.
    """
    batch, properties = batch_from_arrays(message.arrays), asked_properties(message)
    dtype = session.request.dtype if session.request is not None else "float32"
    tolerances = _TOLERANCES.get(dtype, _TOLERANCES["float32"])
    together, _ = run(session, batch, properties)
    for index in range(batch.n_structures):
        alone, _ = run(session, batch.slice(index, index + 1), properties)
        difference = _difference(_part(batch, together, index), alone, tolerances, batch.counts[index])
        if difference:
            reason = f"structure {index} alone and in a batch of {batch.n_structures} differ ({difference})"
            return Message(MessageKind.VERIFIED, {"reason": f"{reason}: wrong order or dependence on batch mates"})
    return Message(MessageKind.VERIFIED, {"reason": None})


def _part(batch: StructureBatch, together: Predictions, index: int) -> dict[Property, FloatArray | None]:
    atoms = slice(batch.offsets[index], batch.offsets[index + 1])
    return {
        Property.ENERGY: together.energy[index : index + 1],
        Property.FORCES: None if together.forces is None else together.forces[atoms],
        Property.STRESS: None if together.stress is None else together.stress[index : index + 1],
    }


def _difference(
    part: dict[Property, FloatArray | None], alone: Predictions, tolerances: Tolerances, n_atoms: int
) -> str | None:
    """Return what differs by how much, or None."""
    units = {Property.ENERGY: "eV", Property.FORCES: "eV/Å", Property.STRESS: "eV/Å³"}
    for name, together in part.items():
        reference = getattr(alone, name)
        if together is None or reference is None or not together.size:
            continue
        if not np.array_equal(np.isfinite(together), np.isfinite(reference)):
            return f"{name} is finite in one of the two only"
        gap, size = np.abs(together - reference), np.abs(reference)
        if name is Property.ENERGY:
            allowed = tolerances.energy * max(1, n_atoms) + tolerances.energy_relative * size
        else:
            allowed = tolerances.forces + tolerances.forces_relative * np.nanmax(size, initial=0.0)
        if np.any(gap > allowed):  # comparisons with NaN are False: both sides are NaN there
            return f"{name} by {np.nanmax(gap):.3g} {units[name]}"
    return None
