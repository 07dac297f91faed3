"""What the shards of a split come to, and whether a job has time for one more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlipbench.errors import LaterError
from mlipbench.execution.engines import JOB_END
from mlipbench.plan import PlannedSplit
from mlipbench.runner.shards import check_time, joined, machines
from mlipbench.status import Role, Status
from mlipbench.store.records import ShardRecord
from mlipbench.tasks import TaskRequest

if TYPE_CHECKING:
    from pathlib import Path

SPLIT = PlannedSplit(
    TaskRequest(frozenset()), "toy", "test", Role.EVALUATE, 10, 30, np.array([0, 4, 10]), "all", "hash"
)


def shard(ok: int, lost: int = 0, left: int = 0, **more: Any) -> ShardRecord:
    return ShardRecord(
        plan_sha256="p", code_version="1", start=0, stop=ok + lost + left, n_predicted=ok, n_failed=lost,
        n_not_applicable=left, **{"seconds": 1.0, **more},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shards", "status", "reason", "counts"),
    [
        ((shard(4), shard(6)), Status.OK, None, (10, 0, 0)),
        ((shard(4), shard(5, 1, failed="died")), Status.PARTIAL, "died", (9, 1, 0)),
        ((shard(0, 4, failed="a"), shard(0, 6, failed="b")), Status.FAILED, "a", (0, 10, 0)),
        ((shard(4), shard(0, 0, 6, declined="no Xe")), Status.OK, None, (4, 0, 6)),
        (
            (shard(0, 0, 4, declined="no Xe"), shard(0, 0, 6, declined="no H")),
            Status.NOT_APPLICABLE,
            "no Xe",
            (0, 0, 10),
        ),
        ((shard(0, 0, 4, declined="no Xe"), shard(0, 6, failed="died")), Status.FAILED, "died", (0, 6, 4)),
    ],
)
def test_a_split_is_the_sum_of_its_shards(
    shards: tuple[ShardRecord, ...], status: Status, reason: str | None, counts: tuple[int, int, int]
) -> None:
    found = joined(SPLIT, shards)
    assert (found.status, found.reason, found.shards) == (status, reason, 2)
    assert (found.n_predicted, found.n_failed, found.n_not_applicable) == counts
    assert found.n_expected == 10


def test_unlike_machines_are_all_kept() -> None:
    one, other = ({"parent": {"processor": name}, "worker": {"threads": 1}} for name in "ab")
    assert machines([shard(1, hardware=one), shard(1), shard(1, hardware=one)]) == {"worker": {"threads": 1}}
    found = machines([shard(1, hardware=one), shard(1, hardware=other)])
    assert found == {"worker": {"threads": 1}, "shards": [one, other]}
    assert machines([shard(1)]) == {"worker": {}}


def test_no_shard_is_begun_that_its_job_would_not_see_the_end_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("a", 40.0), ("b", 60.0)):
        (tmp_path / f"{name}.json").write_text(shard(1, seconds=seconds).model_dump_json())
    check_time(tmp_path, "lj: toy/test")  # nobody says when the job ends
    monkeypatch.setenv(JOB_END, str(time.time() + 60 * 1.2 + 5))
    check_time(tmp_path, "lj: toy/test")
    monkeypatch.setenv(JOB_END, str(time.time() + 60 * 1.2 - 5))
    with pytest.raises(LaterError, match=r"lj: toy/test: this job ends in 6\d s, others took 60 s; it is given to"):
        check_time(tmp_path, "lj: toy/test")
    check_time(tmp_path / "none", "lj: toy/test")  # nothing is known of its length
