"""What the shards of a split come to, wherever they were computed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import LaterError, ResultsError
from mlipbench.execution.engines import JOB_END
from mlipbench.runner.record import planned_record
from mlipbench.status import Status
from mlipbench.store.records import ShardRecord, read_record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlipbench.plan import PlannedSplit
    from mlipbench.store.records import Manifest, SplitRecord
    from mlipbench.store.rundir import RunDirectory

_MARGIN: Final = 1.2
_WORDS: Final[Mapping[str, str]] = {
    "plan_sha256": "plan",
    "code_version": "version of mlipbench",
    "lock_sha256": "lock of the environment",
    "weights_sha256": "weights",
}


def check_shards(
    directory: RunDirectory, planned: PlannedSplit, manifest: Manifest, records: Mapping[str, ShardRecord]
) -> None:
    """Refuse shards that were not computed with one and the same of all that decides predictions.

    Args:
        directory: The run.
        planned: The split.
        manifest: What the run was begun with.
        records: What became of the shards, by name.

    Raises:
        ResultsError: One differs from the others or from the run; the field is named.
    """
    known: dict[str, Any] = {
        "plan_sha256": manifest.plan_sha256,
        "code_version": manifest.code_version,
        "lock_sha256": manifest.environment.lock_sha256,
        "weights_sha256": next((one.weights_sha256 for one in records.values() if one.weights_sha256), None),
    }
    for name, record in records.items():
        for field, expected in known.items():
            found = getattr(record, field)
            if found != expected and not (field == "weights_sha256" and found is None):
                raise ResultsError(
                    f"this shard was computed with another {_WORDS[field]} ({found}) than the run ({expected})",
                    file=directory.shards(*planned.key) / f"{name}.json", where=field,
                    remedy="remove the file and the shard's predictions, and give the command again",
                )  # fmt: skip


def check_time(folder: Path, title: str) -> None:
    """Refuse to begin a shard that the job would not see the end of, as far as finished ones tell.

    Args:
        folder: Where the records of shards of the same split are.
        title: What the shard is called.

    Raises:
        LaterError: The job, of which `JOB_END` tells when it ends, has not as much time left as one took.
    """
    end = os.environ.get(JOB_END)
    if end is None:
        return
    left = float(end) - time.time()
    took = [read_record(path, ShardRecord).seconds for path in folder.glob("*.json")]
    if took and _MARGIN * max(took) > left:
        remedy = "it is given to another job"
        raise LaterError(f"{title}: this job ends in {left:.0f} s, others took {max(took):.0f} s", remedy=remedy)


def joined(planned: PlannedSplit, records: Sequence[ShardRecord]) -> SplitRecord:
    """Return what became of a split.

    Args:
        planned: The split as planned.
        records: What became of its shards, in order.
    """
    predicted, failed, declined = (
        sum(getattr(record, name) for record in records) for name in ("n_predicted", "n_failed", "n_not_applicable")
    )
    if failed:
        status = Status.PARTIAL if predicted else Status.FAILED
    else:
        status = Status.OK if predicted else Status.NOT_APPLICABLE
    reasons = [record.declined if status is Status.NOT_APPLICABLE else record.failed for record in records]
    outcome = {
        "status": status,
        "reason": next(filter(None, reasons), None),
        "n_predicted": predicted,
        "n_failed": failed,
        "n_not_applicable": declined,
        "shards": len(records),
    }
    return planned_record(planned).model_copy(update=outcome)


def machines(records: Sequence[ShardRecord]) -> dict[str, Any]:
    """Return the hardware of the workers of a split, and all there is where shards ran on unlike machines."""
    unlike: list[dict[str, Any]] = []
    for record in records:
        if record.hardware and record.hardware not in unlike:
            unlike.append(record.hardware)
    found: dict[str, Any] = {"worker": unlike[0].get("worker", {}) if unlike else {}}
    return found if len(unlike) < 2 else {**found, "shards": unlike}  # noqa: PLR2004 - several
