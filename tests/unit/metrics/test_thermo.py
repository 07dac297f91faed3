"""Drift, fluctuation and temperature, on synthetic series with known answers and against ASE."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.units import kB
from scipy import stats
from scipy.signal import lfilter

from mlipbench.metrics.thermo import (
    BOLTZMANN,
    conservation,
    equipartition,
    kinetic_energies,
    log_log_slope,
    temperature_distribution,
    temperatures,
)

N_ATOMS = 83


def noise(n: int, memory: float, seed: int) -> np.ndarray:
    """Return a series of variance 1 that forgets as exp(-frames / memory)."""
    kept = np.exp(-1 / memory)
    fresh = np.random.default_rng(seed).normal(size=n + 20 * int(memory))
    return lfilter([np.sqrt(1 - kept**2)], [1, -kept], fresh)[-n:]


def maxwell(n_frames: int, masses: np.ndarray, kelvin: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return independent velocities at a temperature for each atom, √(eV/u)."""
    width = np.sqrt(BOLTZMANN * kelvin / masses)
    return np.random.default_rng(seed).normal(size=(n_frames, len(masses), 3)) * width[:, None]


# --- energy


@pytest.mark.parametrize("rate", [1.0, -0.25, 0.0])
def test_a_synthetic_drift_comes_out_as_it_is(rate: float) -> None:
    times = np.arange(2001) * 0.0125 + 7.0
    energies = -357.5 + rate * 1e-3 * N_ATOMS * times
    found = conservation(times, energies, N_ATOMS)
    assert found.drift.value == pytest.approx(rate, abs=1e-9)
    assert (found.drift.low, found.drift.high) == pytest.approx((rate, rate), abs=1e-9)
    assert found.fluctuation == pytest.approx(0.0, abs=1e-9)
    assert found.drift.n_blocks == 10


def test_fluctuation_is_that_about_the_line() -> None:
    times = np.arange(4000) * 0.01
    energies = 5.0 + 2e-3 * N_ATOMS * times + 0.3 * np.cos(2 * np.pi * times / 0.5)  # 80 whole periods
    found = conservation(times, energies, N_ATOMS)
    assert found.fluctuation == pytest.approx(0.3 / np.sqrt(2) / N_ATOMS * 1e3, rel=1e-3)
    assert found.drift.value == pytest.approx(2.0, abs=1e-3)
    assert abs(found.drift.value - 2.0) > 1e-6  # the line sees where vibrations end, blocks of whole ones do not
    assert found.drift.low <= 2.0 <= found.drift.high + 1e-9


def test_drift_has_an_interval_that_knows_of_memory() -> None:
    times = np.arange(3000) * 0.01
    inside, naive = 0, 0
    for seed in range(200):
        energies = 1e-3 * N_ATOMS * times + 0.05 * noise(3000, 15.0, seed)
        found = conservation(times, energies, N_ATOMS).drift
        inside += found.low <= 1.0 <= found.high
        line = stats.linregress(times, energies / N_ATOMS * 1e3)
        naive += abs(line.slope - 1.0) < 1.96 * line.stderr
    assert 180 <= inside <= 199
    assert naive < 120


def test_drift_is_that_of_scipys_line_and_its_interval_that_of_block_means() -> None:
    times, energies = np.arange(500) * 0.1, np.random.default_rng(2).normal(size=500)
    found = conservation(times, energies, 2)
    assert found.drift.value == pytest.approx(stats.linregress(times, energies).slope / 2 * 1e3)
    means = stats.linregress(times.reshape(10, 50).mean(axis=1), energies.reshape(10, 50).mean(axis=1))
    half = stats.t.ppf(0.975, 8) * means.stderr / 2 * 1e3 + abs(means.slope / 2 * 1e3 - found.drift.value)
    assert found.drift.high - found.drift.value == pytest.approx(half)
    assert found.drift.value - found.drift.low == pytest.approx(half)


def test_short_runs_have_a_drift_without_interval() -> None:
    times = np.arange(50) * 0.1
    found = conservation(times, 1e-3 * times, 1)
    assert found.drift.value == pytest.approx(1.0)
    assert (found.drift.low, found.drift.n_blocks) == (None, 0)
    assert found.drift.reason == "50 frames, 10 blocks of 10 need 100"
    for wrong in ((times, times[:-1], 1), (times[:2], times[:2], 1), (times, times, 0)):
        with pytest.raises(ValueError, match="no line through"):
            conservation(*wrong)


# --- time steps


def test_powers_of_the_time_step() -> None:
    steps = np.array([0.25, 0.5, 1.0, 2.0])
    exact = log_log_slope(steps, 3.0 * steps**2)
    assert (exact.value, exact.low, exact.high) == pytest.approx((2.0, 2.0, 2.0))
    shaken = 3.0 * steps**2 * [1.1, 0.9, 1.05, 1.0]
    line = stats.linregress(np.log(steps), np.log(shaken))
    found = log_log_slope(steps, shaken)
    assert found.value == pytest.approx(line.slope)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 2) * line.stderr)
    two = log_log_slope(steps[:2], steps[:2])
    assert (two.value, two.low, two.reason) == (pytest.approx(1.0), None, "2 runs, an interval needs 3")


@pytest.mark.parametrize(("power", "forces"), [(2.0, lambda x: -x), (1.0, lambda x: -x - 0.05 * np.sign(x))])
def test_verlet_conserves_an_oscillators_energy_to_second_order(power: float, forces) -> None:
    """With the energy of the oscillator alone, forces that are not its gradient spoil the second order."""
    steps = np.array([0.02, 0.04, 0.08, 0.16])
    fluctuations = []
    for step in steps:
        x, v, energies = 1.0, 0.0, []
        for _ in range(int(40 / step)):
            v += 0.5 * step * forces(x)
            x += step * v
            v += 0.5 * step * forces(x)
            energies.append(0.5 * (x * x + v * v))
        fluctuations.append(conservation(np.arange(len(energies)) * step, np.array(energies), 1).fluctuation)
    found = log_log_slope(steps, np.array(fluctuations)).value
    if power == 2.0:
        assert found == pytest.approx(2.0, abs=0.02)
    else:
        assert found < 1.0


@pytest.mark.parametrize(
    ("steps", "fluctuations", "message"),
    [
        ([1.0, 2.0], [1.0, 0.0], "no logarithms"),
        ([0.0, 2.0], [1.0, 1.0], "no logarithms"),
        ([1.0, np.nan], [1.0, 1.0], "no logarithms"),
        ([1.0], [1.0, 2.0], "no logarithms"),
        ([2.0, 2.0], [1.0, 1.0], "no slope over the time steps"),
    ],
)
def test_what_has_no_power_is_refused(steps: list[float], fluctuations: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_log_slope(np.array(steps), np.array(fluctuations))


# --- temperature


def test_temperatures_are_those_of_ase() -> None:
    atoms = Atoms("Li27P12S44", positions=np.random.default_rng(0).uniform(0, 11, (83, 3)))
    atoms.set_velocities(maxwell(1, atoms.get_masses(), np.full(83, 520.0))[0])
    kinetic = kinetic_energies(atoms.get_velocities(), atoms.get_masses())
    assert kinetic.shape == (83,)
    assert kinetic.sum() == pytest.approx(atoms.get_kinetic_energy())
    assert temperatures(kinetic.sum(), 83) == pytest.approx(atoms.get_temperature(), rel=1e-5)
    assert pytest.approx(kB, rel=1e-5) == BOLTZMANN
    assert temperatures(np.array(1.5 * 8.617333262e-5 * 300), 1) == pytest.approx(300.0)


def test_the_canonical_distribution_has_its_variance() -> None:
    masses = np.full(20, 7.0)
    kinetic = kinetic_energies(maxwell(20000, masses, np.full(20, 520.0)), masses)
    found = temperature_distribution(temperatures(kinetic.sum(axis=1), 20), 20)
    sigma = 520 * np.sqrt(2 / 60)
    assert found.mean.value == pytest.approx(520, abs=4 * sigma / np.sqrt(20000))
    assert found.deviation == pytest.approx(sigma, rel=0.03)
    assert found.variance_ratio.value == pytest.approx(1.0, abs=0.05)
    assert found.variance_ratio.low < found.variance_ratio.value < found.variance_ratio.high


def test_a_rescaled_temperature_does_not_fluctuate() -> None:
    found = temperature_distribution(np.full(200, 300.0), 20)
    assert (found.mean.value, found.deviation, found.variance_ratio.value) == (300.0, 0.0, 0.0)
    by_hand = temperature_distribution(np.array([290.0, 310.0]), 6)
    assert by_hand.deviation == 10.0
    assert by_hand.variance_ratio.value == pytest.approx(100 / (300**2 / 9))
    assert by_hand.variance_ratio.reason == "2 frames, 10 blocks of 10 need 100"
    with pytest.raises(ValueError, match="mean temperature is 0"):
        temperature_distribution(np.zeros(3), 2)


def test_elements_have_their_own_temperatures() -> None:
    numbers = np.array([16, 3, 16, 3, 3, 15])
    masses, kelvin = np.array([32.0, 7, 32, 7, 7, 31]), np.array([500.0, 600, 500, 600, 600, 540])
    kinetic = kinetic_energies(maxwell(40000, masses, kelvin), masses)
    found = equipartition(kinetic, numbers, 500.0)
    assert [(each.number, each.n_atoms) for each in found] == [(3, 3), (15, 1), (16, 2)]
    for each, expected in zip(found, (600, 540, 500), strict=True):
        error = expected * np.sqrt(2 / (3 * each.n_atoms) / 40000)
        assert each.temperature.value == pytest.approx(expected, abs=4 * error)
        assert each.ratio.value == pytest.approx(each.temperature.value / 500)
        assert each.temperature.low < expected < each.temperature.high
        assert each.ratio.n_blocks == 10
    assert found[0].ratio.low > 1.1
    with pytest.raises(ValueError, match="kinetic energies"):
        equipartition(kinetic, numbers[:3], 500.0)
    with pytest.raises(ValueError, match="at 0 K"):
        equipartition(kinetic, numbers, 0)
