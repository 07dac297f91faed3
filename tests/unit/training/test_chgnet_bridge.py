# ruff: noqa: E402 - the package first
"""What CHGNet's trainer is given, and that it goes on where it was."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("chgnet", reason="needs the package chgnet")
pytestmark = [
    pytest.mark.chgnet,
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning"),
    pytest.mark.filterwarnings("ignore:No Pauling electronegativity:UserWarning"),
]

import torch
from bridge_toys import (
    job_for,
    save,
    step_times_where_only_the_optimiser_takes_time,
    trained,
    whole_and_resumed,
)
from chgnet.graph import CrystalGraphConverter
from chgnet.trainer.trainer import CombinedLoss

from mlipbench.adapters.trained import TrainedAdapter
from mlipbench.checkpoint import RECORD_FILE, read_checkpoint
from mlipbench.errors import ConfigError, WorkerError
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.recipe import Trainer
from mlipbench.training.bridges.bridge import Material
from mlipbench.training.bridges.chgnet import ChgnetBridge, energy_factor, labelled_graphs
from mlipbench.training.bridges.drive import train_bridged

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.recipe import TrainingJob
    from mlipbench.structures.columnar import Split

BOTH = frozenset({Property.ENERGY, Property.FORCES})


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return save(tmp_path / "columns")


def job(split: Split, **changes: Any) -> TrainingJob:
    small = {
        "preset": "0.3.0",
        "loss": {"kind": "l1", "energy": 0.5, "forces": 20.0},
        "validation": {"split": "train", "slice": [9, 12, None]},
        "learning_rates": [1e-3],
        "batch": 1,
        "steps": 20,
        "evaluate_every": 10,
    }
    made = job_for(split, **small | changes)
    return made.model_copy(update={"trainer": Trainer.CHGNET, "net": "chgnet-finetuned"})


def test_labels_are_per_atom_and_of_atoms_that_count(split: Split) -> None:
    material = Material.of(job(split))
    data, targets = material.train, material.train_targets
    examples = labelled_graphs(data, targets, CrystalGraphConverter(atom_graph_cutoff=6, bond_graph_cutoff=3))
    counts = data.structures.counts
    energies = [float(label["e"]) for _, label in examples]
    assert energies == (targets / counts).astype(np.float32).tolist()
    forces = torch.cat([label["f"] for _, label in examples]).numpy()
    assert forces[data.counted].tolist() == data.forces[data.counted].astype(np.float32).tolist()
    assert np.isnan(forces[~data.counted]).all()
    assert not data.counted.all()
    assert [len(graph.atomic_number) for graph, _ in examples] == counts.tolist()


def test_energy_weights_are_converted_to_energies_per_atom() -> None:
    counts = np.array([2, 4, 6])
    assert energy_factor("l1", counts) == 4.0
    assert energy_factor("mse", counts) == pytest.approx((4 + 16 + 36) / 3)


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_the_loss_of_the_package_is_that_of_the_recipe(split: Split, kind: str) -> None:
    bridge = ChgnetBridge(job(split, loss={"kind": kind, "energy": 0.5, "forces": 20.0}), Material.of(job(split)))
    same = replace(bridge.material.train.structures.slice(0, 1))
    factor = energy_factor(kind, same.counts)
    arguments = bridge.arguments(1e-3)
    loss = CombinedLoss(
        target_str=arguments["targets"],
        criterion=arguments["criterion"],
        energy_loss_ratio=0.5 * factor,
        force_loss_ratio=arguments["force_loss_ratio"],
    )
    n, rng = int(same.counts[0]), np.random.default_rng(1)
    error_e, error_f = rng.normal(size=4), rng.normal(size=(4, n, 3))
    counted = rng.random((4, n)) < 0.7
    labels = np.where(counted[..., None], np.zeros((4, n, 3)), np.nan)
    found = loss(
        {"e": torch.zeros(4, dtype=torch.float64), "f": list(torch.tensor(labels))},
        {"e": torch.tensor(error_e / n), "f": list(torch.tensor(error_f))},
    )
    power = 1 if kind == "l1" else 2
    expected = 0.5 * np.mean(np.abs(error_e) ** power) + 20.0 * np.mean(np.abs(error_f[counted]) ** power)
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-12)
    weight = 0.5 * energy_factor(kind, bridge.material.train.structures.counts)
    assert arguments["energy_loss_ratio"] == pytest.approx(weight)


def test_the_schedule_ends_at_the_share_of_the_recipe(split: Split) -> None:
    def arguments(schedule: dict[str, Any]) -> dict[str, Any]:
        made = job(split, schedule=schedule, steps=40)
        return ChgnetBridge(made, Material.of(made)).arguments(1e-3)

    assert arguments({"kind": "cosine", "final": 0.1})["scheduler_params"] == {"decay_fraction": 0.1}
    gamma = arguments({"kind": "exponential", "final": 0.1})["scheduler_params"]["gamma"]
    assert gamma ** (10 * 4) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"preset": "small"}, r"recipe tiny: preset: unknown preset 'small'; known: 0\.3\.0"),
        ({"evaluate_every": 5}, "recipe tiny: evaluate_every: .* give at least 10, and a divisor of steps"),
        ({"evaluate_every": 11}, "recipe tiny: evaluate_every: .* a divisor of steps"),
    ],
)
def test_what_the_trainer_cannot_do_is_refused(split: Split, changes: dict[str, Any], line: str) -> None:
    made = job(split, **changes)
    with pytest.raises(ConfigError, match=line):
        ChgnetBridge(made, Material.of(job(split)))


def test_killed_and_started_again_it_ends_in_the_same_bits(split: Split, tmp_path: Path) -> None:
    record, again = whole_and_resumed(job(split), ChgnetBridge, 14, tmp_path)
    assert [point.step for point in record.curve] == [10, 20]
    assert again.weights_sha256 == record.weights_sha256


def test_a_checkpoint_adds_the_reference_back_and_covers_what_it_saw(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    record = trained(job(split), ChgnetBridge, folder, 1e-3)
    assert record.settings["trainer"] == "chgnet.trainer.Trainer"
    assert not record.pickled
    structures = Material.of(job(split)).validation.structures
    found = TrainedAdapter.load(LoadRequest(dtype="float32", checkpoint=str(folder))).predict(structures, BOTH)

    foreign = replace(structures, numbers=np.where(np.arange(structures.n_atoms) == 0, 14, structures.numbers))
    refused = TrainedAdapter.load(LoadRequest(dtype="float32", checkpoint=str(folder))).predict(foreign, BOTH)
    assert dict(refused.not_applicable) == {0: "the checkpoint was not trained on Si"}
    assert np.isnan(refused.energy[0])
    np.testing.assert_allclose(refused.energy[1:], found.energy[1:], rtol=1e-6)

    record = read_checkpoint(folder)
    (folder / RECORD_FILE).write_text(record.model_copy(update={"trainer": Trainer.NETS}).model_dump_json())
    with pytest.raises(ConfigError, match="the checkpoint is one of chgnet-finetuned, which another adapter reads"):
        TrainedAdapter.load(LoadRequest(dtype="float32", checkpoint=str(folder)))
    config = {**record.config, "n_conv": 2}
    (folder / RECORD_FILE).write_text(record.model_copy(update={"config": config}).model_dump_json())
    with pytest.raises(ConfigError, match="the weights do not fit the configuration"):
        TrainedAdapter.load(LoadRequest(dtype="float32", checkpoint=str(folder)))


def test_step_times_are_those_of_whole_steps_without_validations(split: Split, tmp_path: Path) -> None:
    found = step_times_where_only_the_optimiser_takes_time(job(split), ChgnetBridge, tmp_path / "made")
    assert (found.n, found.skipped, found.batch) == (18, 2, 1)
    assert (found.p25, found.median, found.p75) == (1.0, 1.0, 1.0)


def test_a_loss_that_is_no_number_is_told(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(WorkerError, match=r"learning rate 1e\+30, step \d+: the loss is NaN or infinite; lower"):
        train_bridged(job(split, learning_rates=[1e30]), folder, ChgnetBridge)
