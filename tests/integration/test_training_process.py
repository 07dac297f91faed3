"""Training processes: killed and started again, several together, and alone when their parent is gone."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from mlipbench.checkpoint import LOG_FILE, WEIGHTS_FILE, read_checkpoint  # noqa: E402 - torch first
from mlipbench.datasets.writer import ColumnarWriter  # noqa: E402
from mlipbench.recipe import EVENTS_FILE, JOB_FILE, Recipe, TrainedOn, TrainingJob  # noqa: E402
from mlipbench.structures import StructureBatch  # noqa: E402
from mlipbench.structures.columnar import Labels, Split  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

N = 10
# saves its state after every step
EAGER = """
import mlipbench.training.loop as loop
from mlipbench.training.main import main
loop.SAVE_AFTER = loop.SAVE_AT_LATEST = loop._BETWEEN_EVENTS = 0.0
main()
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Ten bent triatomic molecules with labels of springs between their atoms."""
    rng = np.random.default_rng(0)
    shape = np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0], [0.3, 1.4, 0.0]])
    positions = shape + rng.normal(scale=0.1, size=(N, 3, 3))
    energy, forces = np.zeros(N), np.zeros((N, 3, 3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        apart = positions[:, i] - positions[:, j]
        length = np.linalg.norm(apart, axis=1)
        energy += 3.0 * (length - 1.6) ** 2 - 5.0
        pull = -6.0 * (length - 1.6)[:, None] * apart / length[:, None]
        forces[:, i] += pull
        forces[:, j] -= pull
    structures = StructureBatch(
        numbers=np.tile([8, 1, 6], N),
        positions=positions.reshape(-1, 3),
        cell=np.zeros((N, 3, 3)),
        pbc=np.zeros((N, 3)),
        offsets=3 * np.arange(N + 1),
    )
    with ColumnarWriter(tmp_path / "columns") as writer:
        writer.append(structures, Labels(energy, forces.reshape(-1, 3)))
    return Split(tmp_path / "columns")


def write_job(folder: Path, split: Split, net: str, **changes: Any) -> Path:
    recipe = {
        "recipe": "springs",
        "version": 1,
        "preset": "small",
        "changes": {"hidden": 16},
        "train": {"split": "train", "slice": [0, 7, None]},
        "validation": {"split": "train", "slice": [7, None, None]},
        "energy_reference": "mean",
        "loss": {"energy": 1.0, "forces": 10.0},
        "learning_rates": [3e-3],
        "schedule": {"kind": "plateau", "patience": 0},
        "ema_decay": 0.9,
        "clip": 5.0,
        "batch": 3,  # 3, 3 and 1: two processes have 2 + 1, 2 + 1 and 1 + 0 structures
        "steps": 30,
        "evaluate_every": 6,
        **changes,
    }
    data = TrainedOn(
        dataset="springs",
        title="Springs",
        level_of_theory="springs",
        energy_reference="total",
        free_atoms_only=False,
        n_train=7,
        n_validation=3,
        mean_atoms=3.0,
        train_hash=split.content_hash,
        validation_hash=split.content_hash,
    )
    job = TrainingJob(
        name="springs",
        net=net,
        recipe=Recipe.model_validate(recipe),
        data=data,
        train_columns=split.directory,
        validation_columns=split.directory,
        identity="0" * 64,
    )
    folder.mkdir()
    (folder / JOB_FILE).write_text(job.model_dump_json())
    return folder


def run(folder: Path, *launcher: str) -> None:
    command = [sys.executable, "-m", *launcher, "mlipbench.training", str(folder / JOB_FILE)]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert "warn" not in ended.stderr.lower(), ended.stderr


def rows(folder: Path, *names: str) -> np.ndarray:
    lines = csv.DictReader((folder / LOG_FILE).read_text().splitlines())
    return np.array([[float(line[name]) for name in names] for line in lines])


def events(folder: Path) -> list[dict[str, Any]]:
    path = folder / EVENTS_FILE
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


def wait_for(folder: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until this process of the folder's training has done a step."""
    deadline = time.monotonic() + 120
    while not any(event.get("step", 0) >= step for event in events(folder)):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_and_started_again_it_ends_in_the_same_bits(split: Split, tmp_path: Path) -> None:
    whole = write_job(tmp_path / "whole", split, "painn", steps=120)
    broken = write_job(tmp_path / "broken", split, "painn", steps=120)
    run(whole)
    for step in (5, 31, 77):
        process = subprocess.Popen([sys.executable, "-c", EAGER, str(broken / JOB_FILE)], env=ENVIRONMENT)
        wait_for(broken, step, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run(broken)
    assert (broken / WEIGHTS_FILE).read_bytes() == (whole / WEIGHTS_FILE).read_bytes()
    names = ("step", "epoch", "learning_rate", "loss", "energy_mae", "forces_mae")
    assert rows(broken, *names).tolist() == rows(whole, *names).tolist()
    begun = [event.get("step", 0) for event in events(broken) if event["kind"] == "begin"]
    assert len(begun) == 4
    assert begun[1] >= 4
    assert begun == sorted(begun)
    assert read_checkpoint(broken).verdict == read_checkpoint(whole).verdict


@pytest.mark.parametrize(("net", "precision"), [("leignn", "float32"), ("painn", "float64")])
def test_two_processes_have_the_loss_curve_of_one(net: str, precision: str, split: Split, tmp_path: Path) -> None:
    alone = write_job(tmp_path / "alone", split, net, precision=precision)
    together = write_job(tmp_path / "together", split, net, precision=precision)
    run(alone)
    run(together, *TORCHRUN)
    names = ("loss", "energy_mae", "forces_mae")
    np.testing.assert_allclose(rows(together, *names), rows(alone, *names), rtol=1e-5)
    assert rows(together, "loss")[-1] < 0.8 * rows(together, "loss")[0]
    assert (read_checkpoint(alone).processes, read_checkpoint(together).processes) == (1, 2)
    done = [event for event in events(together) if event["kind"] == "done"]
    assert len(done) == 1


def test_several_processes_stop_together_where_the_loss_is_no_number(split: Split, tmp_path: Path) -> None:
    folder = write_job(tmp_path / "job", split, "painn", learning_rates=[1e30])
    command = [sys.executable, "-m", *TORCHRUN, "mlipbench.training", str(folder / JOB_FILE)]
    assert subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=False, timeout=240).returncode != 0
    errors = [event for event in events(folder) if event["kind"] == "error"]
    assert len(errors) == 1
    assert errors[0]["text"].startswith("learning rate 1e+30, step ")
    assert errors[0]["exit_code"] == 3


def test_it_does_not_outlive_its_parent(split: Split, tmp_path: Path) -> None:
    folder = write_job(tmp_path / "job", split, "painn", steps=1_000_000)
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    line = [sys.executable, "-m", "mlipbench.training", str(folder / JOB_FILE), "--die-with-parent", str(parent.pid)]
    process = subprocess.Popen(line, env=ENVIRONMENT)
    try:
        wait_for(folder, 1, process)
        parent.kill()
        parent.wait()
        assert process.wait(timeout=60) == 130
    finally:
        parent.kill()
        process.kill()


@pytest.mark.parametrize("launcher", [(), pytest.param(TORCHRUN, marks=pytest.mark.slow)])
def test_asked_to_end_it_saves_its_state_and_goes_on_there(
    launcher: tuple[str, ...], split: Split, tmp_path: Path
) -> None:
    """Schedulers send SIGTERM before they take a job's place away."""
    whole = write_job(tmp_path / "whole", split, "painn", steps=400, evaluate_every=100)
    broken = write_job(tmp_path / "broken", split, "painn", steps=400, evaluate_every=100)
    run(whole, *launcher)
    line = [sys.executable, "-m", *launcher, "mlipbench.training", str(broken / JOB_FILE)]
    process = subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    wait_for(broken, 20, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) != 0
    assert not any(event["kind"] == "error" for event in events(broken))
    run(broken, *launcher)
    begun = [event.get("step", 0) for event in events(broken) if event["kind"] == "begin"]
    assert len(begun) == 2
    assert begun[1] >= 20  # nothing is saved before the first minute otherwise
    names = ("step", "loss", "energy_mae", "forces_mae")
    assert rows(broken, *names).tolist() == rows(whole, *names).tolist()
    assert (broken / WEIGHTS_FILE).read_bytes() == (whole / WEIGHTS_FILE).read_bytes()
