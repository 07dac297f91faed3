"""One job: its data, its processes, and all its learning rates."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from typing import TYPE_CHECKING, Final

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy

from mlipbench.checkpoint import is_checkpoint, read_checkpoint
from mlipbench.errors import ConfigError, PrerequisiteError, WorkerError
from mlipbench.recipe import Event, EventKind
from mlipbench.training.batches import BatchMaker
from mlipbench.training.curve import summary
from mlipbench.training.data import check_elements, load_data
from mlipbench.training.events import EventLog
from mlipbench.training.export import export
from mlipbench.training.learner import build_network, precision
from mlipbench.training.loop import Interruption, Setting, Training
from mlipbench.training.reference import fit_reference, reference_energies

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.checkpoint import CheckpointRecord, EnergyReferenceValues
    from mlipbench.recipe import TrainingJob

STATES: Final = "states"
"""Folder, inside that of the job, of the states of unfinished trainings."""


def train_job(job: TrainingJob, folder: Path) -> CheckpointRecord:
    """Train a job and write its checkpoint; one that was finished before is only reported.

    Args:
        job: What is trained.
        folder: The folder that is worked in.

    Raises:
        ConfigError: The recipe does not fit the data or the network, or the folder holds something else.
        DatasetError: The data cannot be used.
        PrerequisiteError: There is no such device.
        WorkerError: The loss diverges at every learning rate.
    """
    fabric = start_fabric(job)
    events = EventLog(folder, silent=not fabric.is_global_zero)
    if is_checkpoint(folder):
        record = read_checkpoint(folder)
        if record.identity != job.identity:
            raise ConfigError("the folder holds another checkpoint", file=folder, remedy="choose another folder")
    else:
        setting, reference = _prepare(job, folder, fabric, events)
        record = export(setting, _train_grid(setting), reference, folder)
    if fabric.is_global_zero:
        shutil.rmtree(folder / STATES, ignore_errors=True)
    events.write(Event(kind=EventKind.DONE, learning_rate=record.learning_rate, text=summary(record)))
    return record


def start_fabric(job: TrainingJob) -> Fabric:
    """Return the processes of a job: those that ``torchrun`` started, or this one alone.

    On processors every operation is deterministic. On GPUs sums of atomics differ in rounding from run to run.

    Raises:
        PrerequisiteError: There is no such device.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    torch.set_num_threads(job.threads)
    if job.device == "cuda" and not torch.cuda.is_available():
        raise PrerequisiteError("there is no CUDA device", remedy="train on the CPU")
    if job.device == "cpu":
        torch.use_deterministic_algorithms(mode=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs time and guards against nothing here
    world, local = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    together = TorchElasticEnvironment.detect() and world > 1
    backend = "gloo" if job.device == "cpu" else "nccl"
    # networks may have weights that no loss depends on, as the last aggregate of LEIGNN
    strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True) if together else "auto"
    fabric = Fabric(
        accelerator=job.device,
        devices=local if together else 1,
        num_nodes=world // local if together else 1,
        strategy=strategy,
        precision="64-true" if job.recipe.precision == "float64" else "32-true",
        plugins=[TorchElasticEnvironment() if together else LightningEnvironment()],
    )
    fabric.launch()
    return fabric


def _prepare(job: TrainingJob, folder: Path, fabric: Fabric, events: EventLog) -> tuple[Setting, EnergyReferenceValues]:
    train, validation = load_data(job)
    config = build_network(job).config
    check_elements(config.elements, train, validation)
    reference = fit_reference(job.recipe.energy_reference, train.structures, train.energy)
    makers = [
        BatchMaker(
            part,
            part.energy - reference_energies(reference, part.structures),
            config,
            (precision(job), fabric.device),
        )
        for part in (train, validation)
    ]
    interruption = Interruption()
    interruption.listen()
    return Setting(job, folder / STATES, fabric, makers[0], makers[1], events, interruption), reference


def _train_grid(setting: Setting) -> list[Training]:
    """Train every learning rate, and return those that came to something."""
    trainings = []
    for learning_rate in setting.job.recipe.learning_rates:
        training = Training(setting, learning_rate)
        training.run()
        trainings.append(training)
    good = [training for training in trainings if training.progress.lost is None]
    if not good:
        lost = trainings[-1].progress.lost
        raise WorkerError(str(lost) if len(trainings) == 1 else f"every learning rate diverged; the last one: {lost}")
    return good
