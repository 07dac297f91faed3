"""Structures that checks are made on, built from the elements that a model covers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.models.interface import Need
from mlipbench.structures import StructureBatch
from mlipbench.structures.batch import concatenate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

    from mlipbench.models.interface import Capabilities
    from mlipbench.typing import FloatArray

SEED: Final = 20
THERMAL: Final = 0.06
"""Å, width of the normal distribution that every coordinate of a molecule or crystal is displaced by."""
SHEAR: Final = 0.04
"""Width of the normal distribution of the strains that make cells triclinic."""
_MOLECULES: Final = ("CH3CH2OH", "H3CNH2", "CH3OH", "CH3SH", "N2H4", "H2O2", "CH4", "NH3", "PH3", "SiH4", "H2O", "LiF")
_METALS: Final = ("Cu", "Al", "Pt", "Ag", "Au", "Ni", "Pd", "Fe", "Mg", "Ti", "Li", "Na", "Si", "Ge", "C")
_PARTNERS: Final = ("O", "S", "Cl", "N", "F", "P", "H", "C")
_SYMMETRIES: Final = frozenset({"fcc", "bcc", "hcp", "diamond"})
_BOND: Final = 1.05
"""Distance of neighbours in structures of no known lattice, in sums of covalent radii; more in lattices."""
_LATTICE_BOND: Final = 1.05
_CLUSTER: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Structures by kind, each a batch of one.

    Attributes:
        molecules: Without periodicity, of different sizes.
        crystals: Periodic in all directions, triclinic, right-handed, no atom on a site of the lattice.
        slabs: Periodic along the first two lattice vectors, the third shorter than a model's reach beyond the slab.
        primitive: One atom in the primitive cell of a lattice.
        atoms: Single atoms of different elements.
    """

    molecules: tuple[StructureBatch, ...] = ()
    crystals: tuple[StructureBatch, ...] = ()
    slabs: tuple[StructureBatch, ...] = ()
    primitive: tuple[StructureBatch, ...] = ()
    atoms: tuple[StructureBatch, ...] = ()

    def pack(self) -> tuple[StructureBatch, dict[str, int]]:
        """Return all structures as one batch, and how many there are of each kind, in order.

        Raises:
            ValueError: There is none.
        """
        kinds = {field.name: getattr(self, field.name) for field in fields(self)}
        return concatenate([one for kind in kinds.values() for one in kind]), {k: len(v) for k, v in kinds.items()}

    @classmethod
    def unpack(cls, batch: StructureBatch, counts: Mapping[str, int]) -> Self:
        """Return what `pack` packed.

        Raises:
            TypeError: A kind is unknown.
        """
        kinds, start = {}, 0
        for name, count in counts.items():
            kinds[name] = tuple(batch.slice(i, i + 1) for i in range(start, start + count))
            start += count
        return cls(**kinds)


def build_samples(elements: frozenset[int], capabilities: Capabilities) -> Samples:
    """Build the structures that a model takes, the same ones for equal arguments.

    Args:
        elements: Atomic numbers that the model covers, at least one.
        capabilities: What the card declares: kinds that the model does not take stay empty, and inputs that it needs
            are there (no charge, the lowest spin, tags as if the last atom were an adsorbate, a cell around molecules).
    """
    rng = np.random.default_rng(SEED)
    metal, partner = _pair(elements)
    molecules: tuple[StructureBatch, ...] = ()
    crystals, slabs, primitive, atoms = molecules, molecules, molecules, molecules
    if capabilities.molecules:
        molecules = _batches([*_molecules(elements, (metal, partner), rng)], capabilities)
        if capabilities.single_atoms:
            atoms = _batches([_single(z) for z in _shown(elements, metal, partner)], capabilities)
    if capabilities.pbc:
        crystals = _batches([_compound(metal, partner, rng), _elemental(metal, rng)], capabilities)
        primitive = _batches([_primitive(metal)], capabilities)
        if capabilities.molecules:
            slabs = _batches([_slab(metal, partner, rng)], capabilities)
    return Samples(molecules, crystals, slabs, primitive, atoms)


def neighbour_distance(number: int) -> float:
    """Return the distance of nearest neighbours in the element's crystal, else from its covalent radius, Å."""
    from ase.build import bulk
    from ase.data import covalent_radii

    from mlipbench.structures.neighbors import neighbor_list

    if not _has_lattice(number):
        return 2 * _LATTICE_BOND * float(covalent_radii[number])
    batch = StructureBatch.from_atoms([bulk(SYMBOLS[number])])
    found = neighbor_list(batch, 6.0)
    return float(np.linalg.norm(found.vectors(batch), axis=1).min())


def _pair(elements: frozenset[int]) -> tuple[int, int]:
    """Return an element for lattices and another one, the same where there is but one."""
    names = [SYMBOLS[z] for z in sorted(elements)]
    lattices = [name for name in names if _has_lattice(SYMBOLS.index(name))]
    metal = next((name for name in (*_METALS, *lattices, *names) if name in names), names[0])
    others = [name for name in names if name != metal]
    partner = next((name for name in (*_PARTNERS, *_METALS, *others) if name in others), metal)
    return SYMBOLS.index(metal), SYMBOLS.index(partner)


def _has_lattice(number: int) -> bool:
    from ase.data import reference_states

    state = reference_states[number]
    return state is not None and state.get("symmetry") in _SYMMETRIES and "basis" not in state


def _shown(elements: frozenset[int], metal: int, partner: int) -> list[int]:
    return list(dict.fromkeys([metal, partner, min(elements), max(elements)]))


def _single(number: int) -> Atoms:
    from ase import Atoms

    return Atoms([number], positions=[[0.3, -0.2, 0.1]])


def _molecules(elements: frozenset[int], pair: tuple[int, int], rng: np.random.Generator) -> list[Atoms]:
    """Return a molecule that is known where the elements allow one, and a cluster of both elements."""
    from ase.build import molecule

    found = []
    for name in _MOLECULES:
        atoms = molecule(name)
        if set(atoms.numbers.tolist()) <= elements:
            atoms.positions += rng.normal(0, THERMAL, atoms.positions.shape)
            found.append(atoms)
            break
    return [*found, _cluster(pair, _CLUSTER + 1, rng)] if found else [_cluster(pair, n, rng) for n in (6, 5)]


def _cluster(pair: tuple[int, int], size: int, rng: np.random.Generator) -> Atoms:
    """Return atoms of two elements in turn, each about a bond away from another one and from no two less than that."""
    from ase import Atoms
    from ase.data import covalent_radii

    numbers = [pair[i % 2] for i in range(size)]
    radii = covalent_radii[numbers]
    positions = np.zeros((1, 3))
    while len(positions) < size:
        bonds = _BOND * (radii[: len(positions)] + radii[len(positions)])
        base = rng.integers(len(positions))
        step = rng.normal(size=3)
        tried = positions[base] + step * (bonds[base] * rng.uniform(1.0, 1.1) / np.linalg.norm(step))
        if np.all(np.linalg.norm(positions - tried, axis=1) >= bonds):
            positions = np.concatenate([positions, tried[None]])
    return Atoms(numbers, positions=positions)


def _compound(metal: int, partner: int, rng: np.random.Generator) -> Atoms:
    """Return two formula units of rock salt, strained and displaced; of an element alone where there is one."""
    from ase.build import bulk
    from ase.data import covalent_radii

    if metal == partner:
        distance = neighbour_distance(metal)
        return _disturbed(bulk(SYMBOLS[metal], "fcc", a=np.sqrt(2) * distance) * (3, 1, 1), rng)
    distance = 2 * _LATTICE_BOND * (covalent_radii[metal] + covalent_radii[partner])
    return _disturbed(bulk(SYMBOLS[metal] + SYMBOLS[partner], "rocksalt", a=distance) * (2, 1, 1), rng)


def _elemental(metal: int, rng: np.random.Generator) -> Atoms:
    from ase.build import bulk

    distance = neighbour_distance(metal)
    return _disturbed(bulk(SYMBOLS[metal], "fcc", a=np.sqrt(2) * distance) * (2, 1, 1), rng)


def _primitive(metal: int) -> Atoms:
    from ase.build import bulk

    return bulk(SYMBOLS[metal], "fcc", a=float(np.sqrt(2) * neighbour_distance(metal)))


def _disturbed(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Return a crystal with a general cell and no atom on a site, right-handed."""
    cell = atoms.cell.array @ (np.eye(3) + rng.normal(0, SHEAR, (3, 3)))
    atoms.set_cell(cell, scale_atoms=True)
    if np.linalg.det(cell) < 0:
        atoms.set_cell(cell[[1, 0, 2]])
    atoms.positions += rng.normal(0, THERMAL, atoms.positions.shape)
    atoms.wrap()
    return atoms


def _slab(metal: int, partner: int, rng: np.random.Generator) -> Atoms:
    """Return two layers with an adsorbed atom; its third lattice vector ends 1.5 Å above the highest atom."""
    from ase import Atoms
    from ase.data import covalent_radii

    distance = neighbour_distance(metal)
    cell = distance * np.array([[2, 0, 0], [0.5, np.sqrt(0.75), 0], [0, 0, 1]])
    layer = distance * np.array([[0, 0, 0], [1, 0, 0]])
    shift = distance * np.array([0.5, np.sqrt(1 / 12), np.sqrt(2 / 3)])
    height = 1.1 * float(covalent_radii[metal] + covalent_radii[partner])
    positions = np.concatenate([layer, layer + shift, layer[:1] + shift + [[0.3, 0.2, height]]])
    atoms = Atoms([metal] * 4 + [partner], positions=positions)
    atoms.positions += rng.normal(0, THERMAL, atoms.positions.shape)
    cell[2] = [0.3, 0.2, np.ptp(atoms.positions[:, 2]) + 1.5]
    atoms.set_cell(cell)
    atoms.set_pbc([True, True, False])
    return atoms


def _batches(frames: list[Atoms], capabilities: Capabilities) -> tuple[StructureBatch, ...]:
    return tuple(_with_needs(StructureBatch.from_atoms([atoms]), capabilities.needs) for atoms in frames)


def _with_needs(batch: StructureBatch, needs: frozenset[Need]) -> StructureBatch:
    changes: dict[str, Any] = {}
    if Need.CHARGE in needs:
        changes["charge"] = np.zeros(1)
    if Need.SPIN in needs:
        changes["spin"] = 1.0 + batch.numbers.sum(keepdims=True) % 2
    if Need.TAGS in needs:
        changes["tags"] = np.where(np.arange(batch.n_atoms) == batch.n_atoms - 1, 2, 1)
    if Need.CELL in needs and not batch.pbc.any():
        changes["cell"] = boxed(batch)
    return replace(batch, **changes) if changes else batch


def boxed(batch: StructureBatch, margin: float = 12.0) -> FloatArray:
    """Return a cube around the only structure of a batch, shape (1, 3, 3), Å.

    Args:
        batch: The structure.
        margin: Å, by how much it is wider than the structure.
    """
    extent = np.ptp(batch.positions, axis=0).max(initial=0.0)
    cell: FloatArray = (extent + margin) * np.eye(3)[None]
    return cell
