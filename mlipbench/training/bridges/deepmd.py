"""Training of Deep Potentials by ``deepmd.pt.train.training.Trainer``, which ``dp --pt train`` runs.

Steps, schedule and clipping are the recipe's. Validations are made here, with the adapter that predicts later, because
the package's own are of a few batches drawn at random.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.adapters.coverage import rows_of_types
from mlipbench.adapters.deepmd import DeepmdAdapter, package_loaded
from mlipbench.elements import SYMBOLS
from mlipbench.recipe import Cosine, Exponential
from mlipbench.structures.neighbors import neighbor_list
from mlipbench.training.bridges.bridge import Bridge, Made, configuration
from mlipbench.training.bridges.candidate import errors_of
from mlipbench.training.bridges.deepmd_systems import write_systems
from mlipbench.training.curve import criterion

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlipbench.recipe import TrainingJob
    from mlipbench.training.bridges.bridge import Material
    from mlipbench.training.bridges.report import Report

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "small": {
        "rcut": 5.0,
        "rcut_smth": 0.5,
        "neuron": [8, 16, 32],
        "axis_neuron": 8,
        "fitting_neuron": [64, 64, 64],
    },
}
ROOM: Final = 1.25
"""How many times the neighbours that the training structures have at most fit into the network's lists."""
_LOSSES: Final = {"l1": "mae", "mse": "mse"}
_LAST: Final = "last.pt"
_NON_FINITE: Final = "non-finite"  # what torch says of a gradient that cannot be clipped
_CONVERSIONS: Final = (
    "errors of energies, or their squares, are divided by the number of atoms n: pref_e = energy * mean n",
    "this conversion is exact where all structures have the same number of atoms, else on average",
    "pref_f = forces; where some do not count pref_pf, with an atom_pref of zero for these, n / n_counted for others",
    "a batch holds structures of one sequence of elements, drawn by numbers of batches; the last of a pass is smaller",
    "prefactors and learning rate are the recipe's at every step",
    "sel is 1.25 times the neighbours that an atom of the training structures has at most, for every element",
    "the bias of the atomic energies is zero; the energy reference of the recipe stands in for it",
    "AdamW without amsgrad; averages start at the first weights",
    "validations are made by mlipbench on all validation structures",
)


class DeepmdBridge(Bridge):
    """Trains a Deep Potential from its first weights."""

    needs_forces = True

    def __init__(self, job: TrainingJob, material: Material) -> None:
        """Refuse presets and changes that are not known, and data without forces.

        Raises:
            ConfigError: There is one.
        """
        super().__init__(job, material)
        self._config = configuration(job.recipe, PRESETS)

    @property
    def steps(self) -> int:
        """Those of the recipe."""
        return self.job.recipe.steps or 0

    def train(self, folder: Path, learning_rate: float, report: Report) -> Made:
        """Train at one learning rate; a training that was killed goes on at its last validation.

        A step takes from the network's call on a batch, in which neighbours are searched, to the change of the weights,
        without the wait for the batch.
        """
        folder.mkdir(parents=True, exist_ok=True)
        material = self.material
        places = write_systems(folder / "systems", material.train, material.train_targets, self._config["rcut"])
        settings = self.settings(learning_rate)
        with package_loaded(self.job.device), contextlib.redirect_stdout(sys.stderr), contextlib.chdir(folder):
            from mlipbench.training.bridges.deepmd_trainer import FollowedTrainer

            told = copy.deepcopy(settings)
            told["training"]["training_data"]["systems"] = [str(place) for place in places]
            trainer = FollowedTrainer.of(told, folder / _LAST)
            trainer.follow(report, self._validation(trainer.model))
            report.begin(trainer.start_step)
            try:
                trainer.run()
            except RuntimeError as error:
                if _NON_FINITE not in str(error):
                    raise
                raise report.diverged("the gradient is NaN or infinite") from error
        best = min(report.progress.curve, key=criterion)
        kept = {"trainer": "deepmd.pt.train.training.Trainer", "input": settings, "conversions": list(_CONVERSIONS)}
        return Made(folder / f"{best.step}.pt", self._config, kept, best.step)

    def settings(self, learning_rate: float) -> dict[str, Any]:
        """Return deepmd's input, by the names of its own fields, but for the folders of the systems."""
        recipe = self.job.recipe
        return {
            "model": self._model(),
            "learning_rate": self._schedule(learning_rate),
            "loss": self._loss(),
            "training": {
                "training_data": {"systems": [], "batch_size": min(recipe.batch, self.material.train.n_structures)},
                "numb_steps": self.steps,
                "seed": recipe.seed,
                **({} if recipe.clip is None else {"gradient_max_norm": recipe.clip}),
                "disp_training": False,
                "save_freq": recipe.evaluate_every,
                **({} if recipe.ema_decay is None else {"enable_ema": True, "ema_decay": recipe.ema_decay}),
            },
            "optimizer": {"type": "AdamW", "weight_decay": recipe.weight_decay},
        }

    def _model(self) -> dict[str, Any]:
        recipe, config = self.job.recipe, self._config
        types = [SYMBOLS[z] for z in np.unique(self.material.train.structures.numbers)]
        part = {"precision": recipe.precision, "seed": recipe.seed}
        return {
            "type_map": types,
            "descriptor": {
                "type": "se_e2_a",
                **{name: config[name] for name in ("rcut", "rcut_smth", "neuron", "axis_neuron")},
                "sel": [self._room()] * len(types),
                "type_one_side": True,
                **part,
            },
            "fitting_net": {"neuron": config["fitting_neuron"], "resnet_dt": True, **part},
            "preset_out_bias": {"energy": [0.0] * len(types)},
        }

    def _room(self) -> int:
        """Return how many neighbours of one element the network's lists hold."""
        structures = self.material.train.structures
        edges = neighbor_list(structures, self._config["rcut"])
        most = int(np.bincount(edges.i, minlength=1).max())
        return max(1, math.ceil(ROOM * most))

    def _loss(self) -> dict[str, Any]:
        loss, train = self.job.recipe.loss, self.material.train
        forces = "f" if train.counted.all() else "pf"
        prefactors = {"e": loss.energy * float(train.structures.counts.mean()), forces: loss.forces}
        ends = {f"{end}_pref_{name}": value for name, value in prefactors.items() for end in ("start", "limit")}
        others = {f"{end}_pref_{name}": 0.0 for name in {"f", "v"} - {forces} for end in ("start", "limit")}
        return {"type": "ener", "loss_func": _LOSSES[loss.kind], **ends, **others}

    def _schedule(self, learning_rate: float) -> dict[str, Any]:
        schedule = self.job.recipe.schedule
        if isinstance(schedule, Cosine):
            return {"type": "cosine", "start_lr": learning_rate, "stop_lr": schedule.final * learning_rate}
        final = schedule.final if isinstance(schedule, Exponential) else 1.0
        ends = {"start_lr": learning_rate, "stop_lr": final * learning_rate}
        return {"type": "exp", **ends, "decay_steps": 1, "smooth": True}

    def _validation(self, model: Any) -> Callable[[], tuple[float, float]]:
        """Return a function that gives the mean absolute errors of a network on the validation structures."""
        material, recipe = self.material, self.job.recipe
        data = replace(material.validation, energy=material.validation_targets)
        rows = rows_of_types(model.get_type_map(), material.validation.split.directory)
        adapter = DeepmdAdapter(model, self.job.device, rows)

        def errors() -> tuple[float, float]:
            found = errors_of(adapter, data, recipe.batch)[1]
            return found.energy_mae, math.nan if found.forces_mae is None else found.forces_mae

        return errors
