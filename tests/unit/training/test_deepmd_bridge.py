# ruff: noqa: E402 - the package first
"""What DeePMD's trainer is given, and that it goes on at its last validation."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if importlib.util.find_spec("deepmd") is None:
    pytest.skip("needs the package deepmd-kit", allow_module_level=True)
pytestmark = [
    pytest.mark.deepmd,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what the package and torch say of the package's own code
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

import torch
from bridge_toys import N, job_for, save, step_times_where_only_the_optimiser_takes_time, trained

from mlipbench.errors import ConfigError, WorkerError
from mlipbench.recipe import Trainer
from mlipbench.structures.neighbors import neighbor_list
from mlipbench.training.bridges.bridge import Material
from mlipbench.training.bridges.deepmd import DeepmdBridge
from mlipbench.training.bridges.deepmd_systems import force_weights, write_systems
from mlipbench.training.bridges.drive import train_bridged
from mlipbench.training.bridges.report import Report

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.recipe import TrainingJob
    from mlipbench.structures.columnar import Split


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return save(tmp_path / "columns")


def job(split: Split, **changes: Any) -> TrainingJob:
    small = {
        "changes": {"rcut": 4.0, "neuron": [4, 8], "axis_neuron": 2, "fitting_neuron": [8, 8]},
        "loss": {"kind": "mse", "energy": 0.5, "forces": 20.0},
        "validation": {"split": "train", "slice": [9, 15, None]},
        "learning_rates": [1e-2],
        "schedule": {"kind": "exponential", "final": 0.5},
        "clip": 100.0,
        "batch": 3,
        "steps": 13,
        "evaluate_every": 4,
    }
    return job_for(split, **small | changes).model_copy(update={"net": "deepmd", "trainer": Trainer.DEEPMD})


def bridge(split: Split, **changes: Any) -> DeepmdBridge:
    made = job(split, **changes)
    return DeepmdBridge(made, Material.of(made))


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_the_loss_of_the_package_is_that_of_the_recipe_where_structures_are_alike(split: Split, kind: str) -> None:
    from deepmd.pt.loss import EnergyStdLoss

    made = bridge(split, loss={"kind": kind, "energy": 0.5, "forces": 20.0})
    told = made.settings(1e-2)["loss"]
    n = made.material.train.structures.counts.mean()
    rng = np.random.default_rng(1)
    error_e, error_f = rng.normal(size=2), rng.normal(size=(2, 4, 3))
    counted = np.array([True, True, False, True])
    predicted = {"energy": torch.tensor(error_e)[:, None], "force": torch.tensor(error_f)}
    label = {"energy": torch.zeros(2, 1), "force": torch.zeros(2, 4, 3), "find_energy": 1.0, "find_force": 1.0}
    weights = torch.tensor(np.where(counted, 4 / 3, 0.0))
    label |= {"atom_pref": weights[None, :, None].expand(2, 4, 3), "find_atom_pref": 1.0}
    loss = EnergyStdLoss(starter_learning_rate=1.0, **{key: value for key, value in told.items() if key != "type"})
    _, found, _ = loss({}, lambda: predicted, label, 4, 1.0)
    # by hand: means over structures, and over the components of forces that count; energies are divided by n atoms
    size = np.abs if kind == "l1" else np.square
    expected = 0.5 * np.mean(size(error_e)) * n / 4 + 20.0 * np.mean(size(error_f[:, counted]))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_weights_of_forces_leave_out_what_does_not_count(split: Split) -> None:
    train = Material.of(job(split)).train
    weights = force_weights(train)
    assert (weights[~train.counted] == 0).all()
    assert not train.counted.all()
    sums = np.bincount(train.structures.structure_index, weights)
    np.testing.assert_allclose(sums, train.structures.counts)  # so that their mean is one


def test_systems_hold_every_structure_once_with_its_labels(split: Split, tmp_path: Path) -> None:
    material = Material.of(job(split))
    train, targets = material.train, material.train_targets
    seen = []
    for place in write_systems(tmp_path / "systems", train, targets, 4.0):
        energies, coordinates, boxes, forces = (
            np.load(place / "set.000" / f"{name}.npy") for name in ("energy", "coord", "box", "force")
        )
        symbols = (place / "type_map.raw").read_text().split()
        types = [symbols[int(row)] for row in (place / "type.raw").read_text().split()]
        for energy, places, box, force in zip(energies, coordinates, boxes, forces, strict=True):
            (s,) = np.flatnonzero(targets == energy[0])
            atoms = slice(train.structures.offsets[s], train.structures.offsets[s + 1])
            np.testing.assert_array_equal(places.reshape(-1, 3), train.structures.positions[atoms])
            np.testing.assert_array_equal(force.reshape(-1, 3), train.forces[atoms])
            assert types == [{1: "H", 8: "O"}[z] for z in train.structures.numbers[atoms]]
            assert np.diag(box.reshape(3, 3)).min() > 4.0  # images are out of reach
            assert np.linalg.det(box.reshape(3, 3)) > 0
            seen.append(s)
    assert sorted(seen) == list(range(train.n_structures))


def test_what_the_package_is_told(split: Split) -> None:
    made = bridge(split, seed=7, weight_decay=1e-5, precision="float64")
    found = made.settings(1e-2)
    model, training = found["model"], found["training"]
    assert (model["type_map"], model["preset_out_bias"]) == (["H", "O"], {"energy": [0.0, 0.0]})
    assert model["descriptor"]["precision"] == model["fitting_net"]["precision"] == "float64"
    edges = neighbor_list(made.material.train.structures, 4.0)
    assert model["descriptor"]["sel"] == [int(np.ceil(1.25 * np.bincount(edges.i).max()))] * 2
    assert (training["numb_steps"], training["save_freq"], training["seed"]) == (13, 4, 7)
    assert training["gradient_max_norm"] == 100.0
    cosine = bridge(split, clip=None, schedule={"kind": "cosine", "final": 0.1}).settings(1e-2)
    assert cosine["learning_rate"] == {"type": "cosine", "start_lr": 1e-2, "stop_lr": pytest.approx(1e-3)}
    assert "gradient_max_norm" not in cosine["training"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"preset": "smal"}, "recipe tiny: preset: unknown preset 'smal'; known: small"),
        ({"changes": {"neurons": [3]}}, "recipe tiny: changes: unknown field 'neurons'; known: rcut, "),
    ],
)
def test_what_the_package_does_not_know_is_refused(split: Split, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        bridge(split, **changes)


@pytest.mark.parametrize(("kind", "ema_decay"), [("exponential", None), ("cosine", 0.5)])
def test_a_training_leaves_a_checkpoint_whose_adapter_adds_the_reference_back(
    split: Split, tmp_path: Path, kind: str, ema_decay: float | None
) -> None:
    made = job(split, schedule={"kind": kind, "final": 0.5}, ema_decay=ema_decay)
    record = trained(made, DeepmdBridge, tmp_path / "made", 1e-5)
    assert [point.step for point in record.curve] == [4, 8, 12, 13]
    rates = [point.learning_rate for point in record.curve]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.5e-2, rel=0.1)
    assert record.settings["conversions"]
    assert str(tmp_path) not in record.model_dump_json()


def test_the_weights_are_those_of_the_best_validation(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    record = train_bridged(job(split, learning_rates=[0.1], steps=40), folder, DeepmdBridge)
    (candidate,) = record.candidates
    best = min(record.curve, key=lambda point: point.forces_mae)
    assert (candidate.best_step, candidate.forces_mae) == (best.step, pytest.approx(best.forces_mae, rel=1e-5))
    assert record.verdict.n_structures == 6 < N


class Killed(BaseException):
    """Ends a training where no handler can see it."""


def test_a_killed_training_goes_on_at_its_last_validation(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    step = Report.step

    def killing(self: Report, number: int, loss: float) -> None:
        if number == 10:
            raise Killed
        step(self, number, loss)

    monkeypatch.setattr(Report, "step", killing)
    with pytest.raises(Killed):
        train_bridged(job(split, ema_decay=0.9), folder, DeepmdBridge)
    monkeypatch.setattr(Report, "step", step)
    record = train_bridged(job(split, ema_decay=0.9), folder, DeepmdBridge)
    begun = [line for line in events(folder) if line["kind"] == "begin"]
    assert [line.get("step", 0) for line in begun] == [0, 8]
    assert [point.step for point in record.curve] == [4, 8, 12, 13]


def test_a_step_is_the_change_of_the_weights_and_no_validation(split: Split, tmp_path: Path) -> None:
    times = step_times_where_only_the_optimiser_takes_time(job(split), DeepmdBridge, tmp_path / "made")
    assert (times.n, times.median, times.batch) == (11, 1.0, 3)


def test_a_loss_that_is_no_number_is_told(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(WorkerError, match=r"learning rate 1e\+30, step \d+: "):
        train_bridged(job(split, learning_rates=[1e30], clip=None), folder, DeepmdBridge)


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
