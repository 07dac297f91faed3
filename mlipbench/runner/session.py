"""One run, from its directory to its metrics."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
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
from mlipbench.plan.shards import cut_shards, shard_at
from mlipbench.runner.fitting import fitted_parameters, once_more
from mlipbench.runner.record import first_manifest
from mlipbench.runner.shards import check_shards, check_time, joined, machines
from mlipbench.runner.splits import ShardJob, predict_shard
from mlipbench.runner.training import checkpoint_facts, ensure_trained
from mlipbench.scoring.run import score_manifest
from mlipbench.status import Status, Task
from mlipbench.store.files import write_atomically
from mlipbench.store.provenance import hardware
from mlipbench.store.records import ShardRecord
from mlipbench.store.rundir import MANIFEST, RunDirectory
from mlipbench.store.timings import merge_timings
from mlipbench.version import code_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlipbench.errors import PrerequisiteError
    from mlipbench.plan import Plan, PlannedSplit, RunPlan
    from mlipbench.plan.shards import Shard, ShardChoice
    from mlipbench.progress import Display
    from mlipbench.runner.settings import RunSettings
    from mlipbench.store.records import Manifest, SplitRecord


@dataclass(frozen=True, slots=True)
class _WorkerFacts:
    """What workers of this run said of themselves; the last one counts."""

    packages: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    weights_sha256: str | None = None


def new_directory(root: Path, run: RunPlan) -> RunDirectory:
    """Return the directory of a new run below the directory of its model; it is not made yet."""
    now = datetime.now(UTC)
    return RunDirectory(root / f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}Z-{run.sha256[:12]}")


class RunSession:
    """Carries out one run, whose directory the caller holds locked.

    Attributes:
        plan: The plan of the suite.
        run: The run.
        directory: Its directory.
        manifest: What is known of it.
        missing: What is missing on this machine to measure costs, or None.

    Args:
        plan: The plan of the suite.
        run: The run.
        directory: Its directory, which need not exist.
        settings: How it is carried out.
        display: Shows progress.
    """

    def __init__(
        self, plan: Plan, run: RunPlan, directory: RunDirectory, settings: RunSettings, display: Display
    ) -> None:
        """Read what there is; nothing is started or written.

        Raises:
            ResultsError: The run is damaged, or was cut into another number of shards.
        """
        self.plan = plan
        self.run = run
        self.directory = directory
        self.settings = settings
        self.display = display
        self.missing: PrerequisiteError | None = None
        self._facts = _WorkerFacts()
        self._begun = time.monotonic()
        self._elsewhere = 0.0
        self._known = (directory.path / MANIFEST).exists()
        self.manifest = directory.manifest() if self._known else self._first_manifest()
        if settings.shards not in {None, self.manifest.shards}:
            cut = self.manifest.shards
            raise ResultsError(
                f"this run was begun with splits cut into {cut} shards, not {settings.shards}", file=directory.path,
                remedy=f"give --shard I/{cut}, finish it with `mlipbench run`, or give that --again",
            )  # fmt: skip

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.manifest.status is not Status.RUNNING

    @property
    def open_costs(self) -> list[PlannedSplit]:
        """The splits of which costs are still to be measured."""
        return [split for split in self._open(self.run.splits) if split.task is Task.EFFICIENCY]

    def predict(self) -> None:
        """Predict what is not predicted yet, trained first where it has to be.

        Raises:
            MlipbenchError: Results cannot be written, or the weights cannot be had.
        """
        self._write_first()
        for split, predictor in self._each_open():
            shards = cut_shards(self.run, split, self.manifest.shards)
            records = {shard.name: self._shard(predictor, split, shard) for shard in shards}
            check_shards(self.directory, split, self.manifest, records)
            self._join(split, list(records.values()))

    def begin(self) -> None:
        """Write the first manifest of a run that others are to compute shards of, unless one of them has.

        Raises:
            MlipbenchError: Results cannot be written.
            ResultsError: The run was begun in an environment of other packages.
        """
        if self._known:
            self._check_lock()
        else:
            self._write_first()

    def predict_shard(self, choice: ShardChoice) -> list[tuple[PlannedSplit, Shard, ShardRecord]]:
        """Predict one shard of every split, as far as that is not done, and return what became of these.

        Args:
            choice: Which.

        Raises:
            MlipbenchError: Results cannot be written, or the weights cannot be had.
            LaterError: Another process computes a shard now, or the job ends too soon.
        """
        self.begin()
        done = []
        for split, predictor in self._each_open():
            if (shard := shard_at(self.run, split, choice)) is not None:
                with self.directory.lock_shard(*split.key, shard.name):
                    done.append((split, shard, self._shard(predictor, split, shard)))
        return done

    def _each_open(self) -> Iterator[tuple[PlannedSplit, Predictor]]:
        """Yield the splits to predict, with what predicts them; weights are trained first where they have to be."""
        for dataset in self.plan.datasets:
            splits = self._open(split for split in self.run.splits if split.dataset == dataset)
            if splits:
                self._find_checkpoint(dataset)
            with self.predictor(dataset) as predictor:
                for split in splits:
                    if split.task is not Task.EFFICIENCY:
                        yield split, predictor

    def _shard(self, predictor: Predictor, split: PlannedSplit, shard: Shard) -> ShardRecord:
        """Return what became of a shard, which is predicted unless it is there."""
        job, begun = self._job(split, shard), time.monotonic()
        known = self.directory.read_shard_record(*split.key, shard.name) if job.path.exists() else None
        if known is not None:
            self._elsewhere += known.seconds
            return known
        check_time(self.directory.shards(*split.key), job.title)
        outcome = predict_shard(predictor, job, self.display)
        facts, bound = self._facts, self.manifest.model.checkpoints.get(split.dataset, {})
        record = ShardRecord(
            plan_sha256=self.run.sha256,
            code_version=code_version(),
            lock_sha256=environment_facts(self.run.environment).lock_sha256,
            weights_sha256=facts.weights_sha256 or bound.get("sha256"),
            start=shard.start,
            stop=shard.stop,
            packages=facts.packages,
            hardware={"parent": hardware(), "worker": facts.hardware} if facts.packages else {},
            parameters=facts.parameters,
            seconds=round(time.monotonic() - begun, 3),
            **asdict(outcome),
        )
        self.directory.write_shard_record(*split.key, shard.name, record)
        return record

    def _join(self, split: PlannedSplit, records: list[ShardRecord]) -> None:
        told = next((record for record in records if record.packages), records[0])
        facts = _WorkerFacts(told.packages, machines(records), told.parameters, told.weights_sha256)
        self._settle(joined(split, records), facts)

    def finish(self) -> None:
        """Score, and finish the manifest.

        Raises:
            MlipbenchError: Results cannot be written.
            PrerequisiteError: Costs could not be measured; the run can be resumed.
        """
        if self.missing is not None:
            raise self.missing
        merge_timings(self.directory)
        update = {
            "status": _overall([record.status for record in self.manifest.splits]),
            "finished": _now(),
            "wall_seconds": self._wall(),
        }
        self.manifest = self.manifest.model_copy(update=update)
        score_manifest(self.directory, self.manifest, self.plan.location)
        self.directory.write_manifest(self.manifest)

    def settle(self, record: SplitRecord) -> None:
        """Write down what became of a split, and what its worker said of itself."""
        self._settle(record, replace(self._facts, hardware={"worker": self._facts.hardware}))

    def _settle(self, record: SplitRecord, facts: _WorkerFacts) -> None:
        key = (record.task, record.dataset, record.split)
        manifest = self.manifest
        splits = [record if (old.task, old.dataset, old.split) == key else old for old in manifest.splits]
        packages = {**manifest.packages, "worker": facts.packages}
        environment = manifest.environment.model_copy(update={"parameters": facts.parameters})
        checkpoints = manifest.model.checkpoints
        if facts.weights_sha256 is not None and record.dataset in checkpoints:
            bound = {**checkpoints[record.dataset], "sha256": facts.weights_sha256}
            checkpoints = {**checkpoints, record.dataset: bound}
        model = manifest.model.model_copy(update={"checkpoints": checkpoints})
        update = {"model": model, "splits": splits, "packages": packages}
        update |= {"hardware": {**manifest.hardware, **facts.hardware}}
        update |= {"environment": environment, "wall_seconds": self._wall()}
        self.manifest = manifest.model_copy(update=update)
        self.directory.write_manifest(self.manifest)

    def predictor(self, dataset: str, run: RunPlan | None = None) -> Predictor:
        """Return what keeps a worker with the model loaded, fitted before the first start where it has to be.

        Args:
            dataset: Name of the dataset.
            run: The run with other settings, None for its own; what those workers say of themselves is not kept.
        """
        return Predictor(lambda: once_more(lambda: self._load(dataset, run)))

    def _load(self, dataset: str, other: RunPlan | None) -> WorkerClient:
        run = other or self.run
        code = self.settings.code
        spec = WorkerSpec(
            python=run.environment.interpreter(),
            log=self.directory.log,
            threads=run.threads,
            env={} if code.overlay is None else {"PYTHONPATH": str(code.overlay)},
            package=code.package,
            memory_limit=self.settings.memory_limit,
            request_timeout=self.settings.request_timeout,
        )
        model = self._model(run, dataset, spec)
        client = WorkerClient(spec)
        hello = client.start()
        try:
            loaded = client.load(model)
        except BaseException:
            client.close()
            raise
        if other is None:
            self._facts = _WorkerFacts(
                {"python": hello.python, **hello.packages, **loaded.packages},
                {**hello.device, **loaded.facts},
                loaded.parameters,
                loaded.weights_sha256,
            )
        return client

    def _open(self, splits: Iterable[PlannedSplit]) -> list[PlannedSplit]:
        """Return the splits that nothing is known of yet."""
        running = {
            (record.task, record.dataset, record.split)
            for record in self.manifest.splits
            if record.status is Status.RUNNING
        }
        return [split for split in splits if split.key in running]

    def _first_manifest(self) -> Manifest:
        shards = self.settings.shards or 1
        return first_manifest(self.plan, self.run, self.directory.path.name, _now(), self.settings.arguments, shards)

    def _write_first(self) -> None:
        if self._known:
            self._check_lock()
            self.manifest = self.manifest.model_copy(update={"resumed": [*self.manifest.resumed, _now()]})
        elif self.run.environment.lock is not None:
            write_atomically(self.directory.environment_lock, self.run.environment.lock.read_bytes())
        self.directory.write_manifest(self.manifest)

    def _check_lock(self) -> None:
        """Refuse to go on with other packages than those the run was begun with."""
        begun = self.manifest.environment.lock_sha256
        if begun is not None and begun != environment_facts(self.run.environment).lock_sha256:
            command = f"mlipbench env create {self.run.environment.name} --from {self.directory.environment_lock}"
            raise ResultsError(
                "the run was begun in an environment of other packages", file=self.directory.path,
                remedy=f"restore it with `{command}`, or give --again",
            )  # fmt: skip

    def _job(self, split: PlannedSplit, shard: Shard) -> ShardJob:
        splits = self.plan.datasets[split.dataset].splits
        reference = splits[split.request.parameters["reference"]] if split.task is Task.MD else None
        part = "" if shard.alone else f", shard {shard.number} of {shard.count}"
        title = f"{self.title}: {self.run.place(*split.key)}{part}"
        data = split.taken(splits[split.split])
        return ShardJob(self.directory, split, shard, data, title, reference, self.run.card.declared().cutoff)

    def _model(self, run: RunPlan, dataset: str, spec: WorkerSpec) -> LoadModel:
        """Return what a worker is to load."""
        parameters = {}
        if dataset in run.fits:
            split = self.plan.datasets[dataset].splits[run.fits[dataset]]
            parameters = fitted_parameters(self.directory, run.card, dataset, split, spec)
        return LoadModel(
            adapter=adapter_target(run.card),
            device=run.variant.device,
            dtype=run.variant.precision,
            checkpoint=self._checkpoint(dataset),
            sha256=self._pinned(dataset),
            kwargs={**run.card.kwargs, **run.variant.settings},
            parameters=parameters,
            seed=run.seed,
            threads=run.threads,
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

    def _find_checkpoint(self, dataset: str) -> None:
        """Write down what is known of the checkpoint, which is trained first where a recipe says so.

        Raises:
            ResultsError: Part of the run was predicted with other weights.
        """
        if dataset in self.run.trainings:
            ensure_trained(self.run.trainings[dataset], self.display, trust=self.run.trusted)
        location = self._checkpoint(dataset)
        if location is None or not is_checkpoint(Path(location)):
            return
        facts = checkpoint_facts(Path(location))
        model = self.manifest.model
        known = model.checkpoints.get(dataset, {})
        if known.get("identity") and known.get("sha256") != facts["sha256"]:
            raise ResultsError(
                f"the run was begun with a checkpoint of sha256 {known['sha256']}", file=location,
                remedy="restore that checkpoint, or give --again",
            )  # fmt: skip
        model = model.model_copy(update={"checkpoints": {**model.checkpoints, dataset: facts}})
        self.manifest = self.manifest.model_copy(update={"model": model})

    def _wall(self) -> float:
        """Return the seconds spent on the run, sessions before this one and shards of other processes included."""
        now = time.monotonic()
        spent, self._begun, self._elsewhere = now - self._begun + self._elsewhere, now, 0.0
        return round((self.manifest.wall_seconds or 0.0) + spent, 3)

    @property
    def title(self) -> str:
        """What messages call the run."""
        variant = "" if self.run.variant.name == "default" else f" {self.run.variant.name}"
        return f"{self.run.model}{variant}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _overall(statuses: list[Status]) -> Status:
    """Return the status of a run from those of its splits."""
    attempted = [status for status in statuses if status is not Status.NOT_APPLICABLE]
    if not attempted:
        return Status.NOT_APPLICABLE
    if all(status is Status.FAILED for status in attempted):
        return Status.FAILED
    return Status.OK if all(status is Status.OK for status in attempted) else Status.PARTIAL
