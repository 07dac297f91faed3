"""Energies and temperatures along the trajectory of a replica."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.metrics.thermo import (
    conservation,
    equipartition,
    kinetic_energies,
    temperature_distribution,
    temperatures,
)
from mlipbench.status import Integrator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.store.trajectories import Trajectory

_FEWEST_FRAMES = 3


def thermal(trajectory: Trajectory, parameters: Mapping[str, Any]) -> dict[str, float]:
    """Return what energies and velocities say: conservation without a thermostat, temperatures with one.

    Args:
        trajectory: The frames of the replica.
        parameters: Of the task.
    """
    n_frames, n_atoms = trajectory.velocities.shape[:2]
    kinetic = kinetic_energies(trajectory.velocities, trajectory.masses)
    if n_frames < _FEWEST_FRAMES or not np.isfinite(kinetic).all():
        return {}
    total = kinetic.sum(axis=1)
    if parameters["integrator"] == Integrator.VELOCITY_VERLET:
        times = np.arange(n_frames) * parameters["timestep"] * parameters["save_interval"] / 1000
        kept = conservation(times, trajectory.energy + total, n_atoms)
        drift = kept.drift.value
        return {"drift": np.nan if drift is None else drift, "fluctuation": kept.fluctuation}
    found = temperature_distribution(temperatures(total, n_atoms), n_atoms)
    mean, ratio = found.mean.value, found.variance_ratio.value
    if mean is None:
        return {}
    kelvins = [element.temperature.value for element in equipartition(kinetic, trajectory.numbers, mean)]
    deviations = [abs(kelvin - mean) / mean for kelvin in kelvins if kelvin is not None]
    spread = np.nan if ratio is None else ratio
    return {"temperature": mean, "temperature_spread": spread, "equipartition": max(deviations, default=np.nan)}
