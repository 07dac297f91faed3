"""The directory of one run."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from mlipbench.errors import LaterError, MlipbenchError, ResultsError, from_os_error
from mlipbench.status import Status
from mlipbench.store.distributions import DistributionsRecord, read_distributions
from mlipbench.store.files import write_atomically
from mlipbench.store.records import (
    CostRecord,
    Manifest,
    MetricRecord,
    MetricsFile,
    ShardRecord,
    read_cost,
    read_manifest,
    read_metrics,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

MANIFEST: Final = "manifest.json"
METRICS: Final = "metrics.json"


class RunDirectory:
    """One run on disk: manifest, predictions, scores, metrics, timings, log.

    Args:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        """Name the directory; nothing is read or written yet."""
        self.path = path

    @property
    def log(self) -> Path:
        """Output of the worker and everything noted about the run."""
        return self.path / "log.txt"

    @property
    def environment_lock(self) -> Path:
        """The lock of the environment that the model ran in, where mlipbench built it."""
        return self.path / "requirements.lock"

    @property
    def timings(self) -> Path:
        """Every raw repetition."""
        return self.path / "timings.parquet"

    def predictions(self, task: str, dataset: str, split: str) -> Path:
        """Return the Parquet file of the predictions of a split, or the folder of those of its shards.

        What reads a Parquet file reads such a folder, too.
        """
        return self.path / "predictions" / task / dataset / f"{split}.parquet"

    def shards(self, task: str, dataset: str, split: str) -> Path:
        """Return the folder of what is known of the shards of a split."""
        return self.path / "shards" / task / dataset / split

    def scores(self, task: str, dataset: str, split: str) -> Path:
        """Return the Parquet file of the scores of a split."""
        return self.path / "scores" / task / dataset / f"{split}.parquet"

    def distributions(self, task: str, dataset: str, split: str) -> Path:
        """Return the file of what plots show of a split beside its scores."""
        return self.path / "scores" / task / dataset / f"{split}.distributions.json"

    def trajectories(self, dataset: str, split: str, seed: int | None = None) -> Path:
        """Return the folder of the trajectories of simulations that start from a split, or the file of one replica."""
        folder = self.path / "trajectories" / dataset / split
        return folder if seed is None else folder / f"seed-{seed}.traj"

    def fitted(self, dataset: str) -> Path:
        """Return the file of the parameters fitted to a dataset."""
        return self.path / "fitted" / f"{dataset}.npz"

    def costs(self, dataset: str, split: str) -> Path:
        """Return the file of what is known of the cost of a split besides its timed calls."""
        return self.path / "costs" / dataset / f"{split}.json"

    @property
    def unfinished(self) -> bool:
        """Whether work is left: no manifest says otherwise.

        Raises:
            ResultsError: The manifest is damaged.
        """
        return not (self.path / MANIFEST).exists() or self.manifest().status is Status.RUNNING

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            ResultsError: It is missing or damaged.
        """
        return read_manifest(self.path / MANIFEST)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest.

        Raises:
            MlipbenchError: The disk is full or the folder cannot be written.
        """
        write_atomically(self.path / MANIFEST, _json(manifest.model_dump(mode="json")))

    def metrics(self) -> list[MetricRecord]:
        """Read the metrics.

        Raises:
            ResultsError: They are missing or damaged.
        """
        return read_metrics(self.path / METRICS)

    def read_costs(self, dataset: str, split: str) -> CostRecord:
        """Read what is known of the cost of a split besides its timed calls.

        Raises:
            ResultsError: It is missing or damaged.
        """
        return read_cost(self.costs(dataset, split))

    def write_costs(self, dataset: str, split: str, record: CostRecord) -> None:
        """Write what is known of the cost of a split besides its timed calls.

        Raises:
            MlipbenchError: The disk is full or the folder cannot be written.
        """
        write_atomically(self.costs(dataset, split), _json(record.model_dump(mode="json")))

    def read_distributions(self, task: str, dataset: str, split: str) -> DistributionsRecord | None:
        """Read what plots show of a split beside its scores; None where nothing was kept.

        Raises:
            ResultsError: It is damaged.
        """
        path = self.distributions(task, dataset, split)
        return read_distributions(path) if path.is_file() else None

    def write_distributions(self, task: str, dataset: str, split: str, record: DistributionsRecord) -> None:
        """Write what plots show of a split beside its scores, on one line: most of it are long lists.

        Raises:
            MlipbenchError: The disk is full or the folder cannot be written.
        """
        content = f"{record.model_dump_json()}\n".encode()
        write_atomically(self.distributions(task, dataset, split), content)

    def read_shard_record(self, task: str, dataset: str, split: str, name: str) -> ShardRecord | None:
        """Read what became of a shard; None where it is not finished.

        Raises:
            ResultsError: It is damaged.
        """
        path = self.shards(task, dataset, split) / f"{name}.json"
        return read_record(path, ShardRecord, "remove it; the shard is looked at again") if path.is_file() else None

    def write_shard_record(self, task: str, dataset: str, split: str, name: str, record: ShardRecord) -> None:
        """Write what became of a shard.

        Raises:
            MlipbenchError: The disk is full or the folder cannot be written.
        """
        write_atomically(self.shards(task, dataset, split) / f"{name}.json", _json(record.model_dump(mode="json")))

    def write_metrics(self, metrics: Iterable[MetricRecord]) -> None:
        """Replace the metrics.

        Raises:
            MlipbenchError: The disk is full or the folder cannot be written.
        """
        content = MetricsFile(metrics=list(metrics))
        write_atomically(self.path / METRICS, _json(content.model_dump(mode="json")))

    def lock(self, *, shared: bool = False) -> RunLock:
        """Return a lock that keeps two processes from writing the same run.

        Args:
            shared: Whether others may hold it, too: those that compute shards of the run.
        """
        return RunLock(self.path / ".lock", "this run", shared=shared)

    def lock_shard(self, task: str, dataset: str, split: str, name: str) -> RunLock:
        """Return a lock that keeps two processes from computing the same shard; the second is to come later."""
        path = self.shards(task, dataset, split) / f".{name}.lock"
        return RunLock(path, f"shard {name} of {dataset}/{split}", busy=LaterError)


class RunLock:
    """A lock on a run or a part of it, released when this process ends however it ends.

    Args:
        path: The file that is locked; created where it is missing.
        what: What it stands for, for errors.
        shared: Whether others may hold it, too.
        busy: What is raised where it is held.
    """

    def __init__(
        self, path: Path, what: str, *, shared: bool = False, busy: type[MlipbenchError] = ResultsError
    ) -> None:
        """Name the file."""
        self._path = path
        self._what = what
        self._busy = busy
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._file = -1

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            MlipbenchError: Another process holds it, or the directory cannot be written.
        """
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._file, self._kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise self._busy(
                f"another mlipbench process is writing {self._what}", file=folder, remedy="wait for it, or stop it"
            ) from None
        except OSError as error:
            if self._file >= 0:
                os.close(self._file)
            raise from_os_error(error, folder) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        os.close(self._file)


def find_run(root: Path, plan_sha256: str, code_version: str) -> RunDirectory | None:
    """Return the newest run of a plan below the directory of its model, or None.

    Args:
        root: ``<results>/runs/<suite>/<model>``.
        plan_sha256: Identity of the plan.
        code_version: The running code's version.

    Raises:
        ResultsError: The newest run of the plan is unfinished and was begun by other code.
    """
    candidates = [run for run in _runs(root) if run.path.name.endswith(plan_sha256[:12])]
    for run in sorted(candidates, key=lambda run: run.path.name, reverse=True):
        manifest = run.manifest()
        if manifest.plan_sha256 != plan_sha256:
            continue
        if manifest.status is Status.RUNNING and manifest.code_version != code_version:
            raise ResultsError(
                f"this unfinished run was begun by mlipbench {manifest.code_version}, and this is {code_version}",
                file=run.path,
                remedy="finish it with that version, or give --again to start another",
            )
        return run
    return None


def claim_run(root: Path, name: str, plan_sha256: str) -> RunDirectory:
    """Return the directory of a run that several processes begin at once: one for all of them.

    Args:
        root: ``<results>/runs/<suite>/<model>``.
        name: What this process would call it.
        plan_sha256: Identity of the plan.

    Raises:
        MlipbenchError: The folder cannot be written.
    """
    claim = root / f".begun-{plan_sha256}"
    mine = root / f".{name}.{os.getpid()}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        mine.write_text(name, encoding="utf-8")
        with suppress(FileExistsError):
            os.link(mine, claim)  # of several processes one succeeds, over a network, too
        return RunDirectory(root / claim.read_text(encoding="utf-8"))
    except OSError as error:
        raise from_os_error(error, root) from error
    finally:
        with suppress(OSError):  # the first error is what counts
            mine.unlink()


def _runs(root: Path) -> Iterator[RunDirectory]:
    for path in root.glob(f"*/{MANIFEST}"):
        yield RunDirectory(path.parent)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
