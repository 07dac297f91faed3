"""The structures that checks are made on."""

from dataclasses import replace

import numpy as np
import pytest
from conformance_models import CAPABILITIES

from mlipbench.conformance.samples import Samples, build_samples, neighbour_distance
from mlipbench.elements import SYMBOLS
from mlipbench.models.interface import Need
from mlipbench.structures.neighbors import neighbor_list

EVERY = [frozenset({z}) for z in range(1, 95)]


def every(samples):
    return [*samples.molecules, *samples.crystals, *samples.slabs, *samples.primitive, *samples.atoms]


@pytest.mark.parametrize("elements", [frozenset({8, 29}), frozenset({1, 6, 8}), frozenset({3, 15, 16}), frozenset({2})])
def test_all_kinds_are_there_of_the_elements_given_and_no_atoms_are_on_top_of_each_other(elements):
    samples = build_samples(elements, CAPABILITIES)
    assert [len(kind) for kind in (samples.molecules, samples.crystals, samples.slabs, samples.primitive)] == [
        2,
        2,
        1,
        1,
    ]
    assert {int(z) for one in every(samples) for z in one.numbers} <= elements
    assert len({one.n_atoms for one in samples.molecules}) == 2
    for one in every(samples):
        assert neighbor_list(one, 0.3).n_edges == 0
    for one in samples.crystals:
        assert one.pbc.all()
        assert np.linalg.det(one.cell[0]) > 0
    assert samples.slabs[0].pbc.tolist() == [[True, True, False]]


@pytest.mark.parametrize("elements", EVERY, ids=[SYMBOLS[z] for z in range(1, 95)])
def test_every_element_alone_gives_structures(elements):
    samples = build_samples(elements, CAPABILITIES)
    for one in (*samples.molecules, *samples.crystals, *samples.slabs):
        assert neighbor_list(one, 0.3).n_edges == 0
        assert neighbor_list(one, 6.0).n_edges > 0


def test_equal_arguments_give_equal_structures():
    first, second = (every(build_samples(frozenset({6, 26}), CAPABILITIES)) for _ in range(2))
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(first, second, strict=True))


def test_what_the_card_does_not_take_is_left_out():
    without_cells = build_samples(frozenset({6}), replace(CAPABILITIES, pbc=False))
    assert without_cells.crystals == without_cells.slabs == without_cells.primitive == ()
    without_atoms = build_samples(frozenset({6}), replace(CAPABILITIES, single_atoms=False))
    assert without_atoms.atoms == ()
    assert without_atoms.molecules
    without_molecules = build_samples(frozenset({6}), replace(CAPABILITIES, molecules=False))
    assert without_molecules.molecules == without_molecules.slabs == without_molecules.atoms == ()
    assert without_molecules.crystals


def test_what_the_model_needs_is_there():
    samples = build_samples(frozenset({1, 8}), replace(CAPABILITIES, needs=frozenset(Need)))
    for one in every(samples):
        assert one.charge == [0]
        assert one.spin == 1 + one.numbers.sum() % 2  # as many unpaired electrons as parity asks for
        assert one.tags[-1] == 2
        assert abs(np.linalg.det(one.cell[0])) > 0


def test_packing_and_unpacking():
    samples = build_samples(frozenset({8, 29}), CAPABILITIES)
    again = Samples.unpack(*samples.pack())
    assert [one.n_atoms for one in every(again)] == [one.n_atoms for one in every(samples)]


def test_distances_of_neighbours():
    assert neighbour_distance(29) == pytest.approx(3.61 / np.sqrt(2), abs=0.01)  # fcc copper, a = 3.61 Å
    assert neighbour_distance(14) == pytest.approx(5.43 * np.sqrt(3) / 4, abs=0.01)  # diamond, a = 5.43 Å
