"""The metrics that are made of what probes of a model's physics find, each with its threshold."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.definition import MetricDefinition, Threshold
from mlipbench.metrics.probes import PhysicsFindings, Probe
from mlipbench.metrics.values import Direction, Kind, Scale, Transform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.typing import FloatArray


def _column(name: str) -> Callable[[PhysicsFindings], FloatArray]:
    return lambda columns: np.asarray(getattr(columns, name), dtype=np.float64)


def _off(name: str, ideal: float) -> Callable[[PhysicsFindings], FloatArray]:
    return lambda columns: np.abs(np.asarray(getattr(columns, name), dtype=np.float64) - ideal)


def _ones(columns: PhysicsFindings) -> FloatArray:
    """Count structures."""
    return np.ones(np.shape(columns.net_force))


_LOWER, _HIGHER = Direction.LOWER, Direction.HIGHER
_MEAN, _RMS = Scale(Kind.POSITIVE), Scale(Kind.POSITIVE, Transform.SQRT)
_BOUNDED, _SHARE = Scale(Kind.BOUNDED), Scale(Kind.FRACTION)
_RIPPLE: Final = 1e-3
"""How far a correlation or a total variation may be from its ideal and still be called ideal."""
_IDEAL = "the ideal of ml-peg and mlip-arena"

_DEFINITIONS: Final[tuple[MetricDefinition[PhysicsFindings], ...]] = (
    MetricDefinition(
        "force_gradient_rmse", "eV/Å", _LOWER, "F + ∇E",
        "root mean square over structures of the components of F + ∂E/∂x, estimated along random directions of all "
        "coordinates by central differences of the energy with Richardson extrapolation",
        _column("gradient_deviation"), _ones, _RMS, about=Probe.GRADIENT, conservative=True,
        threshold=Threshold(2e-2, "nequip's absolute tolerance"),
    ),
    MetricDefinition(
        "jacobian_asymmetry", "1", _LOWER, "Jacobian asymmetry",
        "λ = |J - Jᵀ| / (2 |J|) with J = ∂F/∂x in Frobenius norms, squares summed over structures; estimated along "
        "random orthonormal directions, differences below three times their error left out (arXiv:2412.11569)",
        _column("jacobian_antisymmetric"), _column("jacobian_squared"), _RMS, about=Probe.GRADIENT, conservative=True,
        threshold=Threshold(4e-3, "the least of the direct-force models of arXiv:2412.11569; a gradient has 0"),
    ),
    MetricDefinition(
        "net_force", "eV/Å", _LOWER, "Net force",
        "mean over structures of |Σ F| / atoms, before anything is corrected",
        _column("net_force"), _ones, _MEAN, about=Probe.NET_FORCE,
        threshold=Threshold(1e-3, "nequip's tolerance in single precision; a gradient has 0"),
    ),
    MetricDefinition(
        "net_torque", "eV", _LOWER, "Net torque",
        "mean over structures without periodicity of |Σ (r - centre) x F| / atoms, before anything is corrected",
        _column("net_torque"), _ones, _MEAN, about=Probe.NET_TORQUE,
        threshold=Threshold(1e-3, "nequip's tolerance in single precision; a gradient has 0"),
    ),
    MetricDefinition(
        "rotation_forces_mae", "eV/Å", _LOWER, "Rotation: forces",
        "mean over structures, random rotations with a shift, and components of |F(Rx) - R F(x)|",
        _column("rotation_forces"), _ones, _MEAN, about=Probe.ROTATION, threshold=Threshold(1e-3, "mlip-arena"),
    ),
    MetricDefinition(
        "rotation_cosine", "1", _HIGHER, "Rotation: cosine",
        "mean over structures and random rotations of the cosine of all components of F(Rx) and R F(x)",
        _column("rotation_cosine"), _ones, _BOUNDED, about=Probe.ROTATION, threshold=Threshold(0.999, "mlip-arena"),
    ),
    MetricDefinition(
        "rotation_energy", "eV", _LOWER, "Rotation: energy",
        "mean over structures of the standard deviation of the energy over random rotations with a shift",
        _column("rotation_energy"), _ones, _MEAN, about=Probe.ROTATION,
        threshold=Threshold(1e-3, "nequip's tolerance in single precision"),
    ),
    MetricDefinition(
        "extensivity_energy", "1", _LOWER, "Extensivity",
        "mean over periodic structures, randomly rotated, of |E(2A) - 2 E(A)| / |2 E(A)| of two cells in a row; large "
        "also where E is near zero",
        _column("extensivity_energy"), _ones, _MEAN, about=Probe.EXTENSIVITY,
        threshold=Threshold(1e-4, "fairchem's relative tolerance in single precision"),
    ),
    MetricDefinition(
        "extensivity_forces", "eV/Å", _LOWER, "Extensivity: forces",
        "mean over periodic structures of the largest change of a force component in two cells in a row",
        _column("extensivity_forces"), _ones, _MEAN, about=Probe.EXTENSIVITY,
        threshold=Threshold(5e-4, "fairchem's tolerance in single precision"),
    ),
    MetricDefinition(
        "size_consistency", "eV", _LOWER, "Size consistency",
        "mean over structures with an open direction of |E(A + B) - E(A) - E(B)|, B the first half of the "
        "atoms of a copy 100 Å away along it",
        _column("size_consistency"), _ones, _MEAN, about=Probe.SIZE_CONSISTENCY,
        threshold=Threshold(1e-2, "ml-peg: 0 is good, 10 meV bad"),
    ),
    MetricDefinition(
        "locality", "eV/Å", _LOWER, "Locality",
        "mean over structures with an open direction of the largest change of a force by 20 atoms at least 40 Å away; "
        "ml-peg's, with atoms of the structure's own lightest element in place of neon, which not every model knows",
        _column("locality"), _ones, _MEAN, about=Probe.LOCALITY,
        threshold=Threshold(5e-3, "ml-peg: 0 is good, 5 meV/Å bad"),
    ),
    MetricDefinition(
        "locality_mean", "eV/Å", _LOWER, "Locality: one atom",
        "mean over structures with an open direction, random places 20 to 50 Å away, and atoms of the change of a "
        "force by one atom of the lightest element there; ml-peg's, who take hydrogen",
        _column("locality_mean"), _ones, _MEAN, about=Probe.LOCALITY,
        threshold=Threshold(5e-3, "ml-peg: 0 is good, 5 meV/Å bad"),
    ),
    MetricDefinition(
        "cutoff_energy_jump", "eV", _LOWER, "Energy jump",
        "mean over structures of the largest jump of the energy as one atom moves through cutoffs and caps on "
        "neighbours; found by refining a scan until a smooth function would not change",
        _column("cutoff_energy_jump"), _ones, _MEAN, about=Probe.CONTINUITY,
        threshold=Threshold(1e-3, "mlip-arena's dead zone"),
    ),
    MetricDefinition(
        "cutoff_force_jump", "eV/Å", _LOWER, "Force jump",
        "mean over structures of the largest jump of a force component in the same scan",
        _column("cutoff_force_jump"), _ones, _MEAN, about=Probe.CONTINUITY,
        threshold=Threshold(1e-2, "mlip-arena's dead zone"),
    ),
    MetricDefinition(
        "cutoff_slope_jump", "eV/Å", _LOWER, "Slope jump",
        "mean over structures of the largest difference of the energy's one-sided slopes at these jumps",
        _column("cutoff_slope_jump"), _ones, _MEAN, about=Probe.CONTINUITY, threshold=Threshold(1e-2, "as for forces"),
    ),
    MetricDefinition(
        "diatomic_force_flips", "1", _LOWER, "Dimer: force flips off 1",
        "mean over dimers of |reversals of the force - 1| at 100 distances from 0.18 to 6 Å; forces below 10 meV/Å "
        "have no sign (ml-peg, mlip-arena)",
        _off("diatomic_flips", 1), _ones, _MEAN, about=Probe.DIATOMIC, threshold=Threshold(0.0, _IDEAL),
    ),
    MetricDefinition(
        "diatomic_energy_minima", "1", _LOWER, "Dimer: minima off 1",
        "mean over dimers of |minima of the energy - 1| at these distances; steps below 1 meV have no sign",
        _off("diatomic_minima", 1), _ones, _MEAN, about=Probe.DIATOMIC, threshold=Threshold(0.0, _IDEAL),
    ),
    MetricDefinition(
        "diatomic_inflections", "1", _LOWER, "Dimer: inflections off 1",
        "mean over dimers of |inflections of the energy - 1| at these distances; curvatures below 0.5 eV/Å² have no "
        "sign",
        _off("diatomic_inflections", 1), _ones, _MEAN, about=Probe.DIATOMIC, threshold=Threshold(0.0, _IDEAL),
    ),
    MetricDefinition(
        "diatomic_repulsion", "1", _LOWER, "Dimer: rank corr. inside",
        "mean over dimers of Spearman's correlation of energy and distance nearer than the minimum; -1 is ideal",
        _column("diatomic_repulsion"), _ones, _BOUNDED, about=Probe.DIATOMIC, threshold=Threshold(-1 + _RIPPLE, _IDEAL),
    ),
    MetricDefinition(
        "diatomic_attraction", "1", _HIGHER, "Dimer: rank corr. outside",
        "mean over dimers of Spearman's correlation of energy and distance beyond the minimum; 1 is ideal",
        _column("diatomic_attraction"), _ones, _BOUNDED, about=Probe.DIATOMIC, threshold=Threshold(1 - _RIPPLE, _IDEAL),
    ),
    MetricDefinition(
        "diatomic_tortuosity", "1", _LOWER, "Dimer: tortuosity",
        "mean over dimers of the energy's total variation over its differences of ends and minimum; 1 is ideal",
        _column("diatomic_tortuosity"), _ones, _MEAN, about=Probe.DIATOMIC, threshold=Threshold(1 + _RIPPLE, _IDEAL),
    ),
    MetricDefinition(
        "diatomic_energy_jump", "eV", _LOWER, "Dimer: energy jump",
        "mean over dimers of the sum of the energy's steps at reversals other than the minimum (after mlip-arena)",
        _column("diatomic_jump"), _ones, _MEAN, about=Probe.DIATOMIC,
        threshold=Threshold(1e-3, "mlip-arena's dead zone"),
    ),
    MetricDefinition(
        "diatomic_wall", "1", _HIGHER, "Dimer: wall",
        "mean over dimers of the share of the steps below 0.7 times the sum of covalent radii in which the energy "
        "rises inwards",
        _column("diatomic_wall"), _ones, _SHARE, about=Probe.DIATOMIC,
        threshold=Threshold(1.0, "a wall has no way down"),
    ),
    MetricDefinition(
        "diatomic_conservation", "eV/Å", _LOWER, "Dimer: F + dE/dr",
        "mean over dimers and the distances above 0.9 times the covalent radius of |F + dE/dr|, by differences of "
        "fourth order (after mlip-arena's conservation deviation)",
        _column("diatomic_conservation"), _ones, _MEAN, about=Probe.DIATOMIC, conservative=True,
        threshold=Threshold(2e-2, "nequip's absolute tolerance"),
    ),
    MetricDefinition(
        "dissociation", "eV", _LOWER, "Dissociation",
        "mean over dimers of |E(both atoms, 100 Å apart) - 2 E(one atom)|",
        _column("dissociation"), _ones, _MEAN, about=Probe.DIATOMIC,
        threshold=Threshold(1e-4, "nequip's tolerance for parts far apart"),
    ),
    MetricDefinition(
        "bond_minima", "1", _LOWER, "Bond: minima off 1",
        "mean over molecules of |minima of the energy - 1|, averaged over up to four bonds stretched from 0.6 to 2 "
        "times their length with all that hangs on them (after arXiv:2602.04861)",
        _off("bond_minima", 1), _ones, _MEAN, about=Probe.BONDS, threshold=Threshold(0.0, "a bond has one minimum"),
    ),
    MetricDefinition(
        "bond_flips", "1", _LOWER, "Bond: force flips off 1",
        "mean over molecules of |reversals of the force along the bond - 1| in these scans",
        _off("bond_flips", 1), _ones, _MEAN, about=Probe.BONDS, threshold=Threshold(0.0, "a bond has one minimum"),
    ),
    MetricDefinition(
        "bond_tortuosity", "1", _LOWER, "Bond: tortuosity",
        "mean over molecules of the energy's total variation over its differences of ends and minimum in these scans",
        _column("bond_tortuosity"), _ones, _MEAN, about=Probe.BONDS,
        threshold=Threshold(1 + _RIPPLE, "a bond has one minimum"),
    ),
    MetricDefinition(
        "bond_energy_jump", "eV", _LOWER, "Bond: energy jump",
        "mean over molecules of the sum of the energy's steps at reversals other than the minimum in these scans",
        _column("bond_jump"), _ones, _MEAN, about=Probe.BONDS, threshold=Threshold(1e-3, "mlip-arena's dead zone"),
    ),
    MetricDefinition(
        "volume_flips", "1", _LOWER, "E-V: flips off 1",
        "mean over crystals of |reversals of the energy - 1| at 21 volumes from 0.8 to 1.2 times the crystal's",
        _off("volume_flips", 1), _ones, _MEAN, about=Probe.VOLUMES, threshold=Threshold(0.0, "the ideal of mlip-arena"),
    ),
    MetricDefinition(
        "volume_tortuosity", "1", _LOWER, "E-V: tortuosity",
        "mean over crystals of the energy's total variation over its differences of ends and minimum in this scan",
        _column("volume_tortuosity"), _ones, _MEAN, about=Probe.VOLUMES,
        threshold=Threshold(1 + _RIPPLE, "the ideal of mlip-arena"),
    ),
    MetricDefinition(
        "volume_compression", "1", _LOWER, "E-V: rank corr. below",
        "mean over crystals of Spearman's correlation of energy and volume below the minimum; -1 is ideal",
        _column("volume_compression"), _ones, _BOUNDED, about=Probe.VOLUMES,
        threshold=Threshold(-1 + _RIPPLE, "the ideal of mlip-arena"),
    ),
    MetricDefinition(
        "volume_expansion", "1", _HIGHER, "E-V: rank corr. above",
        "mean over crystals of Spearman's correlation of energy and volume above the minimum; 1 is ideal",
        _column("volume_expansion"), _ones, _BOUNDED, about=Probe.VOLUMES,
        threshold=Threshold(1 - _RIPPLE, "the ideal of mlip-arena"),
    ),
    MetricDefinition(
        "nve_drift", "meV/atom/ps", _LOWER, "NVE drift",
        "mean over structures of the magnitude of the slope of the total energy in time, by least squares, in velocity "
        "Verlet dynamics of all atoms",
        _column("nve_drift"), _ones, _MEAN, about=Probe.DYNAMICS, conservative=True,
        threshold=Threshold(0.5, "LAMBench's tolerance"),
    ),
    MetricDefinition(
        "nve_drift_relative", "1", _LOWER, "NVE drift / std of K",
        "mean over structures of the fitted drift over the run in standard deviations of the kinetic energy",
        _column("nve_drift_relative"), _ones, _MEAN, about=Probe.DYNAMICS, conservative=True,
        threshold=Threshold(1.0, "mlipaudit's and ml-peg's"),
    ),
    MetricDefinition(
        "timestep_exponent", "1", _LOWER, "Time step: power off 2",
        "mean over structures of |p - 2|, where the fluctuation of the total energy about its drift grows with the "
        "time step to the power of p: at one, two and four time steps, in double precision",
        _off("timestep_exponent", 2), _ones, _MEAN, about=Probe.DYNAMICS, conservative=True, precision="float64",
        threshold=Threshold(0.2, "velocity Verlet on a smooth energy has p = 2"),
    ),
    MetricDefinition(
        "atom_finite", "1", _HIGHER, "Lone atom",
        "share of lone atoms with a finite energy and no force above 1 meV/Å",
        _column("atom_finite"), _ones, _SHARE, about=Probe.LONE_ATOM, threshold=Threshold(1.0, "nequip's tests")
    ),
    MetricDefinition(
        "precision_energy", "eV/atom", _LOWER, "Precision: energy",
        "mean over structures of the difference of energies with the same weights in the other of float32 and float64",
        _column("precision_energy"), _ones, _MEAN, about=Probe.PRECISION,
        threshold=Threshold(1e-4, "what `parity` allows"),
    ),
    MetricDefinition(
        "precision_forces", "eV/Å", _LOWER, "Precision: forces",
        "mean over structures of the largest difference of a force component likewise",
        _column("precision_forces"), _ones, _MEAN, about=Probe.PRECISION,
        threshold=Threshold(1e-3, "what `parity` allows"),
    ),
)  # fmt: skip

PHYSICS_METRICS: Final[Mapping[str, MetricDefinition[PhysicsFindings]]] = MappingProxyType(
    {definition.name: definition for definition in _DEFINITIONS}
)
"""The metrics of the physics task by name, in the order of tables."""
