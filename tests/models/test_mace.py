"""The MACE adapter against mace-torch's own calculator."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("mace", reason="needs the package mace-torch")
pytestmark = [
    pytest.mark.mace,
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),  # e3nn compiles by TorchScript
    pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE:UserWarning"),  # e3nn, read under MACE's switch
]

import torch  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import bulk, molecule  # noqa: E402
from mace_checkpoints import make_mace, save_mace  # noqa: E402
from model_frames import ALL, MOST, assert_close, cost_facts, expected, periodic, rattled, slab  # noqa: E402

from mlipbench.adapters.mace import MaceAdapter  # noqa: E402
from mlipbench.errors import ConfigError, PrerequisiteError  # noqa: E402
from mlipbench.models.interface import LoadRequest, Property  # noqa: E402
from mlipbench.structures import StructureBatch  # noqa: E402
from mlipbench.structures.neighbors import neighbor_list  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_mace(tmp_path_factory.mktemp("mace") / "tiny.model")


def load(path: Path, dtype: str = "float32", **kwargs) -> MaceAdapter:
    return MaceAdapter.load(LoadRequest(dtype=dtype, checkpoint=str(path), kwargs=kwargs))


@pytest.fixture(scope="module")
def adapter(checkpoint):
    return load(checkpoint)


@pytest.fixture(scope="module", params=["float32", "float64"])
def pair(request, checkpoint):
    """The adapter and the calculator in one precision."""
    from mace.calculators import MACECalculator

    adapter = load(checkpoint, request.param)
    before = os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # the calculator loads in no other way
    try:
        return adapter, MACECalculator(model_paths=str(checkpoint), device="cpu", default_dtype=request.param)
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"]


def molecules() -> list[Atoms]:
    moved = molecule("CH3CH2OH")
    moved.positions += [40.0, -3.0, 8.0]
    return [molecule("CH3CH2OH"), moved, molecule("CO"), Atoms("N"), slab(pbc=False)]


def test_one_batch_equals_the_calculator_one_by_one(pair):
    adapter, calculator = pair
    frames = [*periodic().values(), *molecules()]
    batch = StructureBatch.from_atoms(frames)
    found = adapter.predict(batch, MOST)
    assert found.energy.dtype == found.forces.dtype == np.float64
    assert not found.not_applicable
    spread = np.ptp([np.abs(found.forces[a:b]).max() for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)])
    assert spread > 0.1  # the weights do something
    tolerance = 1.0 if adapter.dtype is torch.float32 else 1e-6
    for index, atoms in enumerate(frames):
        assert_close(found, batch, index, *expected(calculator, atoms), tolerance)


def test_the_stress_equals_the_calculators(pair):
    adapter, calculator = pair
    frames = [atoms for name, atoms in periodic().items() if name != "one atom"]
    found = adapter.predict(StructureBatch.from_atoms(frames), ALL)
    for index, atoms in enumerate(frames):
        atoms.calc = calculator
        stress = atoms.get_stress()
        assert np.abs(stress).max() > 1e-5
        np.testing.assert_allclose(found.stress[index], stress, rtol=0, atol=1e-6)


def test_the_stress_of_a_slab_is_the_derivative_by_strain(checkpoint):
    """The calculator divides by the volume of a cell of its own where a direction is not periodic."""
    adapter, atoms, step = load(checkpoint, "float64"), slab(pbc=False), 1e-4
    strained = []
    for sign in (-1, 1):
        strained.append(atoms.copy())
        strained[-1].set_cell(atoms.cell.array @ (np.eye(3) + sign * step * np.diag([1, 0, 0])), scale_atoms=True)
    low, high = adapter.predict(StructureBatch.from_atoms(strained), frozenset({Property.ENERGY})).energy
    stress = adapter.predict(StructureBatch.from_atoms([atoms]), ALL).stress
    assert stress[0, 0] == pytest.approx((high - low) / (2 * step) / atoms.get_volume(), rel=1e-5)


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


def test_the_result_does_not_depend_on_batch_mates(adapter):
    batch = StructureBatch.from_atoms([*periodic().values(), *molecules()])
    together = adapter.predict(batch, MOST)
    for index, single in enumerate(batch):
        alone = adapter.predict(single, MOST)
        assert_close(together, batch, index, alone.energy[0], alone.forces, 0.1)


def test_energies_alone_equal_energies_with_forces_and_nothing_else_is_computed(adapter):
    batch = StructureBatch.from_atoms(list(periodic().values()))
    alone = adapter.predict(batch, frozenset({Property.ENERGY}))
    assert alone.forces is None
    assert alone.stress is None
    np.testing.assert_allclose(alone.energy, adapter.predict(batch, ALL).energy, rtol=1e-6)


def test_a_longer_list_of_the_harness_serves_when_atoms_have_moved_a_little(adapter):
    frames = [slab(), molecule("CH3CH2OH")]
    batch = StructureBatch.from_atoms(frames)
    longer = neighbor_list(batch, 6.0)
    for atoms in frames:
        atoms.positions += np.random.default_rng(3).uniform(-0.2, 0.2, atoms.positions.shape)
    moved = StructureBatch.from_atoms(frames)
    reused = adapter.forward(adapter.prepare(moved, longer), MOST)
    afresh = adapter.predict(moved, MOST)
    np.testing.assert_allclose(reused.energy, afresh.energy, atol=1e-5)
    np.testing.assert_allclose(reused.forces, afresh.forces, atol=1e-5)


def test_heads_are_told_apart(tmp_path):
    from mace.calculators import MACECalculator

    path = save_mace(tmp_path / "heads.model", heads=("pbe", "Default"))
    atoms = slab()
    batch = StructureBatch.from_atoms([atoms, molecule("CH3CH2OH")])
    energies = {}
    for head in ("pbe", "Default"):
        adapter = load(path, head=head)
        calculator = MACECalculator(models=make_mace(("pbe", "Default")), head=head, default_dtype="float32")
        found = adapter.predict(batch, MOST)
        assert_close(found, batch, 0, *expected(calculator, atoms))
        energies[head] = found.energy[0]
    assert abs(energies["pbe"] - energies["Default"]) > 1.0  # the heads' atomic energies differ by 1 eV
    assert load(path).predict(batch, MOST).energy[0] == energies["Default"]
    with pytest.raises(ConfigError, match="no head 'scan'; known: pbe, Default"):
        load(path, head="scan")
    with pytest.raises(ConfigError, match="has the heads one, two; name one of them"):
        load(save_mace(tmp_path / "two.model", heads=("one", "two")))


SPECS = {
    "total_charge": {"type": "categorical", "per": "graph", "emb_dim": 4, "num_classes": 5, "offset": 2},
    "total_spin": {"type": "categorical", "per": "graph", "emb_dim": 4, "num_classes": 5, "offset": 0},
}


def test_charge_and_spin_are_needed_where_the_model_takes_them(tmp_path):
    from mace.calculators import MACECalculator

    adapter = load(save_mace(tmp_path / "charged.model", embedding_specs=SPECS))
    calculator = MACECalculator(models=make_mace(embedding_specs=SPECS), default_dtype="float32")
    frames = []
    for charge, spin in ((0, 1), (1, 2), (-1, 2)):
        frames.append(molecule("CH3CH2OH"))
        frames[-1].info.update(charge=charge, spin=spin)
    batch = StructureBatch.from_atoms(frames)
    found = adapter.predict(batch, MOST)
    for index, atoms in enumerate(frames):
        assert_close(found, batch, index, *expected(calculator, atoms))
    assert len(set(np.round(found.energy, 4))) == 3
    without = adapter.predict(StructureBatch.from_atoms([molecule("CH3CH2OH")]), MOST)
    assert without.not_applicable == {0: "the model needs the charge of the structure"}
    assert np.isnan(without.forces).all()


def test_structures_it_cannot_take_are_not_applicable_and_leave_the_others_alone(adapter):
    frames = [Atoms(), rattled(bulk("Cu")), bulk("Si"), molecule("H2O")]
    found = adapter.predict(StructureBatch.from_atoms(frames), ALL)
    assert found.not_applicable == {
        0: "the structure holds no atoms",
        2: "the model does not know Si",
        3: "the stress needs three lattice vectors",
    }
    assert np.isnan(found.energy[[0, 2, 3]]).all()
    assert np.isnan(found.forces[1:]).all()
    alone = adapter.predict(StructureBatch.from_atoms(frames[1:2]), ALL)
    assert found.energy[1] == pytest.approx(alone.energy[0], abs=1e-6)
    np.testing.assert_allclose(found.stress[1], alone.stress[0], atol=1e-7)


@pytest.mark.parametrize("frames", [[], [Atoms()]])
def test_a_batch_without_atoms_gives_rows_without_values(adapter, frames):
    found = adapter.predict(StructureBatch.from_atoms(frames), ALL)
    assert found.energy.shape == (len(frames),)
    assert found.forces.shape == (0, 3)
    assert found.stress.shape == (len(frames), 6)
    assert np.isnan(found.energy).all()


def test_inputs_are_not_changed_and_calls_repeat_exactly(adapter):
    batch = StructureBatch.from_atoms(list(periodic().values())[:3])
    before = {name: column.copy() for name, column in batch.columns().items()}
    prepared = adapter.prepare(batch)
    arrays = {name: tensor.clone() for name, tensor in prepared.arrays.items()}
    for _ in range(3):  # TorchScript optimises within the first calls
        adapter.forward(prepared, ALL)
    first, second = adapter.forward(prepared, ALL), adapter.forward(prepared, ALL)
    np.testing.assert_array_equal(first.forces, second.forces)
    for name, column in batch.columns().items():
        np.testing.assert_array_equal(column, before[name])
    for name, tensor in prepared.arrays.items():
        torch.testing.assert_close(tensor, arrays[name], rtol=0, atol=0)
        assert not tensor.requires_grad


@pytest.mark.usefixtures("two_threads")
def test_calls_repeat_exactly_where_threads_share_the_sums(adapter):
    """Torch shares long sums only: here those of the gradient by strain, over the edges of a structure."""
    prepared = adapter.prepare(StructureBatch.from_atoms([slab(seed=seed) for seed in range(16)]))
    first, *others = [adapter.forward(prepared, ALL) for _ in range(6)][-4:]  # optimised by then
    for found in others:
        for name in ("energy", "forces", "stress"):
            np.testing.assert_array_equal(getattr(found, name), getattr(first, name))


def test_the_process_is_left_as_it_was(checkpoint):
    """Precision, threads and safe loading of the process; in a fresh one, where MACE is imported the first time."""
    code = """
import os, sys, torch
torch.set_num_threads(1)
before = torch.get_default_dtype(), torch.get_num_threads(), dict(os.environ)
from ase.build import molecule
from mlipbench.adapters.mace import MaceAdapter
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.structures import StructureBatch
adapter = MaceAdapter.load(LoadRequest(dtype="float64", checkpoint=sys.argv[1]))
assert adapter.predict(StructureBatch.from_atoms([molecule("H2O")]), frozenset(Property)).forces is not None
assert (torch.get_default_dtype(), torch.get_num_threads(), dict(os.environ)) == before
"""
    done = subprocess.run([sys.executable, "-c", code, checkpoint], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_file_that_is_no_such_model_is_refused(tmp_path, checkpoint):
    from mace import modules

    torch.save(torch.nn.Linear(2, 2), tmp_path / "linear.model")
    torch.save({"state_dict": {}}, tmp_path / "dictionary.pt")
    whole = checkpoint.read_bytes()
    (tmp_path / "short.model").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.model").write_text("weights: none\n")
    cases = {
        "linear.model": "holds torch.nn.modules.linear.Linear, no MACE model of energies and forces",
        "dictionary.pt": "holds builtins.dict",
        "short.model": "cannot be read as a MACE model",
        "text.model": "cannot be read as a MACE model",
    }
    for name, problem in cases.items():
        with pytest.raises(ConfigError, match=problem) as raised:
            load(tmp_path / name)
        assert str(raised.value).startswith(str(tmp_path / name))
        assert "\n" not in str(raised.value)
    assert issubclass(modules.ScaleShiftMACE, modules.MACE)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (LoadRequest(dtype="float32"), "needs a checkpoint"),
        (LoadRequest(dtype="float32", checkpoint="small", kwargs={"familly": "mp"}), "'familly'"),
        (LoadRequest(dtype="float32", checkpoint="small", kwargs={"family": "mq"}), "'mq'; known: mp, off, omol"),
        (LoadRequest(dtype="float32", checkpoint="tiny"), "no model 'tiny' in the family 'mp' .*known: small, medium"),
        (LoadRequest(dtype="float32", checkpoint="tiny", kwargs={"family": "omol"}), "extra_large"),
    ],
)
def test_refuses_what_it_cannot_load(request_, problem):
    with pytest.raises(ConfigError, match=problem):
        MaceAdapter.load(request_)


@pytest.mark.parametrize(("family", "name"), [("mp", "small"), ("off", "medium"), ("omol", "extra_large")])
def test_offline_one_line_says_within_seconds_what_to_put_where(monkeypatch, tmp_path, checkpoint, family, name):
    """The file it asks for is the one it then loads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    begun = time.monotonic()
    with pytest.raises(PrerequisiteError, match=f"the weights of '{name}' are not on this machine") as raised:
        MaceAdapter.load(LoadRequest(dtype="float32", checkpoint=name, kwargs={"family": family}))
    assert time.monotonic() - begun < 10
    place = raised.value.remedy.partition("store it as ")[2]
    assert place.startswith(str(tmp_path))
    shutil.copy(checkpoint, place)
    adapter = MaceAdapter.load(LoadRequest(dtype="float32", checkpoint=name, kwargs={"family": family}))
    assert len(adapter.module().atomic_numbers) == 5


def test_loading_says_nothing_on_stdout(capfd, checkpoint):
    load(checkpoint)
    assert capfd.readouterr().out == ""


def test_operations_equal_those_of_torchs_own_counter(adapter):
    """Which works here: MACE marks positions as a leaf, but is given them by a dictionary."""
    from torch.utils.flop_counter import FlopCounterMode

    frames = [slab(), molecule("CH3CH2OH")]
    batch = StructureBatch.from_atoms(frames)
    facts = cost_facts(adapter, frames)
    assert (facts.n_structures, facts.n_atoms) == (2, 14 + 9)
    assert facts.n_edges == neighbor_list(batch, 5.0).n_edges
    prepared = adapter.prepare(batch)
    for cost, properties in ((facts.energy, frozenset({Property.ENERGY})), (facts.forces, MOST)):
        with FlopCounterMode(display=False) as counter:
            adapter.forward(prepared, properties)
        assert cost.dispatched.reason is None
        assert cost.dispatched.flops == counter.get_total_flops() > 1e6
    assert facts.forces.dispatched.flops > 1.2 * facts.energy.dispatched.flops
    assert facts.forces.thop.macs is None
    assert "ScriptModule" in facts.forces.thop.reason
    assert facts.parameters.total == facts.parameters.trainable == sum(p.numel() for p in adapter.model.parameters())
    assert facts.parameters.without_gradient == idle_parameters(adapter, batch)
    assert not any("total_" in name for name, _ in adapter.model.named_buffers())
    found = adapter.predict(batch, MOST)
    assert np.isfinite(found.forces).all()


def idle_parameters(adapter, batch) -> int:
    """Return how many parameters a backward pass of energies and forces in training leaves without a gradient."""
    import copy

    model = copy.deepcopy(adapter.model).requires_grad_(requires_grad=True)
    arrays = dict(adapter.prepare(batch).arrays)
    output = model(arrays, training=True, compute_force=True)
    (output["energy"].square().sum() + output["forces"].square().sum()).backward()
    return sum(tensor.numel() for tensor in model.parameters() if tensor.grad is None)
