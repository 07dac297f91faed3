"""What one learning rate came to: a checkpoint of its own, of which the best one becomes that of the job."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from mlipbench import trusted
from mlipbench.checkpoint import LOG_FILE, RECORD_FILE, Candidate, CheckpointRecord, Verdict, read_checkpoint
from mlipbench.errors import WorkerError
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.training.curve import write_log
from mlipbench.training.files import replace_file
from mlipbench.training.verdict import Errors, judge
from mlipbench.version import code_version
from mlipbench.worker.facts import host_facts, package_versions, torch_facts
from mlipbench.worker.loading import count_parameters

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.models.interface import Adapter
    from mlipbench.training.bridges.bridge import Bridge, Made
    from mlipbench.training.bridges.report import Progress, Report
    from mlipbench.training.data import LabelledStructures


@dataclass(frozen=True, slots=True)
class Candidates:
    """Checkpoints of the learning rates that came to something.

    Attributes:
        folders: At least one.
    """

    folders: tuple[Path, ...]

    def best_into(self, folder: Path) -> CheckpointRecord:
        """Copy the one with the smallest error on the validation structures, its record last."""
        records = [read_checkpoint(path) for path in self.folders]
        candidates = tuple(record.candidates[0] for record in records)
        place = min(range(len(records)), key=lambda index: _criterion(candidates[index]))
        source = self.folders[place]
        record = records[place].model_copy(update={"candidates": candidates})
        for name in (record.weights_file, LOG_FILE):
            replace_file(folder / name, partial(shutil.copyfile, source / name))
        if record.pickled:
            trusted.record(folder / record.weights_file, record.weights_sha256, trusted.MADE_HERE)
        _write_record(folder, record)
        return record


def write_untested(bridge: Bridge, made: Made, progress: Progress, folder: Path, learning_rate: float) -> Path:
    """Write a checkpoint whose verdict is still open, and return its folder.

    Args:
        bridge: What trained it.
        made: What the package's trainer left.
        progress: How the training went.
        folder: Where to; replaced if it is there.
        learning_rate: The learning rate.
    """
    job, train = bridge.job, bridge.material.train
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copyfile(made.weights, folder / bridge.weights_file)
    record = CheckpointRecord(
        name=job.name,
        identity=job.identity,
        net=job.net,
        trainer=job.trainer,
        config=dict(made.config),
        parameters=0,
        elements=tuple(np.unique(train.structures.numbers).tolist()),
        energy_reference=bridge.material.reference,
        data=job.data,
        recipe=job.recipe,
        learning_rate=learning_rate,
        candidates=(
            Candidate(
                learning_rate=learning_rate,
                forces_mae=None,
                energy_mae=0.0,
                best_step=made.best_step,
                steps=bridge.steps,
                seconds=progress.seconds,
            ),
        ),
        curve=tuple(progress.curve),
        verdict=Verdict(n_structures=0, zero_forces_mae=None, ratio=None, low=None, high=None, trained=False),
        device=job.device,
        threads=job.threads,
        step_times=progress.step_times,
        packages=package_versions(),
        code=", then ".join(dict.fromkeys((*progress.code, code_version()))),
        settings=dict(made.settings),
        weights_file=bridge.weights_file,
        weights_sha256=hashlib.sha256((folder / bridge.weights_file).read_bytes()).hexdigest(),
    )
    per_epoch = -(-train.n_structures // min(job.recipe.batch, train.n_structures))
    write_log(folder / LOG_FILE, record.curve, per_epoch)
    _write_record(folder, record)
    return folder


def judged(bridge: Bridge, folder: Path, report: Report) -> CheckpointRecord:
    """Predict the validation structures with the checkpoint in a folder, and complete its record.

    Structures that the package refuses, and which would be rows without values in a table, are left out; the settings
    of the record tell how many, and why.

    Args:
        bridge: Names the adapter and the structures.
        folder: The folder.
        report: Of the training.

    Raises:
        DivergedError: A prediction is not finite.
        WorkerError: The package refuses all structures.
    """
    recipe = bridge.job.recipe
    request = LoadRequest(bridge.job.device, recipe.precision, str(folder), seed=recipe.seed)
    adapter = bridge.adapter.load(request)
    data, errors, refused = errors_of(adapter, bridge.material.validation, recipe.batch)
    if not math.isfinite(errors.energy_mae) or not math.isfinite(errors.forces_mae or 0.0):
        raise report.diverged("predictions of the validation structures are NaN or infinite")
    record = read_checkpoint(folder)
    found = {"forces_mae": errors.forces_mae, "energy_mae": errors.energy_mae}
    update = {
        "candidates": (record.candidates[0].model_copy(update=found),),
        "verdict": judge(data, errors),
        "parameters": count_parameters(adapter.module()) or 0,
        "hardware": {**host_facts(), **torch_facts()},
        "settings": record.settings | ({"not_judged": refused} if refused else {}),
    }
    record = record.model_copy(update=update)
    _write_record(folder, record)
    return record


def errors_of(
    adapter: Adapter, data: LabelledStructures, size: int
) -> tuple[LabelledStructures, Errors, dict[str, int]]:
    """Return the errors of a model on the labelled structures that it does not refuse.

    Args:
        adapter: The model.
        data: The structures.
        size: Structures at a time.

    Returns:
        These structures, the errors on them, and the number of the others by reason.

    Raises:
        WorkerError: It refuses all.
    """
    n, offsets = data.n_structures, data.structures.offsets
    wanted = {Property.ENERGY} | ({Property.FORCES} if data.forces is not None else set())
    energy, forces, reasons = np.zeros(n), np.zeros(n), dict[int, str]()
    for start in range(0, n, size):
        stop = min(start + size, n)
        batch = data.structures.slice(start, stop)
        found = adapter.predict(batch, frozenset(wanted))
        reasons |= {start + s: reason for s, reason in found.not_applicable.items()}
        energy[start:stop] = np.abs(found.energy - data.energy[start:stop])
        if data.forces is not None and found.forces is not None:
            atoms = slice(offsets[start], offsets[stop])
            error = np.abs(found.forces - data.forces[atoms]).sum(axis=1) * data.counted[atoms]
            forces[start:stop] = np.bincount(batch.structure_index, error, minlength=stop - start)
    kept = np.setdiff1d(np.arange(n), list(reasons))
    if not len(kept):
        raise WorkerError(f"the package refuses all validation structures: {next(iter(reasons.values()))}")
    judged_on = data.select(kept)
    components = int(judged_on.counted_components.sum())
    errors = Errors(energy[kept], forces[kept] if data.forces is not None else None, components)
    return judged_on, errors, dict(Counter(reasons.values()))


def _criterion(candidate: Candidate) -> float:
    return candidate.energy_mae if candidate.forces_mae is None else candidate.forces_mae


def _write_record(folder: Path, record: CheckpointRecord) -> None:
    text = record.model_dump_json(indent=2) + "\n"
    replace_file(folder / RECORD_FILE, lambda path: path.write_text(text, encoding="utf-8"))
