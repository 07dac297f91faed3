"""The DeePMD adapter against deepmd-kit's own calculator."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("deepmd", reason="needs the package deepmd-kit")
pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what the package and torch say of the package's own code
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

import torch  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import bulk, molecule  # noqa: E402
from deepmd_checkpoints import model_config, save_checkpoint  # noqa: E402
from model_frames import ALL, MOST, assert_close, cost_facts, expected, periodic, rattled, slab  # noqa: E402

from mlipbench.adapters.deepmd import DeepmdAdapter  # noqa: E402
from mlipbench.errors import ConfigError, PrerequisiteError  # noqa: E402
from mlipbench.models.interface import LoadRequest, Property  # noqa: E402
from mlipbench.structures import StructureBatch  # noqa: E402
from mlipbench.structures.neighbors import neighbor_list  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("deepmd")


@pytest.fixture(scope="module")
def checkpoint(folder):
    return save_checkpoint(folder / "tiny.pt")


def load(path: Path, dtype: str = "float32") -> DeepmdAdapter:
    return DeepmdAdapter.load(LoadRequest(dtype=dtype, checkpoint=str(path)))


def calculator_of(path: Path):
    from deepmd.calculator import DP

    return DP(model=path)


@pytest.fixture(scope="module")
def adapter(checkpoint):
    return load(checkpoint)


CASES = {
    "float32": ("float32", {}),
    "float64": ("float64", {}),
    "two sides": ("float64", {"type_one_side": False}),
    "full lists": ("float64", {"sel": [2, 2, 2, 2, 9]}),
    "excluded pairs": ("float64", {"exclude_types": [[0, 4]], "rcut_smth": 2.0}),
}


@pytest.fixture(scope="module", params=CASES)
def pair(request, folder):
    """The adapter and the calculator of one checkpoint, and how far they may differ."""
    dtype, descriptor = CASES[request.param]
    path = save_checkpoint(folder / "pair.pt", model_config(dtype, **descriptor))
    return load(path, dtype), calculator_of(path), 1.0 if dtype == "float32" else 1e-6


def told_apart(adapter: DeepmdAdapter, frames: list[Atoms]) -> list[Atoms]:
    """Return the structures of which a model with short lists takes the same neighbours whoever lists them.

    Displaced, so that molecules have no symmetry; and without those in which atoms see images of their own, of which
    there are always two at one distance.
    """
    frames = [rattled(atoms, 5) for atoms in frames]
    if min(adapter.model.get_sel()) > 10:
        return frames
    lists = [neighbor_list(StructureBatch.from_atoms([atoms]), adapter.cutoff) for atoms in frames]
    found = [atoms for atoms, edges in zip(frames, lists, strict=True) if not (edges.i == edges.j).any()]
    assert any(np.bincount(edges.i).max() > 9 for edges in lists if edges.n_edges)  # the lists are too short
    return found


def molecules() -> list[Atoms]:
    moved = molecule("CH3CH2OH")
    moved.positions += [40.0, -3.0, 8.0]
    return [molecule("CH3CH2OH"), moved, molecule("CO"), Atoms("N"), slab(pbc=False)]


def taken_by_the_package(atoms: Atoms) -> Atoms:
    """Return the structure with lattice vectors in an order of positive volume, the only one the package takes."""
    if np.linalg.det(atoms.cell.array) >= 0:
        return atoms
    other = atoms.copy()
    other.set_cell(atoms.cell.array[[1, 0, 2]])
    return other


def test_one_batch_equals_the_calculator_one_by_one(pair):
    adapter, calculator, tolerance = pair
    frames = told_apart(adapter, [*periodic().values(), *molecules()])
    batch = StructureBatch.from_atoms(frames)
    found = adapter.predict(batch, MOST)
    assert not found.not_applicable
    assert found.energy.dtype == found.forces.dtype == np.float64
    assert np.abs(found.forces).max() > 1e-2  # the weights do something
    for index, atoms in enumerate(frames):
        assert_close(found, batch, index, *expected(calculator, taken_by_the_package(atoms)), tolerance)


def test_the_stress_equals_the_calculators(pair):
    adapter, calculator, tolerance = pair
    frames = told_apart(adapter, [atoms for name, atoms in periodic().items() if name != "one atom"])
    frames = [taken_by_the_package(atoms) for atoms in frames]
    found = adapter.predict(StructureBatch.from_atoms(frames), ALL)
    for index, atoms in enumerate(frames):
        atoms.calc = calculator
        np.testing.assert_allclose(found.stress[index], atoms.get_stress(), rtol=0, atol=1e-6 * tolerance)
    assert np.abs(found.stress).max() > 1e-5


def test_another_precision_has_the_same_weights(checkpoint):
    batch = StructureBatch.from_atoms([slab(), molecule("CH3CH2OH")])
    single, double = (load(checkpoint, dtype).predict(batch, MOST) for dtype in ("float32", "float64"))
    np.testing.assert_allclose(single.energy, double.energy, rtol=0, atol=1e-4)
    assert (single.energy != double.energy).any()
    assert {parameter.dtype for parameter in load(checkpoint, "float64").module().parameters()} == {torch.float64}


def test_forces_are_the_gradient_of_the_energy(checkpoint):
    adapter, atoms, step = load(checkpoint, "float64"), slab(), 1e-4
    along = np.random.default_rng(2).normal(size=(len(atoms), 3))
    along /= np.linalg.norm(along)
    moved = []
    for sign in (-1, 1):
        moved.append(atoms.copy())
        moved[-1].positions += sign * step * along
    low, high = adapter.predict(StructureBatch.from_atoms(moved), frozenset({Property.ENERGY})).energy
    forces = adapter.predict(StructureBatch.from_atoms([atoms]), MOST).forces
    assert -np.sum(forces * along) == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=1e-8)


def test_a_longer_list_of_the_harness_serves_when_atoms_have_moved_a_little(adapter):
    frames = [slab(), molecule("CH3CH2OH")]
    batch = StructureBatch.from_atoms(frames)
    longer = neighbor_list(batch, 6.0)
    for atoms in frames:
        atoms.positions += np.random.default_rng(3).uniform(-0.2, 0.2, atoms.positions.shape)
    moved = StructureBatch.from_atoms(frames)
    reused = adapter.forward(adapter.prepare(moved, longer), MOST)
    np.testing.assert_allclose(reused.forces, adapter.predict(moved, MOST).forces, atol=1e-5)


def test_energies_alone_are_computed_without_a_gradient(adapter):
    prepared = adapter.prepare(StructureBatch.from_atoms([slab(), molecule("CH3CH2OH")]))
    alone = adapter.forward(prepared, frozenset({Property.ENERGY}))
    assert alone.forces is None
    np.testing.assert_allclose(alone.energy, adapter.forward(prepared, MOST).energy, rtol=1e-7)
    (energies,) = adapter.differentiable(prepared)
    assert energies.requires_grad
    np.testing.assert_allclose(energies.detach().numpy(), alone.energy, rtol=1e-7)


def test_structures_it_cannot_take_are_not_applicable_and_leave_the_others_alone(adapter):
    frames = [Atoms(), rattled(bulk("Cu")), bulk("Si"), molecule("H2O")]
    found = adapter.predict(StructureBatch.from_atoms(frames), ALL)
    assert found.not_applicable == {
        0: "the structure holds no atoms",
        2: "the model does not know Si",
        3: "the stress needs three lattice vectors",
    }
    alone = adapter.predict(StructureBatch.from_atoms(frames[1:2]), ALL)
    assert found.energy[1] == pytest.approx(alone.energy[0], abs=1e-6)
    np.testing.assert_allclose(found.stress[1], alone.stress[0], atol=1e-7)


@pytest.mark.parametrize("frames", [[], [Atoms()]])
def test_a_batch_without_atoms_gives_rows_without_values(adapter, frames):
    found = adapter.predict(StructureBatch.from_atoms(frames), ALL)
    assert (found.energy.shape, found.forces.shape, found.stress.shape) == ((len(frames),), (0, 3), (len(frames), 6))
    assert np.isnan(found.energy).all()


def test_operations_equal_those_of_torchs_own_counter_where_that_works(adapter):
    """It refuses a backward pass to the coordinates, which are a leaf."""
    from torch.utils.flop_counter import FlopCounterMode

    frames = [slab(), molecule("CH3CH2OH")]
    batch = StructureBatch.from_atoms(frames)
    facts = cost_facts(adapter, frames)
    assert facts.n_edges == neighbor_list(batch, 5.0).n_edges
    prepared = adapter.prepare(batch)
    with FlopCounterMode(display=False) as counter:
        adapter.forward(prepared, frozenset({Property.ENERGY}))
    assert facts.energy.dispatched.flops == counter.get_total_flops() > 1e5
    assert facts.energy.dispatched.reason is facts.forces.dispatched.reason is None
    assert facts.forces.dispatched.flops > 1.2 * facts.energy.dispatched.flops
    assert facts.parameters.total == sum(p.numel() for p in adapter.model.parameters())


def test_the_process_is_left_as_it_was(checkpoint):
    """Precision, threads, random numbers and variables of a fresh process, and how processes are started."""
    code = """
import multiprocessing, os, sys, torch
torch.set_num_threads(1)
torch.manual_seed(5)
def state():
    started = multiprocessing.get_start_method(allow_none=True)
    return torch.get_default_dtype(), torch.get_num_threads(), dict(os.environ), torch.get_rng_state().tolist(), started
before = state()
from ase.build import molecule
from mlipbench.adapters.deepmd import DeepmdAdapter
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.structures import StructureBatch
adapter = DeepmdAdapter.load(LoadRequest(dtype="float64", checkpoint=sys.argv[1]))
atoms = molecule("H2O", vacuum=5.0, pbc=True)
assert adapter.predict(StructureBatch.from_atoms([atoms]), frozenset(Property)).forces is not None
assert state() == before
"""
    done = subprocess.run([sys.executable, "-c", code, checkpoint], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_file_that_is_no_such_model_is_refused(tmp_path, checkpoint):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "linear.pt")
    torch.save({"model": {}}, tmp_path / "dictionary.pt")
    whole = checkpoint.read_bytes()
    (tmp_path / "short.pt").write_bytes(whole[: len(whole) // 2])
    types = model_config() | {"type_map": ["H", "C", "N", "O", "Cw"]}
    save_checkpoint(tmp_path / "types.pt", types)
    state = torch.load(checkpoint, weights_only=False)["model"]
    state["_extra_state"]["model_params"] = {"model_dict": {}}
    torch.save({"model": state}, tmp_path / "several.pt")
    cases = {
        "linear.pt": "cannot be read as a DeePMD model of energies",
        "dictionary.pt": "cannot be read as a DeePMD model of energies",
        "short.pt": "cannot be read as a DeePMD model of energies",
        "types.pt": "its type 'Cw' is no element; types have to be named by symbols",
        "several.pt": "holds several models",
    }
    for name, problem in cases.items():
        with pytest.raises(ConfigError, match=problem) as raised:
            load(tmp_path / name)
        assert str(raised.value).startswith(str(tmp_path / name))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("request_", "error", "problem"),
    [
        (LoadRequest(dtype="float32"), ConfigError, "needs a checkpoint"),
        (LoadRequest(dtype="float32", checkpoint="x.pt", kwargs={"head": 1}), ConfigError, "takes no argument 'head'"),
        (LoadRequest(dtype="float32", checkpoint="x.pt"), PrerequisiteError, "x.pt: there is no such checkpoint"),
    ],
)
def test_refuses_what_it_cannot_load(request_, error, problem):
    with pytest.raises(error, match=problem):
        DeepmdAdapter.load(request_)
