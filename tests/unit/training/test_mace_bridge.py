# ruff: noqa: E402 - the package first
"""What MACE's trainer is given, and that it goes on where its checkpoints allow."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if importlib.util.find_spec("mace") is None:
    pytest.skip("needs the package mace-torch", allow_module_level=True)
pytestmark = [
    pytest.mark.mace,
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),  # e3nn compiles by TorchScript
    pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE:UserWarning"),  # e3nn, read under MACE's switch
]

import torch
from bridge_toys import job_for, save

from mlipbench.adapters.trained import TrainedAdapter
from mlipbench.errors import ConfigError, PrerequisiteError, WorkerError
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.models.registry import load_card
from mlipbench.training.bridges.bridge import Material
from mlipbench.training.bridges.drive import train_bridged
from mlipbench.training.bridges.mace import PRESETS, MaceBridge, energy_weights
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
        "changes": {"num_channels": 4, "max_ell": 1, "correlation": 1},
        "loss": {"kind": "mse", "energy": 0.5, "forces": 20.0},
        "validation": {"split": "train", "slice": [9, 15, None]},
        "learning_rates": [1e-2],
        "schedule": {"kind": "exponential", "final": 0.5},
        "ema_decay": 0.5,
        "clip": 100.0,
        "batch": 3,
        "steps": 15,
        "evaluate_every": 3,
        "precision": "float64",
    }
    return job_for(split, **small | changes).model_copy(update={"net": "mace"})


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_the_loss_of_the_package_is_that_of_the_recipe(split: Split, kind: str) -> None:
    from mace.modules import WeightedEnergyForcesL1L2Loss, WeightedEnergyForcesLoss
    from mace.tools.torch_geometric.batch import Batch
    from mace.tools.torch_geometric.data import Data

    counts, rng = np.array([2, 5, 3]), np.random.default_rng(1)
    error_e, error_f = rng.normal(size=3), rng.normal(size=(10, 3))
    weights = energy_weights(kind, counts)
    graphs = [
        Data(
            energy=torch.tensor(0.0, dtype=torch.float64),
            forces=torch.zeros((count, 3), dtype=torch.float64),
            weight=torch.tensor(1.0, dtype=torch.float64),
            energy_weight=torch.tensor(weights[s]),
            forces_weight=torch.tensor(1.0, dtype=torch.float64),
            num_nodes=int(count),
        )
        for s, count in enumerate(counts)
    ]
    made = job(split, loss={"kind": kind, "energy": 0.5, "forces": 20.0})
    arguments = MaceBridge(made, Material.of(made)).arguments(1e-2)
    losses = {"weighted": WeightedEnergyForcesLoss, "l1l2energyforces": WeightedEnergyForcesL1L2Loss}
    loss = losses[arguments["loss"]](energy_weight=arguments["energy_weight"], forces_weight=arguments["forces_weight"])
    prediction = {"energy": torch.tensor(error_e), "forces": torch.tensor(error_f)}
    found = float(loss(ref=Batch.from_data_list(graphs), pred=prediction))
    # by hand: means over structures, and over components (or half of lengths) of forces
    if kind == "mse":
        expected = 0.5 * np.mean(error_e**2) + 20.0 * np.mean(error_f**2)
    else:
        expected = 0.5 * np.mean(np.abs(error_e)) + 20.0 * np.mean(np.sqrt((error_f**2).sum(axis=1))) / 2
    assert found == pytest.approx(expected, rel=1e-6)


def test_what_the_package_is_told(split: Split) -> None:
    made = job(split, seed=7, weight_decay=1e-5)
    arguments = MaceBridge(made, Material.of(made)).arguments(1e-2)
    expected = {
        "E0s": "{1: 0.0, 8: 0.0}",
        "energy_weight": 0.5,
        "forces_weight": 20.0,
        "batch_size": 3,
        "max_num_epochs": 5,
        "lr": 1e-2,
        "ema_decay": 0.5,
        "clip_grad": 100.0,
        "seed": 7,
        "weight_decay": 1e-5,
        "default_dtype": "float64",
        "num_channels": 4,
    }
    assert {name: arguments[name] for name in expected} == expected
    assert arguments["lr_scheduler_gamma"] ** 4 == pytest.approx(0.5)
    bare = job(split, ema_decay=None, clip=None)
    assert "ema" not in MaceBridge(bare, Material.of(bare)).arguments(1e-2)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"preset": "smal"}, "recipe tiny: preset: unknown preset 'smal'; known: small"),
        ({"changes": {"chanels": 3}}, "recipe tiny: changes: unknown field 'chanels'; known: num_channels, "),
    ],
)
def test_what_the_package_does_not_know_is_refused(split: Split, changes: dict[str, Any], line: str) -> None:
    made = job(split, **changes)
    with pytest.raises(ConfigError, match=line):
        MaceBridge(made, Material.of(made))


def test_a_training_leaves_a_checkpoint_whose_adapter_adds_the_reference_back(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    record = train_bridged(job(split), folder, MaceBridge)
    assert [point.step for point in record.curve] == [3, 6, 9, 12, 15]
    assert record.settings["epochs"] == 5
    (candidate,) = record.candidates
    best = next(point for point in record.curve if point.step == candidate.best_step)
    # what MACE itself reported of these weights, which knows nothing of the reference
    assert best.energy_mae == pytest.approx(candidate.energy_mae, rel=1e-6)
    material = Material.of(job(split))
    adapter = TrainedAdapter.load(LoadRequest(dtype="float64", checkpoint=str(folder)))
    found = adapter.predict(material.validation.structures, BOTH)
    assert np.abs(found.energy - material.validation.energy).mean() == pytest.approx(candidate.energy_mae, rel=1e-6)
    assert np.abs(found.forces - material.validation.forces).mean() == pytest.approx(best.forces_mae, rel=1e-6)
    # float64 labels, read back from the file the package was given, are those of the split without the reference
    assert load_card(folder).name == "springs-tiny"


def test_a_pickle_from_elsewhere_needs_consent(split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    train_bridged(job(split, steps=3), folder, MaceBridge)
    monkeypatch.setenv("MLIPBENCH_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(PrerequisiteError, match=r"model\.pt: the checkpoint is a pickle.*--trust"):
        load_card(folder)
    load_card(folder, trust=True)
    load_card(folder)  # consent is remembered


class Killed(BaseException):
    """Ends a training where no handler can see it."""


def test_a_killed_training_goes_on_at_the_checkpoint_of_the_package(
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
        train_bridged(job(split), folder, MaceBridge)
    monkeypatch.setattr(Report, "evaluation", evaluation)
    (kept,) = folder.glob("states/*/package/checkpoints/*.pt")
    # it was killed while MACE may have been writing; a torn checkpoint is as none
    epoch = int(kept.stem.rpartition("-")[2]) if zipfile.is_zipfile(kept) else 0
    (kept.parent / "mace_run-0_epoch-4.pt").write_bytes(b"torn")
    record = train_bridged(job(split), folder, MaceBridge)
    begun = [line for line in events(folder) if line["kind"] == "begin"]
    assert [line.get("step", 0) for line in begun] == [0, 3 * epoch]
    assert [point.step for point in record.curve] == [3, 6, 9, 12, 15]


def test_step_times_are_those_that_the_package_writes(split: Split, tmp_path: Path) -> None:
    made = job(split)
    log = EventLog(tmp_path)
    report = Report(tmp_path / "report", made, 1e-2, (15, 3), log)
    MaceBridge(made, Material.of(made)).train(tmp_path / "package", 1e-2, report)
    log.close()
    lines = map(json.loads, (tmp_path / "package/results/mace_run-0_train.txt").read_text().splitlines())
    written = [line["time"] for line in lines if line["mode"] == "opt"]
    assert len(written) == 15
    found = report.progress.step_times
    assert found is not None
    assert (found.n, found.skipped, found.batch) == (13, 2, 3)
    assert found.median == pytest.approx(sorted(written[2:])[6])
    assert found.n * found.p25 < report.progress.seconds


@pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning")
def test_the_sizes_of_mace_mp_0_medium_are_the_published_ones() -> None:
    """4,688,656 weights for its 89 elements: model_params of mace-mp-0 in Matbench Discovery's record of the model."""
    from e3nn.o3 import Irreps
    from mace.modules import ScaleShiftMACE, interaction_classes

    sizes = PRESETS["mp-0-medium"]
    block = interaction_classes["RealAgnosticResidualInteractionBlock"]
    channels = sizes["num_channels"]
    network = ScaleShiftMACE(
        r_max=sizes["r_max"],
        num_bessel=sizes["num_radial_basis"],
        num_polynomial_cutoff=sizes["num_cutoff_basis"],
        max_ell=sizes["max_ell"],
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=sizes["num_interactions"],
        num_elements=89,
        hidden_irreps=Irreps(f"{channels}x0e + {channels}x1o") if sizes["max_L"] == 1 else Irreps(),
        MLP_irreps=Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros(89),
        avg_num_neighbors=1.0,
        atomic_numbers=list(range(1, 90)),
        correlation=sizes["correlation"],
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    assert sum(weight.numel() for weight in network.parameters()) == 4_688_656


def test_a_loss_that_is_no_number_is_told(split: Split, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    with pytest.raises(WorkerError, match=r"learning rate 1e\+30, step \d+: the loss is NaN or infinite; lower"):
        train_bridged(job(split, learning_rates=[1e30], clip=None), folder, MaceBridge)


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
