"""What is tried of a model's physics, on which structures, and what is found in each.

As in `mlipbench.metrics.relaxation`, a column is NaN where a structure has nothing of the kind: a molecule has no
supercell, a crystal no torque.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.structures.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.typing import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class PhysicsFindings:
    """What was found in each structure; every array has shape (n_structures,).

    Attributes:
        gradient_deviation: Mean square of (F + ∂E/∂x) along random unit directions of all coordinates, eV²/Å².
        jacobian_antisymmetric: |J - Jᵀ|² / 4 with J = ∂F/∂x, eV²/Å⁴.
        jacobian_squared: |J|², eV²/Å⁴.
        net_force: |Σ F| / n_atoms, eV/Å.
        net_torque: |Σ r x F| / n_atoms, eV.
        rotation_forces: Mean of |F(Rx) - R F(x)| over components and rotations, eV/Å.
        rotation_cosine: Mean over rotations of the cosine of F(Rx) and R F(x).
        rotation_energy: Standard deviation of the energy over rotations, eV.
        extensivity_energy: |E(2A) - 2 E(A)| / |2 E(A)| of a supercell.
        extensivity_forces: Largest change of a force component in the supercell, eV/Å.
        size_consistency: |E(A + B) - E(A) - E(B)| with half of a copy 100 Å away, eV.
        locality: Largest change of a force by 20 atoms that are 40 Å away or more, eV/Å.
        locality_mean: Mean change of a force by one atom 20 to 50 Å away, eV/Å.
        cutoff_energy_jump: Largest jump of the energy as one atom moves, eV.
        cutoff_force_jump: Largest jump of a force component likewise, eV/Å.
        cutoff_slope_jump: Largest jump of the energy's slope at these jumps, eV/Å.
        diatomic_flips: Reversals of the force along a diatomic curve.
        diatomic_minima: Minima of its energy.
        diatomic_inflections: Inflections of its energy.
        diatomic_repulsion: Spearman's correlation of energy and distance nearer than the minimum.
        diatomic_attraction: Likewise beyond the minimum.
        diatomic_tortuosity: Total variation of the energy over the direct way.
        diatomic_jump: Sum of the energy's steps at reversals other than the minimum, eV.
        diatomic_wall: Share of the steps below 0.7 times the bond in which the energy rises inwards.
        diatomic_conservation: Mean of |F + dE/dr| from 0.9 times the covalent radius, eV/Å.
        dissociation: |E(two atoms 100 Å apart) - 2 E(atom)|, eV.
        volume_flips: Reversals of dE/dV over volumes from 0.8 to 1.2 times that of the crystal.
        volume_tortuosity: Total variation of that curve over the direct way.
        volume_compression: Spearman's correlation of energy and volume below the minimum.
        volume_expansion: Likewise above it.
        bond_minima: Mean over bonds of the minima of the energy as the bond is stretched.
        bond_flips: Likewise of the reversals of the force along it.
        bond_tortuosity: Likewise of the total variation over the direct way.
        bond_jump: Likewise of the sum of the steps at reversals other than the minimum, eV.
        nve_drift: Magnitude of the slope of the total energy in dynamics without a thermostat, meV/atom/ps.
        nve_drift_relative: Drift over the run in standard deviations of the kinetic energy.
        timestep_exponent: Power of the time step that the fluctuation of the total energy grows with.
        atom_finite: 1 where a lone atom has a finite energy and no force, else 0.
        precision_energy: Difference of energies in the other precision, eV/atom.
        precision_forces: Largest difference of a force component likewise, eV/Å.
    """

    gradient_deviation: FloatArray
    jacobian_antisymmetric: FloatArray
    jacobian_squared: FloatArray
    net_force: FloatArray
    net_torque: FloatArray
    rotation_forces: FloatArray
    rotation_cosine: FloatArray
    rotation_energy: FloatArray
    extensivity_energy: FloatArray
    extensivity_forces: FloatArray
    size_consistency: FloatArray
    locality: FloatArray
    locality_mean: FloatArray
    cutoff_energy_jump: FloatArray
    cutoff_force_jump: FloatArray
    cutoff_slope_jump: FloatArray
    diatomic_flips: FloatArray
    diatomic_minima: FloatArray
    diatomic_inflections: FloatArray
    diatomic_repulsion: FloatArray
    diatomic_attraction: FloatArray
    diatomic_tortuosity: FloatArray
    diatomic_jump: FloatArray
    diatomic_wall: FloatArray
    diatomic_conservation: FloatArray
    dissociation: FloatArray
    volume_flips: FloatArray
    volume_tortuosity: FloatArray
    volume_compression: FloatArray
    volume_expansion: FloatArray
    bond_minima: FloatArray
    bond_flips: FloatArray
    bond_tortuosity: FloatArray
    bond_jump: FloatArray
    nve_drift: FloatArray
    nve_drift_relative: FloatArray
    timestep_exponent: FloatArray
    atom_finite: FloatArray
    precision_energy: FloatArray
    precision_forces: FloatArray


FINDINGS: Final = tuple(field.name for field in fields(PhysicsFindings))
"""Names of the columns, in order."""


class Probe(StrEnum):
    """One thing that is tried."""

    GRADIENT = "gradient"
    NET_FORCE = "net_force"
    NET_TORQUE = "net_torque"
    ROTATION = "rotation"
    EXTENSIVITY = "extensivity"
    SIZE_CONSISTENCY = "size_consistency"
    LOCALITY = "locality"
    CONTINUITY = "continuity"
    DIATOMIC = "diatomic"
    BONDS = "bonds"
    VOLUMES = "volumes"
    DYNAMICS = "dynamics"
    LONE_ATOM = "lone_atom"
    PRECISION = "precision"


_BONDED = frozenset({Kind.DIMER, Kind.MOLECULE, Kind.SLAB, Kind.CRYSTAL})
_OPEN = _BONDED - {Kind.CRYSTAL}
PROBES: Final[Mapping[Probe, frozenset[Kind]]] = MappingProxyType(
    {
        Probe.GRADIENT: _BONDED,
        Probe.NET_FORCE: _BONDED,
        Probe.NET_TORQUE: _OPEN - {Kind.SLAB},
        Probe.ROTATION: _BONDED,
        Probe.EXTENSIVITY: frozenset({Kind.SLAB, Kind.CRYSTAL}),
        Probe.SIZE_CONSISTENCY: _OPEN,
        Probe.LOCALITY: _OPEN,
        Probe.CONTINUITY: _BONDED,
        Probe.DIATOMIC: frozenset({Kind.DIMER}),
        Probe.BONDS: frozenset({Kind.MOLECULE}),
        Probe.VOLUMES: frozenset({Kind.CRYSTAL}),
        Probe.DYNAMICS: _BONDED,
        Probe.LONE_ATOM: frozenset({Kind.ATOM}),
        Probe.PRECISION: _BONDED,
    }
)
"""The kinds of structures that each probe is made on."""
