import os

import numpy as np
import pytest
from ase import optimize
from ase.build import add_adsorbate, fcc100, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from mlipbench.adapters.ase import AseAdapter
from mlipbench.errors import WorkerError
from mlipbench.execution.requests import task_message
from mlipbench.models.interface import LoadRequest, Predictions, Property
from mlipbench.protocol import MessageKind, ProtocolError, decode, frame_length
from mlipbench.status import Task
from mlipbench.structures import StructureBatch
from mlipbench.suite.tasks import RelaxationTask
from mlipbench.tasks import TaskRequest
from mlipbench.testing import toys
from mlipbench.worker.relaxation import Parameters, relax, relax_batch
from mlipbench.worker.session import Session

DEFAULTS = RelaxationTask().model_dump(exclude={"metrics"})
EMT_CARD = {"calculator": "ase.calculators.emt:EMT"}
ODD = 54


def parameters(**changes):
    return Parameters(**(DEFAULTS | changes))


@pytest.fixture
def session_of(tmp_path):
    """Return a session with a model; its replies go to a file."""
    opened = []

    def make(adapter_class, **kwargs):
        opened.append(os.open(tmp_path / f"replies{len(opened)}", os.O_RDWR | os.O_CREAT))
        request = LoadRequest(kwargs=kwargs)
        return Session(reply_fd=opened[-1], loaded=adapter_class.load(request), request=request)

    yield make
    for fd in opened:
        os.close(fd)


def slab(build, adsorbate, site, seed):
    atoms = build("Cu", (2, 2, 3), vacuum=6.0, periodic=True)
    add_adsorbate(atoms, adsorbate, 1.3, site)
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() > 1))
    atoms.rattle(0.08, seed=seed)
    return atoms


def systems():
    """Two slabs with fixed layers, one that moves as a whole, and a molecule."""
    free = fcc100("Cu", (2, 2, 2), vacuum=8.0, periodic=True)
    add_adsorbate(free, molecule("CO"), 2.0, "bridge")
    ethanol = molecule("CH3CH2OH")
    ethanol.rattle(0.05, seed=2)
    return [slab(fcc100, "O", "hollow", 1), slab(fcc111, "N", "fcc", 3), free, ethanol]


def by_ase(atoms, chosen):
    atoms = atoms.copy()
    atoms.calc = EMT()
    optimizer = optimize.LBFGS(
        atoms, logfile=None, maxstep=chosen.maxstep, memory=chosen.memory, damping=chosen.damping, alpha=chosen.alpha
    )
    converged = optimizer.run(chosen.fmax, chosen.steps)
    return atoms, optimizer.nsteps, converged


def positions(relaxed, i):
    return relaxed.positions[relaxed.offsets[i] : relaxed.offsets[i + 1]]


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 80},  # the molecule does not converge
        {"steps": 40, "maxstep": 0.2, "memory": 3, "fmax": 0.05},
        {"steps": 25, "damping": 0.7, "alpha": 40.0},
    ],
)
def test_structures_side_by_side_take_the_very_path_of_ase(session_of, changes):
    chosen = parameters(**changes)
    relaxed = relax_batch(session_of(AseAdapter, **EMT_CARD), StructureBatch.from_atoms(systems()), chosen)
    assert relaxed.ok.all()
    for i, atoms in enumerate(systems()):
        expected, steps, converged = by_ase(atoms, chosen)
        assert (relaxed.steps[i], relaxed.converged[i]) == (steps, converged)
        np.testing.assert_allclose(positions(relaxed, i), expected.positions, rtol=0, atol=1e-6)
        assert relaxed.energy[i] == pytest.approx(expected.get_potential_energy(), abs=1e-8)
        assert relaxed.fmax[i] == pytest.approx(np.linalg.norm(expected.get_forces(), axis=1).max(), abs=1e-6)
    assert len(set(relaxed.steps.tolist())) > 1  # they leave the batch at different times


def test_a_batch_gives_what_its_structures_give_alone(session_of):
    session, chosen = session_of(AseAdapter, **EMT_CARD), parameters(steps=60)
    batch = StructureBatch.from_atoms(systems())
    together = relax_batch(session, batch, chosen)
    for i, one in enumerate(batch):
        alone = relax_batch(session, one, chosen)
        assert alone.steps[0] == together.steps[i]
        np.testing.assert_allclose(alone.positions, positions(together, i), rtol=0, atol=1e-9)


def test_fixed_atoms_stay_and_do_not_count(session_of):
    atoms = slab(fcc100, "O", "hollow", 1)
    batch = StructureBatch.from_atoms([atoms])
    relaxed = relax_batch(session_of(AseAdapter, **EMT_CARD), batch, parameters(steps=5))
    np.testing.assert_array_equal(relaxed.positions[batch.fixed], atoms.positions[batch.fixed])
    assert np.abs(relaxed.positions - atoms.positions)[~batch.fixed].max() > 0.01
    atoms.set_constraint(FixAtoms(indices=range(len(atoms))))
    still = relax_batch(session_of(AseAdapter, **EMT_CARD), StructureBatch.from_atoms([atoms]), parameters())
    assert (still.steps[0], still.converged[0], still.fmax[0]) == (0, True, 0.0)


def pair(length, symbol_number=1):
    """Two atoms on the x axis that springs pull to their middle."""
    return StructureBatch(
        numbers=np.array([symbol_number, 1]),
        positions=np.array([[0.0, 0.0, 0.0], [length, 0.0, 0.0]]),
        cell=np.zeros((1, 3, 3)),
        pbc=np.zeros((1, 3)),
        offsets=[0, 2],
    )


def test_steps_of_springs_are_those_worked_out_by_hand(session_of):
    # k = 1 eV/Å², alpha = 2 eV/Å²: the first step of each atom is F / alpha = 0.5 / 2 Å, the second has learnt k and
    # ends in the middle
    session = session_of(toys.SpringAdapter)
    chosen = {"maxstep": 10.0, "alpha": 2.0, "fmax": 1e-6}
    first = relax_batch(session, pair(1.0), parameters(steps=1, **chosen))
    np.testing.assert_allclose(first.positions[:, 0], [0.25, 0.75], atol=1e-12)
    assert (first.steps[0], first.converged[0], first.ok[0]) == (1, False, True)
    assert first.fmax[0] == pytest.approx(0.25)
    assert first.energy[0] == pytest.approx(0.5 * 2 * 0.25**2)
    second = relax_batch(session, pair(1.0), parameters(steps=9, **chosen))
    np.testing.assert_allclose(second.positions[:, 0], [0.5, 0.5], atol=1e-12)
    assert (second.steps[0], second.converged[0]) == (2, True)


def test_a_long_step_is_shortened_as_a_whole_and_damped(session_of):
    relaxed = relax_batch(
        session_of(toys.SpringAdapter), pair(1.0), parameters(steps=1, maxstep=0.1, alpha=2.0, damping=0.5)
    )
    np.testing.assert_allclose(relaxed.positions[:, 0], [0.05, 0.95], atol=1e-12)


def test_a_structure_without_forces_is_relaxed_at_once(session_of):
    relaxed = relax_batch(session_of(toys.NullAdapter), pair(1.0), parameters())
    assert (relaxed.steps[0], relaxed.converged[0], relaxed.energy[0]) == (0, True, 0.0)


class Constant(toys.NullAdapter):
    """Pulls every atom along x by 1 eV/Å, wherever it is: there is no curvature to learn."""

    def forward(self, prepared, properties):
        predictions = super().forward(prepared, properties)
        predictions.forces[:, 0] = 1.0
        return predictions


def test_forces_without_curvature_lead_on_by_plain_steps(session_of):
    relaxed = relax_batch(session_of(Constant), pair(1.0), parameters(steps=3, alpha=100.0))
    np.testing.assert_allclose(relaxed.positions[:, 0], [0.03, 1.03], atol=1e-12)
    assert not relaxed.converged[0]


class Breaks(toys.SpringAdapter):
    """Says NaN of a structure once its springs are shorter than 0.5 Å."""

    def forward(self, prepared, properties):
        predictions = super().forward(prepared, properties)
        ends = prepared.positions[prepared.offsets[1:] - 1, 0] - prepared.positions[prepared.offsets[:-1], 0]
        predictions.energy[ends < 0.5] = np.nan
        return predictions


def joined(*parts):
    from mlipbench.structures.batch import concatenate

    return concatenate(parts)


def test_a_structure_that_fails_leaves_the_others_alone(session_of):
    batch = joined(pair(2.0), pair(0.6), pair(0.7))
    chosen = parameters(steps=4, maxstep=0.1, alpha=1.0)
    relaxed = relax_batch(session_of(Breaks), batch, chosen)  # each step shortens a pair by 0.2 Å
    assert relaxed.reasons == {1: "non-finite energy after step 1", 2: "non-finite energy after step 2"}
    np.testing.assert_array_equal(relaxed.ok, [True, False, False])
    assert np.isnan(relaxed.positions[2:]).all()
    np.testing.assert_allclose(relaxed.positions[:2, 0], [0.4, 1.6], atol=1e-12)
    at_once = relax_batch(session_of(toys.NaNAdapter, element=ODD), joined(pair(1.0, ODD), pair(1.0)), chosen)
    assert at_once.reasons == {0: "non-finite forces"}


class Declines(toys.SpringAdapter):
    """Covers no pair whose first atom is the odd element."""

    def forward(self, prepared, properties):
        found = super().forward(prepared, properties)
        declined = {int(i): "no parameters" for i in np.flatnonzero(prepared.numbers[prepared.offsets[:-1]] == ODD)}
        for i in declined:
            found.energy[i] = np.nan
        return Predictions(found.energy, found.forces, None, declined)


def test_a_structure_that_the_model_declines_is_no_failure(session_of):
    relaxed = relax_batch(session_of(Declines), joined(pair(1.0), pair(1.0, ODD)), parameters())
    assert (relaxed.reasons, relaxed.declined) == ({}, {1: "no parameters"})
    np.testing.assert_array_equal(relaxed.ok, [True, False])


def test_wrong_shapes_are_refused(session_of):
    with pytest.raises(WorkerError, match="forces have shape"):
        relax_batch(session_of(toys.WrongShapeAdapter), pair(1.0), parameters())


REQUEST = TaskRequest(frozenset({Property.ENERGY, Property.FORCES}), Task.RELAXATION, DEFAULTS)


def test_the_reply_has_the_columns_of_the_task(session_of):
    session = session_of(toys.SpringAdapter)
    reply = relax(session, task_message(7, joined(pair(1.0), pair(2.0)), REQUEST))
    assert reply.kind == MessageKind.PREDICTED
    assert {name: array.shape for name, array in reply.arrays.items()} == {
        **{output.name: output.shape(2, 4) for output in REQUEST.outputs},
        "ok": (2,),
    }
    assert reply.header["forward_seconds"] > 0


def test_every_call_of_the_model_is_a_sign_of_life(session_of):
    session = session_of(toys.SpringAdapter)
    reply = relax(session, task_message(7, pair(1.0), REQUEST))
    calls = int(reply.arrays["steps"][0]) + 1
    os.lseek(session.reply_fd, 0, os.SEEK_SET)
    sent = os.read(session.reply_fd, 1 << 20)
    kinds = []
    while sent:
        size = frame_length(sent)
        kinds.append(decode(sent[:size]).kind)
        sent = sent[size:]
    assert kinds == [MessageKind.ALIVE] * calls


@pytest.mark.parametrize("wrong", [{}, {**DEFAULTS, "more": 1}])
def test_other_parameters_are_refused(session_of, wrong):
    message = task_message(0, pair(1.0), TaskRequest(REQUEST.properties, Task.RELAXATION, wrong))
    with pytest.raises(ProtocolError, match="does not name its parameters"):
        relax(session_of(toys.SpringAdapter), message)
