"""The loaded model, as probes call it: on many structures made from one, in batches that it is known to take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.models.interface import Predictions, Property
from mlipbench.protocol import Message, MessageKind
from mlipbench.structures.batch import concatenate
from mlipbench.worker.s2ef import Timing, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray
    from mlipbench.worker.session import Session

_ASKED: Final = frozenset({Property.ENERGY, Property.FORCES})
_LEAST_ATOMS: Final = 256
"""Atoms that every model is given at once; more where the batches of the plan hold more."""


class DeclinedError(Exception):
    """The model does not take a structure that a probe made."""


class NotFiniteError(Exception):
    """A prediction of a structure that a probe made is not finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the model says of variants of one structure.

    Attributes:
        energy: Shape (n,), eV.
        forces: Shape (n, n_atoms, 3), eV/Å.
    """

    energy: FloatArray
    forces: FloatArray


@dataclass(slots=True, eq=False)
class Model:
    """The model of a worker.

    Attributes:
        session: Holds it.
        atoms: Most atoms of a call.
        timing: Seconds of all calls so far.
    """

    session: Session
    atoms: int
    timing: Timing = field(default_factory=lambda: Timing(0.0, 0.0))

    @classmethod
    def of(cls, session: Session, batch: StructureBatch) -> Model:
        """Return the model, for structures of a batch that the plan cut."""
        return cls(session, max(batch.n_atoms, _LEAST_ATOMS))

    @property
    def epsilon(self) -> float:
        """The relative spacing of numbers in the precision that the model was loaded with."""
        request = self.session.request
        return float(np.finfo("float64" if request is None else request.dtype).eps)

    def energies(self, structures: Sequence[StructureBatch]) -> FloatArray:
        """Return the energies of structures of any sizes, shape (n,), eV; errors as of `answers`."""
        return np.concatenate([found.energy for found in self._predictions(structures)])

    def moved(self, structure: StructureBatch, positions: FloatArray) -> Answers:
        """Return what the model says of a structure with other positions; errors as of `answers`.

        Args:
            structure: A single structure.
            positions: Shape (n, n_atoms, 3), Å.
        """
        return self.answers([structure.moved(one) for one in positions])

    def answers(self, structures: Sequence[StructureBatch]) -> Answers:
        """Return what the model says of structures with equally many atoms.

        Raises:
            DeclinedError: The model does not take one of them.
            NotFiniteError: Energy or forces of one are not finite.
            WorkerError: The adapter returned something other than predictions.
        """
        found = list(self._predictions(structures))
        forces = np.concatenate([_forces(one) for one in found])
        energy = np.concatenate([one.energy for one in found])
        return Answers(energy, forces.reshape(len(structures), -1, 3))

    def _predictions(self, structures: Sequence[StructureBatch]) -> Iterator[Predictions]:
        """Yield predictions of chunks, and tell the harness after each that the worker is alive."""
        for chunk in self._chunks(structures):
            batch = concatenate(chunk)
            found, timing = run(self.session, batch, _ASKED)
            self.timing = Timing(self.timing.prepare + timing.prepare, self.timing.forward + timing.forward)
            self.session.send(Message(MessageKind.ALIVE))
            for reason in found.not_applicable.values():
                raise DeclinedError(reason)
            if not (np.isfinite(found.energy).all() and np.isfinite(_forces(found)).all()):
                raise NotFiniteError("energy or forces are not finite")
            yield found

    def _chunks(self, structures: Sequence[StructureBatch]) -> Iterator[list[StructureBatch]]:
        chunk: list[StructureBatch] = []
        atoms = 0
        for one in structures:
            if chunk and atoms + one.n_atoms > self.atoms:
                yield chunk
                chunk, atoms = [], 0
            chunk.append(one)
            atoms += one.n_atoms
        if chunk:
            yield chunk


def _forces(found: Predictions) -> FloatArray:
    if found.forces is None:
        raise TypeError("forces were not asked for")
    return found.forces
