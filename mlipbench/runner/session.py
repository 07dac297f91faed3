"""One run, from its directory to its metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlipbench.checkpoint import is_checkpoint
from mlipbench.environments import environment_facts
from mlipbench.errors import ResultsError
from mlipbench.execution.client import WorkerClient, WorkerSpec
from mlipbench.execution.evaluate import Predictor
from mlipbench.execution.requests import LoadModel
from mlipbench.models.registry import adapter_target
from mlipbench.runner.fitting import fitted_parameters, once_more
from mlipbench.runner.record import first_manifest
from mlipbench.runner.splits import SplitJob, predict_split
from mlipbench.runner.timings import merge_timings
from mlipbench.runner.training import checkpoint_facts, ensure_trained
from mlipbench.scoring.run import score_manifest
from mlipbench.status import Status, Task
from mlipbench.store.files import write_atomically
from mlipbench.store.rundir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.plan import Plan, PlannedSplit, RunPlan
    from mlipbench.progress import Display
    from mlipbench.runner.settings import RunSettings
    from mlipbench.store.records import Manifest, SplitRecord


@dataclass(slots=True)
class _WorkerFacts:
    """What workers of this run said of themselves; the last one counts."""

    packages: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    weights_sha256: str | None = None


class RunSession:
    """Carries out one run.

    Args:
        plan: The plan of the suite.
        run: The run.
        settings: How it is carried out.
        display: Shows progress.
    """

    def __init__(self, plan: Plan, run: RunPlan, settings: RunSettings, display: Display) -> None:
        """Keep the arguments; nothing is started."""
        self.plan = plan
        self.run = run
        self.settings = settings
        self.display = display
        self._facts = _WorkerFacts()
        self._begun = time.monotonic()

    def new_directory(self, root: Path) -> RunDirectory:
        """Return the directory of a new run below the directory of its model; it is not made yet."""
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{self.run.sha256[:12]}"
        return RunDirectory(root / name)

    def carry_out(self, directory: RunDirectory) -> tuple[RunDirectory, Manifest]:
        """Predict what is not predicted yet, score, and finish the manifest.

        Raises:
            ResultsError: Another process is writing this run.
            MlipbenchError: Results cannot be written.
        """
        with directory.lock():
            manifest = self._open(directory)
            for dataset in self.plan.datasets:
                manifest = self._predict_dataset(directory, manifest, dataset)
            merge_timings(directory)
            manifest = self._finished(manifest)
            score_manifest(directory, manifest, self.plan.location)
            directory.write_manifest(manifest)
        return directory, manifest

    def _open(self, directory: RunDirectory) -> Manifest:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        if (directory.path / "manifest.json").exists():
            manifest = directory.manifest()
            self._check_lock(directory, manifest)
            manifest = manifest.model_copy(update={"resumed": [*manifest.resumed, now]})
        else:
            manifest = first_manifest(self.plan, self.run, directory.path.name, now, self.settings.arguments)
            if self.run.environment.lock is not None:
                write_atomically(directory.environment_lock, self.run.environment.lock.read_bytes())
        directory.write_manifest(manifest)
        return manifest

    def _check_lock(self, directory: RunDirectory, manifest: Manifest) -> None:
        """Refuse to go on with other packages than those the run was begun with."""
        begun = manifest.environment.lock_sha256
        if begun is not None and begun != environment_facts(self.run.environment).lock_sha256:
            command = f"mlipbench env create {self.run.environment.name} --from {directory.environment_lock}"
            raise ResultsError(
                "the run was begun in an environment of other packages", file=directory.path,
                remedy=f"restore it with `{command}`, or give --again",
            )  # fmt: skip

    def _predict_dataset(self, directory: RunDirectory, manifest: Manifest, dataset: str) -> Manifest:
        wanted = [split for split in self.run.splits if split.dataset == dataset and split.status is Status.OK]
        open_splits = [split for split in wanted if _record(manifest, split).status is Status.RUNNING]
        if open_splits:
            manifest = self._with_checkpoint(manifest, dataset)
        with Predictor(self._client_factory(directory, dataset)) as predictor:
            for split in open_splits:
                job = self._job(directory, split)
                manifest = self._with_record(manifest, predict_split(predictor, job, self.display))
                directory.write_manifest(manifest)
        return manifest

    def _job(self, directory: RunDirectory, split: PlannedSplit) -> SplitJob:
        splits = self.plan.datasets[split.dataset].splits
        reference = splits[split.request.parameters["reference"]] if split.task is Task.MD else None
        title = f"{self._title()}: {self.run.place(*split.key)}"
        return SplitJob(directory, split, splits[split.split], title, reference, self.run.card.declared().cutoff)

    def _client_factory(self, directory: RunDirectory, dataset: str) -> Callable[[], WorkerClient]:
        """Return what starts a worker with the model loaded, fitted before the first start where it has to be."""
        spec = WorkerSpec(
            python=self.run.environment.interpreter(),
            log=directory.log,
            threads=self.run.threads,
            memory_limit=self.settings.memory_limit,
            request_timeout=self.settings.request_timeout,
        )

        def load() -> WorkerClient:
            model = self._model(directory, dataset, spec)
            client = WorkerClient(spec)
            hello = client.start()
            try:
                loaded = client.load(model)
            except BaseException:
                client.close()
                raise
            self._facts = _WorkerFacts(
                {"python": hello.python, **hello.packages, **loaded.packages},
                {**hello.device, **loaded.facts},
                loaded.parameters,
                loaded.weights_sha256,
            )
            return client

        return lambda: once_more(load)

    def _model(self, directory: RunDirectory, dataset: str, spec: WorkerSpec) -> LoadModel:
        """Return what a worker is to load."""
        parameters = {}
        if dataset in self.run.fits:
            split = self.plan.datasets[dataset].splits[self.run.fits[dataset]]
            parameters = fitted_parameters(directory, self.run.card, dataset, split, spec)
        return LoadModel(
            adapter=adapter_target(self.run.card),
            device=self.run.variant.device,
            dtype=self.run.variant.precision,
            checkpoint=self._checkpoint(dataset),
            sha256=self._pinned(dataset),
            kwargs={**self.run.card.kwargs, **self.run.variant.settings},
            parameters=parameters,
            seed=self.run.seed,
            threads=self.run.threads,
        )

    def _checkpoint(self, dataset: str) -> str | None:
        """Return what the worker is to load: the folder of a trained checkpoint, or what the card says."""
        if dataset in self.run.trainings:
            return str(self.run.trainings[dataset].folder)
        return self.run.card.checkpoint_location(dataset)

    def _pinned(self, dataset: str) -> str | None:
        """Return the checksum that the card pins for weights that the package finds by name."""
        bound = self.run.card.checkpoint_for(dataset)
        return None if bound is None or dataset in self.run.trainings else bound.sha256

    def _with_checkpoint(self, manifest: Manifest, dataset: str) -> Manifest:
        """Return the manifest with what is known of the checkpoint, which is trained first where a recipe says so.

        Raises:
            ResultsError: Part of the run was predicted with other weights.
        """
        if dataset in self.run.trainings:
            ensure_trained(self.run.trainings[dataset], self.display, trust=self.run.trusted)
        location = self._checkpoint(dataset)
        if location is None or not is_checkpoint(Path(location)):
            return manifest
        facts = checkpoint_facts(Path(location))
        known = manifest.model.checkpoints.get(dataset, {})
        if known.get("identity") and known.get("sha256") != facts["sha256"]:
            raise ResultsError(
                f"the run was begun with a checkpoint of sha256 {known['sha256']}", file=location,
                remedy="restore that checkpoint, or give --again",
            )  # fmt: skip
        model = manifest.model.model_copy(update={"checkpoints": {**manifest.model.checkpoints, dataset: facts}})
        return manifest.model_copy(update={"model": model})

    def _with_record(self, manifest: Manifest, record: SplitRecord) -> Manifest:
        key = (record.task, record.dataset, record.split)
        splits = [record if (old.task, old.dataset, old.split) == key else old for old in manifest.splits]
        packages = {**manifest.packages, "worker": self._facts.packages}
        hardware = {**manifest.hardware, "worker": self._facts.hardware}
        environment = manifest.environment.model_copy(update={"parameters": self._facts.parameters})
        checkpoints = manifest.model.checkpoints
        if self._facts.weights_sha256 is not None:
            bound = {**checkpoints[record.dataset], "sha256": self._facts.weights_sha256}
            checkpoints = {**checkpoints, record.dataset: bound}
        model = manifest.model.model_copy(update={"checkpoints": checkpoints})
        update = {"model": model, "splits": splits, "packages": packages, "hardware": hardware}
        update["environment"] = environment
        return manifest.model_copy(update={**update, "wall_seconds": self._wall(manifest)})

    def _finished(self, manifest: Manifest) -> Manifest:
        update = {
            "status": _overall([record.status for record in manifest.splits]),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_seconds": self._wall(manifest),
        }
        return manifest.model_copy(update=update)

    def _wall(self, manifest: Manifest) -> float:
        """Return the seconds spent on the run, sessions before this one included."""
        now = time.monotonic()
        spent, self._begun = now - self._begun, now
        return round((manifest.wall_seconds or 0.0) + spent, 3)

    def _title(self) -> str:
        variant = "" if self.run.variant.name == "default" else f" {self.run.variant.name}"
        return f"{self.run.model}{variant}"


def _record(manifest: Manifest, split: PlannedSplit) -> SplitRecord:
    key = (split.task, split.dataset, split.split)
    return next(record for record in manifest.splits if (record.task, record.dataset, record.split) == key)


def _overall(statuses: list[Status]) -> Status:
    """Return the status of a run from those of its splits."""
    attempted = [status for status in statuses if status is not Status.NOT_APPLICABLE]
    if not attempted:
        return Status.NOT_APPLICABLE
    if all(status is Status.FAILED for status in attempted):
        return Status.FAILED
    return Status.OK if all(status is Status.OK for status in attempted) else Status.PARTIAL
