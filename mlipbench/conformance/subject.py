"""What is checked: an adapter, what its card declares, and the structures it is tried on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.compare import SYMMETRY, Noise, Tolerances
from mlipbench.conformance.contract import check_predictions
from mlipbench.conformance.finite import CLOSE, scatter
from mlipbench.models.interface import ForceKind, Property

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.conformance.samples import Samples
    from mlipbench.models.interface import Adapter, Capabilities, Predictions
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray

CALLS: Final = 1000


class RefusedError(Exception):
    """The adapter says that it does not take a structure.

    Attributes:
        declared: Whether its card leaves it to a fit which structures it takes.
    """

    def __init__(self, reason: str, *, declared: bool) -> None:
        """Keep the reason as the message."""
        super().__init__(reason)
        self.declared = declared


class AdapterError(Exception):
    """The adapter raised, or returned something other than predictions."""


def _silent() -> None:
    """Say nothing."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under test.

    Attributes:
        adapter: The loaded adapter.
        capabilities: What its card declares.
        samples: Structures that it should take.
        dtype: Precision it was loaded with, ``float32`` or ``float64``.
        references: Energies that its card or checkpoint states for single atoms, eV by atomic number.
        threads: Threads that torch was given; None where nobody said.
        calls: Calls over which memory is watched.
        alive: Called now and then during checks that take many calls.
    """

    adapter: Adapter
    capabilities: Capabilities
    samples: Samples
    dtype: str = "float64"
    references: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    threads: int | None = None
    calls: int = CALLS
    alive: Callable[[], None] = _silent

    @property
    def conservative(self) -> bool:
        """Whether the card declares that forces are the gradient of the energy."""
        return self.capabilities.forces is ForceKind.CONSERVATIVE

    @property
    def tolerances(self) -> Tolerances:
        """How far predictions of structures that are the same may differ."""
        return SYMMETRY[self.dtype]

    @property
    def epsilon(self) -> float:
        """The relative spacing of numbers in the declared precision."""
        return float(np.finfo(self.dtype).eps)

    def properties(self, batch: StructureBatch) -> frozenset[Property]:
        """Return what the card declares that can be asked of `batch`: the stress of periodic structures alone."""
        declared = self.capabilities.properties
        return declared if batch.n_structures and batch.pbc.all() else declared - {Property.STRESS}

    def predict(self, batch: StructureBatch, properties: frozenset[Property] | None = None) -> Predictions:
        """Predict structures that the model must take.

        Args:
            batch: The structures.
            properties: What is asked for; None asks for all that is declared.

        Raises:
            RefusedError: The adapter declines one of them.
            AdapterError: The adapter raises, or returns something other than predictions.
        """
        found = self.attempt(batch, properties)
        for index, reason in found.not_applicable.items():
            raise RefusedError(f"structure {index}: {reason}", declared=self.capabilities.elements is None)
        return found

    def attempt(self, batch: StructureBatch, properties: frozenset[Property] | None = None) -> Predictions:
        """Predict structures, some of which the model may decline.

        Raises:
            AdapterError: The adapter raises, or returns something other than predictions.
        """
        wanted = self.properties(batch) if properties is None else properties
        try:
            found = self.adapter.predict(batch, wanted)
            check_predictions(batch, found, wanted)
        except Exception as error:  # the boundary to foreign code
            first = (str(error).strip().splitlines() or [""])[0]
            raise AdapterError(f"{type(error).__name__}: {first}") from error
        return found

    @cached_property
    def molecules(self) -> tuple[StructureBatch, ...]:
        """Molecules that the model takes."""
        return self._taken(self.samples.molecules)

    @cached_property
    def crystals(self) -> tuple[StructureBatch, ...]:
        """Crystals that the model takes."""
        return self._taken(self.samples.crystals)

    @cached_property
    def slabs(self) -> tuple[StructureBatch, ...]:
        """Slabs that the model takes."""
        return self._taken(self.samples.slabs)

    @cached_property
    def primitive(self) -> tuple[StructureBatch, ...]:
        """Primitive cells that the model takes."""
        return self._taken(self.samples.primitive)

    @property
    def structures(self) -> tuple[StructureBatch, ...]:
        """Molecules, crystals and slabs."""
        return (*self.molecules, *self.crystals, *self.slabs)

    def _taken(self, samples: tuple[StructureBatch, ...]) -> tuple[StructureBatch, ...]:
        """Return all of them, but those that are declined where the card leaves that to a fit."""
        if self.capabilities.elements is not None:
            return samples
        return tuple(one for one in samples if not self.attempt(one).not_applicable)

    def energy(self, batch: StructureBatch) -> float:
        """Return the energy of a single structure, eV."""
        return float(self.predict(batch, frozenset({Property.ENERGY})).energy[0])

    def noise(self, batch: StructureBatch) -> Noise:
        """Return how much of a prediction of a single structure is rounding.

        The larger of eps(dtype) |E|, and what remains along a line of nine points 1e-6 Å apart beside a parabola.
        """
        direction = np.random.default_rng(batch.n_atoms).standard_normal(batch.positions.shape)
        line = [self.predict(batch.moved(batch.positions + step * direction)) for step in CLOSE]
        energies = np.array([one.energy[0] for one in line])
        return Noise(
            energy=max(float(self.epsilon * np.abs(energies).max()), scatter(energies[:, None])),
            forces=scatter(_rows([one.forces for one in line])),
            stress=scatter(_rows([one.stress for one in line])),
        )


def _rows(values: list[FloatArray | None]) -> FloatArray:
    return np.array([np.zeros(1) if one is None else one.ravel() for one in values], dtype=np.float64)
