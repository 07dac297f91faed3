"""Capabilities, structures and what else a check needs, as parent and worker tell them to each other."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from mlipbench.conformance.samples import Samples
from mlipbench.models.interface import Capabilities, EnergyReference, ForceKind, Need, NeighborSource, Property

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.structures import StructureBatch


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """What a model is examined with.

    Attributes:
        capabilities: What its card declares.
        samples: Structures that it should take.
        references: Energies that its card or checkpoint states for single atoms, eV by atomic number.
    """

    capabilities: Capabilities
    samples: Samples
    references: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))

    def pack(self) -> tuple[dict[str, Any], StructureBatch]:
        """Return all of it as JSON data and one batch."""
        batch, counts = self.samples.pack()
        declared = {one.name: getattr(self.capabilities, one.name) for one in fields(Capabilities)}
        references = {str(number): energy for number, energy in self.references.items()}
        return {"capabilities": declared, "samples": counts, "references": references}, batch

    @classmethod
    def unpack(cls, header: Mapping[str, Any], batch: StructureBatch) -> Self:
        """Return what `pack` packed, after it went through JSON.

        Raises:
            KeyError: A part is missing.
            TypeError: A part is of the wrong type.
            ValueError: A part has a value that it cannot have.
        """
        given = header["capabilities"]
        elements = given["elements"]
        capabilities = Capabilities(
            **given
            | {
                "properties": frozenset(map(Property, given["properties"])),
                "forces": ForceKind(given["forces"]),
                "elements": None if elements is None else frozenset(elements),
                "energy_reference": EnergyReference(given["energy_reference"]),
                "needs": frozenset(map(Need, given["needs"])),
                "dtypes": tuple(given["dtypes"]),
                "devices": tuple(given["devices"]),
                "neighbors": NeighborSource(given["neighbors"]),
            }
        )
        references = {int(number): float(energy) for number, energy in header["references"].items()}
        return cls(capabilities, Samples.unpack(batch, header["samples"]), MappingProxyType(references))
