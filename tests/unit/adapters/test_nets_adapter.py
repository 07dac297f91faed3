from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from ase.build import bulk, molecule  # noqa: E402 - after torch
from net_checkpoints import save_network  # noqa: E402

from mlipbench.adapters.nets import NetsAdapter  # noqa: E402
from mlipbench.cost import CostFacts  # noqa: E402
from mlipbench.errors import ConfigError, PrerequisiteError  # noqa: E402
from mlipbench.models.interface import LoadRequest, Property  # noqa: E402
from mlipbench.protocol import Message, MessageKind, batch_arrays  # noqa: E402
from mlipbench.structures import StructureBatch  # noqa: E402
from mlipbench.structures.neighbors import neighbor_list  # noqa: E402
from mlipbench.worker.efficiency import compile_seconds  # noqa: E402
from mlipbench.worker.flops import count  # noqa: E402
from mlipbench.worker.session import Session  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
ALL = frozenset(Property)
MOST = frozenset({Property.ENERGY, Property.FORCES})
REFERENCE = {1: -10.0, 6: -100.0, 8: -1000.0, 29: -5.0}


def load(folder: Path, **request: object) -> NetsAdapter:
    return NetsAdapter.load(LoadRequest(checkpoint=str(folder), **request))


def batch(*frames: object) -> StructureBatch:
    return StructureBatch.from_atoms(frames)


def test_reference_energies_are_added_in_float64(tmp_path: Path) -> None:
    save_network(tmp_path / "with", "vanilla-nmu", per_element=REFERENCE)
    save_network(tmp_path / "without", "vanilla-nmu", per_element=dict.fromkeys(REFERENCE, 0.0))
    frames = batch(molecule("CH3CH2OH"), molecule("CO"))
    energies = [load(tmp_path / kind, dtype="float32").predict(frames, MOST).energy for kind in ("with", "without")]
    # C2H6O and CO; the networks draw equal weights, and float32 would lose 6e-5 of 1260
    assert energies[0] - energies[1] == pytest.approx([-2 * 100 - 6 * 10 - 1000, -100 - 1000], abs=1e-9)


def test_structures_with_unseen_elements_are_not_applicable(tmp_path: Path) -> None:
    save_network(tmp_path, "painn", per_element=REFERENCE)
    adapter = load(tmp_path, dtype="float64")
    mixed = adapter.predict(batch(molecule("H2O"), molecule("SH2"), molecule("CO")), MOST)
    alone = adapter.predict(batch(molecule("H2O"), molecule("CO")), MOST)
    assert mixed.not_applicable == {1: "the checkpoint was not trained on S"}
    assert np.isnan(mixed.energy).tolist() == [False, True, False]
    assert mixed.energy[[0, 2]] == pytest.approx(alone.energy, rel=1e-12)
    assert np.isnan(mixed.forces[3:6]).all()
    assert mixed.forces[[0, 1, 2, 6, 7]] == pytest.approx(alone.forces, rel=1e-9, abs=1e-12)


def test_only_unseen_elements(tmp_path: Path) -> None:
    save_network(tmp_path, "painn", per_element=REFERENCE)
    found = load(tmp_path).predict(batch(molecule("SH2")), MOST)
    assert np.isnan(found.energy).all()
    assert found.forces.shape == (3, 3)


def test_the_stress_is_the_derivative_with_respect_to_strain(tmp_path: Path) -> None:
    save_network(tmp_path, "painn", per_element=REFERENCE)
    adapter = load(tmp_path, dtype="float64")
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=3)
    stress = adapter.predict(batch(atoms), ALL).stress[0]
    step, expected = 1e-5, []
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell @ strain, scale_atoms=True)
            energies.append(adapter.predict(batch(strained), frozenset({Property.ENERGY})).energy[0])
        expected.append((energies[0] - energies[1]) / (2 * step) / atoms.get_volume())
    assert stress == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_list_with_a_skin_gives_the_same(tmp_path: Path) -> None:
    save_network(tmp_path, "leignn", per_element=REFERENCE)
    adapter = load(tmp_path, dtype="float64")
    frames = batch(bulk("Cu", cubic=True) * (2, 1, 1), molecule("CO"))
    plain = adapter.predict(frames, MOST)
    skinned = adapter.forward(adapter.prepare(frames, neighbor_list(frames, 6.5)), MOST)
    assert skinned.energy == pytest.approx(plain.energy, rel=1e-12)
    assert skinned.forces == pytest.approx(plain.forces, rel=1e-9, abs=1e-12)


def test_a_list_that_is_too_short_is_refused(tmp_path: Path) -> None:
    save_network(tmp_path, "leignn", per_element=REFERENCE)
    frames = batch(molecule("CO"))
    with pytest.raises(ValueError, match="shorter than the cutoff"):
        load(tmp_path).prepare(frames, neighbor_list(frames, 4.0))


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a checkpoint"):
        NetsAdapter.load(LoadRequest())
    with pytest.raises(PrerequisiteError, match="cannot be read"):
        load(tmp_path / "nowhere")
    save_network(tmp_path, "painn", per_element=REFERENCE)
    with pytest.raises(ConfigError, match="takes no argument 'cutoff'"):
        load(tmp_path, kwargs={"cutoff": 3.0})


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        ({"kwargs": {"tf32": True}, "dtype": "float32"}, ConfigError, "the device 'cpu' has no TF32"),
        ({"kwargs": {"tf32": True}, "device": "cuda"}, ConfigError, "multiply in float32"),
        ({"kwargs": {"compile": "yes"}}, ConfigError, "'yes' is neither true nor false"),
        ({"kwargs": {"compile": True}}, PrerequisiteError, "there is no 'no-such-compiler'"),
    ],
)
def test_settings_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: dict[str, object], error: type[Exception], said: str
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    save_network(tmp_path, "painn", per_element=REFERENCE)
    with pytest.raises(error, match=said):
        load(tmp_path, **request_)


@pytest.mark.slow  # the compiler takes minutes
@pytest.mark.timeout(1800)
def test_a_compiled_network_predicts_the_same(tmp_path: Path) -> None:
    save_network(tmp_path, "leignn", per_element=REFERENCE)
    before, compiling, begun = (
        torch._dynamo.utils.counters["stats"]["unique_graphs"],
        compile_seconds(),
        time.monotonic(),
    )
    eager, compiled = (load(tmp_path, dtype="float32", kwargs={"compile": compiled}) for compiled in (False, True))
    for frames in (batch(molecule("CH3CH2OH")), batch(molecule("CO"), molecule("H2O"), bulk("Cu", cubic=True))):
        expected, found = eager.predict(frames, MOST), compiled.predict(frames, MOST)
        assert found.energy == pytest.approx(expected.energy, rel=1e-6)
        assert found.forces == pytest.approx(expected.forces, abs=1e-5 * np.abs(expected.forces).max())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before
    assert 0.5 * (time.monotonic() - begun) < compile_seconds() - compiling < time.monotonic() - begun


def test_counting_sees_the_network_as_written_and_its_own_edges(tmp_path: Path) -> None:
    pytest.importorskip("thop")
    save_network(tmp_path, "leignn", per_element=REFERENCE)
    adapter = load(tmp_path, dtype="float32")
    frames = batch(bulk("Cu", cubic=True) * (2, 2, 2), molecule("SH2"), molecule("CO"))
    reading, writing = os.pipe()
    request = Message(MessageKind.COUNT, {"properties": ["energy", "forces"]}, batch_arrays(frames))
    facts = CostFacts.from_header(count(Session(reply_fd=writing, loaded=adapter), request).header)
    os.close(reading)
    os.close(writing)
    assert (facts.n_structures, facts.n_atoms) == (2, 34)
    # fcc Cu has 12 + 6 + 24 neighbours within the cutoff of 5 Å, each carbon and oxygen one
    assert facts.n_edges == 32 * 42 + 2
    h, layers, radial = 16, 3, 32  # the closed form of docs/tasks/efficiency.md
    multiply_adds = (
        34 * ((18 * layers - 3) * h**2 + 3.5 * h)
        + facts.n_edges * radial * h * (3 * layers - 1)
        + 2 * (7 * layers - 6) * h**2
    )
    assert facts.forces.dispatched.flops == 2 * multiply_adds
    assert facts.energy.dispatched.flops == 2 * (multiply_adds - 34 * (4 * h**2 + 3 * h))
    assert facts.parameters.trainable == facts.parameters.total
    assert facts.parameters.without_gradient == (3 * h * h + 2 * h + h * h) + h * h
    assert facts.forces.thop.reason is None
    assert not any(tensor.requires_grad for tensor in adapter.module().parameters())


def test_counting_where_the_network_covers_nothing(tmp_path: Path) -> None:
    pytest.importorskip("thop")
    save_network(tmp_path, "painn", per_element=REFERENCE)
    request = Message(MessageKind.COUNT, {"properties": ["energy", "forces"]}, batch_arrays(batch(molecule("SH2"))))
    facts = CostFacts.from_header(count(Session(reply_fd=-1, loaded=load(tmp_path)), request).header)
    assert (facts.n_structures, facts.n_atoms, facts.n_edges) == (0, 0, None)
    assert facts.forces.dispatched.reason == "the checkpoint was not trained on S"
    assert facts.parameters.total > 0
