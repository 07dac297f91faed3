"""MACE: equivariant message passing with higher body order (Batatia et al., NeurIPS 2022).

Weights and network are those of mace-torch; the arrays of a batch are assembled at once, with the neighbour list of the
harness in float64. Predictions equal those of ``MACECalculator`` within rounding, with two exceptions. The stress is
the derivative by strain over the volume of the cell as given; the calculator divides by the volume of a box of its own
where a direction is not periodic. And where a model takes charge and spin, they have to be given.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.adapters.coverage import Coverage
from mlipbench.adapters.mace_names import find_file
from mlipbench.adapters.patching import repeatable
from mlipbench.adapters.tensors import PreparedArrays, floats, host, indices
from mlipbench.adapters.weights import checked, frozen, load_pickle
from mlipbench.elements import SYMBOLS
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, Predictions, Property

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from mlipbench.models.interface import LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.neighbors import NeighborList
    from mlipbench.typing import BoolArray

_UNSAFE_LOADING: Final = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
_ARGUMENTS: Final = frozenset({"family", "head"})
_FEATURES: Final = ("total_charge", "total_spin")


@dataclass(frozen=True, slots=True, eq=False)
class MaceAdapter(Adapter):
    """A model of mace-torch; the checkpoint is a file, or a name that ``mace_mp``, ``mace_off`` or ``mace_omol`` knows.

    Arguments: ``family`` (``mp``, ``off`` or ``omol``), whose names are meant, ``mp`` if left out; ``head`` of a
    model that has several, the one named ``default`` if left out.

    Attributes:
        model: The network.
        device: Where it runs.
        dtype: Precision of weights and activations.
        head: Index of the head.
        rows: Shape (119,), place of each atomic number among the elements of the model, -1 where it has none.
        weights_sha256: Checksum of weights found by name, None for a file.
        trainable: Names of the parameters that training changes.
    """

    model: Any
    device: str
    dtype: torch.dtype
    head: int
    rows: Any
    weights_sha256: str | None = None
    trainable: frozenset[str] | None = None

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load a checkpoint.

        Raises:
            ConfigError: An argument, the name or the file does not fit.
            PrerequisiteError: MACE is not installed, or the file is neither there nor can be downloaded.
        """
        unknown = set(request.kwargs) - _ARGUMENTS
        if unknown:
            raise ConfigError(f"the adapter 'mace' takes no argument {min(unknown)!r}", where="kwargs")
        if request.checkpoint is None:
            raise ConfigError("the adapter 'mace' needs a checkpoint", remedy="give a name or a file in the card")
        with _loading():
            try:
                import torch
                from mace.modules import MACE, ScaleShiftMACE
            except ImportError as error:
                raise PrerequisiteError(
                    f"MACE cannot be imported: {error}", remedy="install the environment 'mace'"
                ) from error
            family = str(request.kwargs.get("family", "mp"))
            path = find_file(request.checkpoint, family)
            sha256 = checked(f"mace-{family}", request, path)
            model = load_pickle(path, "a MACE model", request.device)
        if type(model) not in {MACE, ScaleShiftMACE}:
            raise ConfigError(
                f"holds {type(model).__module__}.{type(model).__name__}, no MACE model of energies and forces",
                file=path,
            )
        _check_features(model, path)
        dtype = torch.float64 if request.dtype == "float64" else torch.float32
        model = model.to(device=request.device, dtype=dtype).eval()
        trainable = frozen(model)
        rows = np.full(len(SYMBOLS), -1)
        rows[model.atomic_numbers.cpu().numpy()] = np.arange(len(model.atomic_numbers))
        head = _head(model, request.kwargs.get("head"))
        return cls(model, request.device, dtype, head, rows, sha256, trainable)

    def module(self) -> Any:
        """Return the network."""
        return self.model

    def n_edges(self, prepared: PreparedArrays) -> int:
        """Return the number of edges."""
        return int(prepared.arrays["edge_index"].shape[1])

    def differentiable(self, prepared: PreparedArrays) -> tuple[torch.Tensor, ...]:
        """Return the energies."""
        with repeatable(0, self.device):
            return (self.model(dict(prepared.arrays), compute_force=False)["energy"],)

    @property
    def cutoff(self) -> float:
        """The network's cutoff, Å."""
        return float(self.model.r_max)

    def prepare(self, batch: StructureBatch, neighbors: NeighborList | None = None) -> PreparedArrays:
        """Search the neighbours in float64, unless a list is given, and lay out the arrays."""
        coverage = self._coverage(batch)
        taken = coverage.select(batch)
        edges = coverage.edges(taken, neighbors, self.cutoff)
        shifts = np.zeros((edges.n_edges, 3))
        for s in np.flatnonzero(taken.pbc.any(axis=1)):
            own = slice(edges.offsets[s], edges.offsets[s + 1])
            shifts[own] = edges.shifts[own] @ taken.cell[s]
        arrays = {
            "positions": floats(taken.positions, self.device, self.dtype),
            "cell": floats(taken.cell.reshape(-1, 3), self.device, self.dtype),
            "shifts": floats(shifts, self.device, self.dtype),
            "unit_shifts": floats(edges.shifts, self.device, self.dtype),
            "edge_index": indices(np.stack([edges.i, edges.j]), self.device),
            "batch": indices(taken.structure_index, self.device),
            "ptr": indices(taken.offsets, self.device),
            "head": indices(np.full(taken.n_structures, self.head), self.device),
            "node_attrs": self._one_hot(self.rows[taken.numbers]),
        }
        for name, values in zip(_FEATURES, (taken.charge, taken.spin), strict=True):
            if values is not None:
                arrays[name] = floats(values, self.device, self.dtype)
        return PreparedArrays(coverage, arrays)

    def forward(self, prepared: PreparedArrays, properties: frozenset[Property]) -> Predictions:
        """Run the network once, and once backwards if forces or stress are asked for."""
        import torch

        forces, stress = Property.FORCES in properties, Property.STRESS in properties
        n_structures, n_atoms = len(prepared.arrays["head"]), len(prepared.arrays["positions"])
        if not n_structures:
            return prepared.coverage.nothing(properties)
        # the network marks the positions it is given and replaces entries of the dictionary
        arrays = {**prepared.arrays, "positions": prepared.arrays["positions"].detach()}
        with repeatable(0, self.device), torch.set_grad_enabled(forces or stress):
            output = self.model(arrays, compute_force=forces or stress, compute_virials=stress)
        virial = None
        if stress:  # without any edge the network returns one zero matrix for all
            virial = np.broadcast_to(-host(output["virials"]), (n_structures, 3, 3))
        found = host(output["forces"]).reshape(n_atoms, 3) if forces else None
        return prepared.coverage.predictions(host(output["energy"]), found, virial)

    def _coverage(self, batch: StructureBatch) -> Coverage:
        coverage = Coverage.of(batch)
        known: BoolArray = self.rows >= 0
        coverage.without_elements(batch, known, "the model")
        specs = getattr(self.model, "embedding_specs", None) or {}
        for name, column, values in zip(_FEATURES, ("charge", "spin"), (batch.charge, batch.spin), strict=True):
            if name in specs:
                absent = np.full(batch.n_structures, True) if values is None else ~np.isfinite(values)  # noqa: FBT003
                coverage.without(np.flatnonzero(absent), f"the model needs the {column} of the structure")
        return coverage

    def _one_hot(self, rows: Any) -> torch.Tensor:
        import torch

        return torch.nn.functional.one_hot(indices(rows, self.device), len(self.model.atomic_numbers)).to(self.dtype)


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Send what MACE prints to stderr, and undo that it switches off safe loading for the whole process."""
    before = os.environ.get(_UNSAFE_LOADING)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if before is None:
            os.environ.pop(_UNSAFE_LOADING, None)
        else:
            os.environ[_UNSAFE_LOADING] = before


def _check_features(model: Any, path: Path) -> None:
    """Refuse models that take inputs a structure does not have."""
    unknown = set(getattr(model, "embedding_specs", None) or {}) - set(_FEATURES)
    if unknown:
        raise ConfigError(f"the model needs {min(unknown)}, which structures do not hold", file=path)


def _head(model: Any, wanted: object) -> int:
    """Return the index of a head; left out, the only one or the one named ``default``, as the package does.

    Raises:
        ConfigError: There is no such head.
    """
    heads = list(getattr(model, "heads", None) or ["Default"])
    if wanted is None:
        named = [index for index, head in enumerate(heads) if len(heads) == 1 or head.lower() == "default"]
        if named:
            return named[0]
        raise ConfigError(f"the model has the heads {', '.join(heads)}", where="kwargs.head", remedy="name one of them")
    if wanted not in heads:
        raise ConfigError(f"the model has no head {wanted!r}", where="kwargs.head", remedy=f"known: {', '.join(heads)}")
    return heads.index(wanted)
