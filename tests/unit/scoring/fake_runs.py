"""Run directories that no worker made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlipbench.runner.record import first_manifest
from mlipbench.status import Status
from mlipbench.store.predictions import PredictionBlock, SplitStore, State
from mlipbench.store.rundir import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

    from plan_world import World

    from mlipbench.plan import Plan


@dataclass
class Fake:
    """A model whose predictions are the labels plus given errors."""

    energy: dict[str, list[float]] = field(default_factory=dict)
    forces: float = 0.25
    failed: dict[str, dict[int, str]] = field(default_factory=dict)
    declined: dict[str, dict[int, str]] = field(default_factory=dict)


def make_run(world: World, fake: Fake, *, status: Status = Status.OK, **selection: Any) -> Path:
    plan = world.plan(**selection)
    (run,) = plan.runs
    directory = RunDirectory(world.folder / "run")
    manifest = first_manifest(plan, run, "run", "2020-01-01T00:00:00+00:00", ())
    records = []
    for planned, record in zip(run.splits, manifest.splits, strict=True):
        lost = fake.failed.get(planned.split, {}) | fake.declined.get(planned.split, {})
        predict(plan, directory, planned, fake)
        failed = len(fake.failed.get(planned.split, {}))
        counts = {
            "n_failed": failed,
            "n_predicted": planned.n_structures - len(lost),
            "n_not_applicable": len(lost) - failed,
            "status": Status.PARTIAL if failed else Status.OK,
            "reason": next(iter(fake.failed.get(planned.split, {}).values()), None),
        }
        records.append(record.model_copy(update=counts))
    directory.write_manifest(manifest.model_copy(update={"splits": records, "status": status}))
    return directory.path


def predict(plan: Plan, directory: RunDirectory, planned: Any, fake: Fake) -> None:
    whole = plan.datasets[planned.dataset].splits[planned.split]
    data, n = planned.taken(whole), planned.n_structures
    structures, labels = data.structures(0, n), data.labels(0, n)
    state = np.full(n, State.OK)
    state[list(fake.failed.get(planned.split, {}))] = State.FAILED
    state[list(fake.declined.get(planned.split, {}))] = State.NOT_APPLICABLE
    lost = state != State.OK
    errors = np.array(fake.energy.get(planned.split, [0.0] * len(whole)))
    taken = slice(None) if planned.places is None else planned.places
    energy = np.where(lost, np.nan, labels.energy + errors[taken])
    assert labels.forces is not None
    forces = np.where(np.repeat(lost, structures.counts)[:, None], np.nan, labels.forces + fake.forces)
    reasons = fake.failed.get(planned.split, {}) | fake.declined.get(planned.split, {})
    columns = {"energy": energy, "forces": forces.astype(np.float32)}
    block = PredictionBlock(structures.offsets, columns, state, reasons)
    path = directory.predictions(planned.task, planned.dataset, planned.split)
    store = SplitStore(path, structures.counts, np.array([0, n]), planned.task)
    store.commit(0, block, [])
    store.finish(data.names)
