"""Training of NequIP by ``nequip.scripts.train``, the command that its users know as ``nequip-train``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.recipe import Cosine, Exponential
from mlipbench.structures.neighbors import neighbor_list
from mlipbench.training.bridges.bridge import Bridge, Made, configuration
from mlipbench.training.bridges.epochs import Epochs
from mlipbench.training.bridges.extxyz import ENERGY_KEY, FORCES_KEY, write_extxyz
from mlipbench.training.bridges.nequip_lines import ENERGY_MAE, FORCES_MAE, PROGRESS
from mlipbench.training.bridges.package import Command, follow
from mlipbench.training.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.recipe import TrainingJob
    from mlipbench.training.bridges.bridge import Material
    from mlipbench.training.bridges.report import Report
    from mlipbench.training.data import LabelledStructures

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "small": {
        "num_layers": 3,
        "l_max": 1,
        "parity": True,
        "num_features": 32,
        "radial_mlp_depth": 1,
        "radial_mlp_width": 64,
        "num_bessels": 8,
        "polynomial_cutoff_p": 6,
        "r_max": 5.0,
    },
    # configs/lips/nequip/lips20k.yaml of MDSim, in the names of nequip 0.19
    "lips": {
        "num_layers": 6,
        "l_max": 2,
        "parity": True,
        "num_features": 32,
        "radial_mlp_depth": 3,
        "radial_mlp_width": 64,
        "num_bessels": 8,
        "polynomial_cutoff_p": 6,
        "r_max": 5.0,
    },
}
_METRICS: Final = {"l1": "nequip.train.MeanAbsoluteError", "mse": "nequip.train.MeanSquaredError"}
_BEST, _LAST = "best", "last"
_CONVERSIONS: Final = (
    "NequIP divides the weights of energy and forces by their sum; clip is divided by it, too",
    "atomic energies are scaled by the root mean square of the training forces",
    "atomic energies have no shift; the energy reference of the recipe stands in for it",
    "forces that do not count are NaN in the files, which NequIP leaves out",
    "there is a validation after every epoch, as NequIP's averages ask for; evaluate_every is not used",
    "averages start at the first weights",
)


class NequipBridge(Bridge):
    """Trains a NequIP from its first weights."""

    needs_forces = True

    def __init__(self, job: TrainingJob, material: Material) -> None:
        """Refuse presets and changes that NequIP does not know, and data without forces.

        Raises:
            ConfigError: There is one.
        """
        super().__init__(job, material)
        self._config = configuration(job.recipe, PRESETS)
        every_epoch = job.recipe.model_copy(update={"evaluate_every": 1})
        self._epochs = Epochs.of(every_epoch, material.train.n_structures)

    @property
    def steps(self) -> int:
        """Those of whole epochs."""
        return self._epochs.epochs * self._epochs.steps

    def train(self, folder: Path, learning_rate: float, report: Report) -> Made:
        """Train at one learning rate; a training that was killed goes on at its last epoch.

        A step takes from the start of NequIP's step on a batch to the change of the weights, without the wait for the
        batch.
        """
        folder.mkdir(parents=True, exist_ok=True)
        material = self.material
        for name, data, targets in (
            ("train.xyz", material.train, material.train_targets),
            ("valid.xyz", material.validation, material.validation_targets),
        ):
            write_extxyz(folder / name, _without_uncounted(data), targets)
        settings = self.settings(learning_rate)
        text = json.dumps(settings, indent=2)  # which is YAML
        replace_file(folder / "config.yaml", lambda path: path.write_text(text, encoding="utf-8"))
        last = folder / f"{_LAST}.ckpt"
        resumed = _epochs_done(last)
        report.begin(resumed * self._epochs.steps)
        arguments = [f"--config-path={folder}", "--config-name=config", f"hydra.run.dir={folder / 'hydra'}"]
        if resumed:
            arguments.append(f"++ckpt_path={last}")
        command = Command("nequip.scripts.train", arguments, folder, folder / "package.log")
        with contextlib.closing(follow(command, folder / PROGRESS)) as lines:
            for line in lines:
                if "loss" in line:
                    report.clock.add(line["seconds"])
                    report.step(line["step"], line["loss"])
                else:
                    report.evaluation(line["step"], line["learning_rate"], (line[ENERGY_MAE], line[FORCES_MAE]))
        told = {"trainer": command.module, "config": settings, "conversions": list(_CONVERSIONS)}
        best = folder / f"{_BEST}.ckpt"
        return Made(best, self._config, told, _epochs_done(best) * self._epochs.steps)

    def settings(self, learning_rate: float) -> dict[str, Any]:
        """Return NequIP's configuration, by the names of its own fields."""
        recipe, cuda = self.job.recipe, self.job.device.startswith("cuda")
        weights = recipe.loss.energy + recipe.loss.forces
        clip = {} if recipe.clip is None else {"gradient_clip_val": recipe.clip / weights}
        return {
            "run": ["train"],
            "data": self._data(),
            "trainer": {
                "_target_": "lightning.Trainer",
                "accelerator": "gpu" if cuda else "cpu",
                "devices": [int(self.job.device.partition(":")[2] or 0)] if cuda else 1,
                "max_epochs": self._epochs.epochs,
                "num_sanity_val_steps": 0,
                "logger": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                **clip,
                "callbacks": [
                    _checkpoint(filename=_BEST, monitor=f"val0_epoch/{FORCES_MAE}", save_top_k=1),
                    _checkpoint(filename=_LAST, save_top_k=1, monitor="epoch", mode="max"),
                    {"_target_": "mlipbench.training.bridges.nequip_lines.Lines"},
                ],
            },
            "training_module": self._module(learning_rate),
        }

    def _data(self) -> dict[str, Any]:
        types, epochs = self._types(), self._epochs
        loader = {"_target_": "torch.utils.data.DataLoader"}
        return {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            "seed": self.job.recipe.seed,
            "train_file_path": "train.xyz",
            "val_file_path": "valid.xyz",
            "ase_args": {"format": "extxyz"},
            "include_keys": [ENERGY_KEY, FORCES_KEY],
            "key_mapping": {ENERGY_KEY: "total_energy", FORCES_KEY: "forces"},
            "transforms": [
                {
                    "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                    "model_type_names": types,
                    "chemical_species_to_atom_type_map": dict(zip(types, types, strict=True)),
                },
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": self._config["r_max"]},
            ],
            "train_dataloader": {**loader, "batch_size": epochs.batch, "shuffle": True, "drop_last": True},
            "val_dataloader": {**loader, "batch_size": epochs.batch},
        }

    def _module(self, learning_rate: float) -> dict[str, Any]:
        recipe = self.job.recipe
        kept = {"ema_decay": recipe.ema_decay} if recipe.ema_decay is not None else {}
        name = "EMALightningModule" if kept else "NequIPLightningModule"
        return {
            "_target_": f"nequip.train.{name}",
            **kept,
            "loss": _metrics(_METRICS[recipe.loss.kind], {"energy": recipe.loss.energy, "forces": recipe.loss.forces}),
            "val_metrics": _metrics(_METRICS["l1"]),
            "optimizer": {
                "_target_": "torch.optim.AdamW",
                "lr": learning_rate,
                "weight_decay": recipe.weight_decay,
                "amsgrad": True,
            },
            "lr_scheduler": {"scheduler": self._schedule(learning_rate), "interval": "step"},
            "model": self._model(),
        }

    def _model(self) -> dict[str, Any]:
        train = self.material.train
        forces = np.zeros(0) if train.forces is None else train.forces[train.counted]
        edges = neighbor_list(train.structures, self._config["r_max"])
        return {
            "_target_": "nequip.model.NequIPGNNModel",
            "seed": self.job.recipe.seed,
            "model_dtype": self.job.recipe.precision,
            "type_names": self._types(),
            **self._config,
            "avg_num_neighbors": edges.n_edges / len(train.structures.numbers) or 1.0,
            "per_type_energy_scales": float(np.sqrt(np.mean(np.square(forces)))) or 1.0,
            "per_type_energy_shifts": 0.0,
        }

    def _types(self) -> list[str]:
        return [SYMBOLS[z] for z in np.unique(self.material.train.structures.numbers)]

    def _schedule(self, learning_rate: float) -> dict[str, Any]:
        schedule, place = self.job.recipe.schedule, "torch.optim.lr_scheduler"
        if isinstance(schedule, Exponential):
            return {"_target_": f"{place}.ExponentialLR", "gamma": schedule.final ** (1.0 / self.steps)}
        final = schedule.final if isinstance(schedule, Cosine) else 1.0
        return {"_target_": f"{place}.CosineAnnealingLR", "T_max": self.steps, "eta_min": final * learning_rate}


def _checkpoint(**arguments: Any) -> dict[str, Any]:
    """Return a callback that keeps one checkpoint, in the working folder."""
    return {
        "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
        "dirpath": ".",
        "enable_version_counter": False,
        **arguments,
    }


def _metrics(kind: str, weights: dict[str, float] | None = None) -> dict[str, Any]:
    """Return NequIP's metrics of energies and forces; with weights, a loss."""
    fields = {"energy": ("total_energy", ENERGY_MAE), "forces": ("forces", FORCES_MAE)}
    return {
        "_target_": "nequip.train.MetricsManager",
        "metrics": [
            {
                "name": metric,
                "field": field,
                "metric": {"_target_": kind},
                "ignore_nan": True,
                **({} if weights is None else {"coeff": weights[name]}),
            }
            for name, (field, metric) in fields.items()
        ],
    }


def _without_uncounted(data: LabelledStructures) -> LabelledStructures:
    """Return the structures with NaN in the place of forces that do not count."""
    if data.forces is None:  # refused when the bridge was made
        raise TypeError("structures without forces")
    return dataclasses.replace(data, forces=np.where(data.counted[:, None], data.forces, np.nan))


def _epochs_done(path: Path) -> int:
    """Return the epochs after which a checkpoint was written, 0 where it is not there; removes a torn one."""
    import torch

    if not path.is_file():
        return 0
    if not zipfile.is_zipfile(path):  # the directory of a zip file comes last
        path.unlink()
        return 0
    return int(torch.load(path, map_location="cpu", weights_only=False)["epoch"]) + 1
