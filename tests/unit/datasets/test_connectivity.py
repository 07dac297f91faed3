"""Molecules are told apart by their bonds and by nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.db import connect
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.datasets.connectivity import molecule_names
from mlipbench.structures import StructureBatch


def names(*molecules: Atoms) -> list[str]:
    return molecule_names(StructureBatch.from_atoms(list(molecules))).tolist()


def test_isomers_have_different_names_and_one_formula():
    found = names(molecule("CH3CH2OH"), molecule("CH3OCH3"), molecule("H2O"))
    assert [name.split("-")[0] for name in found] == ["C2H6O", "C2H6O", "H2O"]
    assert len(set(found)) == 3


def test_chains_that_differ_far_away_only_are_told_apart():
    def chain(elements: str) -> Atoms:
        return Atoms(elements, [[1.4 * i, 0, 0] for i in range(len(elements))])

    assert len(set(names(chain("CCNCCC"), chain("CNCCCC"), chain("CCCNCC")))) == 2  # the last is the first, turned


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["CH3CH2OH", "CH3OCH3", "C6H6", "CH3COOH", "isobutane", "trans-butane"]))
def test_order_place_and_heat_do_not_matter(seed, name):
    rng = np.random.default_rng(seed)
    first = molecule(name)
    other = first[rng.permutation(len(first))]
    other.rotate(rng.uniform(0, 360), rng.normal(size=3))
    other.positions += rng.normal(size=3) * 20 + rng.normal(0, 0.05, other.positions.shape)
    assert len(set(names(first, other))) == 1


def test_structures_of_different_sizes_keep_their_places():
    given_ = [molecule("H2O"), molecule("CH4"), Atoms(), molecule("H2O"), Atoms("He")]
    found = names(*given_)
    assert found[0] == found[3]
    assert [name.split("-")[0] for name in found] == ["H2O", "CH4", "", "H2O", "He"]


def test_the_isomers_of_iso17_are_told_apart_and_stay_themselves_when_heated():
    root = os.environ.get("MLIPBENCH_TEST_DATA")
    if not root:
        pytest.skip("MLIPBENCH_TEST_DATA does not name the folder of data samples")
    with connect(Path(root) / "iso17/test_iso.db") as rows:
        isomers = [row.toatoms() for row in rows.select()]
    found = names(*isomers)
    assert len(isomers) == 40
    assert len(set(found)) == 40
    rng = np.random.default_rng(0)
    for _ in range(20):  # lengths of bonds vary by sqrt(kT / k) = 0.04 Å at 500 K, k being about 28 eV/Å²
        hot = [isomer.copy() for isomer in isomers]
        for isomer in hot:
            isomer.positions += rng.normal(0, 0.04 / np.sqrt(2), isomer.positions.shape)
        assert names(*hot) == found
