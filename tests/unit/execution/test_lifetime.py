import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import mlipbench
from mlipbench.execution.client import loaded_client
from mlipbench.execution.failures import WorkerDied
from mlipbench.execution.requests import LoadModel, task_message
from mlipbench.models.interface import Property
from mlipbench.tasks import TaskRequest

EF = TaskRequest(frozenset({Property.ENERGY, Property.FORCES}))


def toy(name, **kwargs):
    return LoadModel(f"mlipbench.testing.toys:{name}", kwargs=kwargs)


def open_fds():
    gc.collect()
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def vanishes(pid, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_closing_leaves_no_process_and_no_descriptor(spec, batch_of):
    with loaded_client(spec, toy("NullAdapter")) as client:
        client.request(task_message(0, batch_of(1), EF))  # whatever is opened once is open now
    before, children = open_fds(), psutil.Process().children()
    for name, kwargs in [("NullAdapter", {}), ("CrashAdapter", {}), ("HangAdapter", {})]:
        client = loaded_client(spec, toy(name, **kwargs))
        client.send(task_message(0, batch_of(1), EF))
        if name == "CrashAdapter":
            with pytest.raises(WorkerDied):
                client.receive()
        client.close()
        client.close()
    assert open_fds() == before
    assert psutil.Process().children() == children


def test_closing_an_idle_worker_is_quick_and_orderly(spec, batch_of):
    client = loaded_client(spec, toy("SpringAdapter"))
    process = client._process
    start = time.monotonic()
    client.close()
    assert time.monotonic() - start < 1.5
    assert process.returncode == 0


ORPHAN = """
import os, sys, time
from pathlib import Path
from mlipbench.execution.client import WorkerSpec, loaded_client
from mlipbench.execution.requests import LoadModel, task_message
from mlipbench.structures import StructureBatch
from mlipbench.tasks import TaskRequest
import numpy as np

model = LoadModel("mlipbench.testing.toys:HangAdapter", kwargs={"deaf": sys.argv[2] == "deaf"})
client = loaded_client(WorkerSpec(Path(sys.executable), Path(sys.argv[1])), model)
if sys.argv[2] != "idle":
    one = StructureBatch(np.ones(1), np.zeros((1, 3)), np.zeros((1, 3, 3)), np.zeros((1, 3)), [0, 1])
    client.send(task_message(0, one, TaskRequest(frozenset())))
    time.sleep(0.3)
print(client.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("state", ["idle", "busy", "deaf"])
def test_a_worker_does_not_outlive_its_parent(tmp_path, state):
    environment = {**os.environ, "PYTHONPATH": str(Path(mlipbench.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", ORPHAN, str(tmp_path / "log"), state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    assert vanishes(pid)
