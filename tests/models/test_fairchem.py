"""The adapter of fairchem-core 2 against the package's own calculator."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytestmark = [
    pytest.mark.fairchem,
    pytest.mark.timeout(900),  # importing the package takes six seconds on an idle machine
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what torch and the package say of the package's own code
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

try:
    RELEASE = importlib.metadata.version("fairchem-core")
except importlib.metadata.PackageNotFoundError:
    RELEASE = "none"
if not RELEASE.startswith("2."):
    pytest.skip(f"needs fairchem-core 2, found {RELEASE}", allow_module_level=True)

import torch  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import bulk, molecule  # noqa: E402
from fairchem_checkpoints import make_checkpoint, save_checkpoint  # noqa: E402
from model_frames import ALL, MOST, assert_close, cost_facts, expected, periodic, rattled, slab  # noqa: E402

from mlipbench.adapters.fairchem import FairchemAdapter  # noqa: E402
from mlipbench.errors import ConfigError, PrerequisiteError  # noqa: E402
from mlipbench.models.interface import LoadRequest, Property  # noqa: E402
from mlipbench.structures import StructureBatch  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "hf_canaryCANARYcanaryCANARYcanaryCANARY"  # noqa: S105 - nobody's


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fairchem")


@pytest.fixture(scope="module")
def uma(folder):
    return save_checkpoint(folder / "uma.pt", "uma")


def load(path: Path, dtype: str = "float32", **kwargs) -> FairchemAdapter:
    return FairchemAdapter.load(LoadRequest(dtype=dtype, checkpoint=str(path), kwargs=kwargs))


@pytest.fixture(scope="module")
def adapter(uma):
    return load(uma, task_name="oc20")


@pytest.fixture(
    scope="module",
    params=[
        ("uma", "oc20", "float32"),
        ("uma", "omol", "float32"),
        ("uma", "oc20", "float64"),
        ("esen", None, "float32"),
    ],
    ids=lambda values: "-".join(str(value) for value in values),
)
def pair(request, folder):
    """The adapter and the calculator of one checkpoint, task and precision."""
    from fairchem.core import FAIRChemCalculator
    from fairchem.core.units.mlip_unit import load_predict_unit

    name, task, dtype = request.param
    path = save_checkpoint(folder / f"{name}-{task}-{dtype}.pt", name)
    adapter = load(path, dtype, **({} if task is None else {"task_name": task}))
    unit = load_predict_unit(path, inference_settings=adapter.settings, device="cpu")
    return adapter, FAIRChemCalculator(unit, task_name=adapter.task)


def frames(adapter: FairchemAdapter) -> list[Atoms]:
    moved = molecule("CH3CH2OH")
    moved.positions += [40.0, -3.0, 8.0]
    found = [*periodic().values(), molecule("CH3CH2OH"), moved, molecule("CO"), slab(pbc=False)]
    if adapter.task == "omol":
        for index, atoms in enumerate(found):
            atoms.info.update(charge=index % 3 - 1, spin=index % 2 + 1)
    return found


def test_one_batch_equals_the_calculator_one_by_one(pair):
    adapter, calculator = pair
    given = frames(adapter)
    batch = StructureBatch.from_atoms(given)
    found = adapter.predict(batch, MOST)
    assert not found.not_applicable
    assert found.energy.dtype == found.forces.dtype == np.float64
    tolerance = 1.0 if adapter.dtype is torch.float32 else 1e-6
    for index, atoms in enumerate(given):
        assert_close(found, batch, index, *expected(calculator, atoms), tolerance)
    assert np.abs(found.forces).max() > 1e-3  # the weights do something


def test_the_stress_equals_the_calculators(pair):
    adapter, calculator = pair
    given = [atoms for atoms in frames(adapter) if atoms.cell.rank == 3]
    found = adapter.predict(StructureBatch.from_atoms(given), ALL)
    for index, atoms in enumerate(given):
        atoms.calc = calculator
        np.testing.assert_allclose(found.stress[index], atoms.get_stress(), rtol=0, atol=1e-6)
    assert np.abs(found.stress).max() > 1e-4


def test_forces_of_a_mirror_image_are_others_and_those_of_a_rotated_molecule_are_not(pair):
    """What `doctor` finds of UMA in `reflection`, by the package's calculator."""
    adapter, calculator = pair
    if adapter.task != "oc20" or adapter.dtype is not torch.float64:
        pytest.skip("one case is enough: UMA in double precision")
    atoms = rattled(molecule("CH3CH2OH"))
    _, forces = expected(calculator, atoms)
    turn, mirror = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.diag([-1.0, 1, 1])
    found = []
    for matrix in (turn, mirror):
        moved = atoms.copy()
        moved.positions = atoms.positions @ matrix.T
        found.append(np.abs(expected(calculator, moved)[1] - forces @ matrix.T).max() / np.abs(forces).max())
    assert found[0] < 1e-3  # the network is equivariant as far as its grids on the sphere are fine
    assert found[1] > 10 * found[0]


def test_the_result_does_not_depend_on_batch_mates(pair):
    adapter, _ = pair
    batch = StructureBatch.from_atoms(frames(adapter))
    together = adapter.predict(batch, MOST)
    for index, single in enumerate(batch):
        alone = adapter.predict(single, MOST)
        assert_close(together, batch, index, alone.energy[0], alone.forces, 0.1)


def test_forces_are_the_gradient_of_the_energy(uma):
    adapter, atoms, step = load(uma, "float64", task_name="oc20"), slab(), 1e-4
    along = np.random.default_rng(2).normal(size=(len(atoms), 3))
    along /= np.linalg.norm(along)
    moved = []
    for sign in (-1, 1):
        moved.append(atoms.copy())
        moved[-1].positions += sign * step * along
    low, high = adapter.predict(StructureBatch.from_atoms(moved), frozenset({Property.ENERGY})).energy
    forces = adapter.predict(StructureBatch.from_atoms([atoms]), MOST).forces
    assert -np.sum(forces * along) == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=1e-8)


def test_tasks_are_told_apart_and_have_to_be_named(uma, adapter):
    batch = StructureBatch.from_atoms([slab()])
    other = load(uma, task_name="omat").predict(batch, MOST).energy[0]
    assert abs(other - adapter.predict(batch, MOST).energy[0]) > 1e-4
    with pytest.raises(ConfigError, match="a task has to be named; known: oc20, omat, omol"):
        load(uma)
    with pytest.raises(ConfigError, match="no task 'oc22'; known: oc20"):
        load(uma, task_name="oc22")


def test_structures_it_cannot_take_are_not_applicable_and_leave_the_others_alone(adapter):
    flat = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]], cell=[3, 3, 0], pbc=[True, True, False])
    nowhere = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]], pbc=True)
    given = [Atoms(), slab(), flat, nowhere, Atoms("O"), bulk("Po", "sc", a=3.3), molecule("H2O")]
    given[5].numbers[:] = 100
    batch = StructureBatch.from_atoms(given)
    found = adapter.predict(batch, ALL)
    lattice = "the package needs three lattice vectors where a direction is periodic"
    assert found.not_applicable == {
        0: "the structure holds no atoms",
        2: lattice,
        3: lattice,
        4: "the package does not predict single atoms in a batch",
        5: "the model does not know Fm",
        6: "the stress needs three lattice vectors",
    }
    alone = adapter.predict(StructureBatch.from_atoms([slab()]), ALL)
    assert_close(found, batch, 1, alone.energy[0], alone.forces, 0.1)
    assert np.isnan(found.energy[[0, 2, 3, 4, 5, 6]]).all()


def test_molecular_tasks_need_charge_and_spin(uma):
    adapter = load(uma, task_name="omol")
    water = molecule("H2O")
    without = adapter.predict(StructureBatch.from_atoms([water]), MOST)
    assert without.not_applicable == {0: "the task omol needs the charge of the structure"}
    water.info.update(charge=0.5, spin=1)
    half = adapter.predict(StructureBatch.from_atoms([water]), MOST)
    assert half.not_applicable == {0: "the package takes a charge that is an integer from -100 to 100"}


@pytest.mark.parametrize("given", [[], [Atoms()]])
def test_a_batch_without_atoms_gives_rows_without_values(adapter, given):
    found = adapter.predict(StructureBatch.from_atoms(given), ALL)
    assert found.energy.shape == (len(given),)
    assert found.forces.shape == (0, 3)
    assert found.stress.shape == (len(given), 6)


@pytest.mark.usefixtures("two_threads")
def test_inputs_are_not_changed_and_calls_repeat_exactly(adapter):
    batch = StructureBatch.from_atoms(list(periodic().values())[:3])
    before = {name: column.copy() for name, column in batch.columns().items()}
    prepared = adapter.prepare(batch)
    data = copy.deepcopy(prepared.data)
    first, second = adapter.forward(prepared, ALL), adapter.forward(prepared, ALL)
    np.testing.assert_array_equal(first.forces, second.forces)
    np.testing.assert_array_equal(first.stress, second.stress)
    for name, column in batch.columns().items():
        np.testing.assert_array_equal(column, before[name])
    for name in ("pos", "cell", "atomic_numbers", "batch"):
        assert torch.equal(prepared.data[name], data[name])


def test_settings_are_explicit_and_a_change_of_theirs_ends_the_run(uma):
    assert load(uma, task_name="oc20").settings.compile is False
    fields = {"activation_checkpointing": False, "internal_graph_gen_version": 1}
    chosen = load(uma, task_name="oc20", inference_settings=fields).settings
    assert (chosen.activation_checkpointing, chosen.internal_graph_gen_version, chosen.merge_mole) == (False, 1, False)
    with pytest.raises(ConfigError, match="'default' names no explicit settings; known: batch, high-precision"):
        load(uma, task_name="oc20", inference_settings="default")
    with pytest.raises(ConfigError, match=r"no settings of the package: .*'speed'"):
        load(uma, task_name="oc20", inference_settings={"speed": 1})
    merging = load(uma, task_name="oc20", inference_settings={"merge_mole": True})
    merging.predict(StructureBatch.from_atoms([bulk("Cu"), bulk("Cu")][:1]), MOST)
    with pytest.raises(ConfigError, match="changed its settings during the run: merge_mole from True to False"):
        merging.predict(StructureBatch.from_atoms([molecule("CO")]), MOST)


def test_files_of_another_kind_are_refused(folder, uma):
    whole = uma.read_bytes()
    (folder / "short.pt").write_bytes(whole[: len(whole) // 2])
    torch.save({"state_dict": {}}, folder / "dictionary.pt")
    other = make_checkpoint("uma")
    other.model_state_dict = other.ema_state_dict = make_checkpoint("esen").ema_state_dict
    torch.save(other, folder / "mixed.pt")
    for name in ("short.pt", "dictionary.pt", "mixed.pt"):
        with pytest.raises(ConfigError, match="cannot be read as a checkpoint of fairchem-core 2") as raised:
            load(folder / name, task_name="oc20")
        assert str(raised.value).startswith(str(folder / name))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (LoadRequest(dtype="float32"), "needs a checkpoint"),
        (LoadRequest(dtype="float32", checkpoint="uma-s-1p1", kwargs={"task": "oc20"}), "'task'"),
        (LoadRequest(dtype="float32", checkpoint="uma-s-1p3"), "did you mean uma-s-1p"),
    ],
)
def test_refuses_what_it_cannot_load(request_, problem):
    with pytest.raises(ConfigError, match=problem):
        FairchemAdapter.load(request_)


def hub_environment(tmp_path, **changes: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "FAIRCHEM_"))}
    return {**kept, "HF_HOME": str(tmp_path), "FAIRCHEM_CACHE_DIR": str(tmp_path / "cache"), **changes}


CODE = """
import json, sys, time
begun = time.monotonic()
from mlipbench.adapters.fairchem import FairchemAdapter
from mlipbench.errors import PrerequisiteError
from mlipbench.models.interface import LoadRequest
try:
    FairchemAdapter.load(LoadRequest(dtype="float32", checkpoint="uma-s-1p1", kwargs={"task_name": "oc20"}))
except PrerequisiteError as error:
    print(json.dumps([str(error), time.monotonic() - begun, "torch" in sys.modules, int(error.exit_code)]))
"""


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, "no token of the Hugging Face hub was found"),
        ({"HF_TOKEN": TOKEN, "https_proxy": "http://127.0.0.1:9"}, "refused"),
        ({"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_without_weights_one_line_says_at_once_what_is_missing_and_no_token(tmp_path, changes, cause):
    """Two seconds are the goal on an idle machine; torch, which takes longer to import, is not touched."""
    environment = hub_environment(tmp_path, **changes)
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment, cwd=Path.cwd()
    )
    line, seconds, torch_imported, exit_code = json.loads(done.stdout)
    assert line.startswith("the weights of 'uma-s-1p1' are not on this machine and cannot be downloaded")
    assert cause in line
    assert "\n" not in line
    assert exit_code == 4
    assert not torch_imported
    assert seconds < 20
    assert TOKEN not in done.stdout + done.stderr


def test_weights_in_the_cache_are_found_without_a_connection(monkeypatch, tmp_path, uma):
    for name, value in hub_environment(tmp_path, https_proxy="http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    snapshot = tmp_path / "cache" / "models--facebook--UMA"
    target = snapshot / "snapshots" / ("0" * 40) / "checkpoints" / "uma-s-1p1.pt"
    target.parent.mkdir(parents=True)
    (snapshot / "refs").mkdir()
    (snapshot / "refs" / "main").write_text("0" * 40)
    target.write_bytes(uma.read_bytes())
    begun = time.monotonic()
    assert load_by_name("uma-s-1p1").task == "oc20"
    assert time.monotonic() - begun < 60


def load_by_name(name: str) -> FairchemAdapter:
    return FairchemAdapter.load(LoadRequest(dtype="float32", checkpoint=name, kwargs={"task_name": "oc20"}))


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(PrerequisiteError, match="no such checkpoint"):
        load(tmp_path / "absent.pt")


def test_the_process_is_left_as_it_was(uma):
    """Precision, threads and stdout; in a fresh process."""
    code = """
import sys, torch
torch.set_num_threads(1)
before = torch.get_default_dtype(), torch.get_num_threads()
from ase.build import molecule
from mlipbench.adapters.fairchem import FairchemAdapter
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.structures import StructureBatch
kwargs = {"task_name": "oc20"}
adapter = FairchemAdapter.load(LoadRequest(dtype="float64", checkpoint=sys.argv[1], kwargs=kwargs))
batch = StructureBatch.from_atoms([molecule("H2O", vacuum=5, pbc=True)])
assert adapter.predict(batch, frozenset(Property)).forces is not None
assert (torch.get_default_dtype(), torch.get_num_threads()) == before
"""
    done = subprocess.run([sys.executable, "-c", code, uma], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("name", ["uma", "esen"])
def test_operations_equal_those_of_torchs_own_counter(folder, name):
    from torch.utils.flop_counter import FlopCounterMode

    adapter = load(
        save_checkpoint(folder / f"cost-{name}.pt", name), **({"task_name": "oc20"} if name == "uma" else {})
    )
    frames = [slab(), periodic()["bulk"]]
    for atoms in frames:
        atoms.info.update(charge=0, spin=1)
    facts = cost_facts(adapter, frames)
    prepared = adapter.prepare(StructureBatch.from_atoms(frames))
    with FlopCounterMode(display=False) as counter:
        adapter.forward(prepared, MOST)
    assert facts.forces.dispatched.reason is None
    assert facts.forces.dispatched.flops == counter.get_total_flops() > 1e6
    assert facts.energy.dispatched.flops == facts.forces.dispatched.flops  # the package predicts all it can
    assert facts.n_edges is None
    assert facts.parameters.total == sum(p.numel() for p in adapter.module().parameters())
    assert facts.parameters.reason is None
    assert 0 <= facts.parameters.without_gradient < facts.parameters.trainable / 2
