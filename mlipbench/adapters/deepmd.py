"""DeePMD: Deep Potentials (Zhang et al., Advances in Neural Information Processing Systems 31 (2018) 4436) in PyTorch.

Weights and network are those of deepmd-kit. A batch is one frame of all its atoms: their neighbours are found by the
harness, images included, so that structures of any size and periodicity share it, and the energies of the atoms are
summed by structure. Predictions equal those of the package's ``DP`` calculator within rounding. The stress is the
virial over the volume of the cell as given.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.adapters.coverage import Coverage, rows_of_types
from mlipbench.adapters.patching import repeatable
from mlipbench.adapters.tensors import floats, host, indices
from mlipbench.adapters.weights import UNREADABLE, frozen, load_pickle, the_file, unreadable
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, Predictions, Property
from mlipbench.structures.neighbors import NeighborList, completed_cell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from mlipbench.models.interface import LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray, IntArray

_KIND: Final = "a DeePMD model of energies"
_PARTS: Final = ("descriptor", "fitting_net")


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A batch on the device, with the images of atoms that are neighbours behind the atoms themselves.

    Attributes:
        coverage: Which structures it holds.
        coordinates: Shape (1, n_sites, 3), Å, of atoms and images.
        types: Shape (1, n_sites), their types in the model.
        neighbors: Shape (1, n_atoms, n_most), sites of the neighbours of each atom, nearest first, then -1.
        owner: Shape (n_sites,), the atom whose image a site is.
        structure: Shape (n_sites,), the structure of each site.
        n_edges: Number of neighbours of all atoms together.
    """

    coverage: Coverage
    coordinates: torch.Tensor
    types: torch.Tensor
    neighbors: torch.Tensor
    owner: torch.Tensor
    structure: torch.Tensor
    n_edges: int

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return int(self.neighbors.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class DeepmdAdapter(Adapter):
    """A model of energies of deepmd-kit's PyTorch backend: a checkpoint of ``dp --pt train``.

    Attributes:
        model: The network.
        device: Where it runs.
        rows: Shape (119,), place of each atomic number among the types of the model, -1 where it has none.
        trainable: Names of the parameters that training changes.
    """

    model: Any
    device: str
    rows: IntArray
    trainable: frozenset[str] | None = None

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load a checkpoint, whose network is built in the precision that is asked for.

        Raises:
            ConfigError: An argument or the file does not fit.
            PrerequisiteError: deepmd-kit is not installed, or the file is not there.
        """
        if request.kwargs:
            raise ConfigError(f"the adapter 'deepmd' takes no argument {min(request.kwargs)!r}", where="kwargs")
        if request.checkpoint is None:
            raise ConfigError("the adapter 'deepmd' needs a checkpoint", remedy="give a file in the card")
        path = the_file(request.checkpoint)
        with package_loaded(request.device):
            model = _network(path, request.dtype)
        model = model.to(device=request.device).eval()
        rows = rows_of_types(model.get_type_map(), path)
        return cls(model, request.device, rows, frozen(model))

    def module(self) -> Any:
        """Return the network."""
        return self.model

    def n_edges(self, prepared: _Prepared) -> int:
        """Return the number of edges within the cutoff; those beyond the model's ``sel`` are among them."""
        return prepared.n_edges

    def differentiable(self, prepared: _Prepared) -> tuple[torch.Tensor, ...]:
        """Return the energies."""
        return (self._energies(prepared, prepared.coordinates.detach().requires_grad_()),)

    @property
    def cutoff(self) -> float:
        """The network's cutoff, Å."""
        return float(self.model.get_rcut())

    def prepare(self, batch: StructureBatch, neighbors: NeighborList | None = None) -> _Prepared:
        """Search the neighbours, unless a list is given, and lay out atoms, images and neighbours."""
        coverage = Coverage.of(batch)
        coverage.without_elements(batch, self.rows >= 0, "the model")
        taken = coverage.select(batch)
        edges = coverage.edges(taken, neighbors, self.cutoff)
        sites = _Sites.of(taken, edges)
        types = self.rows[taken.numbers][sites.owner]
        return _Prepared(
            coverage,
            coordinates=floats(sites.coordinates[None], self.device),
            types=indices(types[None], self.device),
            neighbors=indices(sites.neighbors[None], self.device),
            owner=indices(sites.owner, self.device),
            structure=indices(taken.structure_index[sites.owner], self.device),
            n_edges=edges.n_edges,
        )

    def forward(self, prepared: _Prepared, properties: frozenset[Property]) -> Predictions:
        """Run the network once, and once backwards if forces or stress are asked for."""
        import torch

        forces, stress = Property.FORCES in properties, Property.STRESS in properties
        n, n_kept = prepared.n_atoms, len(prepared.coverage.kept)
        if not n:
            return prepared.coverage.nothing(properties)
        coordinates = prepared.coordinates.detach().requires_grad_(forces or stress)
        with repeatable(0, self.device), torch.set_grad_enabled(forces or stress):
            energies = self._energies(prepared, coordinates)
            if not (forces or stress):
                return prepared.coverage.predictions(host(energies))
            (slopes,) = torch.autograd.grad(energies.sum(), coordinates)
        slopes, places = slopes[0], prepared.coordinates[0]
        by_atom = slopes.new_zeros(n, 3).index_add_(0, prepared.owner, slopes)
        by_strain = slopes.new_zeros(n_kept, 3, 3)
        by_strain.index_add_(0, prepared.structure, places[:, :, None] * slopes[:, None, :])
        return prepared.coverage.predictions(
            host(energies), -host(by_atom) if forces else None, host(by_strain) if stress else None
        )

    def _energies(self, prepared: _Prepared, coordinates: torch.Tensor) -> torch.Tensor:
        """Return the energies of the structures, shape (n_kept,)."""
        model = self.model
        chosen = model.format_nlist(coordinates.detach(), prepared.types, prepared.neighbors)
        found = model.atomic_model.forward_common_atomic(coordinates, prepared.types, chosen, prepared.owner[None])
        of_atoms = found["energy"].reshape(-1)
        structure = prepared.structure[: prepared.n_atoms]
        energies: torch.Tensor = of_atoms.new_zeros(len(prepared.coverage.kept)).index_add(0, structure, of_atoms)
        return energies


@dataclass(frozen=True, slots=True, eq=False)
class _Sites:
    """Atoms of a batch and the images of them that are neighbours.

    Attributes:
        coordinates: Shape (n_sites, 3), Å, the atoms first, those of a structure around the origin.
        owner: Shape (n_sites,), the atom whose image a site is.
        neighbors: Shape (n_atoms, n_most), sites of the neighbours, nearest first, then -1; at least one column.
    """

    coordinates: FloatArray
    owner: IntArray
    neighbors: IntArray

    @classmethod
    def of(cls, batch: StructureBatch, edges: NeighborList) -> Self:
        """Lay out the sites of a batch.

        Args:
            batch: The structures.
            edges: Their edges within the cutoff.
        """
        batch, edges = _gathered(batch, edges)
        n = batch.n_atoms
        outside = edges.shifts.any(axis=1)
        images, where = np.unique(
            np.column_stack([edges.j[outside], edges.shifts[outside]]), axis=0, return_inverse=True
        )
        owner = np.concatenate([np.arange(n), images[:, 0]])
        cells = batch.cell[batch.structure_index[images[:, 0]]]
        shifted = batch.positions[images[:, 0]] + np.einsum("sk,skd->sd", images[:, 1:], cells)
        site = edges.j.copy()
        site[outside] = n + where.reshape(-1)
        vectors = edges.vectors(batch)
        order = np.lexsort((np.einsum("ek,ek->e", vectors, vectors), edges.i))
        counts = np.bincount(edges.i, minlength=n)
        column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        neighbors = np.full((n, max(1, counts.max(initial=0))), -1)
        neighbors[edges.i[order], column] = site[order]
        return cls(np.concatenate([batch.positions, shifted]), owner, neighbors)


def _gathered(batch: StructureBatch, edges: NeighborList) -> tuple[StructureBatch, NeighborList]:
    """Return the structures with their atoms in the cell and around the origin, and the same edges between these.

    The network takes differences of coordinates in its own precision, which small ones keep.
    """
    positions, home = batch.positions.copy(), np.zeros((batch.n_atoms, 3), dtype=np.int64)
    for s in range(batch.n_structures):
        atoms, periodic = slice(batch.offsets[s], batch.offsets[s + 1]), batch.pbc[s].astype(bool)
        if periodic.any():
            fractional = positions[atoms] @ np.linalg.inv(completed_cell(batch.cell[s], periodic))
            home[atoms] = np.where(periodic, np.floor(fractional), 0)
            positions[atoms] -= home[atoms] @ batch.cell[s]
        positions[atoms] -= positions[atoms].mean(axis=0)
    shifts = edges.shifts + home[edges.j] - home[edges.i]
    return replace(batch, positions=positions), replace(edges, shifts=shifts)


@contextlib.contextmanager
def package_loaded(device: str) -> Iterator[None]:
    """Import deepmd-kit for a device, and undo what that does to the process.

    The package decides where it computes when it is imported, once for the process.

    Args:
        device: Such as ``cpu`` or ``cuda:1``.

    Raises:
        PrerequisiteError: It cannot be imported, or was imported for another device.
    """
    import torch

    start, threads = multiprocessing.get_start_method(allow_none=True), torch.get_num_threads()
    variables, (kind, _, number) = dict(os.environ), device.partition(":")
    os.environ |= {"DEVICE": kind, "LOCAL_RANK": number or "0", "NUM_WORKERS": "0"}
    try:
        with torch.random.fork_rng():
            try:
                from deepmd.pt.utils.env import DEVICE
            except (ImportError, RuntimeError) as error:  # the latter where it was compiled against another torch
                said = str(error).splitlines()[0]
                raise PrerequisiteError(
                    f"deepmd-kit cannot be imported: {said}", remedy="install the environment 'deepmd'"
                ) from error
            if torch.device(device).type != DEVICE.type:
                raise PrerequisiteError(
                    f"deepmd-kit computes on {DEVICE.type} in this process and cannot change to {device}",
                    remedy="start another process",
                )
            yield
    finally:
        multiprocessing.set_start_method(start, force=True)
        torch.set_num_threads(threads)
        for name in set(os.environ) - set(variables):
            del os.environ[name]
        os.environ.update(variables)


def in_precision(model: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Return the configuration of a model with its networks in a precision.

    Args:
        model: What stands below ``model`` in deepmd's input.
        dtype: Such as ``float32``.
    """
    return {**model, **{part: {**model[part], "precision": dtype} for part in _PARTS}}


def _network(path: Path, dtype: str) -> Any:
    """Build the network of a checkpoint in a precision and give it its weights."""
    from deepmd.pt.model.model import get_model
    from deepmd.pt.train.wrapper import ModelWrapper

    content = load_pickle(path, _KIND)
    try:
        state = content.get("model", content)
        told = state["_extra_state"]["model_params"]
        if "model_dict" in told:
            raise ConfigError("holds several models", file=path, remedy="train or split off one of them")
        model = get_model(in_precision(told, dtype))
        if "energy" not in model.model_output_type():
            raise ConfigError("is no model of energies", file=path)
        ModelWrapper(model).load_state_dict(state)
    except UNREADABLE as error:
        raise unreadable(path, _KIND, error) from error
    return model
