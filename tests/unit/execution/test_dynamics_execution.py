"""Simulations whatever the model does: the others' numbers stay, and an end is known to the step."""

import contextlib

import numpy as np
import pytest

from mlipbench.dynamics import RUNNING, Dynamics, End, Guards
from mlipbench.execution.client import loaded_client
from mlipbench.execution.dynamics import COLDEST, HOTTEST, Replicas, Simulation, first_state
from mlipbench.execution.evaluate import Policy, Predictor
from mlipbench.execution.requests import LoadModel
from mlipbench.status import Integrator
from mlipbench.structures import StructureBatch

STEPS, REACH = 60, 4.0
ODD = 54


def dynamics(**changes):
    settings = {
        "integrator": Integrator.VELOCITY_VERLET, "timestep": 1.0, "temperature": 300.0, "thermostat_steps": 20.0,
        "friction": 0.02, "steps": STEPS, "save_interval": 1, "checkpoint_interval": 20, "skin": 0.5,
    }  # fmt: skip
    return Dynamics(**{**settings, **changes})


def replicas_of(odd=(), n=4, **changes):
    """Return dimers, 2.4 Å apart; those in `odd` hold the element that a liar lies about."""
    numbers = np.ones((n, 2), dtype=np.int64)
    numbers[list(odd), 0] = ODD
    positions = np.tile([[0.0, 0.0, 0.0], [2.4, 0.0, 0.0]], (n, 1))
    start = StructureBatch(
        numbers.ravel(), positions, np.zeros((n, 3, 3)), np.zeros((n, 3), bool), np.arange(n + 1) * 2
    )
    guards = Guards(COLDEST, HOTTEST, np.zeros((0, 2), np.int64), np.zeros(0), 0.0)
    return Replicas(start, np.full(2 * n, 20.0), dynamics(**changes), guards, None)


def apart(replicas, places, speed):
    """Return the first state, with the atoms of some replicas flying apart."""
    state = first_state(replicas, tuple(range(replicas.start.n_structures)))
    state.velocities *= 0.05
    for place in places:
        state.velocities[2 * place : 2 * place + 2, 0] = [-speed, speed]
    return state


class Bench:
    """Runs simulations with toys, and remembers their blocks and how many workers there were."""

    def __init__(self, spec):
        self.spec, self.workers = spec, 0

    def run(self, replicas, state, name="SpringAdapter", policy=None, **kwargs):
        def start():
            self.workers += 1
            return loaded_client(self.spec, LoadModel(f"mlipbench.testing.toys:{name}", kwargs=kwargs))

        self.workers, blocks = 0, []
        with contextlib.closing(Predictor(start, policy)) as predictor:
            last = Simulation(predictor, replicas, state, begins=True).run(blocks.append)
        return last, np.concatenate([block.frames.positions for block in blocks])


@pytest.fixture
def bench(spec):
    return Bench(spec)


def last_inside(frames, place, reach=REACH):
    """Return the last step whose atoms are within reach of their centroid, and so are those before it."""
    own = frames[:, 2 * place : 2 * place + 2]
    arms = np.linalg.norm(own - own.mean(axis=1, keepdims=True), axis=2).max(axis=1)
    return int(np.argmax(arms > reach)) - 1


def test_an_honest_model_completes_every_replica(bench):
    replicas = replicas_of()
    last, frames = bench.run(replicas, apart(replicas, [], 0.0), stiffness=1.0)
    assert last.ended.tolist() == [STEPS] * 4
    assert set(last.kinds.tolist()) == {End.COMPLETED}
    assert len(frames) == STEPS + 1
    assert bench.workers == 1


@pytest.mark.parametrize(
    ("how", "kind", "reason", "workers"),
    [
        ("segv", End.CRASH, "worker killed by SIGSEGV", 5),
        ("raise", End.CRASH, "RuntimeError: the network is undefined there", 1),
        ("memory", End.OUT_OF_MEMORY, "MemoryError: cannot allocate the graph", 1),
        ("decline", End.REFUSED, "atoms have no neighbours", 1),
        ("nan", End.PHYSICAL, "non-finite energy", 1),
    ],
)
def test_an_end_is_known_to_the_step_and_costs_the_others_nothing(bench, how, kind, reason, workers):
    """At the second end of a stretch of four replicas two halvings find the one to blame."""
    replicas = replicas_of()
    sound, honest = bench.run(replicas, apart(replicas, [2], 0.7), stiffness=0.05)
    expected = last_inside(honest, 2)
    assert 20 < expected < STEPS - 1  # in a later stretch than the first
    last, frames = bench.run(
        replicas, apart(replicas, [2], 0.7), "EventualAdapter", stiffness=0.05, reach=REACH, how=how
    )
    assert last.ended.tolist() == [STEPS, STEPS, expected, STEPS]
    assert (last.kinds[2], last.reasons[2]) == (kind, reason)
    assert bench.workers <= workers
    others = [0, 1, 2, 3, 6, 7]
    assert frames[:, others].tobytes() == honest[:, others].tobytes()
    np.testing.assert_array_equal(frames[: expected + 1], honest[: expected + 1])
    assert last.positions[others].tobytes() == sound.positions[others].tobytes()


def test_a_hang_is_a_timeout(bench, spec):
    from dataclasses import replace

    bench.spec = replace(spec, request_timeout=2.0)
    replicas = replicas_of(n=1)
    last, _ = bench.run(replicas, apart(replicas, [0], 0.7), "EventualAdapter", stiffness=0.05, reach=REACH, how="hang")
    assert last.kinds.tolist() == [End.TIMEOUT]
    assert last.ended[0] > 20


def test_what_is_physically_impossible_when_the_worker_dies_has_ended_for_that(bench):
    """Two atoms that fly together: at 0.25 Å they are closer than half the covalent distance of hydrogen, 0.31 Å."""
    replicas = replicas_of()
    state = apart(replicas, [1], -0.2)
    last, _ = bench.run(replicas, state, "EventualAdapter", stiffness=0.0, nearest=0.25)
    assert last.kinds.tolist() == [End.COMPLETED, End.PHYSICAL, End.COMPLETED, End.COMPLETED]
    assert "less than half their covalent distance" in last.reasons[1]


def test_several_replicas_can_be_to_blame(bench):
    replicas = replicas_of()
    last, _ = bench.run(
        replicas, apart(replicas, [0, 3], 0.7), "EventualAdapter", stiffness=0.05, reach=REACH, how="raise"
    )
    assert last.kinds.tolist() == [End.CRASH, End.COMPLETED, End.COMPLETED, End.CRASH]


def test_a_kill_from_outside_leaves_no_trace(bench):
    """The toy dies once in all, and not again when the stretch is simulated anew."""
    replicas = replicas_of()
    honest = bench.run(replicas, apart(replicas, [], 0.0))
    last, frames = bench.run(
        replicas, apart(replicas, [], 0.0), "EventualAdapter", reach=0.5, marker=str(bench.spec.log) + ".once"
    )
    assert bench.workers == 2
    assert frames.tobytes() == honest[1].tobytes()
    assert last.velocities.tobytes() == honest[0].velocities.tobytes()


def test_a_model_that_fails_on_the_start_is_given_up(bench):
    replicas = replicas_of()
    last, frames = bench.run(replicas, apart(replicas, [], 0.0), "RaiseAdapter", Policy(max_restarts=3))
    assert last.ended.tolist() == [0] * 4
    assert set(last.kinds.tolist()) == {End.CRASH}
    assert not len(frames)
    assert not (last.ended == RUNNING).any()
