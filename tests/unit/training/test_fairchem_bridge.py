# ruff: noqa: E402 - the package first
"""What the trainer of fairchem-core 2 is given, and that it goes on where it was."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

try:
    if not importlib.metadata.version("fairchem-core").startswith("2."):
        pytest.skip("needs fairchem-core 2", allow_module_level=True)
except importlib.metadata.PackageNotFoundError:
    pytest.skip("needs fairchem-core 2", allow_module_level=True)
pytestmark = [pytest.mark.fairchem, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

import torch
from bridge_toys import (
    job_for,
    save,
    step_times_where_only_the_optimiser_takes_time,
    trained,
    whole_and_resumed,
)

from mlipbench.errors import ConfigError, WorkerError
from mlipbench.recipe import Trainer
from mlipbench.training.bridges.bridge import FORCE_SHARE, Material
from mlipbench.training.bridges.drive import train_bridged
from mlipbench.training.order import Order

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.recipe import TrainingJob
    from mlipbench.structures.columnar import Split

CHANNELS = dict.fromkeys(("sphere_channels", "hidden_channels", "edge_channels", "num_distance_basis"), 8)


@pytest.fixture(scope="module")
def bridge() -> Any:
    """The module, whose import is that of the package."""
    from mlipbench.training.bridges import fairchem

    return fairchem


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return save(tmp_path / "columns")


def job(split: Split, net: str = "uma", **changes: Any) -> TrainingJob:
    small = {
        "changes": {**CHANNELS, "num_layers": 1},
        "loss": {"kind": "l1", "energy": 0.5, "forces": 20.0},
        "validation": {"split": "train", "slice": [9, 15, None]},
        "learning_rates": [1e-3],
        "schedule": {"kind": "cosine", "final": 0.1},
        "ema_decay": 0.9,
        "clip": 10.0,
        "batch": 4,
        "steps": 10,
        "evaluate_every": 4,
    }
    changed = job_for(split, **small | changes)
    return changed.model_copy(update={"net": net, "trainer": Trainer.FAIRCHEM})


def test_labels_and_masks_are_those_of_the_split(split: Split, bridge: Any) -> None:
    material = Material.of(job(split))
    data, targets = material.train, material.train_targets
    made = bridge.examples(data, targets)
    assert [float(example.energy) for example in made] == targets.astype(np.float32).tolist()
    assert torch.cat([example.forces for example in made]).tolist() == data.forces.astype(np.float32).tolist()
    assert torch.cat([example.fixed for example in made]).tolist() == (~data.counted).astype(int).tolist()
    assert not data.counted.all()


def losses(split: Split, bridge: Any, tmp_path: Path, errors: tuple[Any, Any, Any]) -> tuple[float, float]:
    """Return the losses of energies and forces that the trainer takes of errors in eV and eV/Å, with a mask."""
    from fairchem.core.units.mlip_unit.mlip_unit import compute_loss

    driven = bridge.FairchemBridge(job(split), Material.of(job(split)))
    (tmp_path / "config.yaml").touch()
    with bridge._one_process("cpu"):
        unit = driven._unit(tmp_path, 1e-3)
        energy, forces, fixed = errors
        batch = bridge.atomic_data(Material.of(job(split)).train.structures.slice(0, 3), "recipe", torch.float64)
        batch.fixed = torch.tensor(fixed.astype(int))
        batch.dataset_name = ["recipe"] * 3
        batch.energy, batch.forces = torch.zeros(3, dtype=torch.float64), torch.zeros(forces.shape, dtype=torch.float64)
        scale = driven.scale  # predictions are of targets over the scale
        predictions = {
            "energy": {"energy": torch.tensor(energy / scale).requires_grad_()},
            "forces": {"forces": torch.tensor(forces / scale).requires_grad_()},
        }
        found = compute_loss(unit.tasks, predictions, batch)
    return float(found["energy"]), float(found["forces"])


def test_the_loss_of_the_package_is_that_of_the_recipe(split: Split, bridge: Any, tmp_path: Path) -> None:
    n = int(Material.of(job(split)).train.structures.slice(0, 3).n_atoms)
    rng, fixed = np.random.default_rng(1), np.arange(n) % 4 == 0
    error_e, error_f = rng.normal(size=3), rng.normal(size=(n, 3))
    energy, forces = losses(split, bridge, tmp_path, (error_e, error_f, fixed))
    assert energy == pytest.approx(0.5 * np.mean(np.abs(error_e)), rel=1e-6)
    length = np.sqrt(np.square(error_f[~fixed]).sum(axis=1))
    assert forces == pytest.approx(20.0 * np.mean(length) / 2, rel=1e-6)


def test_half_the_length_of_a_vector_is_its_mean_component() -> None:
    directions = np.random.default_rng(2).normal(size=(200_000, 3))
    length = np.linalg.norm(directions, axis=1)
    assert np.abs(directions).mean() / length.mean() == pytest.approx(FORCE_SHARE, rel=0.005)


def test_the_schedule_falls_to_the_share_of_the_recipe(split: Split, bridge: Any, tmp_path: Path) -> None:
    driven = bridge.FairchemBridge(job(split), Material.of(job(split)))
    (tmp_path / "config.yaml").touch()
    with bridge._one_process("cpu"):
        unit = driven._unit(tmp_path, 1e-3)
        unit.load_scheduler(3)
        rates = []
        for _ in range(11):
            rates.append(unit.scheduler.get_last_lr()[0])
            unit.optimizer.step()
            unit.scheduler.step()
    steps = np.arange(2, 11)  # the package takes the first two steps for a warm-up, of which there is none
    expected = 1e-3 * (0.1 + 0.45 * (1 + np.cos(np.pi * steps / 10)))
    np.testing.assert_allclose(rates, [1e-3, 1e-3, *expected], rtol=1e-6)


def test_every_structure_is_seen_once_an_epoch_and_orders_differ(bridge: Any) -> None:
    batches = bridge._Batches(Order(10, 4, seed=3))
    first = list(batches)
    assert sorted(index for batch in first for index in batch) == list(range(10))
    batches.set_epoch_and_start_iteration(0, 1)
    assert list(batches) == first[1:]
    batches.set_epoch_and_start_iteration(1, 0)
    assert list(batches) != first


@pytest.mark.parametrize(
    ("net", "changes", "line"),
    [
        ("uma", {"preset": "smal"}, "recipe tiny: preset: unknown preset 'smal'; known: small"),
        ("uma", {"changes": {"layers": 3}}, "recipe tiny: changes: unknown field 'layers'; known: sphere_channels, "),
        ("escn", {}, "the trainer of fairchem-core 2 knows no network 'escn'; known: esen, uma"),
        ("esen", {"changes": {"num_experts": 3}}, "recipe tiny: changes: unknown field 'num_experts'; known: "),
    ],
)
def test_what_the_package_does_not_know_is_refused(
    split: Split, bridge: Any, net: str, changes: dict[str, Any], line: str
) -> None:
    made = job(split, net, **changes)
    with pytest.raises(ConfigError, match=line):
        bridge.FairchemBridge(made, Material.of(made))


@pytest.mark.parametrize("net", ["uma", "esen"])
@pytest.mark.parametrize("ema_decay", [0.9, None])
def test_a_training_leaves_a_checkpoint_whose_adapter_adds_the_reference_back(
    split: Split, bridge: Any, tmp_path: Path, net: str, ema_decay: float | None
) -> None:
    record = trained(job(split, net, ema_decay=ema_decay), bridge.FairchemBridge, tmp_path / "made", 1e-4)
    assert [point.step for point in record.curve] == [4, 8, 10]
    assert record.curve[-1].forces_mae < record.curve[0].forces_mae  # it learns


def test_killed_and_started_again_it_ends_with_the_same_weights(split: Split, bridge: Any, tmp_path: Path) -> None:
    whole_and_resumed(job(split), bridge.FairchemBridge, 6, tmp_path)


def test_step_times_are_those_of_whole_steps_without_validations(split: Split, bridge: Any, tmp_path: Path) -> None:
    found = step_times_where_only_the_optimiser_takes_time(job(split), bridge.FairchemBridge, tmp_path / "made")
    assert (found.n, found.skipped, found.batch) == (8, 2, 4)
    assert (found.p25, found.median, found.p75) == (1.0, 1.0, 1.0)


def test_uma_s_has_the_published_sizes(split: Split, bridge: Any) -> None:
    """The published architecture with three datasets, built from the package's own modules, has 146,632,353 parameters.

    A dataset takes a row of an embedding of 128 and, in the head, its own matrices: 128 x 128, 128 x 128 and 128 x 1.
    """
    import hydra

    config = bridge.model_config(job(split, preset="uma-s", changes={}))
    network = hydra.utils.instantiate({**config, "_recursive_": False})
    expected = 146_632_353 - 2 * (128 + 128 * 128 + 128 * 128 + 128)
    assert sum(weight.numel() for weight in network.parameters()) == expected


def test_esen_sm_has_the_published_size(split: Split, bridge: Any) -> None:
    """6.3 million parameters, as the paper of OMol25 (arXiv 2505.08762) has it."""
    import hydra

    made = job(split, "esen", preset="esen-sm", changes={})
    network = hydra.utils.instantiate({**bridge.model_config(made), "_recursive_": False})
    assert round(sum(weight.numel() for weight in network.parameters()), -5) == 6_300_000


def test_a_loss_that_is_no_number_is_told(split: Split, bridge: Any, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(WorkerError, match=r"learning rate 1e\+30, step \d+: the loss is NaN or infinite; lower"):
        train_bridged(job(split, learning_rates=[1e30], clip=None), folder, bridge.FairchemBridge)
