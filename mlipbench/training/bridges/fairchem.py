"""Training of UMA and eSEN by ``fairchem.core.units.mlip_unit.MLIPTrainEvalUnit`` of fairchem-core 2.

The unit is driven as the package's own runner drives it, but for that runner's validation at the end of every epoch.
Its averages, clipping and steps are the recipe's; its loss differs in the forces, as `_CONVERSIONS` tells.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any, Final

import hydra
import numpy as np
import torch
from fairchem.core.common import distutils
from fairchem.core.units.mlip_unit.mlip_unit import (
    UNIT_INFERENCE_CHECKPOINT,
    MLIPTrainEvalUnit,
    _get_consine_lr_scheduler,
    mt_collater_adapter,
)
from omegaconf import OmegaConf
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler
from torchtnt.framework.callback import Callback
from torchtnt.framework.evaluate import evaluate
from torchtnt.framework.fit import fit

from mlipbench.adapters.fairchem import atomic_data
from mlipbench.adapters.wrapping import wrapped
from mlipbench.recipe import Cosine
from mlipbench.training.bridges.bridge import Bridge, Made
from mlipbench.training.bridges.fairchem_config import DATASET, model_config, task_configs
from mlipbench.training.order import Order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torchtnt.framework.state import State

    from mlipbench.recipe import TrainingJob
    from mlipbench.training.bridges.bridge import Material
    from mlipbench.training.bridges.report import Report
    from mlipbench.training.data import LabelledStructures
    from mlipbench.typing import FloatArray

_CONVERSIONS: Final = (
    "energies: the mean over structures of the recipe",
    "forces: the mean over atoms of the error's length, times half the recipe's weight; equal on average",
    "targets are divided by the root mean square of the training forces, and coefficients multiplied by it",
    "there are no element references; the energy reference of the recipe stands in for them",
    "averages start at the weights after the first step; without averages the decay is zero",
)
_STATE: Final = re.compile(r"step-(\d+)")


class FairchemBridge(Bridge):
    """Trains a UMA or an eSEN with conservative forces from its first weights.

    Attributes:
        scale: Root mean square of the training forces, eV/Å, which targets are divided by.
    """

    needs_forces = True

    def __init__(self, job: TrainingJob, material: Material) -> None:
        """Refuse presets and changes that the package does not know, and data without forces.

        Raises:
            ConfigError: There is one.
        """
        super().__init__(job, material)
        self._config = model_config(job)
        free = _forces(material.train)[material.train.counted]
        self.scale = float(np.sqrt(np.mean(np.square(free)))) or 1.0
        self._tasks = task_configs(job, self.scale)

    @property
    def steps(self) -> int:
        """Those of the recipe."""
        return self.job.recipe.steps or 0

    def train(self, folder: Path, learning_rate: float, report: Report) -> Made:
        """Train at one learning rate; a training that was killed goes on at its last validation."""
        folder.mkdir(parents=True, exist_ok=True)
        recipe = self.job.recipe
        kept = {"model": self._config, "tasks": self._tasks}  # what the package writes checkpoints from
        OmegaConf.save(OmegaConf.create({"job": {}, "runner": {"train_eval_unit": kept}}), folder / "config.yaml")
        with contextlib.redirect_stdout(sys.stderr), _one_process(self.job.device):
            torch.manual_seed(recipe.seed)
            unit = self._unit(folder, learning_rate)
            states = _States(folder / "states")
            step = states.resume(unit, {point.step for point in report.progress.curve})
            report.begin(step)
            told = _Told(report, states)
            unit.model.module.register_forward_hook(told.watch)
            loaders = self._loaders(unit)
            if step < self.steps:
                fit(
                    unit, *loaders, max_epochs=None, max_steps=self.steps, callbacks=[told],
                    evaluate_every_n_steps=recipe.evaluate_every, evaluate_every_n_epochs=None,
                )  # fmt: skip
            if self.steps % recipe.evaluate_every and report.progress.step < self.steps:
                evaluate(unit, loaders[1], callbacks=[told])
        settings = {
            "trainer": f"{MLIPTrainEvalUnit.__module__}.{MLIPTrainEvalUnit.__name__}",
            "model": self._config,
            "tasks": self._tasks,
            "conversions": list(_CONVERSIONS),
        }
        best = told.best_step()
        return Made(states.place(best) / UNIT_INFERENCE_CHECKPOINT, self._config, settings, best)

    def _unit(self, folder: Path, learning_rate: float) -> Any:
        recipe = self.job.recipe
        schedule = recipe.schedule
        return MLIPTrainEvalUnit(
            job_config=OmegaConf.create(
                {"debug": True, "logger": None, "metadata": {"config_path": str(folder / "config.yaml")}}
            ),
            model=hydra.utils.instantiate({**self._config, "_recursive_": False}),
            optimizer_fn=functools.partial(
                torch.optim.AdamW, lr=learning_rate, weight_decay=recipe.weight_decay, amsgrad=True
            ),
            cosine_lr_scheduler_fn=functools.partial(
                _get_consine_lr_scheduler,
                warmup_factor=1.0,  # none
                warmup_epochs=0,
                lr_min_factor=schedule.final if isinstance(schedule, Cosine) else 1.0,
                steps=self.steps,
            ),
            tasks=[hydra.utils.instantiate(task) for task in self._tasks],
            clip_grad_norm=recipe.clip,
            ema_decay=recipe.ema_decay or 0.0,
            print_every=sys.maxsize,
        )

    def _loaders(self, unit: Any) -> tuple[DataLoader[Any], DataLoader[Any]]:
        material, recipe = self.material, self.job.recipe
        train = _Examples(examples(material.train, material.train_targets))
        validation = _Examples(examples(material.validation, material.validation_targets))
        first, second = (
            DataLoader(
                part,
                batch_sampler=batches,
                collate_fn=mt_collater_adapter(unit.tasks),
                generator=torch.Generator(),  # else an iterator takes a number from what the network draws from
            )
            for part, batches in (
                (train, _Batches(Order(len(train), recipe.batch, recipe.seed))),
                (validation, BatchSampler(SequentialSampler(validation), recipe.batch, drop_last=False)),
            )
        )
        return first, second


def examples(data: LabelledStructures, targets: FloatArray) -> list[Any]:
    """Return structures with their labels as the trainer takes them, in single precision.

    Args:
        data: The structures.
        targets: Shape (n_structures,), eV, energies without reference.
    """
    batch, found = wrapped(data.structures), []
    for s in range(data.n_structures):
        atoms = slice(batch.offsets[s], batch.offsets[s + 1])
        example = atomic_data(batch.slice(s, s + 1), DATASET, torch.float32)
        example.fixed = torch.from_numpy((~data.counted[atoms]).astype(np.int64))
        example.energy = torch.tensor([targets[s]], dtype=torch.float32)
        example.forces = torch.from_numpy(np.array(_forces(data)[atoms], dtype=np.float32))
        example.dataset = example.dataset_name = DATASET  # the collater wants a name, not a list of one
        found.append(example)
    return found


def _forces(data: LabelledStructures) -> FloatArray:
    if data.forces is None:  # refused when the bridge was made
        raise TypeError("structures without forces")
    return data.forces


@contextlib.contextmanager
def _one_process(device: str) -> Iterator[None]:
    """Make this process a group of its own, which the package asks for."""
    cpu = device == "cpu"
    distutils.assign_device_for_local_rank(cpu, 0)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo" if cpu else "nccl", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


class _Examples(list[Any]):
    """Structures in memory, of one dataset."""

    dataset_names = (DATASET,)


class _Batches(Sampler[list[int]]):
    """Batches of equal numbers of structures in the order of all our trainings; the package's own count atoms.

    Args:
        order: Which structures each step takes.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._epoch = self._start = 0

    def __len__(self) -> int:
        return self._order.steps_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        first = self._epoch * len(self)
        for step in range(first + self._start, first + len(self)):
            yield self._order.members(step).tolist()

    def set_epoch_and_start_iteration(self, epoch: int, start_iter: int) -> None:
        """Choose the epoch, and the batch in it to begin with."""
        self._epoch, self._start = epoch, start_iter


class _States:
    """Folders of what a later process needs to go on, and of weights, each there as a whole or not at all.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def place(self, step: int) -> Path:
        """Return the folder of a step."""
        return self._folder / f"step-{step:08d}"

    def resume(self, unit: Any, told: set[int]) -> int:
        """Let the unit go on at the last step that is there and was told, and return that step, 0 where there is none.

        Args:
            unit: The package's unit.
            told: Steps of validations that were reported; the state of another one is as if it were not there.
        """
        step = max(told & set(self._steps()), default=0)
        if step:
            unit.load_state(str(self.place(step)))
            torch.set_rng_state(torch.load(self.place(step) / "rng.pt", weights_only=True))
        return step

    def write(self, unit: Any, step: int) -> None:
        """Write the folder of a step."""
        fresh = self._folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        unit.save_state(str(fresh))
        torch.save(torch.get_rng_state(), fresh / "rng.pt")
        shutil.rmtree(self.place(step), ignore_errors=True)
        fresh.rename(self.place(step))

    def keep_only(self, steps: set[int]) -> None:
        """Drop the folders of other steps."""
        for other in set(self._steps()) - steps:
            shutil.rmtree(self.place(other))

    def _steps(self) -> list[int]:
        matches = (_STATE.fullmatch(path.name) for path in self._folder.iterdir())
        return [int(match.group(1)) for match in matches if match]


class _Told(Callback):
    """Passes on what the trainer does, and keeps its state after validations.

    Args:
        report: What is told.
        states: Where states are kept.
    """

    def __init__(self, report: Report, states: _States) -> None:
        self._report, self._states = report, states
        self._finite = True

    def watch(self, module: object, inputs: object, outputs: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Look at predictions: the package's loss takes those that are NaN for zero.

        Args:
            module: The network.
            inputs: Its inputs.
            outputs: Its outputs, by task and property.
        """
        del module, inputs
        values = (outputs["energy"]["energy"], outputs["forces"]["forces"])
        self._finite = all(bool(value.isfinite().all()) for value in values)

    def on_train_start(self, state: State, unit: Any) -> None:
        """Begin to measure; a step begins where the one before it, or the validation after that, has ended."""
        del state, unit
        self._report.clock.start()

    def on_train_step_end(self, state: State, unit: Any) -> None:
        """Tell of a step and how long it took, the wait for its batch included; a GPU is done when its loss is read."""
        del state
        loss = float(unit.last_loss)
        self._report.clock.stop()
        self._report.step(unit.train_progress.num_steps_completed, loss if self._finite else float("nan"))
        self._report.clock.start()

    def on_eval_end(self, state: State, unit: Any) -> None:
        """Tell of a validation, and keep the state."""
        del state
        step, found = unit.train_progress.num_steps_completed, unit.eval_unit.running_metrics
        errors = [float(found[name][DATASET]["mae"].metric) for name in ("energy", "forces")]
        self._states.write(unit, step)
        self._report.evaluation(step, unit.scheduler.get_last_lr()[0], (errors[0], errors[1]))
        self._states.keep_only({step, self.best_step()})
        self._report.clock.start()

    def best_step(self) -> int:
        """Return the step of the smallest force error among the validations."""
        return min(self._report.progress.curve, key=lambda point: (point.forces_mae, point.step)).step
