"""A package with a trainer of its own, small enough to need nothing: springs whose stiffness is learned."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest

from mlipbench.adapters.reference import ReferenceEnergies
from mlipbench.adapters.trained import TrainedAdapter
from mlipbench.checkpoint import read_checkpoint
from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.models.interface import Adapter, LoadRequest, Predictions
from mlipbench.recipe import JOB_FILE, Recipe, TrainedOn, Trainer, TrainingJob
from mlipbench.structures import StructureBatch
from mlipbench.structures.columnar import Labels, Split
from mlipbench.testing.toys import SpringAdapter
from mlipbench.training import steps
from mlipbench.training.bridges.bridge import Bridge, Made, Material
from mlipbench.training.bridges.drive import train_bridged
from mlipbench.training.bridges.report import Report
from mlipbench.training.files import replace_file

if TYPE_CHECKING:
    from mlipbench.models.interface import Property

STIFFNESS = 2.5  # eV/Å², of the labels
SHIFTS = {1: -3.0, 8: -70.0}  # eV, of the labels
N = 40


def molecules() -> tuple[StructureBatch, Labels]:
    """Return molecules of three or four atoms tied to their centres, with an energy for each element."""
    rng = np.random.default_rng(3)
    counts = 3 + np.arange(N) % 2
    offsets = np.concatenate([[0], np.cumsum(counts)])
    structures = StructureBatch(
        numbers=np.where(rng.random(offsets[-1]) < 0.5, 1, 8),
        positions=rng.normal(size=(offsets[-1], 3)),
        cell=np.zeros((N, 3, 3)),
        pbc=np.zeros((N, 3)),
        offsets=offsets,
        fixed=np.arange(offsets[-1]) % 5 == 0,
        id=np.array([f"m{i}" for i in range(N)]),
    )
    exact = SpringAdapter({"stiffness": STIFFNESS}).predict(structures, frozenset({"energy", "forces"}))
    shifts = np.vectorize(SHIFTS.get)(structures.numbers)
    return structures, Labels(exact.energy + np.add.reduceat(shifts, offsets[:-1]), exact.forces)


def save(folder: Path) -> Split:
    with ColumnarWriter(folder) as writer:
        writer.append(*molecules())
    return Split(folder, "toy", "train")


def job_for(split: Split, **changes: Any) -> TrainingJob:
    recipe = {
        "recipe": "tiny",
        "version": 1,
        "preset": "small",
        "train": {"split": "train", "slice": [0, 9, None]},
        "validation": {"split": "train", "slice": [9, None, None]},
        "energy_reference": "per_element",
        "loss": {"kind": "mse", "energy": 1.0, "forces": 1.0},
        "learning_rates": [0.1],
        "schedule": {"kind": "exponential", "final": 1.0},
        "batch": 3,
        "steps": 60,
        "evaluate_every": 20,
    }
    data = TrainedOn(
        dataset="toy",
        title="Toy",
        level_of_theory="springs",
        energy_reference="total",
        free_atoms_only=True,
        n_train=9,
        n_validation=N - 9,
        mean_atoms=3.5,
        train_hash=split.content_hash,
        validation_hash=split.content_hash,
    )
    identity = changes.pop("identity", "0" * 64)
    return TrainingJob(
        name="springs-tiny",
        net="springs",
        trainer=Trainer.MACE,  # whose place the toy takes
        recipe=Recipe.model_validate(recipe | changes),
        data=data,
        train_columns=split.directory,
        validation_columns=split.directory,
        identity=identity,
    )


def write_job(folder: Path, job: TrainingJob) -> Path:
    folder.mkdir()
    (folder / JOB_FILE).write_text(job.model_dump_json())
    return folder / JOB_FILE


class LearnedSpringAdapter(Adapter):
    """Springs of a checkpoint, the energy reference added back."""

    def __init__(self, folder: Path) -> None:
        record = read_checkpoint(folder)
        stiffness = json.loads((folder / record.weights_file).read_text())["stiffness"]
        self.springs = SpringAdapter({"stiffness": stiffness})
        self.reference = ReferenceEnergies.of_checkpoint(record.energy_reference)

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        return cls(Path(str(request.checkpoint)))

    def prepare(self, batch: StructureBatch, neighbors: Any | None = None) -> StructureBatch:
        return batch

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        found = self.springs.forward(prepared, properties)
        return Predictions(found.energy + self.reference.of(prepared), found.forces)


class SpringBridge(Bridge):
    """Learns the stiffness by gradient descent on the forces, a step at a time, and saves it at every validation.

    Step k takes k ms, as far as it tells.

    Attributes:
        seen: Learning rates and first steps of the trainings that were begun.
        stop_at: Step at which it behaves like a process that is killed.
        blow_up: Learning rates whose loss becomes NaN.
    """

    adapter = LearnedSpringAdapter
    seen: list[tuple[float, int]]
    stop_at: int | None = None
    blow_up: frozenset[float] = frozenset()

    @property
    def steps(self) -> int:
        return self.job.recipe.steps or 0

    def train(self, folder: Path, learning_rate: float, report: Report) -> Made:
        folder.mkdir(exist_ok=True)
        state = folder / "model.json"
        kept = json.loads(state.read_text()) if state.is_file() else {"stiffness": 0.0, "step": 0}
        stiffness, first = kept["stiffness"], kept["step"]
        self.seen.append((learning_rate, first))
        report.begin(first)
        data = self.material.train
        for step in range(first + 1, self.steps + 1):
            arms = SpringAdapter({}).predict(data.structures, frozenset({"forces"})).forces
            error = stiffness * arms - data.forces
            stiffness -= learning_rate * float(np.mean(error * arms))
            report.clock.add(step / 1000)
            report.step(step, float("nan") if learning_rate in self.blow_up else float(np.mean(error**2)))
            if step % self.job.recipe.evaluate_every == 0:
                content = json.dumps({"stiffness": stiffness, "step": step})
                replace_file(state, lambda path, content=content: path.write_text(content))
                report.evaluation(step, learning_rate, (0.0, float(np.abs(error).mean())))
            if step == self.stop_at:
                raise KeyboardInterrupt
        return Made(state, {"springs": True}, {"arguments": {"rate": learning_rate}}, self.steps)


def springs(**attributes: Any) -> type[SpringBridge]:
    """Return the bridge with nothing seen yet."""
    return type("Springs", (SpringBridge,), {"seen": [], **attributes})


class Killed(BaseException):
    """Ends a training where no handler can see it."""


def whole_and_resumed(job: TrainingJob, bridge: type[Bridge], at: int, folder: Path) -> tuple[Any, Any]:
    """Return the records of a training, and of one that was killed at a step and started again; errors are equal."""
    records = []
    for name, end in (("whole", None), ("broken", at)):
        (folder / name).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Report, "step", _killing(Report.step, end))
            try:
                records.append(train_bridged(job, folder / name, bridge))
            except Killed:
                assert end is not None
    records.append(train_bridged(job, folder / "broken", bridge))
    whole, again = records
    errors = [[(point.step, point.energy_mae, point.forces_mae) for point in made.curve] for made in records]
    assert errors[0] == errors[1]
    assert again.verdict == whole.verdict
    return whole, again


def _killing(step: Any, at: int | None) -> Any:
    def told(self: Report, number: int, loss: float) -> None:
        if number == at:
            raise Killed
        step(self, number, loss)

    return told


def step_times_where_only_the_optimiser_takes_time(job: TrainingJob, bridge: type[Bridge], folder: Path) -> Any:
    """Return the step times of a training on a clock that an optimiser's step moves by one, a validation by a thousand.

    The package's trainer runs in this process, with torch's AdamW.
    """
    import torch

    now = 0.0

    def moving(function: Any, seconds: float) -> Any:
        def moved(*arguments: Any, **named: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*arguments, **named)

        return moved

    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "time", SimpleNamespace(perf_counter=lambda: now))
        patch.setattr(torch.optim.AdamW, "step", moving(torch.optim.AdamW.step, 1.0))
        patch.setattr(Report, "evaluation", moving(Report.evaluation, 1000.0))
        times = train_bridged(job, folder, bridge).step_times
    assert now >= 1000.0
    return times


def trained(job: TrainingJob, bridge: type[Bridge], folder: Path, rel: float) -> Any:
    """Return the record of a training whose checkpoint does what the package reported of it, the reference added."""
    folder.mkdir()
    record = train_bridged(job, folder, bridge)
    (candidate,) = record.candidates
    best = next(point for point in record.curve if point.step == candidate.best_step)
    # what the package itself reported of these weights, which knows nothing of the reference
    assert best.energy_mae == pytest.approx(candidate.energy_mae, rel=rel)
    assert best.forces_mae == pytest.approx(candidate.forces_mae, rel=rel)
    validation = Material.of(job).validation
    adapter = TrainedAdapter.load(LoadRequest(dtype="float32", checkpoint=str(folder)))
    found = adapter.predict(validation.structures, frozenset({"energy", "forces"}))
    assert np.abs(found.energy - validation.energy).mean() == pytest.approx(candidate.energy_mae, rel=1e-5)
    return record
