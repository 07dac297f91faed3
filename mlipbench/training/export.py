"""Writing the checkpoint of a finished training."""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.checkpoint import LOG_FILE, RECORD_FILE, WEIGHTS_FILE, Candidate, CheckpointRecord
from mlipbench.nets.load import set_tensors
from mlipbench.training.curve import criterion, write_log
from mlipbench.training.evaluate import evaluate
from mlipbench.training.files import replace_file
from mlipbench.training.learner import build_network
from mlipbench.training.verdict import judge
from mlipbench.worker.facts import host_facts, package_versions, torch_facts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlipbench.checkpoint import EnergyReferenceValues, Evaluation, Verdict
    from mlipbench.nets import Network
    from mlipbench.training.loop import Setting, Training


def chosen_of(trainings: Sequence[Training]) -> Training:
    """Return the training with the smallest error on the validation structures; the first of equals."""
    return min(trainings, key=lambda training: criterion(_best(training)))


def export(
    setting: Setting, trainings: Sequence[Training], reference: EnergyReferenceValues, folder: Path
) -> CheckpointRecord:
    """Write the checkpoint, its record last.

    Args:
        setting: What was trained on what.
        trainings: Those of the learning rates that came to something, at least one.
        reference: What was subtracted from energies.
        folder: Where to; only the first process writes.
    """
    chosen = chosen_of(trainings)
    network = build_network(setting.job).to(setting.fabric.device).eval()
    set_tensors(network, chosen.best)
    errors = evaluate(setting.fabric, network, setting.validation, setting.job.recipe.batch)
    verdict = judge(setting.validation.data, errors)
    record = _record(setting, trainings, network, (reference, verdict))
    if not setting.fabric.is_global_zero:
        return record
    from safetensors.torch import save

    content = save(chosen.best)
    record = record.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
    replace_file(folder / WEIGHTS_FILE, lambda path: path.write_bytes(content))
    steps_per_epoch = chosen.steps_per_epoch
    replace_file(folder / LOG_FILE, lambda path: write_log(path, chosen.progress.curve, steps_per_epoch))
    text = record.model_dump_json(indent=2) + "\n"
    replace_file(folder / RECORD_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    return record


def _record(
    setting: Setting,
    trainings: Sequence[Training],
    network: Network,
    results: tuple[EnergyReferenceValues, Verdict],
) -> CheckpointRecord:
    job, chosen = setting.job, chosen_of(trainings)
    codes = dict.fromkeys(code for training in trainings for code in training.progress.code)
    return CheckpointRecord(
        name=job.name,
        identity=job.identity,
        net=job.net,
        config=asdict(network.config),
        parameters=sum(weight.numel() for weight in network.parameters()),
        elements=tuple(np.unique(setting.train.data.structures.numbers).tolist()),
        energy_reference=results[0],
        data=job.data,
        recipe=job.recipe,
        learning_rate=chosen.learning_rate,
        candidates=tuple(_candidate(training) for training in trainings),
        curve=tuple(chosen.progress.curve),
        verdict=results[1],
        device=job.device,
        processes=setting.fabric.world_size,
        threads=job.threads,
        hardware=_hardware(),
        step_times=chosen.progress.step_times,
        packages={**package_versions(), "lightning-fabric": importlib.metadata.version("lightning-fabric")},
        code=", then ".join(codes),
        weights_sha256="",
    )


def _hardware() -> dict[str, Any]:
    return {**host_facts(), **torch_facts()}


def _candidate(training: Training) -> Candidate:
    best = _best(training)
    return Candidate(
        learning_rate=training.learning_rate,
        forces_mae=best.forces_mae,
        energy_mae=best.energy_mae,
        best_step=best.step,
        steps=training.progress.step,
        seconds=training.progress.seconds,
    )


def _best(training: Training) -> Evaluation:
    best = training.progress.best
    if best is None:
        raise AssertionError("a training that ended has evaluated at least once")
    return best
