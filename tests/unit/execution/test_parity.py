from __future__ import annotations

import numpy as np
import pytest

from mlipbench.execution.outcome import BatchOutcome
from mlipbench.execution.parity import Answers, Difference, conservation, difference
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.structures import StructureBatch
from mlipbench.testing.toys import DirectForcesAdapter, SpringAdapter

BOTH = frozenset({Property.ENERGY, Property.FORCES})


class InProcess:
    """Asks an adapter without a worker."""

    def __init__(self, adapter):
        self.adapter = adapter

    def predict_batches(self, batches, request, commit):
        assert request.properties == BOTH
        for name, batch in batches:
            found = self.adapter.predict(batch, request.properties)
            columns = {"energy": found.energy, "forces": found.forces}
            commit(name, BatchOutcome(columns, np.ones(batch.n_structures, dtype=bool)))


def answers(energy, forces, *, counts=(2, 1), ok=(True, True), reason=None):
    return Answers(np.asarray(energy), np.asarray(forces), np.asarray(ok), np.asarray(counts), reason)


def structures() -> StructureBatch:
    rng = np.random.default_rng(3)
    counts = [3, 5, 4, 6, 2]
    n = sum(counts)
    return StructureBatch(
        numbers=np.full(n, 29),
        positions=rng.uniform(0, 5, (n, 3)),
        cell=np.zeros((len(counts), 3, 3)),
        pbc=np.zeros((len(counts), 3), dtype=bool),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
    )


def test_differences_are_per_atom_and_of_whole_vectors():
    reference = answers([-4.0, -1.0], [[0.0, 0, 0], [1, 0, 0], [0, 2, 0]])
    own = answers([-4.5, -1.2], [[0.3, 0, 0.4], [1, 0, 0], [0, 2.1, 0]])
    found = difference(own, reference)
    assert found == Difference(pytest.approx(0.25), pytest.approx(0.5), 2)


def test_what_the_reference_does_not_predict_is_left_out():
    reference = answers([-4.0, np.nan], [[0.0, 0, 0], [1, 0, 0], [np.nan] * 3], ok=(True, False), reason="declined")
    own = answers([-4.0, -1.2], [[0.0, 0, 0], [1, 0, 0.1], [0, 2.1, 0]])
    assert difference(own, reference) == Difference(0.0, pytest.approx(0.1), 1)
    assert difference(reference, own) == "1 structures that it predicts are not predicted: declined"
    nothing = answers([np.nan] * 2, [[np.nan] * 3] * 3, ok=(False, False), reason="died")
    assert difference(own, nothing) == "it predicts nothing: died"


@pytest.mark.parametrize(("precision", "step"), [("float64", 1e-4), ("float32", 1e-2)])
def test_springs_conserve_and_a_swirl_shows_whatever_the_step(precision, step):
    batch = structures()
    springs = conservation(InProcess(SpringAdapter.load(LoadRequest())), batch, precision, 7)
    assert (springs.n_structures, springs.step) == (4, step)
    assert springs.error < 1e-9  # central differences of a square are exact
    swirl = conservation(InProcess(DirectForcesAdapter.load(LoadRequest(kwargs={"swirl": 0.2}))), batch, precision, 7)
    expected = []
    for place in (0, 1, 3, 4):  # evenly spaced among five: 0, 1.33, 2.67 and 4
        one = batch.select([place])
        arms = one.positions - one.positions.mean(axis=0)
        drawn = np.random.Generator(np.random.PCG64([7, place])).standard_normal(arms.shape)
        across = np.stack([-arms[:, 1], arms[:, 0], np.zeros(len(arms))], axis=1)
        expected.append(0.2 * np.sum(across * drawn) / np.sqrt(np.sum(drawn**2)))
    assert swirl.error == pytest.approx(np.sqrt(np.mean(np.square(expected))), rel=1e-6)
