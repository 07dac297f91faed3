# ruff: noqa: E402 - the package first
"""What NequIP's trainer is given, and that it goes on at its last epoch."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if importlib.util.find_spec("nequip") is None:
    pytest.skip("needs the package nequip", allow_module_level=True)
pytestmark = [
    pytest.mark.nequip,
    pytest.mark.timeout(900),  # each training is a process that imports the package
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what the package and e3nn say of the package's own code
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

import torch
from bridge_toys import job_for, save
from hydra.utils import instantiate

from mlipbench.adapters.nequip import NequipAdapter
from mlipbench.adapters.trained import TrainedAdapter
from mlipbench.errors import ConfigError, WorkerError
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.recipe import Trainer
from mlipbench.training.bridges.bridge import Material
from mlipbench.training.bridges.drive import train_bridged
from mlipbench.training.bridges.nequip import NequipBridge
from mlipbench.training.bridges.report import Report
from mlipbench.training.events import EventLog

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
        "changes": {"num_features": 4, "num_layers": 2, "radial_mlp_width": 8},
        "loss": {"kind": "mse", "energy": 0.5, "forces": 20.0},
        "validation": {"split": "train", "slice": [9, 15, None]},
        "learning_rates": [1e-2],
        "schedule": {"kind": "exponential", "final": 0.5},
        "ema_decay": 0.5,
        "clip": 100.0,
        "batch": 3,
        "steps": 13,
        "evaluate_every": 3,
        "precision": "float64",
    }
    return job_for(split, **small | changes).model_copy(update={"net": "nequip", "trainer": Trainer.NEQUIP})


def told(split: Split, **changes: Any) -> dict[str, Any]:
    made = job(split, **changes)
    return NequipBridge(made, Material.of(made)).settings(1e-2)


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_the_loss_of_the_package_is_that_of_the_recipe_over_the_sum_of_its_weights(split: Split, kind: str) -> None:
    loss = instantiate(told(split, loss={"kind": kind, "energy": 0.5, "forces": 20.0})["training_module"]["loss"])
    rng = np.random.default_rng(1)
    error_e, error_f = rng.normal(size=(3, 1)), rng.normal(size=(10, 3))
    target_f = torch.zeros((10, 3), dtype=torch.float64)
    target_f[4] = float("nan")  # an atom that does not count
    predicted = {"total_energy": torch.tensor(error_e), "forces": torch.tensor(error_f)}
    found = loss(predicted, {"total_energy": torch.zeros((3, 1), dtype=torch.float64), "forces": target_f})
    # by hand: means over structures, and over the components of forces that count
    size = np.abs if kind == "l1" else np.square
    expected = 0.5 * np.mean(size(error_e)) + 20.0 * np.mean(size(np.delete(error_f, 4, axis=0)))
    assert float(found["weighted_sum"]) == pytest.approx(expected / 20.5, rel=1e-6)


def test_what_the_package_is_told(split: Split) -> None:
    found = told(split, seed=7, weight_decay=1e-5)
    trainer, module = found["trainer"], found["training_module"]
    assert trainer["gradient_clip_val"] == pytest.approx(100.0 / 20.5)  # the loss is smaller by the same
    assert trainer["max_epochs"] == 5  # 13 steps of 3 in 9 structures
    assert (module["_target_"], module["ema_decay"]) == ("nequip.train.EMALightningModule", 0.5)
    assert (module["optimizer"]["lr"], module["optimizer"]["weight_decay"]) == (1e-2, 1e-5)
    scheduler = module["lr_scheduler"]
    assert (scheduler["interval"], scheduler["scheduler"]["gamma"] ** 15) == ("step", pytest.approx(0.5))
    model = module["model"]
    assert (model["seed"], model["model_dtype"], model["num_features"]) == (7, "float64", 4)
    assert model["type_names"] == ["H", "O"]
    material = Material.of(job(split))
    forces = material.train.forces[material.train.counted]
    assert model["per_type_energy_scales"] == pytest.approx(np.sqrt((forces**2).mean()))
    bare = told(split, ema_decay=None, clip=None, schedule={"kind": "cosine", "final": 0.1})
    assert bare["training_module"]["_target_"] == "nequip.train.NequIPLightningModule"
    assert "gradient_clip_val" not in bare["trainer"]
    cosine = bare["training_module"]["lr_scheduler"]["scheduler"]
    assert (cosine["T_max"], cosine["eta_min"]) == (15, pytest.approx(1e-3))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"preset": "smal"}, "recipe tiny: preset: unknown preset 'smal'; known: small"),
        ({"changes": {"chanels": 3}}, "recipe tiny: changes: unknown field 'chanels'; known: num_layers, "),
    ],
)
def test_what_the_package_does_not_know_is_refused(split: Split, changes: dict[str, Any], line: str) -> None:
    made = job(split, **changes)
    with pytest.raises(ConfigError, match=line):
        NequipBridge(made, Material.of(made))


def test_a_training_leaves_a_checkpoint_whose_adapter_adds_the_reference_back(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    record = train_bridged(job(split), folder, NequipBridge)
    assert [point.step for point in record.curve] == [3, 6, 9, 12, 15]
    assert record.curve[-1].learning_rate == pytest.approx(0.5e-2)
    (candidate,) = record.candidates
    best = next(point for point in record.curve if point.step == candidate.best_step)
    assert best.forces_mae == min(point.forces_mae for point in record.curve)
    # what NequIP itself reported of these weights, which knows nothing of the reference
    assert best.energy_mae == pytest.approx(candidate.energy_mae, rel=1e-6)
    assert best.forces_mae == pytest.approx(candidate.forces_mae, rel=1e-6)
    material = Material.of(job(split))
    adapter = TrainedAdapter.load(LoadRequest(dtype="float64", checkpoint=str(folder)))
    found = adapter.predict(material.validation.structures, BOTH)
    assert np.abs(found.energy - material.validation.energy).mean() == pytest.approx(candidate.energy_mae, rel=1e-6)
    assert (record.step_times.n, record.step_times.skipped, record.step_times.batch) == (13, 2, 3)


class Killed(BaseException):
    """Ends a training where no handler can see it."""


def test_a_killed_training_goes_on_at_its_last_epoch(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    evaluation = Report.evaluation

    def killing(self: Report, step: int, learning_rate: float, errors: tuple[float, float | None]) -> None:
        evaluation(self, step, learning_rate, errors)
        if step == 9:
            raise Killed

    monkeypatch.setattr(Report, "evaluation", killing)
    with pytest.raises(Killed):
        train_bridged(job(split), folder, NequipBridge)
    monkeypatch.setattr(Report, "evaluation", evaluation)
    (kept,) = folder.glob("states/*/package/last.ckpt")
    done = torch.load(kept, weights_only=False)["epoch"] + 1
    assert done >= 2
    record = train_bridged(job(split), folder, NequipBridge)
    begun = [line for line in events(folder) if line["kind"] == "begin"]
    assert [line.get("step", 0) for line in begun] == [0, 3 * done]
    assert [point.step for point in record.curve] == [3, 6, 9, 12, 15]


def test_what_the_package_packs_is_loaded_in_its_own_precision_only(split: Split, tmp_path: Path) -> None:
    made = job(split, steps=3)
    folder, log = tmp_path / "package", EventLog(tmp_path)
    best = NequipBridge(made, Material.of(made)).train(folder, 1e-2, Report(tmp_path, made, 1e-2, (3, 3), log)).weights
    log.close()
    packed = folder / "model.nequip.zip"
    line = [sys.executable, "-m", "nequip.scripts.package", "build", str(best), str(packed)]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    assert packed.is_file(), done.stderr
    requests = [LoadRequest(dtype="float64", checkpoint=str(path)) for path in (best, packed)]
    structures = Material.of(made).validation.structures
    one, other = (NequipAdapter.load(request).predict(structures, BOTH) for request in requests)
    np.testing.assert_allclose(one.energy, other.energy, rtol=0, atol=1e-10)
    np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=1e-10)
    with pytest.raises(ConfigError, match="is packaged in float64 and cannot be run in float32; set the precision to"):
        NequipAdapter.load(LoadRequest(dtype="float32", checkpoint=str(packed)))


def test_a_loss_that_is_no_number_is_told(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(WorkerError, match=r"learning rate 1e\+30, step \d+: "):
        train_bridged(job(split, learning_rates=[1e30], clip=None, ema_decay=None), folder, NequipBridge)


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
