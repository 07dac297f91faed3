"""Training of MACE by ``mace.cli.run_train``, the command that its users know as ``mace_run_train``."""

from __future__ import annotations

import contextlib
import re
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.recipe import Exponential
from mlipbench.training.bridges.bridge import FORCE_SHARE, Bridge, Made, configuration
from mlipbench.training.bridges.epochs import Epochs
from mlipbench.training.bridges.extxyz import ENERGY_KEY, FORCES_KEY, write_extxyz
from mlipbench.training.bridges.package import Command, follow

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.recipe import TrainingJob
    from mlipbench.training.bridges.bridge import Material
    from mlipbench.training.bridges.report import Report
    from mlipbench.typing import FloatArray, IntArray

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "small": {
        "num_channels": 64,
        "max_L": 0,
        "max_ell": 3,
        "correlation": 3,
        "num_interactions": 2,
        "r_max": 5.0,
        "num_radial_basis": 8,
        "num_cutoff_basis": 5,
    },
    # the training command of MACE-MP-0 medium, 2023-12-03-mace-128-L1, which its authors publish; MACE's own defaults
    # are the rest of it. No sizes of a MACE for OC20 are published
    "mp-0-medium": {
        "num_channels": 128,
        "max_L": 1,
        "max_ell": 3,
        "correlation": 3,
        "num_interactions": 2,
        "r_max": 6.0,
        "num_radial_basis": 10,
        "num_cutoff_basis": 5,
    },
}
_NAME: Final = "mace"
_LOSSES: Final = {"l1": "l1l2energyforces", "mse": "weighted"}
_CHECKPOINT: Final = re.compile(r"_epoch-(\d+)\.pt")
_CONVERSIONS: Final = (
    "energies are per atom: energy_weight = energy; config_energy_weight = n^2 (mse) or n (l1), n atoms",
    "forces_weight = forces (mse), or half of it for the mean over atoms of the error's length (l1)",
    "E0s are zero and the model has no shift; the energy reference of the recipe stands in for them",
    "forces of all atoms are fitted, those included that do not count: MACE has no mask",
    "steps are whole epochs, rounded up, which leave out the structures that fill no batch",
)


class MaceBridge(Bridge):
    """Trains a MACE from its first weights."""

    def __init__(self, job: TrainingJob, material: Material) -> None:
        """Refuse presets and changes that MACE does not know.

        Raises:
            ConfigError: There is one.
        """
        super().__init__(job, material)
        recipe = job.recipe
        self._config = configuration(recipe, PRESETS)
        self._epochs = Epochs.of(recipe, material.train.n_structures)

    @property
    def steps(self) -> int:
        """Those of whole epochs."""
        return self._epochs.epochs * self._epochs.steps

    def train(self, folder: Path, learning_rate: float, report: Report) -> Made:
        """Train at one learning rate; a training that was killed goes on at MACE's last checkpoint.

        A step takes the time that MACE writes beside its loss: from the move of the batch to the device to the averaged
        weights, without the wait for the batch.
        """
        folder.mkdir(parents=True, exist_ok=True)
        material, epochs = self.material, self._epochs
        for name, data, targets in (
            ("train.xyz", material.train, material.train_targets),
            ("valid.xyz", material.validation, material.validation_targets),
        ):
            weights = energy_weights(self.job.recipe.loss.kind, data.structures.counts)
            write_extxyz(folder / name, data, targets, {"config_energy_weight": weights})
        arguments = self.arguments(learning_rate)
        resumed = _latest_epoch(folder / "checkpoints")
        report.begin((resumed or 0) * epochs.steps)  # MACE repeats the epoch of its checkpoint
        step = report.progress.step
        command = Command("mace.cli.run_train", _as_line(arguments), folder, folder / "package.log")
        progress = folder / "results" / f"{_NAME}_run-{self.job.recipe.seed}_train.txt"
        with contextlib.closing(follow(command, progress)) as lines:
            for line in lines:
                if line["mode"] == "opt":
                    step += 1
                    report.clock.add(float(line["time"]))
                    report.step(step, float(line["loss"]))
                elif line["epoch"] is not None:
                    rate = learning_rate * self._gamma() ** line["epoch"]
                    errors = line["mae_e"], line.get("mae_f")
                    report.evaluation((line["epoch"] + 1) * epochs.steps, rate, errors)
        best = _latest_epoch(folder / "checkpoints") or 0
        settings = {
            "trainer": command.module,
            "arguments": arguments,
            "conversions": list(_CONVERSIONS),
            "epochs": epochs.epochs,
            "steps_per_epoch": epochs.steps,
        }
        return Made(folder / f"{_NAME}.model", self._config, settings, (best + 1) * epochs.steps)

    def arguments(self, learning_rate: float) -> dict[str, Any]:
        """Return what MACE's command is told, by the names of its options."""
        recipe, epochs = self.job.recipe, self._epochs
        elements = np.unique(self.material.train.structures.numbers).tolist()
        averaging: dict[str, Any] = {} if recipe.ema_decay is None else {"ema": True, "ema_decay": recipe.ema_decay}
        return {
            "name": _NAME,
            "model": "MACE",
            **self._config,
            "train_file": "train.xyz",
            "valid_file": "valid.xyz",
            "energy_key": ENERGY_KEY,
            "forces_key": FORCES_KEY,
            "atomic_numbers": str(elements),
            "E0s": str(dict.fromkeys(elements, 0.0)),
            "scaling": "rms_forces_scaling",
            "loss": _LOSSES[recipe.loss.kind],
            "energy_weight": recipe.loss.energy,
            "forces_weight": recipe.loss.forces * (FORCE_SHARE if recipe.loss.kind == "l1" else 1.0),
            "batch_size": epochs.batch,
            "valid_batch_size": min(epochs.batch, self.material.validation.n_structures),
            "max_num_epochs": epochs.epochs,
            "eval_interval": epochs.interval,
            "patience": epochs.epochs,
            "lr": learning_rate,
            "optimizer": "adamw",
            "weight_decay": recipe.weight_decay,
            "scheduler": "ExponentialLR",
            "lr_scheduler_gamma": self._gamma(),
            **averaging,
            "clip_grad": recipe.clip,
            "seed": recipe.seed,
            "default_dtype": recipe.precision,
            "device": self.job.device,
            "error_table": "TotalMAE",
            "plot": False,
            "restart_latest": True,
        }

    def _gamma(self) -> float:
        """Return the factor of the learning rate per epoch; it changes before every epoch but the first."""
        schedule = self.job.recipe.schedule
        final = schedule.final if isinstance(schedule, Exponential) else 1.0
        return float(final ** (1.0 / max(self._epochs.epochs - 1, 1)))


def energy_weights(kind: str, counts: IntArray) -> FloatArray:
    """Return the weight of each structure's energy, because MACE's losses take energies per atom.

    ``mean n² (ΔE / n)² = mean ΔE²`` and ``mean n |ΔE / n| = mean |ΔE|``.

    Args:
        kind: ``l1`` or ``mse``.
        counts: Shape (n_structures,), atoms of each structure, n.
    """
    return (np.square(counts) if kind == "mse" else counts).astype(np.float64)


def _as_line(arguments: dict[str, Any]) -> list[str]:
    """Return the options as a command line; those that are true are flags in MACE."""
    line = []
    for name, value in arguments.items():
        line += [f"--{name}"] if value is True else [f"--{name}={value}"]
    return line


def _latest_epoch(folder: Path) -> int | None:
    """Return the epoch of MACE's latest checkpoint, None where there is none; removes torn ones, which stop it."""
    found = []
    for path in folder.glob("*.pt"):
        match = _CHECKPOINT.search(path.name)
        if not zipfile.is_zipfile(path):  # the directory of a zip file comes last
            path.unlink()
        elif match:
            found.append(int(match.group(1)))
    return max(found, default=None)
