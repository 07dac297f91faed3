"""Correct models for tests of checks."""

from __future__ import annotations

import numpy as np

from mlipbench.adapters.ase import AseAdapter
from mlipbench.adapters.composition import ElementEnergies
from mlipbench.adapters.lj import LennardJonesAdapter, Range
from mlipbench.conformance.samples import build_samples
from mlipbench.conformance.subject import Subject
from mlipbench.models.interface import Capabilities, EnergyReference, ForceKind, LoadRequest, Property
from mlipbench.models.registry import load_card

NUMBERS = np.array([8, 29])
ENERGIES = np.array([-4.0, -3.0])
CAPABILITIES = Capabilities(
    properties=frozenset(Property),
    forces=ForceKind.CONSERVATIVE,
    elements=frozenset({8, 29}),
    energy_reference=EnergyReference.TOTAL,
    cutoff=6.0,
)
CALLS = 400
SAMPLES = build_samples(CAPABILITIES.elements, CAPABILITIES)


def smooth_lj():
    """Return a pair potential of copper and oxygen with wells of 0.3 eV, and energies of the elements."""
    sigma, epsilon = np.array([1.2, 1.7, 2.2]), 0.3
    coefficients = np.stack([4 * epsilon * sigma**12, -4 * epsilon * sigma**6], axis=1)
    elements = ElementEnergies(NUMBERS, ENERGIES, np.eye(2))
    return LennardJonesAdapter(Range(4.8, 6.0), elements, coefficients, np.ones(3, dtype=np.bool_))


def lj_subject(adapter=None, **changes):
    """Return what is checked of the pair potential, or of something around it."""
    given = {"adapter": adapter or smooth_lj(), "capabilities": CAPABILITIES, "samples": SAMPLES, "calls": CALLS}
    return Subject(**given | {"references": dict(zip(NUMBERS.tolist(), ENERGIES.tolist(), strict=True))} | changes)


def emt_subject():
    """Return what is checked of effective medium theory."""
    card = load_card("emt")
    declared = card.declared()
    adapter = AseAdapter.load(LoadRequest(kwargs=card.kwargs))
    return Subject(adapter, declared, build_samples(declared.elements, declared), calls=CALLS)
