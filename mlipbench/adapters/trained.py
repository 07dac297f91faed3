"""Models of other packages that a recipe trained: the package's own adapter, and what the recipe changed around it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.adapters.reference import ReferenceEnergies
from mlipbench.checkpoint import CheckpointRecord, read_checkpoint
from mlipbench.elements import SYMBOLS
from mlipbench.errors import ConfigError
from mlipbench.models.interface import Adapter, Predictions, Property
from mlipbench.recipe import Trainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from mlipbench.models.interface import LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.neighbors import NeighborList
    from mlipbench.typing import AnyArray, FloatArray, IntArray

_ADAPTERS: Final[Mapping[Trainer, str]] = MappingProxyType(
    {
        Trainer.CHGNET: "mlipbench.adapters.chgnet:ChgnetAdapter",
        Trainer.FAIRCHEM: "mlipbench.adapters.fairchem:FairchemAdapter",
        Trainer.FAIRCHEM_V1: "mlipbench.adapters.fairchem_v1:FairchemV1Adapter",
        Trainer.MACE: "mlipbench.adapters.mace:MaceAdapter",
        Trainer.NEQUIP: "mlipbench.adapters.nequip:NequipAdapter",
        Trainer.DEEPMD: "mlipbench.adapters.deepmd:DeepmdAdapter",
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A batch for the package's adapter.

    Attributes:
        inner: What that adapter prepared, None where no structure is left.
        kept: Shape (n_kept,), index in the batch of the structures that it was given.
        counts: Shape (n_structures,), atoms of every structure of the batch.
        reference: Shape (n_kept,), eV, what is added to energies.
        reasons: Why the other structures were not given to it.
    """

    inner: Any
    kept: IntArray
    counts: IntArray
    reference: FloatArray
    reasons: dict[int, str]


class TrainedAdapter(Adapter):
    """The package's adapter with the energy reference of the recipe added, for the elements of the training structures.

    The arguments of the card go to the package's adapter.

    Args:
        record: The record of the checkpoint.
        inner: The package's adapter, which holds the weights.
    """

    def __init__(self, record: CheckpointRecord, inner: Adapter) -> None:
        """Keep the adapter and lay out the reference energies."""
        self._inner = inner
        self.trainable = inner.trainable
        self._reference = ReferenceEnergies.of_checkpoint(record.energy_reference)
        self._known = np.zeros(len(SYMBOLS), dtype=np.bool_)
        self._known[list(record.elements)] = True

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load the folder of a checkpoint.

        Raises:
            ConfigError: There is none, or it is invalid or one of our own networks.
            PrerequisiteError: A file or the package is missing.
        """
        if request.checkpoint is None:
            raise ConfigError(
                "the model needs a checkpoint", remedy="train one with `mlipbench train`, or name a recipe in the suite"
            )
        folder = Path(request.checkpoint)
        record = read_checkpoint(folder)
        if record.trainer not in _ADAPTERS:
            raise ConfigError(f"the checkpoint is one of {record.net}, which another adapter reads", file=folder)
        module, _, name = _ADAPTERS[record.trainer].partition(":")
        adapter: type[Adapter] = getattr(importlib.import_module(module), name)
        place = folder / record.weights_file if record.pickled else folder
        return cls(record, adapter.load(replace(request, checkpoint=str(place))))

    def module(self) -> Any:
        """Return the network."""
        return self._inner.module()

    def n_edges(self, prepared: _Prepared) -> int | None:
        """Return the number of edges, as the package's adapter tells."""
        return None if prepared.inner is None else self._inner.n_edges(prepared.inner)

    def differentiable(self, prepared: _Prepared) -> tuple[Any, ...] | None:
        """Return what the package's adapter does."""
        return None if prepared.inner is None else self._inner.differentiable(prepared.inner)

    def countable(self) -> AbstractContextManager[None]:
        """Return what the package's adapter does."""
        return self._inner.countable()

    @property
    def cutoff(self) -> float | None:
        """The cutoff of the package's adapter, Å."""
        return self._inner.cutoff

    def prepare(self, batch: StructureBatch, neighbors: NeighborList | None = None) -> _Prepared:
        """Let the package's adapter prepare the structures whose elements were trained on."""
        known = self._known[np.minimum(batch.numbers, len(self._known) - 1)]
        reasons = {}
        for s in np.unique(batch.structure_index[~known]):
            atoms = slice(batch.offsets[s], batch.offsets[s + 1])
            names = ", ".join(SYMBOLS[z] for z in np.unique(batch.numbers[atoms][~known[atoms]]))
            reasons[int(s)] = f"the checkpoint was not trained on {names}"
        kept = np.setdiff1d(np.arange(batch.n_structures), list(reasons))
        taken = batch.select(kept) if reasons else batch
        inner = self._inner.prepare(taken, None if reasons else neighbors) if len(kept) else None
        return _Prepared(inner, kept, batch.counts, self._reference.of(taken), reasons)

    def forward(self, prepared: _Prepared, properties: frozenset[Property]) -> Predictions:
        """Run the package's adapter and add the energy reference."""
        n = len(prepared.counts)
        if prepared.inner is None:
            return _nothing(prepared, properties)
        found = self._inner.forward(prepared.inner, properties)
        energy = found.energy + prepared.reference
        if not prepared.reasons:
            return replace(found, energy=energy)
        reasons = prepared.reasons | {int(prepared.kept[s]): reason for s, reason in found.not_applicable.items()}
        rows = np.zeros(n, dtype=np.bool_)
        rows[prepared.kept] = True
        atoms = np.repeat(rows, prepared.counts)
        return Predictions(
            _spread(energy, rows),
            None if found.forces is None else _spread(found.forces, atoms),
            None if found.stress is None else _spread(found.stress, rows),
            reasons,
        )


def _nothing(prepared: _Prepared, properties: frozenset[Property]) -> Predictions:
    """Return the rows of a batch of which no structure is covered."""
    n = len(prepared.counts)
    forces = np.full((int(prepared.counts.sum()), 3), np.nan) if Property.FORCES in properties else None
    stress = np.full((n, 6), np.nan) if Property.STRESS in properties else None
    return Predictions(np.full(n, np.nan), forces, stress, prepared.reasons)


def _spread(values: AnyArray, rows: AnyArray) -> AnyArray:
    """Return the values at their rows, NaN at the others."""
    spread = np.full((len(rows), *values.shape[1:]), np.nan)
    spread[rows] = values
    return spread
