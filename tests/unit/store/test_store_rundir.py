from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from mlipbench.errors import LaterError, MlipbenchError, PrerequisiteError, ResultsError
from mlipbench.protocol import Message
from mlipbench.status import Status
from mlipbench.store.distributions import DistributionsRecord
from mlipbench.store.files import write_atomically
from mlipbench.store.ledger import Ledger
from mlipbench.store.records import Manifest, MetricRecord, ShardRecord
from mlipbench.store.rundir import RunDirectory, claim_run, find_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHA = "0123456789abcdef" * 4
OTHER = "0123456789ab" + "f" * 52  # the same start


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "run_id": "r",
        "plan_sha256": SHA,
        "status": "ok",
        "suite": {"name": "s", "version": 1, "sha256": "0"},
        "model": {"name": "lj", "card": {}, "card_sha256": "0"},
        "variant": {"name": "default", "precision": "float64", "device": "cpu", "batch": {"atoms": 1}},
        "seed": 0,
        "threads": 1,
        "code_version": "1+a",
        "started": "2020-01-01T00:00:00+00:00",
    }
    return Manifest.model_validate(fields | changes)


def make(root: Path, name: str, **changes: Any) -> RunDirectory:
    run = RunDirectory(root / name)
    run.write_manifest(manifest(**changes))
    return run


def metric(**changes: Any) -> MetricRecord:
    fields: dict[str, Any] = {
        "dataset": "d",
        "split": "s",
        "task": "s2ef",
        "metric": "forces_mae",
        "value": 0.1,
        "unit": "eV/Å",
        "direction": "lower",
        "status": "ok",
        "comparability_key": "k",
    }
    return MetricRecord.model_validate(fields | changes)


def test_manifest_and_metrics_are_read_back_equal(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_manifest(manifest())
    run.write_metrics([metric(value=1 / 3), metric(value=None, status="failed", reason="died")])
    assert run.manifest() == manifest()
    assert run.metrics() == [metric(value=1 / 3), metric(value=None, status="failed", reason="died")]
    assert "eV/Å" in (tmp_path / "run/metrics.json").read_text(encoding="utf-8")


def density(**changes: Any) -> dict[str, Any]:
    fields = {"limit": 50, "linear": 0.05, "bins": 3, "cells": [0, 8], "counts": [5, 1]}
    return fields | {"reference_beyond": 0, "predicted_beyond": 2} | changes


def curve(**changes: Any) -> dict[str, Any]:
    fields = {"pairs": "O-H", "distribution": "pair_rdf", "limit": 6, "n_replicas": 3}
    return fields | {name: [0.0, 1.25] for name in ("mean", "low", "high", "reference")} | changes


def test_distributions_are_read_back_equal(tmp_path: Path) -> None:
    record = DistributionsRecord.model_validate({"forces": density(), "pairs": [curve()]})
    run = RunDirectory(tmp_path)
    assert run.read_distributions("s2ef", "d", "v.1") is None
    run.write_distributions("s2ef", "d", "v.1", record)
    assert run.read_distributions("s2ef", "d", "v.1") == record
    assert run.distributions("s2ef", "d", "v.1") == tmp_path / "scores/s2ef/d/v.1.distributions.json"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version: is version 2"),
        ({"forces": density(cells=[0, 9])}, "do not fit"),
        ({"forces": density(counts=[1])}, "do not fit"),
        ({"forces": density(counts=[1, -1])}, "forces.counts.1"),
        ({"pairs": [curve(low=[0.0])]}, "unlike numbers"),
        ({"pairs": [curve(mean=[], low=[], high=[], reference=[])]}, "no bins"),
        ({"pairs": [curve(mean=[0.0, float("inf")])]}, "pairs.0.mean.1"),
    ],
)
def test_damaged_distributions_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    run = RunDirectory(tmp_path)
    path = run.distributions("s2ef", "d", "v")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(changes))
    with pytest.raises(ResultsError, match=message) as caught:
        run.read_distributions("s2ef", "d", "v")
    assert str(path) in str(caught.value)


def test_files_of_a_run_lie_where_the_documentation_says(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.predictions("s2ef", "d", "v.1") == tmp_path / "predictions/s2ef/d/v.1.parquet"
    assert run.scores("s2ef", "d", "v.1") == tmp_path / "scores/s2ef/d/v.1.parquet"
    assert run.log == tmp_path / "log.txt"
    assert run.timings == tmp_path / "timings.parquet"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[: len(text) // 2], "damaged: "),
        (lambda text: text.replace('"seed": 0', '"seed": "x"'), "seed: damaged: "),
        (
            lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
            "schema_version: is version 2, and this mlipbench reads version 1; use",
        ),
        (lambda text: text.replace('"status": "ok"', '"status": "fine"'), "status: damaged: "),
        (lambda text: text.replace('"seed"', '"sed"'), "damaged: "),
        (lambda text: "", "damaged: "),
        (lambda text: "[]", "damaged: "),
    ],
)
def test_damaged_manifest_is_one_line(tmp_path: Path, change: Any, said: str) -> None:
    run = make(tmp_path, "run")
    path = run.path / "manifest.json"
    before = path.read_text(encoding="utf-8")
    path.write_text(change(before), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != before
    with pytest.raises(ResultsError) as caught:
        run.manifest()
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_manifest_and_file_in_place_of_a_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="there is no such file; is this a run directory"):
        RunDirectory(tmp_path).manifest()
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"cannot be read .*; is this a run directory"):
        RunDirectory(tmp_path / "file").manifest()


def test_lock_keeps_out_another_process_and_is_free_afterwards(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom mlipbench.errors import ResultsError\n"
        "from mlipbench.store.rundir import RunDirectory\n"
        "try:\n    with RunDirectory(Path(sys.argv[1])).lock(): print('free')\n"
        "except ResultsError as error: print(error)\n"
    )

    def other_process() -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "run")],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    with RunDirectory(tmp_path / "run").lock():
        assert "another mlipbench process is writing this run; wait for it, or stop it" in other_process()
    assert other_process() == "free\n"


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom mlipbench.store.rundir import RunDirectory\n"
        "RunDirectory(Path(sys.argv[1])).lock().__enter__()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -9
    with RunDirectory(tmp_path).lock():
        pass


def is_free(path: Path) -> bool:
    try:
        with RunDirectory(path).lock():
            return True
    except ResultsError:
        return False


def test_lock_is_not_inherited_by_children(tmp_path: Path) -> None:
    with RunDirectory(tmp_path).lock():
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    patience = time.monotonic() + 20  # the system closes the child's copy while it starts
    while not is_free(tmp_path) and time.monotonic() < patience:
        time.sleep(0.01)
    try:
        assert is_free(tmp_path)
        assert child.poll() is None
    finally:
        child.communicate(b"\n", timeout=60)


def test_newest_run_of_the_plan_is_found(tmp_path: Path) -> None:
    make(tmp_path, f"20200101T000000000Z-{SHA[:12]}")
    newest = make(tmp_path, f"20200102T000000000Z-{SHA[:12]}")
    make(tmp_path, f"20200103T000000000Z-{SHA[:12]}", plan_sha256=OTHER)
    make(tmp_path, f"20200104T000000000Z-{'e' * 12}", plan_sha256="e" * 64)
    (tmp_path / f"20200105T000000000Z-{SHA[:12]}").mkdir()
    found = find_run(tmp_path, SHA, "1+a")
    assert found is not None
    assert found.path == newest.path


def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    assert find_run(tmp_path / "none", SHA, "1+a") is None
    make(tmp_path, f"20200103T000000000Z-{SHA[:12]}", plan_sha256=OTHER)
    assert find_run(tmp_path, SHA, "1+a") is None


def test_unfinished_run_is_resumed_by_the_same_code(tmp_path: Path) -> None:
    run = make(tmp_path, f"20200101T000000000Z-{SHA[:12]}", status="running")
    found = find_run(tmp_path, SHA, "1+a")
    assert found is not None
    assert found.path == run.path
    assert found.manifest().status is Status.RUNNING


def test_unfinished_run_of_other_code_is_refused_naming_both(tmp_path: Path) -> None:
    make(tmp_path, f"20200101T000000000Z-{SHA[:12]}", status="running")
    with pytest.raises(ResultsError, match=r"begun by mlipbench 1\+a, and this is 2\+b; .*--again"):
        find_run(tmp_path, SHA, "2+b")


def test_finished_run_of_other_code_is_found(tmp_path: Path) -> None:
    run = make(tmp_path, f"20200101T000000000Z-{SHA[:12]}")
    found = find_run(tmp_path, SHA, "2+b")
    assert found is not None
    assert found.path == run.path


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 128 KiB, or skip."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)],  # noqa: S607
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"this system lets nobody mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


def test_full_disk_ends_with_exit_code_4_and_the_run_goes_on_when_there_is_room(tiny_disk: Path) -> None:
    import numpy as np

    run = make(tiny_disk, "run")
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(60_000))
    with Ledger(run.path / "x.ledger") as ledger:
        ledger.append(Message("batch", {"number": 0}))
        with pytest.raises(PrerequisiteError, match="no space left on the device") as caught:
            ledger.append(Message("batch", {"number": 1}, {"x": np.ones(20_000)}))
        assert caught.value.exit_code == 4
        assert [found.header["number"] for _, found in ledger.messages()] == [0]
        with pytest.raises(PrerequisiteError, match=r"manifest\.json: no space left"):
            write_atomically(run.path / "manifest.json", bytes(100_000))
        assert json.loads((run.path / "manifest.json").read_bytes())["status"] == "ok"
        ballast.unlink()
        ledger.append(Message("batch", {"number": 1}, {"x": np.ones(5_000)}))
    with Ledger(run.path / "x.ledger") as ledger:
        assert [found.header["number"] for _, found in ledger.messages()] == [0, 1]


def test_full_disk_at_the_last_step_keeps_the_ledger(tiny_disk: Path) -> None:
    import numpy as np

    from mlipbench.status import Task
    from mlipbench.store.predictions import PredictionBlock, SplitStore, read_predictions

    counts = np.array([2000])
    path = tiny_disk / "x.parquet"
    rows = PredictionBlock(
        offsets=np.array([0, 2000]),
        columns={"energy": np.array([-1.0]), "forces": np.arange(6000, dtype=np.float32).reshape(-1, 3)},
        state=np.array([0]),
        reasons={},
    )
    store = SplitStore(path, counts, np.array([0, 1]), Task.S2EF)
    store.commit(0, rows, [])
    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(90_000))
    with pytest.raises(PrerequisiteError, match=r"x\.parquet: no space left") as caught:
        store.finish(lambda start, stop: np.array(["a"])[start:stop])
    assert caught.value.exit_code == 4
    store.close()
    assert not path.exists()
    ballast.unlink()
    again = SplitStore(path, counts, np.array([0, 1]), Task.S2EF)
    again.finish(lambda start, stop: np.array(["a"])[start:stop])
    (read,) = read_predictions(path, Task.S2EF)
    np.testing.assert_array_equal(read.columns["forces"], rows.columns["forces"])


def test_processes_that_begin_a_run_at_once_agree_on_one_directory(tmp_path: Path) -> None:
    root = tmp_path / "model"
    found = [claim_run(root, f"run-{number}", SHA) for number in range(3)]
    assert {one.path for one in found} == {root / "run-0"}
    assert claim_run(root, "other", OTHER).path == root / "other"
    assert sorted(path.name for path in root.iterdir()) == [f".begun-{SHA}", f".begun-{OTHER}"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("")
    with pytest.raises(MlipbenchError, match="model"):
        claim_run(tmp_path / "model", "run", SHA)


def test_a_shared_lock_admits_others_that_share_and_nobody_else(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.lock(shared=True):
        with run.lock(shared=True):
            pass
        with pytest.raises(ResultsError, match="another mlipbench process is writing this run"), run.lock():
            pass
    with run.lock(), pytest.raises(ResultsError), run.lock(shared=True):
        pass


def test_a_shard_that_is_computed_is_to_come_later(tmp_path: Path) -> None:
    run, place = RunDirectory(tmp_path / "run"), ("s2ef", "d", "v")
    with run.lock_shard(*place, "000-a"):
        with run.lock_shard(*place, "003-b"):
            pass
        with pytest.raises(LaterError, match="writing shard 000-a of d/v") as caught, run.lock_shard(*place, "000-a"):
            pass
    assert caught.value.exit_code == 75


def test_records_of_shards_are_read_back_and_damaged_ones_named(tmp_path: Path) -> None:
    run, place = RunDirectory(tmp_path / "run"), ("s2ef", "d", "v")
    record = ShardRecord(
        plan_sha256=SHA, code_version="1+a", start=0, stop=3, n_predicted=2, n_failed=1, n_not_applicable=0,
        failed="died", seconds=1.5,
    )  # fmt: skip
    assert run.read_shard_record(*place, "000-a") is None
    run.write_shard_record(*place, "000-a", record)
    assert run.read_shard_record(*place, "000-a") == record
    path = tmp_path / "run/shards/s2ef/d/v/000-a.json"
    path.write_text(path.read_text().replace('"stop": 3', '"stop": "x"'))
    with pytest.raises(ResultsError, match=r"000-a\.json: stop: damaged: .*; remove it"):
        run.read_shard_record(*place, "000-a")
