# ruff: noqa: E402 - the package first
"""What the trainer of fairchem-core 1.10 is given, and that it goes on where it was."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

try:
    if not importlib.metadata.version("fairchem-core").startswith("1."):
        pytest.skip("needs fairchem-core 1", allow_module_level=True)
except importlib.metadata.PackageNotFoundError:
    pytest.skip("needs fairchem-core 1", allow_module_level=True)
pytestmark = [pytest.mark.fairchem_v1, pytest.mark.filterwarnings("ignore")]

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
from mlipbench.structures.neighbors import neighbor_list
from mlipbench.training.bridges.bridge import Material
from mlipbench.training.bridges.drive import train_bridged

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.recipe import TrainingJob
    from mlipbench.structures.columnar import Split


@pytest.fixture(scope="module")
def bridge() -> Any:
    """The module, whose import is that of the package."""
    from mlipbench.training.bridges import fairchem_v1

    return fairchem_v1


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return save(tmp_path / "columns")


def job(split: Split, **changes: Any) -> TrainingJob:
    small = {
        "changes": {"num_blocks": 1, "emb_size_atom": 8, "emb_size_edge": 8, "emb_size_trip": 4},
        "loss": {"kind": "l1", "energy": 0.5, "forces": 20.0},
        "validation": {"split": "train", "slice": [9, 15, None]},
        "learning_rates": [1e-3],
        "schedule": {"kind": "cosine", "final": 0.1},
        "ema_decay": 0.9,
        "clip": 10.0,
        "batch": 4,
        "steps": 9,
        "evaluate_every": 3,
    }
    changed = job_for(split, **small | changes)
    return changed.model_copy(update={"net": "gemnet-dt", "trainer": Trainer.FAIRCHEM_V1})


def test_labels_and_masks_are_those_of_the_split(split: Split, bridge: Any) -> None:
    material = Material.of(job(split))
    data, targets = material.train, material.train_targets
    made = bridge.examples(data, targets, 6.0)
    assert [example.energy for example in made] == targets.tolist()
    assert torch.cat([example.forces for example in made]).tolist() == data.forces.astype(np.float32).tolist()
    assert torch.cat([example.fixed for example in made]).tolist() == (~data.counted).astype(int).tolist()
    assert not data.counted.all()


def test_images_of_molecules_are_out_of_reach(split: Split, bridge: Any) -> None:
    structures = Material.of(job(split)).train.structures
    boxes = bridge.boxed(structures, 6.0)
    assert boxes.pbc.all()
    assert neighbor_list(boxes, 6.0).n_edges == neighbor_list(structures, 6.0).n_edges
    slab = replace(
        structures,
        cell=np.broadcast_to(np.diag([4.0, 5.0, 0.0]), structures.cell.shape),
        pbc=np.broadcast_to([True, True, False], structures.pbc.shape),
    )
    boxes = bridge.boxed(slab, 6.0)
    assert neighbor_list(boxes, 6.0).n_edges == neighbor_list(slab, 6.0).n_edges
    assert boxes.cell[:, :2].tolist() == slab.cell[:, :2].tolist()


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_the_loss_of_the_package_is_that_of_the_recipe(split: Split, bridge: Any, kind: str, tmp_path: Path) -> None:
    made = job(split, loss={"kind": kind, "energy": 0.5, "forces": 20.0})
    driven = bridge.FairchemV1Bridge(made, Material.of(made))
    bridge.setup_imports()
    trainer = bridge.OCPTrainer(**driven.arguments(1e-3) | {"is_debug": True}, run_dir=str(tmp_path))
    counts, rng = np.array([2, 5, 3]), np.random.default_rng(1)
    error_e, error_f, fixed = rng.normal(size=3), rng.normal(size=(10, 3)), np.arange(10) % 4 == 0
    batch = {
        "natoms": torch.tensor(counts),
        "fixed": torch.tensor(fixed.astype(int)),
        "energy": torch.zeros(3, dtype=torch.float64),
        "forces": torch.zeros((10, 3), dtype=torch.float64),
    }
    out = {
        "energy": torch.tensor(error_e)[:, None].requires_grad_(),
        "forces": torch.tensor(error_f).requires_grad_(),
    }

    class Batch(SimpleNamespace):
        def __getitem__(self, name: str) -> Any:
            return getattr(self, name)

    found = float(trainer._compute_loss(out, Batch(**batch)))
    power = 1 if kind == "l1" else 2
    expected = 0.5 * np.mean(np.abs(error_e) ** power) + 20.0 * np.mean(np.abs(error_f[~fixed]) ** power)
    assert found == pytest.approx(expected, rel=1e-6)


def test_schedules_end_at_the_share_of_the_recipe(split: Split, bridge: Any) -> None:
    def optimiser(schedule: dict[str, Any]) -> dict[str, Any]:
        made = job(split, schedule=schedule)
        options: dict[str, Any] = bridge.FairchemV1Bridge(made, Material.of(made)).arguments(1e-3)["optimizer"]
        return options

    cosine = optimiser({"kind": "cosine", "final": 0.1})
    assert (cosine["T_max"], cosine["eta_min"]) == (9, pytest.approx(1e-4))
    assert optimiser({"kind": "exponential", "final": 0.1})["gamma"] ** 9 == pytest.approx(0.1)
    plateau = optimiser({"kind": "plateau", "factor": 0.5, "patience": 2, "min_learning_rate": 1e-5})
    assert (plateau["factor"], plateau["patience"], plateau["min_lr"]) == (0.5, 2, 1e-5)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"preset": "smal"}, "recipe tiny: preset: unknown preset 'smal'; known: small"),
        ({"changes": {"blocks": 3}}, "recipe tiny: changes: unknown field 'blocks'; known: num_spherical, "),
    ],
)
def test_what_the_package_does_not_know_is_refused(
    split: Split, bridge: Any, changes: dict[str, Any], line: str
) -> None:
    made = job(split, **changes)
    with pytest.raises(ConfigError, match=line):
        bridge.FairchemV1Bridge(made, Material.of(made))


def test_a_training_leaves_a_checkpoint_whose_adapter_adds_the_reference_back(
    split: Split, bridge: Any, tmp_path: Path
) -> None:
    record = trained(job(split), bridge.FairchemV1Bridge, tmp_path / "made", 1e-4)
    assert [point.step for point in record.curve] == [3, 6, 9]
    assert record.settings["steps_per_epoch"] == 3


def test_killed_and_started_again_it_ends_with_the_same_weights(split: Split, bridge: Any, tmp_path: Path) -> None:
    whole_and_resumed(job(split), bridge.FairchemV1Bridge, 5, tmp_path)


def test_step_times_are_those_of_whole_steps_without_validations(split: Split, bridge: Any, tmp_path: Path) -> None:
    found = step_times_where_only_the_optimiser_takes_time(job(split), bridge.FairchemV1Bridge, tmp_path / "made")
    assert (found.n, found.skipped, found.batch) == (7, 2, 4)
    assert (found.p25, found.median, found.p75) == (1.0, 1.0, 1.0)


TINY = {
    "gemnet-t": {"num_blocks": 1, "emb_size_atom": 8, "emb_size_edge": 8, "emb_size_trip": 4},
    "gemnet-oc": {"num_blocks": 1, "emb_size_atom": 8, "emb_size_edge": 8, "qint_tags": [0, 1, 2]},
    "equiformer-v2": {"num_layers": 1, "sphere_channels": 8, "attn_hidden_channels": 8, "edge_channels": 8},
    "escn": {"num_layers": 1, "sphere_channels": 8, "hidden_channels": 8},
    "scn": {"num_interactions": 1, "sphere_channels": 8, "sphere_channels_reduce": 8, "hidden_channels": 8},
}


@pytest.mark.parametrize("net", TINY)
def test_other_networks_train_and_predict(split: Split, bridge: Any, net: str, tmp_path: Path) -> None:
    made = job(split, changes=TINY[net]).model_copy(update={"net": net})
    record = trained(made, bridge.FairchemV1Bridge, tmp_path / "made", 1e-4)
    assert [point.step for point in record.curve] == [3, 6, 9]


def test_a_network_that_the_package_does_not_have_is_refused(split: Split, bridge: Any) -> None:
    made = job(split).model_copy(update={"net": "gemnet-q"})
    with pytest.raises(ConfigError, match="knows no network 'gemnet-q'; known: gemnet-t, gemnet-dt, gemnet-oc, "):
        bridge.FairchemV1Bridge(made, Material.of(made))


def published(split: Split, bridge: Any, net: str) -> int:
    """Return how many parameters the package gives a network at its size for OC20."""
    from fairchem.core.common.registry import registry

    made = job(split, preset="oc20", changes={}).model_copy(update={"net": net})
    config = dict(bridge.FairchemV1Bridge(made, Material.of(made)).arguments(1e-3)["model"])
    bridge.setup_imports()
    model = registry.get_model_class(config.pop("name"))(**config)
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("net", ["gemnet-t", "gemnet-dt"])
def test_parameters_of_gemnet_at_the_published_size(split: Split, bridge: Any, net: str) -> None:
    # by hand, for widths of 512 (atoms, edges), 64 (triplets), 16 (projected bases), 128 and 7 (bases), 83 elements
    square = 512 * 512
    bases = 3 * 16 * 128 + 7 * 128 * 16
    embeddings = 83 * 512 + 512 * (2 * 512 + 128)
    interaction = 20 * square + 2 * 16 * 512 + 64 * 16 * 64 + 3 * 512 * 64  # 20: 2 + 2 + 4 + 7 + 3 + 2
    direct = 7 * square + 16 * 512 + 512  # what an output has for forces of its own
    output = 7 * square + 16 * 512 + 512 + (direct if net == "gemnet-dt" else 0)
    scale_factors = 3 * 3 + 4 * (2 if net == "gemnet-dt" else 1)  # 17 in the published file of GemNet-dT
    expected = bases + embeddings + 3 * interaction + 4 * output + scale_factors
    assert net != "gemnet-dt" or expected == 31_671_825
    assert published(split, bridge, net) == expected


@pytest.mark.parametrize(
    ("net", "expected"),
    [("gemnet-oc", 38_864_438), ("equiformer-v2", 31_058_690), ("escn", 51_844_608), ("scn", 168_921_090)],
)
def test_parameters_at_other_published_sizes(split: Split, bridge: Any, net: str, expected: int) -> None:
    """What the package's classes have with its configurations for OC20; that of EquiformerV2 is called 31M."""
    assert published(split, bridge, net) == expected


def test_a_loss_that_is_no_number_is_told(split: Split, bridge: Any, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(WorkerError, match=r"learning rate 1e\+30, step \d+: the loss is NaN or infinite; lower"):
        train_bridged(job(split, learning_rates=[1e30], clip=None), folder, bridge.FairchemV1Bridge)
