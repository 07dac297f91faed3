"""How far the runs of a suite are, read from their directories while they are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlipbench.status import Status, Task
from mlipbench.store.rundir import MANIFEST, RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlipbench.store.records import Manifest, SplitRecord


@dataclass(frozen=True, slots=True)
class SplitProgress:
    """How far one split of one run is.

    Attributes:
        run: The run's directory.
        model: Name of the model.
        variant: Name of its variant.
        seed: Seed of the run.
        task: The task.
        dataset: Name of the dataset.
        split: Name of the split.
        status: What became of it; ``running`` where something is left to do.
        shards: Into how many shards it is cut.
        shards_done: How many of them are there.
        shards_begun: How many of the others hold something already.
        structures: Structures of the split.
        structures_done: Those of the shards that are there, failed ones included.
        failed: Those that failed.
        seconds: What these shards took, each on its own machine.
    """

    run: Path
    model: str
    variant: str
    seed: int
    task: Task
    dataset: str
    split: str
    status: Status
    shards: int
    shards_done: int
    shards_begun: int
    structures: int
    structures_done: int
    failed: int
    seconds: float


def progress(root: Path) -> Iterator[SplitProgress]:
    """Yield how far each split of each unfinished run below a directory is, and of each finished one likewise.

    Args:
        root: A directory above runs.

    Raises:
        ResultsError: A manifest or a record of a shard is damaged.
    """
    for path in sorted(root.rglob(MANIFEST)):
        directory = RunDirectory(path.parent)
        manifest = directory.manifest()
        for record in manifest.splits:
            if record.status is not Status.NOT_APPLICABLE:
                yield _progress(directory, manifest, record)


def _progress(directory: RunDirectory, manifest: Manifest, record: SplitRecord) -> SplitProgress:
    key = (record.task, record.dataset, record.split)
    names = sorted(path.stem for path in directory.shards(*key).glob("*.json"))
    found = [one for name in names if (one := directory.read_shard_record(*key, name)) is not None]
    running = record.status is Status.RUNNING
    whole = directory.predictions(*key)
    ledgers = [*whole.glob("*.ledger"), *([whole.with_suffix(".ledger")] if not whole.is_dir() else [])]
    return SplitProgress(
        run=directory.path,
        model=manifest.model.name,
        variant=manifest.variant.name,
        seed=manifest.seed,
        task=record.task,
        dataset=record.dataset,
        split=record.split,
        status=record.status,
        shards=record.shards,
        shards_done=len(found) if running else record.shards,
        shards_begun=sum(path.exists() for path in ledgers),
        structures=record.n_expected,
        structures_done=sum(one.stop - one.start for one in found) if running else record.n_expected,
        failed=sum(one.n_failed for one in found) if running else record.n_failed,
        seconds=sum(one.seconds for one in found),
    )
