"""Systems and geometries of ``mini-slabs``: everything that follows from the system ids alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import fcc100, fcc111, molecule
from ase.constraints import FixAtoms
from ase.data import covalent_radii

LATTICE = {"Cu": 3.69, "Ag": 4.22, "Au": 4.20, "Pd": 3.99}
METALS = ("Cu", "Ag", "Au", "Pd")
# name: (majority element, minority element, order); alloy lattice constants are composition averages.
ALLOYS = {
    "Cu3Au": ("Cu", "Au", "L12"),
    "CuPd": ("Cu", "Pd", "L10"),
    "Ag3Au": ("Ag", "Au", "L12"),
    "Ag3Pd": ("Ag", "Pd", "L12"),
    "CuAu": ("Cu", "Au", "L10"),
}
ALLOY_SLABS = ("Cu3Au(111)", "Cu3Au(100)", "CuPd(111)", "Ag3Au(100)", "Ag3Pd(111)", "CuAu(100)")
SITES = {"111": ("fcc", "hcp", "bridge", "ontop"), "100": ("hollow", "bridge", "ontop")}
COORDINATION = {"fcc": 3, "hcp": 3, "bridge": 2, "ontop": 1, "hollow": 4}
BOND_SHIFT = {1: -0.15, 2: -0.05, 3: 0.03, 4: 0.10}  # Å added to the sum of covalent radii, by coordination
GASES = ("H2", "H2O", "CO")
GAS_RULE: dict[str, dict[str, float]] = {
    "H": {"H2": 0.5},
    "O": {"H2O": 1.0, "H2": -1.0},
    "CO": {"CO": 1.0},
    "OH": {"H2O": 1.0, "H2": -0.5},
}
SUBSURFACE, SURFACE, ADSORBATE = 0, 1, 2  # tags
ON_LATTICE = 0.05  # half lattice constants
SPLITS = ("train", "val_id", "val_ood_ads", "val_ood_cat", "val_ood_both")


@dataclass(frozen=True)
class Settings:
    """DFT settings of one calculation; lengths in Å, energies in eV."""

    xc: str = "RPBE"
    basis: str = "dzp"
    h: float = 0.205  # upper bound of the grid spacing; grid points come in multiples of four
    kpts: tuple[int, int, int] = (2, 2, 1)
    width: float = 0.1
    density: float = 2e-5
    maxiter: int = 90
    vacuum_below: float = 4.5
    space_above: float = 7.5
    setups: tuple[tuple[str, str], ...] = (("Ag", "11"), ("Pd", "10"))


@dataclass(frozen=True)
class Geometry:
    """How frames are displaced and stepped; lengths in Å, gains in Å²/eV."""

    rattle: float = 0.08
    rattle_internal: float = 0.015
    gain: float = 0.04
    gain_molecule: float = 0.012
    max_step: float = 0.10
    stored_vacuum: float = 15.0
    stored_adsorbate: float = 3.5


@dataclass(frozen=True)
class System:
    """One system: a slab, what sits on it and where (``adsorbate`` and ``site`` empty for references)."""

    sid: int
    split: str
    slab: str
    adsorbate: str
    site: str
    frames: int
    chunk: int = 0  # the file of the split that its frames are packed in
    relaxed: bool = True  # later frames follow a relaxation; else each is placed and rattled afresh

    @property
    def config(self) -> str:
        """Readable name, such as ``Cu(111) O fcc``."""
        return " ".join(part for part in (self.slab, self.adsorbate, self.site) if part)


@dataclass(frozen=True)
class Task:
    """Systems of one composition and cell, labelled one after the other with one calculator."""

    name: str
    systems: tuple[System, ...]


def pure_systems() -> list[tuple[str, str, str, str, int]]:
    """Rows (split, slab, adsorbate, site, frames) of ``train`` and ``val_id``."""
    rows = []
    for i, metal in enumerate(METALS):
        for j, facet in enumerate(("111", "100")):
            for k, adsorbate in enumerate(("H", "O", "CO")):
                sites = SITES[facet]
                number = i + j + k
                slab = f"{metal}({facet})"
                frames = 2 if metal == "Pd" or (metal == "Cu" and number % 3 == 0) else 3  # these two cost most
                rows.append(("train", slab, adsorbate, sites[number % len(sites)], frames))
                if number % 2 == 0:
                    rows.append(("val_id", slab, adsorbate, sites[(number + 1) % len(sites)], 2))
    return rows


def ood_systems() -> list[tuple[str, str, str, str, int]]:
    """Rows (split, slab, adsorbate, site, frames) of the three out-of-domain splits."""
    rows = []
    for i, metal in enumerate(METALS):
        for j, facet in enumerate(("111", "100")):
            sites = SITES[facet]
            rows.append(("val_ood_ads", f"{metal}({facet})", "OH", sites[i % len(sites)], 2))
            if (i + j) % 2 == 0:
                rows.append(("val_ood_ads", f"{metal}({facet})", "OH", sites[(i + 2) % len(sites)], 2))
    for i, slab in enumerate(ALLOY_SLABS):
        sites = SITES[slab[-4:-1]]
        for k in range(2):
            adsorbate = ("H", "O", "CO")[(2 * i + k) % 3]
            rows.append(("val_ood_cat", slab, adsorbate, sites[(i + k) % len(sites)], 2))
            rows.append(("val_ood_both", slab, "OH", sites[(i + 2 * k) % len(sites)], 2))
    return rows


def further_training(rows: list[tuple[str, str, str, str, int]]) -> list[tuple[str, str, str]]:
    """Every (slab, adsorbate, site) on pure metals that no row of :func:`pure_systems` has."""
    taken = {row[1:4] for row in rows}
    return [
        (f"{metal}({facet})", adsorbate, site)
        for adsorbate in ("H", "O", "CO")
        for facet in ("111", "100")
        for site in SITES[facet]
        for metal in METALS
        if (f"{metal}({facet})", adsorbate, site) not in taken
    ]


def catalogue() -> list[System]:
    """All systems; ids are given in a fixed order: splits, then clean slabs, gases and further training systems."""
    rows = sorted(pure_systems() + ood_systems(), key=lambda row: SPLITS.index(row[0]))
    slabs = [f"{m}({f})" for m in METALS for f in ("111", "100")] + list(ALLOY_SLABS)
    rows += [("references", slab, "", "", 1) for slab in slabs]
    rows += [("references", gas, "", "", 1) for gas in GASES]
    first = [
        System(sid, *row, chunk=int(row[1] in ALLOY_SLABS and not row[2])) for sid, row in enumerate(rows, start=1)
    ]
    further = enumerate(further_training(rows), start=len(first) + 1)
    return first + [
        System(sid, "train", slab, adsorbate, site, frames=1 if slab.startswith("Pd") else 2, chunk=1, relaxed=False)
        for sid, (slab, adsorbate, site) in further  # palladium costs most
    ]


def tasks() -> list[Task]:
    """Tasks in running order: references, then round-robin over out-of-domain and in-domain groups."""
    groups: dict[tuple[str, str, bool], list[System]] = {}
    for system in catalogue():
        groups.setdefault((system.slab, system.adsorbate, system.relaxed), []).append(system)
    queues: dict[str, list[Task]] = {}
    for (slab, adsorbate, relaxed), members in groups.items():
        kind = "train" if members[0].split == "val_id" else members[0].split
        name = f"{slab}_{adsorbate}".replace("(", "_").replace(")", "").strip("_") + ("" if relaxed else "_further")
        queues.setdefault(kind, []).append(Task(name, tuple(members)))
    costs = ("Ag", "Au", "Cu", "Pd")
    queues["train"].sort(key=lambda task: (len(task.systems) == 1, costs.index(task.name[:2])))
    ordered = queues.pop("references")  # everything else is measured against them
    while any(queues.values()):
        ordered += [queue.pop(0) for queue in queues.values() if queue]
    return ordered


def lattice_constant(name: str) -> float:
    """Lattice constant in Å; for an alloy the average over its composition."""
    if name in LATTICE:
        return LATTICE[name]
    major, minor, order = ALLOYS[name]
    weight = 0.25 if order == "L12" else 0.5
    return (1 - weight) * LATTICE[major] + weight * LATTICE[minor]


def order_sites(slab: Atoms, facet: str, name: str) -> None:
    """Give the atoms of an fcc slab the species of the ordered alloy ``name`` (L1_2 or L1_0), in place."""
    major, minor, order = ALLOYS[name]
    up = (1, 1, 1) if facet == "111" else (0, 0, 1)
    axes = np.array([(1, -1, 0), np.cross(up, (1, -1, 0)), up], dtype=float)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    relative = slab.positions - slab.positions[0]
    for sign in (1, -1):  # the two stackings of a (111) slab differ by a half turn around z
        half = 2 * (relative * (sign, sign, 1)) @ axes / lattice_constant(name)
        if np.abs(half - half.round()).max() < ON_LATTICE:
            break
    else:
        raise ValueError(f"{name}({facet}) is not an fcc lattice")
    index = half.round().astype(int) % 2
    is_minor = (index == 0).all(axis=1) if order == "L12" else index[:, 0] == 1
    slab.symbols = [minor if flag else major for flag in is_minor]


def clean_slab(label: str, settings: Settings) -> Atoms:
    """Bulk-terminated 2x2x3 slab such as ``Cu3Au(111)`` in the DFT cell (non-periodic along z)."""
    name, facet = label[:-1].split("(")
    build = fcc111 if facet == "111" else fcc100
    slab = build(name if name in LATTICE else "Cu", (2, 2, 3), a=lattice_constant(name), vacuum=settings.vacuum_below)
    if name in ALLOYS:
        order_sites(slab, facet, name)
    cell = slab.cell.array.copy()
    cell[2, 2] += settings.space_above - settings.vacuum_below
    slab.set_cell(cell)
    layer = slab.get_tags()
    slab.set_tags(np.where(layer == 1, SURFACE, SUBSURFACE))
    slab.set_constraint(FixAtoms(mask=layer > 1))
    slab.pbc = (True, True, False)
    return slab


def adsorbate_atoms(name: str, rng: np.random.Generator) -> Atoms:
    """Adsorbate with its binding atom at the origin; OH points in a random tilted direction."""
    if name == "CO":
        return Atoms("CO", [(0, 0, 0), (0, 0, 1.17)])
    if name == "OH":
        angle, tilt = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(20, 60))
        axis = np.array([np.sin(tilt) * np.cos(angle), np.sin(tilt) * np.sin(angle), np.cos(tilt)])
        return Atoms("OH", [(0, 0, 0), 0.98 * axis])
    return Atoms(name, [(0, 0, 0)])


def place(slab: Atoms, system: System, rng: np.random.Generator) -> Atoms:
    """Slab with the adsorbate over its site, at the height that gives a bond of about the covalent length."""
    sites = slab.info["adsorbate_info"]["sites"]
    unit = slab.cell.array[:2, :2] / 2
    corner = rng.integers(0, 2, size=2)  # which of the four surface cells
    top = slab.positions[slab.get_tags() == SURFACE]
    site = (np.array(sites[system.site]) + corner) @ unit + top[0, :2]
    shifts = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ slab.cell.array[:2, :2]
    lateral = np.linalg.norm(top[:, None, :2] + shifts[None] - site, axis=2).min(axis=1)
    nearest = np.argsort(lateral)[: COORDINATION[system.site]]
    adsorbate = adsorbate_atoms(system.adsorbate, rng)
    metal = [covalent_radii[slab.numbers[slab.get_tags() == SURFACE][i]] for i in nearest]
    bond = np.mean(metal) + covalent_radii[adsorbate.numbers[0]] + BOND_SHIFT[COORDINATION[system.site]]
    height = np.sqrt(max(bond**2 - lateral[nearest].mean() ** 2, 0.35**2))
    adsorbate.translate((*site, top[:, 2].max() + height))
    adsorbate.set_tags(ADSORBATE)
    return slab + adsorbate


def first_geometry(system: System, settings: Settings, geometry: Geometry, fid: int = 0) -> Atoms:
    """Frame of a system that follows no other: site geometry plus a Gaussian rattle seeded by the ids."""
    if system.slab in GASES:
        gas = molecule(system.slab, vacuum=3.5)
        gas.set_tags(ADSORBATE)
        return gas
    slab = clean_slab(system.slab, settings)
    if not system.adsorbate:
        return slab
    rng = np.random.default_rng([20, system.sid, fid] if fid else [20, system.sid])
    atoms = place(slab, system, rng)
    tags = atoms.get_tags()
    shift = rng.normal(scale=geometry.rattle, size=(len(atoms), 3))
    shift[tags == SUBSURFACE] = 0.0
    internal = rng.normal(scale=geometry.rattle_internal, size=(int((tags == ADSORBATE).sum()), 3))
    shift[tags == ADSORBATE] = shift[tags == ADSORBATE][0] + internal
    atoms.positions += shift
    return atoms


def next_positions(frame: dict[str, Any], geometry: Geometry) -> np.ndarray:
    """Positions ``(n, 3)`` in Å after one damped steepest-descent step from a stored frame."""
    tags, forces = np.array(frame["tags"]), np.array(frame["forces"])
    adsorbed = tags == ADSORBATE
    gains = np.where(adsorbed & (adsorbed.sum() > 1), geometry.gain_molecule, geometry.gain)
    step = gains[:, None] * forces
    step[tags == SUBSURFACE] = 0.0
    length = np.linalg.norm(step, axis=1, keepdims=True)
    step *= np.minimum(1.0, geometry.max_step / np.maximum(length, 1e-12))
    positions: np.ndarray = np.array(frame["positions"]) + step
    return positions


def grid_points(atoms: Atoms, settings: Settings) -> list[int]:
    """Grid points along each axis: the fewest multiples of four that keep the spacing at or below ``settings.h``."""
    return [4 * int(np.ceil(length / settings.h / 4)) for length in atoms.cell.lengths()]
