"""The adapter of fairchem-core 1 against the package's own calculator."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytestmark = [
    pytest.mark.fairchem_v1,
    pytest.mark.timeout(900),  # importing the package takes ten seconds on an idle machine
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what torch and the package say of the package's own code
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

try:
    RELEASE = importlib.metadata.version("fairchem-core")
except importlib.metadata.PackageNotFoundError:
    RELEASE = "none"
if not RELEASE.startswith("1."):
    pytest.skip(f"needs fairchem-core 1, found {RELEASE}", allow_module_level=True)

import torch  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import bulk, fcc111, molecule  # noqa: E402
from fairchem_v1_checkpoints import MODELS, NORMALIZERS, make_checkpoint, save_checkpoint  # noqa: E402
from model_frames import ALL, MOST, assert_close, cost_facts, expected, periodic, slab  # noqa: E402

from mlipbench.adapters import fairchem_v1  # noqa: E402
from mlipbench.adapters.fairchem_v1 import FairchemV1Adapter  # noqa: E402
from mlipbench.adapters.fairchem_v1_graph import Limits, find_edges  # noqa: E402
from mlipbench.adapters.wrapping import wrapped  # noqa: E402
from mlipbench.errors import ConfigError, PrerequisiteError  # noqa: E402
from mlipbench.models.interface import LoadRequest, Property  # noqa: E402
from mlipbench.structures import StructureBatch  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RANDOM_FRAMES = ("escn", "equiformer-v2", "scn")
REFUSE_ATOMS = tuple(name for name in MODELS if name not in {"schnet", "dimenet++"})


@pytest.fixture(scope="module", autouse=True)
def _package() -> Iterator[None]:
    """Import the package once, as the adapter does; silence what its trainer logs."""
    fairchem_v1._import_package()
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fairchem-v1")


def load(path: Path, **request) -> FairchemV1Adapter:
    return FairchemV1Adapter.load(LoadRequest(dtype="float32", checkpoint=str(path), **request))


@pytest.fixture(scope="module", params=MODELS)
def pair(request, folder):
    """The adapter and the calculator of one architecture."""
    from fairchem.core.common.relaxation.ase_utils import OCPCalculator

    path = save_checkpoint(folder / f"{request.param}.pt", request.param)
    return request.param, load(path), OCPCalculator(checkpoint_path=path, cpu=True, seed=0)


@pytest.fixture(scope="module")
def adapter(folder):
    return load(save_checkpoint(folder / "adapter.pt", "gemnet-dt"))


def frames(name: str) -> list[Atoms]:
    """Return structures that a calculator of the architecture takes."""
    moved = molecule("CH3CH2OH")
    moved.positions += [40.0, -3.0, 8.0]
    lattice = fcc111("Cu", (3, 3, 4), vacuum=8.0)  # at lattice sites: more equally distant neighbours than may stay
    slabs = [slab(), lattice, slab(pbc=False, seed=5)]
    if name == "gemnet-oc":  # takes nothing without tags
        return slabs
    others = [atoms for kind, atoms in periodic().items() if kind not in {"one atom", "slab"}]
    return [*others, *slabs, molecule("CH3CH2OH"), moved]


def test_one_batch_equals_the_calculator_one_by_one(pair):
    name, adapter, calculator = pair
    batch = StructureBatch.from_atoms(frames(name))
    found = adapter.predict(batch, MOST)
    assert not found.not_applicable
    assert found.energy.dtype == found.forces.dtype == np.float64
    for index, atoms in enumerate(frames(name)):
        energy, forces = expected(calculator, atoms)
        scale = max(1.0, np.abs(forces).max() / 10)  # random weights may give forces of thousands of eV/Å
        assert_close(found, batch, index, energy, forces, scale)
    assert np.abs(found.forces).max() > 1e-6  # the weights do something
    assert np.ptp(found.energy) > 1e-4


def test_the_result_does_not_depend_on_batch_mates(pair):
    name, adapter, _ = pair
    batch = StructureBatch.from_atoms(frames(name))
    together = adapter.predict(batch, MOST)
    for index, single in enumerate(batch):
        alone = adapter.predict(single, MOST)
        scale = max(0.1, np.abs(alone.forces).max() / 10)
        assert_close(together, batch, index, alone.energy[0], alone.forces, scale)


@pytest.mark.parametrize(("cap", "changes"), [(50, True), (500, False)])
def test_a_cap_that_cuts_a_shell_is_what_the_order_of_atoms_and_the_cell_change(folder, cap, changes):
    """What `doctor` finds of GemNet in `permutation` and `tiny_cell`, by the package's calculator.

    An atom of fcc copper has 78 neighbours within 6 Å, in shells of 12, 6, 24, 12 and 24.
    """
    from fairchem.core.common.relaxation.ase_utils import OCPCalculator

    path = save_checkpoint(folder / f"cap-{cap}.pt", "gemnet-dt", max_neighbors=cap)
    calculator = OCPCalculator(checkpoint_path=path, cpu=True, seed=0)
    crystal = bulk("Cu", cubic=True) * (2, 2, 2)
    mixed = crystal[np.random.default_rng(0).permutation(len(crystal))]
    constant = NORMALIZERS["energy"]["mean"]  # of every structure, whatever its size
    energies = [expected(calculator, atoms)[0] - constant for atoms in (bulk("Cu"), crystal, mixed)]
    cell, ordered, other = (energy / n for energy, n in zip(energies, (1, 32, 32), strict=True))
    assert (abs(ordered - other) > 1e-5 * abs(ordered)) is changes
    assert (abs(ordered - cell) > 1e-5 * abs(ordered)) is changes


@pytest.mark.usefixtures("two_threads")
def test_calls_repeat_exactly_and_leave_inputs_and_random_numbers_alone(pair):
    name, adapter, _ = pair
    batch = StructureBatch.from_atoms(frames(name)[-3:])
    before = {column: values.copy() for column, values in batch.columns().items()}
    state = torch.random.get_rng_state()
    first, second = adapter.predict(batch, MOST), adapter.predict(batch, MOST)
    np.testing.assert_array_equal(first.forces, second.forces)
    np.testing.assert_array_equal(first.energy, second.energy)
    assert torch.equal(torch.random.get_rng_state(), state)
    for column, values in batch.columns().items():
        np.testing.assert_array_equal(values, before[column])


def test_atoms_without_neighbours_are_predicted_where_the_package_does(pair):
    name, adapter, calculator = pair
    lonely = Atoms("O", cell=[15.0] * 3, pbc=True)
    mate = slab()
    batch = StructureBatch.from_atoms([mate, lonely, mate])
    found = adapter.predict(batch, MOST)
    if name in REFUSE_ATOMS:
        with pytest.raises((AttributeError, RuntimeError)):
            expected(calculator, lonely)
        assert set(found.not_applicable) == {1}
        assert np.isnan(found.energy[1])
        assert np.isfinite(found.energy[[0, 2]]).all()
    else:
        assert not found.not_applicable
        assert_close(found, batch, 1, *expected(calculator, lonely))


def test_pairs_of_atoms_are_predicted_where_the_package_does(pair):
    name, adapter, calculator = pair
    batch = StructureBatch.from_atoms([molecule("CO"), slab()])
    batch.tags[:2] = 2
    found = adapter.predict(batch, MOST)
    if name in {"gemnet-dt", "gemnet-t"}:
        with pytest.raises(RuntimeError):
            expected(calculator, molecule("CO"))
        assert found.not_applicable == {
            0: "no atom has two neighbours within the cutoff, which the package refuses",
        }
    else:
        assert_close(found, batch, 0, *expected(calculator, molecule("CO", tags=[2, 2])))
    assert np.isfinite(found.energy[1])


def test_gemnet_oc_needs_tags(folder):
    adapter = load(save_checkpoint(folder / "tags.pt", "gemnet-oc"))
    untagged = slab()
    untagged.set_tags(0)
    found = adapter.predict(StructureBatch.from_atoms([untagged, slab()]), MOST)
    assert found.not_applicable == {0: "the model needs tags of surface and adsorbate atoms"}


def test_energies_and_forces_are_denormalised(folder):
    """The same weights with normalisers of one and zero give the bare output."""
    checkpoint = make_checkpoint("gemnet-dt")
    for target in checkpoint["normalizers"].values():
        target.update(mean=torch.tensor(0.0), rmsd=torch.tensor(1.0))
    torch.save(checkpoint, folder / "bare.pt")
    batch = StructureBatch.from_atoms(frames("gemnet-dt"))
    bare = load(folder / "bare.pt").predict(batch, MOST)
    found = load(save_checkpoint(folder / "normal.pt", "gemnet-dt")).predict(batch, MOST)
    energy, forces = NORMALIZERS["energy"], NORMALIZERS["forces"]
    np.testing.assert_allclose(found.energy, bare.energy * energy["rmsd"] + energy["mean"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.forces, bare.forces * forces["rmsd"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("limits", [(6.0, 50), (4.0, 12), (8.0, 1000)])
def test_edges_are_those_of_the_package(limits, strict):
    """Also their order, and which of equally distant neighbours stay."""
    from fairchem.core.common.utils import radius_graph_pbc
    from torch_geometric.data import Batch

    cutoff, neighbors = limits
    for atoms in [*frames("gemnet-dt"), bulk("Cu"), bulk("NaCl", "rocksalt", a=5.6, cubic=True)]:
        batch = wrapped(StructureBatch.from_atoms([atoms]))
        ours = find_edges(batch, Limits(cutoff, neighbors, strict))
        data = Batch(
            pos=torch.from_numpy(batch.positions).float(),
            cell=torch.from_numpy(batch.cell).float(),
            natoms=torch.tensor([len(atoms)]),
            pbc=torch.from_numpy(batch.pbc),
        )
        index, cells, counts = radius_graph_pbc(data, cutoff, neighbors, enforce_max_neighbors_strictly=strict)
        np.testing.assert_array_equal([ours.source, ours.target], index.numpy())
        np.testing.assert_array_equal(ours.cells, cells.numpy())
        np.testing.assert_array_equal(ours.counts, counts.numpy())


def test_structures_it_cannot_take_are_not_applicable(adapter):
    heavy = bulk("Po", "sc", a=3.3)
    found = adapter.predict(StructureBatch.from_atoms([Atoms(), slab(), heavy]), MOST)
    assert found.not_applicable == {0: "the structure holds no atoms", 2: "the model does not know Po"}
    assert np.isfinite(found.energy[1])


@pytest.mark.parametrize("given", [[], [Atoms()]])
def test_a_batch_without_atoms_gives_rows_without_values(adapter, given):
    found = adapter.predict(StructureBatch.from_atoms(given), MOST)
    assert found.energy.shape == (len(given),)
    assert found.forces.shape == (0, 3)


def test_there_is_no_stress(adapter):
    with pytest.raises(ConfigError, match="no stress"):
        adapter.predict(StructureBatch.from_atoms([slab()]), ALL)


def test_files_of_another_kind_are_refused(folder):
    checkpoint = make_checkpoint("gemnet-dt")
    other = make_checkpoint("schnet")
    whole = save_checkpoint(folder / "whole.pt", "gemnet-dt").read_bytes()
    (folder / "short.pt").write_bytes(whole[: len(whole) // 2])
    torch.save(torch.nn.Linear(2, 2), folder / "linear.pt")
    torch.save({**checkpoint, "state_dict": other["state_dict"]}, folder / "mixed.pt")
    unknown = {**checkpoint["config"], "model": {"name": "nothing"}}
    torch.save({**checkpoint, "config": unknown}, folder / "unknown.pt")
    molecular = {**checkpoint["config"], "model": {**checkpoint["config"]["model"], "use_pbc": False}}
    torch.save({**checkpoint, "config": molecular}, folder / "molecular.pt")
    cases = {
        "short.pt": "cannot be read as a checkpoint of fairchem-core 1",
        "linear.pt": "is no checkpoint of a trainer of fairchem-core 1: no state_dict",
        "mixed.pt": "cannot be read as a model of fairchem-core 1",
        "unknown.pt": "cannot be read as a model of fairchem-core 1",
        "molecular.pt": "use_pbc: false",
    }
    for name, problem in cases.items():
        with pytest.raises(ConfigError, match=problem) as raised:
            load(folder / name)
        assert str(raised.value).startswith(str(folder / name))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (LoadRequest(dtype="float64", checkpoint="/x.pt"), "float32"),
        (LoadRequest(dtype="float32"), "needs a checkpoint"),
        (LoadRequest(dtype="float32", checkpoint="/x.pt", kwargs={"head": "a"}), "'head'"),
        (LoadRequest(dtype="float32", checkpoint="GemNet-dT-S2EF-OC20"), "did you mean GemNet-dT-S2EF-OC20-"),
    ],
)
def test_refuses_what_it_cannot_load(request_, problem):
    with pytest.raises(ConfigError, match=problem):
        FairchemV1Adapter.load(request_)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(PrerequisiteError, match="no such checkpoint"):
        load(tmp_path / "absent.pt")


def test_offline_one_line_says_within_seconds_what_to_put_where(monkeypatch, tmp_path, folder):
    monkeypatch.setenv("MLIPBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    name, begun = "GemNet-dT-S2EF-OC20-All", time.monotonic()
    with pytest.raises(PrerequisiteError, match=f"the weights of '{name}' are not on this machine") as raised:
        FairchemV1Adapter.load(LoadRequest(dtype="float32", checkpoint=name))
    assert time.monotonic() - begun < 10
    place = tmp_path / raised.value.remedy.rpartition("/")[2]
    assert raised.value.remedy.endswith(str(tmp_path / "fairchem-v1" / place.name))
    (tmp_path / "fairchem-v1").mkdir()
    torch.save(make_checkpoint("gemnet-dt"), tmp_path / "fairchem-v1" / place.name)
    assert FairchemV1Adapter.load(LoadRequest(dtype="float32", checkpoint=name)).limits == [
        Limits(6.0, 50, strict=True)
    ]


def test_the_process_is_left_as_it_was(folder):
    """Precision, threads, working folder and stdout; in a fresh process."""
    code = """
import json, os, sys, torch
torch.set_num_threads(1)
def state(): return [str(torch.get_default_dtype()), torch.get_num_threads(), os.getcwd(), sorted(os.listdir())]
before = state()
from ase.build import fcc111
from mlipbench.adapters.fairchem_v1 import FairchemV1Adapter
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.structures import StructureBatch
adapter = FairchemV1Adapter.load(LoadRequest(dtype="float32", checkpoint=sys.argv[1]))
batch = StructureBatch.from_atoms([fcc111("Cu", (2, 2, 3), vacuum=8)])
assert adapter.predict(batch, frozenset({Property.ENERGY, Property.FORCES})).forces is not None
sys.stderr.write("\\n" + json.dumps([before, state()]))
"""
    path = save_checkpoint(folder / "alone.pt", "gemnet-dt")
    empty = folder / "empty"
    empty.mkdir()
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False, cwd=empty)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    before, after = json.loads(done.stderr.splitlines()[-1])
    assert before == after


def test_energies_alone_are_those_with_forces(adapter):
    batch = StructureBatch.from_atoms([slab()])
    alone = adapter.predict(batch, frozenset({Property.ENERGY}))
    assert alone.forces is None
    assert alone.energy[0] == adapter.predict(batch, MOST).energy[0]


def test_exported_arrays_are_those_the_package_writes(tmp_path):
    from types import SimpleNamespace

    from fairchem.core.trainers.base_trainer import BaseTrainer

    from mlipbench.export.oc20 import Prediction, arranged

    rng = np.random.default_rng(0)
    ids = [f"{sid}_{fid}" for sid, fid in ((12, 3), (9, 11), (9, 2), (100, 0), (12, 30))]
    free = np.array([2, 0, 3, 1, 4])
    energy, forces = rng.normal(size=5), rng.normal(size=(10, 3))
    theirs = {
        "energy": list(energy.astype(np.float16)),
        "forces": np.split(forces.astype(np.float16), np.cumsum(free)[:-1]),
        "chunk_idx": list(free),
        "ids": ids,
    }
    trainer = SimpleNamespace(config={"cmd": {"results_dir": str(tmp_path)}}, name="ocp")
    BaseTrainer.save_results(trainer, theirs, "s2ef")
    written = np.load(tmp_path / "ocp_s2ef.npz")
    ours = arranged(Prediction(np.array(ids), energy, forces, free))
    assert set(ours) == set(written.files)
    for name, values in ours.items():
        assert values.dtype == written[name].dtype
        assert values.tolist() == written[name].tolist()


@pytest.mark.parametrize("name", ["gemnet-dt", "gemnet-t", "schnet", "painn"])
def test_operations_equal_those_of_torchs_profiler(folder, name):
    """Which counts below the dispatcher; torch's own counter of operations raises here."""
    adapter = load(save_checkpoint(folder / f"cost-{name}.pt", name))
    batch = StructureBatch.from_atoms([slab(), periodic()["bulk"]])
    facts = cost_facts(adapter, [slab(), periodic()["bulk"]])
    prepared = adapter.prepare(batch)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True, with_flops=True
    ) as profile:
        adapter.forward(prepared, MOST)
    products = {f"aten::{kind}" for kind in ("mm", "addmm", "bmm", "baddbmm")}
    profiled = sum(event.flops for event in profile.key_averages() if event.key in products)
    assert facts.n_edges == len(find_edges(wrapped(batch), adapter.limits[0]).target)
    assert facts.forces.dispatched.reason is None
    assert facts.forces.dispatched.flops == profiled > 1e5
    assert facts.energy.dispatched.flops == facts.forces.dispatched.flops  # the package predicts both or nothing
    assert facts.forces.thop.reason is None
    total, backward = sum(p.numel() for p in adapter.module().parameters()), idle_parameters(adapter, prepared)
    assert (facts.parameters.total, facts.parameters.without_gradient) == (total, backward)


def idle_parameters(adapter, prepared) -> int:
    """Return how many parameters a backward pass of energies and forces leaves without a gradient."""
    parameters = [p for name, p in adapter.module().named_parameters() if name in adapter.trainable]
    for tensor in parameters:
        tensor.requires_grad_()
    sum(output.square().sum() for output in adapter.differentiable(prepared)).backward()
    idle = sum(tensor.numel() for tensor in parameters if tensor.grad is None)
    for tensor in parameters:
        tensor.grad = None
        tensor.requires_grad_(requires_grad=False)
    return idle
