"""CHGNet: a universal potential with charges told by magnetic moments (Deng et al., Nat. Mach. Intell. 5, 1031, 2023).

Weights and network are CHGNet's own. The graphs are built for a whole batch at once, equal to those of its converter
(`chgnet_graph`), and the gradient is taken once, without what CHGNet keeps for a second derivative in training.
Predictions equal those of ``CHGNetCalculator`` within rounding. Between nearly collinear bonds the derivative of the
angle magnifies rounding in single precision: of 1000 crystals of MPtrj 8 have a force component that differs by more
than 1e-4 eV/Å, at most by 5e-4; the calculator itself was found up to 3e-4 eV/Å from double precision.

Atoms without a neighbour within 6 Å get the energy of an isolated node and no force, as from the calculator, whose
warning stays out of the way; CHGNet was not trained on such structures.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from mlipbench.adapters.chgnet_graph import find_edges, join_edges
from mlipbench.adapters.weights import frozen
from mlipbench.checkpoint import read_checkpoint
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, Predictions, Property
from mlipbench.structures.neighbors import completed_cell

if TYPE_CHECKING:
    import torch
    from chgnet.model.model import BatchedGraph, CHGNet

    from mlipbench.adapters.chgnet_graph import Edges, Graph
    from mlipbench.models.interface import LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray, IntArray

_NAMES: Final = ("0.3.0", "0.2.0", "r2scan")
_ELEMENTS: Final = 94  # rows of the embedding
_FLAT: Final = 1e-8  # Å³, volume below which a cell counts as absent
_VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A batch on the device.

    Attributes:
        structures: Shape (n_covered,), index in the batch of the structures that go through the model.
        counts: Shape (n_structures,), atoms of every structure of the batch.
        volumes: Shape (n_covered,), Å³, NaN without three lattice vectors.
        reasons: Why the other structures do not go through the model.
        numbers: Atomic numbers of the covered atoms, on the device.
        owners: Structure of each covered atom, counted among the covered ones, on the device.
        vectors: Shape (n_edges, 3), Å, from neighbour to centre, on the device.
        pairs: Shape (n_edges, 2), centre and neighbour, on the device.
        edges: The directed edges.
        graph: The joined graphs.
    """

    structures: IntArray
    counts: IntArray
    volumes: FloatArray
    reasons: dict[int, str]
    numbers: torch.Tensor
    owners: torch.Tensor
    vectors: torch.Tensor
    pairs: torch.Tensor
    edges: Edges
    graph: Graph


@dataclass(frozen=True, slots=True)
class ChgnetAdapter(Adapter):
    """CHGNet; the checkpoint is ``0.3.0``, ``0.2.0`` or ``r2scan``, a file, or the folder of one that a recipe made.

    Structures without a cell need none: no image of theirs exists. The stress of a left-handed cell has the sign of the
    right-handed one, which ``CHGNetCalculator`` inverts.

    Attributes:
        model: The network.
        device: Where it runs.
        trainable: Names of the parameters that training changes.
    """

    model: CHGNet
    device: str
    trainable: frozenset[str] | None = None

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load the weights.

        Raises:
            ConfigError: The precision is not single, the checkpoint is unknown, or an argument is given.
            PrerequisiteError: CHGNet is not installed.
        """
        if request.dtype != "float32":
            raise ConfigError(f"CHGNet runs in float32, not in {request.dtype}", where="dtype")
        if request.kwargs:
            raise ConfigError(f"the adapter 'chgnet' takes no argument {min(request.kwargs)!r}", where="kwargs")
        try:
            from chgnet.model.model import CHGNet
        except ImportError as error:
            raise PrerequisiteError(
                f"CHGNet cannot be imported: {error}", remedy='run: pip install "mlipbench[chgnet]"'
            ) from error
        checkpoint = request.checkpoint or _NAMES[0]
        if checkpoint in _NAMES and request.sha256 is not None:
            raise ConfigError(
                "these weights come with the package, whose checksum the environment's lock holds",
                where="checkpoint.sha256", remedy="give null",
            )  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):  # CHGNet greets on stdout
            if checkpoint in _NAMES:
                model = CHGNet.load(model_name=checkpoint, use_device=request.device, verbose=False)
            elif Path(checkpoint).is_dir():
                model = _load_folder(Path(checkpoint)).to(request.device)
            elif Path(checkpoint).is_file():
                model = CHGNet.from_file(checkpoint).to(request.device)
            else:
                raise ConfigError(
                    f"unknown CHGNet checkpoint {checkpoint!r}",
                    remedy=f"known: {', '.join(_NAMES)}, a file or a folder",
                )
        return cls(model.eval(), request.device, frozen(model))

    def module(self) -> CHGNet:
        """Return the network."""
        return self.model

    def n_edges(self, prepared: _Prepared) -> int:
        """Return the number of edges of the graph of atoms."""
        return len(prepared.edges.center)

    def differentiable(self, prepared: _Prepared) -> tuple[torch.Tensor, ...]:
        """Return the energies."""
        return (self._total_energy(prepared, prepared.vectors),)

    def prepare(self, batch: StructureBatch, neighbors: object | None = None) -> _Prepared:
        """Build the graphs; CHGNet's own neighbour search makes the list."""
        del neighbors
        reasons = _not_covered(batch)
        chosen = np.array([s for s in range(batch.n_structures) if s not in reasons], dtype=np.int64)
        covered = batch.select(chosen)
        flat = np.abs(np.linalg.det(covered.cell)) < _FLAT
        cells = covered.cell.copy()
        for s in np.flatnonzero(flat):  # CHGNet needs an invertible cell; directions without periodicity do not matter
            cells[s] = completed_cell(covered.cell[s], covered.pbc[s])
        fractional = np.empty_like(covered.positions)
        edges = find_edges(covered, cells, fractional, self.model.graph_converter.atom_graph_cutoff)
        graph = join_edges(edges, self.model.graph_converter.bond_graph_cutoff)
        owners = covered.structure_index
        vectors = _vectors(covered, cells, fractional, edges)
        return _Prepared(
            structures=chosen,
            counts=batch.counts,
            volumes=np.where(flat, np.nan, np.abs(np.linalg.det(covered.cell))),
            reasons=reasons,
            numbers=self._tensor(covered.numbers),
            owners=self._tensor(owners),
            vectors=vectors.to(self.device),
            pairs=self._tensor(np.stack([edges.center, edges.neighbor], axis=1)),
            edges=edges,
            graph=graph,
        )

    def forward(self, prepared: _Prepared, properties: frozenset[Property]) -> Predictions:
        """Run the network once, and once backwards if forces or stress are asked for."""
        import torch

        derivatives = bool(properties & {Property.FORCES, Property.STRESS})
        energy = np.full(len(prepared.counts), np.nan)
        pulls = np.zeros((len(prepared.edges.center), 3))
        if len(prepared.structures):
            with torch.set_grad_enabled(derivatives):
                vectors = prepared.vectors.detach().requires_grad_(derivatives)
                total = self._total_energy(prepared, vectors)
                energy[prepared.structures] = total.detach().cpu().numpy()
                if derivatives and len(pulls):
                    (gradient,) = torch.autograd.grad(total.sum(), vectors)
                    pulls = gradient.cpu().numpy().astype(np.float64)
        reasons = dict(prepared.reasons)
        forces = stress = None
        if Property.FORCES in properties:
            forces = _forces(prepared, pulls)
        if Property.STRESS in properties:
            stress, without = _stress(prepared, pulls)
            for s, reason in without.items():
                reasons.setdefault(s, reason)
        return _without(Predictions(energy, forces, stress, reasons), prepared.counts)

    def _tensor(self, array: IntArray) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(self.device)

    def _total_energy(self, prepared: _Prepared, vectors: torch.Tensor) -> torch.Tensor:
        """Return the energies of the covered structures, float64, eV.

        What ``CHGNet.forward`` does, with the edge vectors as the only inputs that carry a gradient.
        """
        import torch

        counts = torch.bincount(prepared.owners)
        graph = self._batched_graph(prepared, vectors)
        per_atom = self.model._compute(graph)["e"]  # noqa: SLF001  # forward() takes single graphs only
        if self.model.composition_model is not None:
            rows = torch.zeros(len(counts), self.model.composition_model.max_num_elements, device=self.device)
            weights = torch.ones(len(prepared.numbers), device=self.device)
            rows.index_put_((prepared.owners, prepared.numbers - 1), weights, accumulate=True)
            if self.model.is_intensive:
                rows = rows / counts[:, None]
            per_atom = per_atom + self.model.composition_model.fc(rows).view(-1)
        energy = per_atom.double()
        return energy * counts if self.model.is_intensive else energy

    def _batched_graph(self, prepared: _Prepared, vectors: torch.Tensor) -> BatchedGraph:
        """Return the input of the network: what ``BatchedGraph.from_graphs`` makes of single graphs."""
        import torch
        from chgnet.model.model import BatchedGraph

        graph = prepared.graph
        lengths = torch.norm(vectors, dim=1)
        bonds = torch.index_select(lengths, 0, self._tensor(graph.first))
        angles = self._tensor(graph.angles)
        bases = torch.tensor([])
        if len(angles):
            unit = vectors / lengths[:, None]
            bases = self.model.angle_basis_expansion(
                torch.index_select(unit, 0, angles[:, 2]), torch.index_select(unit, 0, angles[:, 4])
            )
        return BatchedGraph(
            atomic_numbers=prepared.numbers,
            bond_bases_ag=self.model.bond_basis_expansion.rbf_expansion_ag(bonds),
            bond_bases_bg=self.model.bond_basis_expansion.rbf_expansion_bg(bonds),
            angle_bases=bases,
            batched_atom_graph=prepared.pairs,
            batched_bond_graph=angles[:, [0, 1, 3]].contiguous(),
            atom_owners=prepared.owners,
            directed2undirected=self._tensor(graph.undirected),
            atom_positions=[],
            strains=[],
            volumes=[],
        )


def _load_folder(folder: Path) -> CHGNet:
    """Return the network of a checkpoint that a recipe made; the weights are plain tensors.

    Raises:
        ConfigError: It is damaged, or one of another model.
        PrerequisiteError: A file is missing.
    """
    from chgnet.model.model import CHGNet
    from safetensors.torch import load

    record = read_checkpoint(folder)
    tensors = load((folder / record.weights_file).read_bytes())
    try:
        return CHGNet.from_dict({"model_args": record.config, "state_dict": tensors})
    except (RuntimeError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"the weights do not fit the configuration ({first})", file=folder) from None


def _not_covered(batch: StructureBatch) -> dict[int, str]:
    """Return why structures cannot be put into the network, by their index."""
    reasons = {int(s): "the structure holds no atoms" for s in np.flatnonzero(batch.counts == 0)}
    strange = (batch.numbers < 1) | (batch.numbers > _ELEMENTS)
    for s in np.unique(batch.structure_index[strange]):
        reasons[int(s)] = f"CHGNet knows the elements 1 to {_ELEMENTS} only"
    return reasons


def _vectors(batch: StructureBatch, cells: FloatArray, fractional: FloatArray, edges: Edges) -> torch.Tensor:
    """Return the vectors from neighbour to centre, shape (n_edges, 3), float32, Å.

    Operation by operation what CHGNet does, in single precision: between collinear bonds the angle's derivative
    magnifies a difference in the last digit to 1e-4 eV/Å in the forces.
    """
    import torch

    vectors = [torch.zeros(0, 3)]
    bounds = np.searchsorted(edges.structure, np.arange(batch.n_structures + 1))
    for s in range(batch.n_structures):
        first, last = batch.offsets[s : s + 2]
        span = slice(bounds[s], bounds[s + 1])
        lattice = torch.tensor(cells[s], dtype=torch.float32)
        positions = torch.tensor(fractional[first:last], dtype=torch.float32) @ lattice
        image = torch.tensor(edges.image[span], dtype=torch.float32)
        neighbors = positions[torch.from_numpy(edges.neighbor[span] - first)] + image @ lattice
        vectors.append(positions[torch.from_numpy(edges.center[span] - first)] - neighbors)
    return torch.cat(vectors)


def _forces(prepared: _Prepared, pulls: FloatArray) -> FloatArray:
    """Gather the derivatives of the energy by the edge vectors, shape (n_edges, 3), at the atoms of the batch."""
    edges, n_atoms = prepared.edges, len(prepared.numbers)
    forces = np.full((int(prepared.counts.sum()), 3), np.nan)
    covered = np.repeat(np.isin(np.arange(len(prepared.counts)), prepared.structures), prepared.counts)
    columns = [
        np.bincount(edges.neighbor, pulls[:, k], n_atoms) - np.bincount(edges.center, pulls[:, k], n_atoms)
        for k in range(3)
    ]
    forces[covered] = np.stack(columns, axis=1)
    return forces


def _stress(prepared: _Prepared, pulls: FloatArray) -> tuple[FloatArray, dict[int, str]]:
    """Return the derivative of the energy by strain over the volume, and why some structures have none."""
    stress = np.full((len(prepared.counts), 6), np.nan)
    vectors = prepared.vectors.cpu().numpy().astype(np.float64)
    n_covered = len(prepared.structures)
    virial = np.zeros((n_covered, 3, 3))
    for a, b in np.ndindex(3, 3):
        virial[:, a, b] = np.bincount(prepared.edges.structure, vectors[:, a] * pulls[:, b], n_covered)
    virial = (virial + virial.transpose(0, 2, 1)) / (2 * prepared.volumes[:, None, None])
    stress[prepared.structures] = np.stack([virial[:, a, b] for a, b in _VOIGT], axis=1)
    without = prepared.structures[np.isnan(prepared.volumes)]
    return stress, {int(s): "the stress needs three lattice vectors" for s in without}


def _without(predictions: Predictions, counts: IntArray) -> Predictions:
    """Put NaN where the model is not applicable."""
    rows = list(predictions.not_applicable)
    predictions.energy[rows] = np.nan
    if predictions.forces is not None:
        predictions.forces[np.repeat(np.isin(np.arange(len(counts)), rows), counts)] = np.nan
    if predictions.stress is not None:
        predictions.stress[rows] = np.nan
    return predictions
