"""CHGNet: a universal potential with charges told by magnetic moments (Deng et al., Nat. Mach. Intell. 5, 1031, 2023).

Graphs, weights and network are the package's own. What is added is the derivative, taken without what only training
needs, and conversion: energies per atom to totals, and boxes around what is not periodic.

Atoms without a neighbour within 6 Å get the energy of an isolated node and no force, as from CHGNet's own calculator,
whose warning stays out of the way; CHGNet was not trained on such structures.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, Predictions, Property
from mlipbench.structures.neighbors import completed_cell

if TYPE_CHECKING:
    from chgnet.graph.crystalgraph import CrystalGraph
    from chgnet.model.model import CHGNet

    from mlipbench.models.interface import LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray

_NAMES: Final = ("0.3.0", "0.2.0", "r2scan")
_ELEMENTS: Final = 94  # rows of the embedding
_CLEARANCE: Final = 7.0  # Å of vacuum on either side of what is not periodic; graphs end at 6 Å
_FLAT: Final = 1e-8  # Å³, volume below which a cell counts as absent
_VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A batch on the device.

    Attributes:
        batch: The structures.
        graphs: Graphs of the structures that go through the model.
        covered: Index in the batch of each graph.
        stress_factors: What each graph's stress is multiplied by: CHGNet divides by the signed volume of the cell it is
            given, which can be left-handed or a larger box; NaN for structures without three lattice vectors.
        reasons: Why the other structures do not go through the model.
    """

    batch: StructureBatch
    graphs: list[CrystalGraph]
    covered: list[int]
    stress_factors: list[float]
    reasons: dict[int, str]


class _Output(NamedTuple):
    """What the network says of one structure.

    Attributes:
        energy: eV.
        by_position: Shape (n_atoms, 3), eV/Å, derivative of the energy; None where not asked for.
        by_strain: Shape (3, 3), eV/Å³, derivative of the energy over the volume; None where not asked for.
    """

    energy: float
    by_position: Any
    by_strain: Any


@dataclass(frozen=True, slots=True)
class ChgnetAdapter(Adapter):
    """CHGNet as its package ships it; the checkpoint is ``0.3.0``, ``0.2.0``, ``r2scan`` or the path of a file.

    The stress of a left-handed cell is given the sign of the right-handed one, which CHGNet inverts.

    Attributes:
        model: The network.
        device: Where it runs.
    """

    model: CHGNet
    device: str

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
        with contextlib.redirect_stdout(io.StringIO()):  # CHGNet greets on stdout
            if checkpoint in _NAMES:
                model = CHGNet.load(model_name=checkpoint, use_device=request.device, verbose=False)
            elif Path(checkpoint).is_file():
                model = CHGNet.from_file(checkpoint).to(request.device)
            else:
                raise ConfigError(
                    f"unknown CHGNet checkpoint {checkpoint!r}", remedy=f"known: {', '.join(_NAMES)}, or a file"
                )
        model.graph_converter.set_isolated_atom_response("ignore")
        return cls(model.eval(), request.device)

    def module(self) -> CHGNet:
        """Return the network."""
        return self.model

    def prepare(self, batch: StructureBatch, neighbors: object | None = None) -> _Prepared:
        """Build the graphs with the package's own converter and move them to the device."""
        from pymatgen.core import Lattice, Structure

        del neighbors
        prepared = _Prepared(batch, [], [], [], {})
        for s in range(batch.n_structures):
            atoms = slice(batch.offsets[s], batch.offsets[s + 1])
            reason = _why_not(batch.numbers[atoms])
            if reason:
                prepared.reasons[s] = reason
                continue
            positions = batch.positions[atoms]
            if not batch.pbc[s].any():  # near the origin single precision resolves more
                positions = positions - positions.mean(axis=0)
            cell = boxed_cell(batch.cell[s], batch.pbc[s], positions)
            symbols = [SYMBOLS[z] for z in batch.numbers[atoms]]
            structure = Structure(Lattice(cell), symbols, positions, coords_are_cartesian=True)
            prepared.graphs.append(self.model.graph_converter(structure).to(self.device))
            prepared.covered.append(s)
            volume = abs(np.linalg.det(batch.cell[s]))
            prepared.stress_factors.append(np.linalg.det(cell) / volume if volume > _FLAT else np.nan)
        return prepared

    def forward(self, prepared: _Prepared, properties: frozenset[Property]) -> Predictions:
        """Run the network on the whole batch, and once backwards where forces or stress are asked for."""
        batch = prepared.batch
        reasons = dict(prepared.reasons)
        energy = np.full(batch.n_structures, np.nan)
        forces = np.full((batch.n_atoms, 3), np.nan) if Property.FORCES in properties else None
        stress = np.full((batch.n_structures, 6), np.nan) if Property.STRESS in properties else None
        outputs = self._outputs(prepared.graphs, properties) if prepared.graphs else ()
        for s, factor, output in zip(prepared.covered, prepared.stress_factors, outputs, strict=True):
            if stress is not None and np.isnan(factor):
                reasons[s] = "the stress needs three lattice vectors"
                continue
            energy[s] = output.energy
            if forces is not None:
                forces[batch.offsets[s] : batch.offsets[s + 1]] = -output.by_position
            if stress is not None:
                stress[s] = _voigt(output.by_strain) * factor
        return Predictions(energy, forces, stress, reasons)

    def _outputs(self, graphs: list[CrystalGraph], properties: frozenset[Property]) -> list[_Output]:
        """Return energies and their derivatives.

        CHGNet's forward pass is called for energies alone. It would take forces and stress in two passes backwards that
        keep what a training step needs for a second derivative; here one pass does that keeps nothing.
        """
        import torch
        from chgnet.model.model import BatchedGraph

        wanted = bool(properties & {Property.FORCES, Property.STRESS})
        with torch.set_grad_enabled(wanted):
            batched = BatchedGraph.from_graphs(
                graphs,
                bond_basis_expansion=self.model.bond_basis_expansion,
                angle_basis_expansion=self.model.angle_basis_expansion,
                compute_stress=Property.STRESS in properties,
            )
            per_structure = self.model._compute(batched)["e"]  # noqa: SLF001  # forward() offers no way without
            counts = torch.bincount(batched.atom_owners) if self.model.is_intensive else torch.ones(())
            total = per_structure * counts
            inputs = list(batched.atom_positions) if wanted else []
            inputs += batched.strains if Property.STRESS in properties else []
            gradients = torch.autograd.grad(total.sum(), inputs) if inputs else ()
            composition = 0 if self.model.composition_model is None else self.model.composition_model(graphs)
        atoms = counts.cpu().numpy()
        per_structure = (per_structure + composition).detach().cpu().numpy().astype(np.float64)
        energies = per_structure * atoms
        arrays = [gradient.cpu().numpy().astype(np.float64) for gradient in gradients]
        by_strain = arrays[len(graphs) :] if Property.STRESS in properties else [None] * len(graphs)
        by_position = arrays[: len(graphs)] if wanted else [None] * len(graphs)
        volumes = (
            [float(volume) for volume in batched.volumes] if Property.STRESS in properties else [1.0] * len(graphs)
        )
        return [
            _Output(energy, position, None if strain is None else strain / volume)
            for energy, position, strain, volume in zip(energies, by_position, by_strain, volumes, strict=True)
        ]


def boxed_cell(cell: FloatArray, pbc: BoolArray, positions: FloatArray) -> FloatArray:
    """Return a cell in which periodic images along directions without periodicity are out of reach.

    CHGNet knows no other boundary than the periodic one. A vector along such a direction is kept where it leaves enough
    vacuum already, and made long enough where it does not.

    Args:
        cell: Shape (3, 3), Å, rows are lattice vectors.
        pbc: Shape (3,).
        positions: Shape (n_atoms, 3), Å.

    Raises:
        ValueError: The lattice vectors of the periodic directions are zero or linearly dependent.
    """
    if pbc.all():
        return cell
    boxed = completed_cell(cell, pbc).copy()
    scaled = positions @ np.linalg.inv(boxed)
    heights = 1 / np.linalg.norm(np.linalg.inv(boxed), axis=0)
    for k in np.flatnonzero(~pbc):
        needed = np.ptp(scaled[:, k]) * heights[k] + 2 * _CLEARANCE
        boxed[k] *= max(1.0, needed / heights[k])
    return boxed


def _why_not(numbers: Any) -> str | None:
    """Return why a structure cannot be put into the network, or None."""
    if not len(numbers):
        return "the structure holds no atoms"
    if numbers.min() < 1 or numbers.max() > _ELEMENTS:
        return f"CHGNet knows the elements 1 to {_ELEMENTS} only"
    return None


def _voigt(stress: FloatArray) -> FloatArray:
    """Return xx yy zz yz xz xy of a stress."""
    symmetric = (stress + stress.T) / 2
    return np.asarray([symmetric[a, b] for a, b in _VOIGT])
