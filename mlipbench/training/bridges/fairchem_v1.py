"""Training of GemNet, EquiformerV2, eSCN and SCN by ``fairchem.core.trainers.OCPTrainer`` of fairchem-core 1.10.

Its loss, its schedules, its averages and its clipping are the recipe's, and so are its steps, but that it ends with an
epoch.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mlipbench.adapters.stand_ins import provide
from mlipbench.errors import WorkerError
from mlipbench.recipe import Cosine, Exponential, Plateau
from mlipbench.training.bridges.boxes import boxed
from mlipbench.training.bridges.bridge import Bridge, Made
from mlipbench.training.bridges.fairchem_v1_config import cutoff_of, model_config

provide()

from fairchem.core.common.utils import setup_imports  # noqa: E402 - needs the stand-ins
from fairchem.core.trainers import OCPTrainer  # noqa: E402
from torch_geometric.data import Data  # noqa: E402

if TYPE_CHECKING:
    from mlipbench.recipe import TrainingJob
    from mlipbench.training.bridges.bridge import Material
    from mlipbench.training.bridges.report import Report
    from mlipbench.training.data import LabelledStructures
    from mlipbench.typing import FloatArray

_RUN: Final = "run"
_EMPTY: Final = "numel() == 0"  # what torch says of the largest of no triplets
_CHECKPOINT: Final = "checkpoint.pt"
_LOSSES: Final = {"l1": "mae", "mse": "mse"}
_CONVERSIONS: Final = (
    "the loss is that of the recipe: coefficients are its weights, and nothing is normalised",
    "there are no element references; the energy reference of the recipe stands in for them",
    "a training ends with an epoch: steps are rounded up to whole ones",
    "scale factors of GemNets are not fitted",
)


class FairchemV1Bridge(Bridge):
    """Trains a network of fairchem-core 1.10 from its first weights."""

    needs_forces = True

    def __init__(self, job: TrainingJob, material: Material) -> None:
        """Refuse networks, presets and changes that the package does not know, and data without forces.

        Raises:
            ConfigError: There is one.
        """
        super().__init__(job, material)
        recipe = job.recipe
        self._config = model_config(job)
        n = material.train.n_structures
        self._batch = min(recipe.batch, n)
        self._per_epoch = -(-n // self._batch)
        self._epochs = -(-(recipe.steps or 0) // self._per_epoch)

    @property
    def steps(self) -> int:
        """Those of whole epochs."""
        return self._epochs * self._per_epoch

    def train(self, folder: Path, learning_rate: float, report: Report) -> Made:
        """Train at one learning rate; a training that was killed goes on at its last validation."""
        folder.mkdir(parents=True, exist_ok=True)
        material, arguments = self.material, self.arguments(learning_rate)
        cutoff = cutoff_of(self._config)
        parts = [
            examples(data, targets, cutoff)
            for data, targets in (
                (material.train, material.train_targets),
                (material.validation, material.validation_targets),
            )
        ]
        with contextlib.redirect_stdout(sys.stderr):
            setup_imports()
            trainer = _FollowedTrainer(parts, report, run_dir=str(folder), **arguments)
            checkpoints = folder / "checkpoints" / _RUN
            trainer.resume(checkpoints / _CHECKPOINT)
            report.begin(trainer.step)
            report.clock.start()
            try:
                trainer.train(disable_eval_tqdm=True)
            except RuntimeError as error:
                if _EMPTY not in str(error):
                    raise
                raise WorkerError(
                    "a batch held no atom with two neighbours, which the package refuses",
                    remedy="raise the recipe's batch, or leave out structures of few atoms far apart",
                ) from error
        settings = {
            "trainer": "fairchem.core.trainers.OCPTrainer",
            "arguments": arguments,
            "conversions": list(_CONVERSIONS),
            "epochs": self._epochs,
            "steps_per_epoch": self._per_epoch,
        }
        curve = report.progress.curve
        best = min(curve, key=lambda point: point.energy_mae if point.forces_mae is None else point.forces_mae)
        return Made(checkpoints / "best_checkpoint.pt", self._config, settings, best.step)

    def arguments(self, learning_rate: float) -> dict[str, Any]:
        """Return what the trainer is told."""
        recipe, free_only = self.job.recipe, self.job.data.free_atoms_only
        loss = _LOSSES[recipe.loss.kind]
        return {
            "name": "ocp",
            "task": {},
            "model": self._config,
            "outputs": {
                "energy": {"level": "system", "shape": 1},
                "forces": {"level": "atom", "train_on_free_atoms": free_only, "eval_on_free_atoms": free_only},
            },
            "dataset": {},
            "optimizer": {
                "optimizer": "AdamW",
                "optimizer_params": {"amsgrad": True, "weight_decay": recipe.weight_decay},
                "lr_initial": learning_rate,
                "batch_size": self._batch,
                "eval_batch_size": self._batch,
                "max_epochs": self._epochs,
                "eval_every": recipe.evaluate_every,
                "checkpoint_every": self.steps + 1,  # kept after validations in place of before them
                "num_workers": 0,
                "clip_grad_norm": recipe.clip,
                "ema_decay": recipe.ema_decay,
                **self._schedule(learning_rate),
            },
            "loss_functions": [
                {"energy": {"fn": loss, "coefficient": recipe.loss.energy}},
                {"forces": {"fn": loss, "coefficient": recipe.loss.forces}},
            ],
            "evaluation_metrics": {
                "metrics": {"energy": ["mae"], "forces": ["mae"]},
                "primary_metric": "forces_mae",
            },
            "identifier": self.job.net,
            "timestamp_id": _RUN,
            "local_rank": 0,
            "print_every": 1,  # its losses are means since the last line
            "seed": recipe.seed,
            "logger": "none",
            "cpu": self.job.device == "cpu",
        }

    def _schedule(self, learning_rate: float) -> dict[str, Any]:
        schedule = self.job.recipe.schedule
        if isinstance(schedule, Plateau):
            rule = {"factor": schedule.factor, "patience": schedule.patience, "min_lr": schedule.min_learning_rate}
            return {"scheduler": "ReduceLROnPlateau", "mode": "min", **rule}
        if isinstance(schedule, Cosine):
            floor = schedule.final * learning_rate
            return {"scheduler": "CosineAnnealingLR", "T_max": self.steps, "eta_min": floor}
        final = schedule.final if isinstance(schedule, Exponential) else 1.0
        return {"scheduler": "ExponentialLR", "gamma": final ** (1.0 / self.steps)}


def examples(data: LabelledStructures, targets: FloatArray, cutoff: float) -> list[Data]:
    """Return structures with their labels as the trainer takes them, in single precision.

    Args:
        data: The structures.
        targets: Shape (n_structures,), eV, energies without reference.
        cutoff: Å, of the model.
    """
    if data.forces is None:  # refused when the bridge was made
        raise TypeError("structures without forces")
    batch, found = boxed(data.structures, cutoff), []
    for s in range(data.n_structures):
        atoms = slice(batch.offsets[s], batch.offsets[s + 1])
        tags = np.zeros(int(batch.counts[s])) if batch.tags is None else batch.tags[atoms]
        found.append(
            Data(
                pos=_floats(batch.positions[atoms]),
                cell=_floats(batch.cell[s])[None],
                atomic_numbers=torch.from_numpy(batch.numbers[atoms].astype(np.int64)),
                natoms=int(batch.counts[s]),
                tags=torch.from_numpy(tags.astype(np.int64)),
                fixed=torch.from_numpy((~data.counted[atoms]).astype(np.int64)),
                energy=float(targets[s]),
                forces=_floats(data.forces[atoms]),
            )
        )
    return found


def _floats(values: FloatArray) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))


class _FollowedTrainer(OCPTrainer):
    """The trainer on structures in memory, which tells of its steps and validations.

    Args:
        parts: The training and the validation structures.
        report: What is told.
        **arguments: Of the trainer.
    """

    def __init__(self, parts: list[list[Data]], report: Report, **arguments: Any) -> None:
        self._parts = parts
        self._report = report
        super().__init__(**arguments)

    def load_logger(self) -> None:
        """Log to the report."""
        self.logger = _Told(self._report)

    def load_datasets(self) -> None:
        """Take the structures in memory."""
        super().load_datasets()
        sizes = self.config["optim"]["batch_size"], self.config["optim"]["eval_batch_size"]
        self.train_dataset, self.val_dataset = self._parts
        self.train_sampler = self.get_sampler(self.train_dataset, sizes[0], shuffle=True)
        self.val_sampler = self.get_sampler(self.val_dataset, sizes[1], shuffle=False)
        self.train_loader = self.get_dataloader(self.train_dataset, self.train_sampler)
        self.val_loader = self.get_dataloader(self.val_dataset, self.val_sampler)

    def update_best(self, primary_metric: str, val_metrics: dict[str, Any], disable_eval_tqdm: bool = True) -> None:  # noqa: FBT001, FBT002 - the package's
        """Keep the best weights as the package does, and all that a later process needs to go on."""
        super().update_best(primary_metric, val_metrics, disable_eval_tqdm)
        fresh = self.save(checkpoint_file=f"{_CHECKPOINT}.new")
        Path(fresh).replace(Path(fresh).with_name(_CHECKPOINT))
        self._report.clock.start()

    def resume(self, path: Path) -> None:
        """Go on where an earlier process kept a checkpoint, if it did.

        Args:
            path: The checkpoint; it was written before the schedule was moved on, which is made up for.
        """
        if not path.is_file():
            return
        self.load_checkpoint(str(path))
        curve = self._report.progress.curve
        if self.scheduler.scheduler_type != "ReduceLROnPlateau":
            self.scheduler.step()
        elif curve:
            self.scheduler.step(metrics=curve[-1].forces_mae)


class _Told:
    """What the trainer takes for a logger."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rate = 0.0

    def log(self, values: dict[str, Any], step: int, split: str = "") -> None:
        """Tell of a step, how long it took, or of a validation; norms of gradients are passed over.

        A step begins where the one before it, or the validation after that, has ended: it includes the wait for its
        batch and the package's own metrics.
        """
        if "loss" not in values:
            return
        errors = float(values["energy_mae"]), float(values["forces_mae"])
        if split == "train":
            self._report.clock.stop()
            self._rate = float(values["lr"])
            # the loss takes a prediction that is NaN for zero
            self._report.step(step, float(values["loss"]) + 0.0 * sum(errors))
            self._report.clock.start()
        else:
            self._report.evaluation(step, self._rate, errors)

    def log_summary(self, values: dict[str, Any]) -> None:
        """Pass over what is known otherwise."""
