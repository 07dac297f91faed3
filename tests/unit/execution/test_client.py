import gc
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from mlipbench.errors import ConfigError, PrerequisiteError, WorkerError
from mlipbench.execution import client as client_module
from mlipbench.execution.client import WorkerClient, loaded_client
from mlipbench.execution.failures import HandshakeRefused, WorkerDied, WorkerMemory, WorkerProtocol, WorkerTimeout
from mlipbench.execution.requests import LoadModel, fit_message, task_message, verify_message
from mlipbench.models.interface import LabelledBatch, Property
from mlipbench.protocol import Message, MessageKind
from mlipbench.status import Task
from mlipbench.structures import StructureBatch
from mlipbench.tasks import TaskRequest
from mlipbench.version import code_version

E, EF, EFS = (TaskRequest(frozenset(list(Property)[:n])) for n in (1, 2, 3))


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


def test_greeting_and_loading(spec):
    client = WorkerClient(spec)
    hello = client.start()
    assert (hello.pid, hello.code) == (client.pid, code_version())
    assert hello.packages["numpy"] == np.__version__
    assert hello.device["cores"] >= 1
    loaded = client.load(toy("SpringAdapter"))
    assert loaded.parameters is None
    client.close()


def test_predictions_are_those_of_the_model(spec, batch_of):
    batch = batch_of(5)
    with loaded_client(spec, toy("SpringAdapter", stiffness=3)) as client:
        reply = client.request(task_message(17, batch, EFS))
    assert reply.kind == MessageKind.PREDICTED
    assert reply.header["id"] == 17
    assert reply.header["cold"] is True
    assert reply.header["forward_seconds"] > 0
    assert reply.header["maxrss"] > 2**20
    for i, part in enumerate(batch):
        arms = part.positions - part.positions.mean(axis=0)
        atoms = slice(batch.offsets[i], batch.offsets[i + 1])
        assert reply.arrays["energy"][i] == pytest.approx(1.5 * (arms**2).sum(), rel=1e-12)
        np.testing.assert_allclose(reply.arrays["forces"][atoms], -3 * arms, atol=1e-12)
        virial = 3 * arms.T @ arms / 1000
        np.testing.assert_allclose(
            reply.arrays["stress"][i], virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], atol=1e-12
        )


def test_only_what_was_asked_for_is_sent(spec, batch_of):
    with loaded_client(spec, toy("SpringAdapter")) as client:
        assert set(client.request(task_message(0, batch_of(2), E)).arrays) == {"energy", "ok"}


def test_requests_in_flight_are_answered_in_order(spec, batch_of):
    with loaded_client(spec, toy("SpringAdapter")) as client:
        for i in range(10):
            client.send(task_message(i, batch_of(i + 1), EF))
        with pytest.raises(WorkerError, match="10 requests are in flight"):
            client.request(task_message(11, batch_of(1), EF))
        replies = [client.receive() for _ in range(10)]
        with pytest.raises(WorkerError, match="no request is in flight"):
            client.receive()
    assert [reply.header["id"] for reply in replies] == list(range(10))
    assert [len(reply.arrays["energy"]) for reply in replies] == list(range(1, 11))


def test_frames_far_larger_than_the_pipes_do_not_dead_lock(spec):
    n = 300_000
    big = StructureBatch(np.ones(n), np.ones((n, 3)), np.zeros((1, 3, 3)), np.zeros((1, 3)), [0, n])
    with loaded_client(spec, toy("NullAdapter")) as client:
        for i in range(4):
            client.send(task_message(i, big, EF))
        assert [client.receive().arrays["forces"].shape for _ in range(4)] == [(n, 3)] * 4


def test_noise_goes_to_the_log_and_nowhere_else(spec, batch_of, capfd):
    with loaded_client(spec, toy("NoisyAdapter")) as client:
        for i in range(20):
            assert client.request(task_message(i, batch_of(3), EF)).header["id"] == i
    assert spec.log.read_bytes().count(b"MLB1\x00\xff\xfe") == 40
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("how", "status", "line"),
    [
        ("segv", -signal.SIGSEGV, "worker killed by SIGSEGV"),
        ("kill", -signal.SIGKILL, "worker killed by SIGKILL"),
        ("exit", 7, "worker exited with code 7"),
    ],
)
def test_crashes_are_named(spec, batch_of, how, status, line):
    with loaded_client(spec, toy("CrashAdapter", how=how)) as client:
        with pytest.raises(WorkerDied) as caught:
            client.request(task_message(0, batch_of(2), EF))
        with pytest.raises(WorkerError, match="not running"):
            client.send(task_message(0, batch_of(2), EF))
    assert str(caught.value) == line
    assert caught.value.status == status
    if how == "segv":
        assert "Segmentation fault" in caught.value.detail


@pytest.mark.parametrize("deaf", [False, True])
def test_hangs_end_in_time(spec, batch_of, deaf):
    with loaded_client(spec, toy("HangAdapter", deaf=deaf)) as client:
        pid, start = client.pid, time.monotonic()
        with pytest.raises(WorkerTimeout, match=r"did not answer within 0\.5 s"):
            client.request(task_message(0, batch_of(2), EF), timeout=0.5)
        assert time.monotonic() - start < 3
        assert not psutil.pid_exists(pid)


def test_a_request_is_not_charged_for_those_before_it(spec, batch_of):
    with loaded_client(spec, toy("SlowAdapter", seconds=0.4)) as client:
        for i in range(3):
            client.send(task_message(i, batch_of(1), EF))
        assert [client.receive(timeout=1.0).header["id"] for i in range(3)] == [0, 1, 2]


def test_an_answer_that_waits_for_a_busy_parent_is_not_late(spec, batch_of):
    with loaded_client(spec, toy("SpringAdapter")) as client:
        client.send(task_message(0, batch_of(1), EF))
        time.sleep(0.6)
        assert client.receive(timeout=0.3).header["id"] == 0


RELAX = TaskRequest(
    EF.properties,
    Task.RELAXATION,
    {"fmax": 1e-9, "steps": 4, "maxstep": 0.01, "memory": 5, "damping": 1.0, "alpha": 70.0},
)


def test_a_relaxation_is_given_its_time_for_each_call_of_the_model(spec, batch_of):
    with loaded_client(spec, toy("SlowAdapter", seconds=0.4)) as client:
        reply = client.request(task_message(3, batch_of(2), RELAX), timeout=1.0)  # five calls take 2 s
    assert (reply.kind, reply.header["id"]) == (MessageKind.PREDICTED, 3)
    assert set(reply.arrays["steps"].tolist()) == {4}


def test_a_relaxation_that_hangs_ends_in_time(spec, batch_of):
    with loaded_client(spec, toy("HangAdapter")) as client, pytest.raises(WorkerTimeout, match=r"within 0\.5 s"):
        client.request(task_message(0, batch_of(2), RELAX), timeout=0.5)


def test_memory_is_limited(spec, batch_of):
    limited = replace(spec, memory_limit=300 * 2**20)
    with loaded_client(limited, toy("MemoryAdapter")) as client:
        pid = client.pid
        with pytest.raises(WorkerMemory, match=r"worker uses \d+ MiB of memory, over the limit of 300 MiB"):
            client.request(task_message(0, batch_of(1), EF))
        assert not psutil.pid_exists(pid)


def test_slow_loading_ends_in_time(spec):
    start = time.monotonic()
    with pytest.raises(WorkerTimeout):
        loaded_client(spec, toy("SlowStartAdapter", seconds=60), load_timeout=0.3)
    assert time.monotonic() - start < 5


def test_slow_greeting_ends_in_time(spec):
    with pytest.raises(WorkerTimeout, match="within 0 s"):
        WorkerClient(replace(spec, start_timeout=0)).start()


def test_another_code_version_is_refused_naming_both(spec, monkeypatch):
    monkeypatch.setattr(client_module, "code_version", lambda _: "9.9.9+000000000000")
    with pytest.raises(HandshakeRefused) as caught:
        WorkerClient(spec).start()
    assert code_version() in str(caught.value)
    assert "9.9.9+000000000000" in str(caught.value)


def test_another_protocol_is_refused(spec, monkeypatch):
    monkeypatch.setattr(client_module, "PROTOCOL_VERSION", 99)
    with pytest.raises(HandshakeRefused, match="speaks protocol 1, expected 99"):
        WorkerClient(spec).start()


def test_a_missing_interpreter_is_a_missing_prerequisite(spec, tmp_path):
    before = open_fds()
    with pytest.raises(PrerequisiteError, match="cannot start a worker: No such file"):
        WorkerClient(replace(spec, python=tmp_path / "python")).start()
    assert open_fds() == before


def script(path, text):
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


def test_a_broken_environment_is_told_from_its_log(spec, tmp_path):
    python = script(tmp_path / "python", "raise ModuleNotFoundError(\"No module named 'numpy'\")")
    with pytest.raises(WorkerDied, match="worker exited with code 1: ModuleNotFoundError: No module named 'numpy'"):
        WorkerClient(replace(spec, python=python)).start()


def test_what_is_no_frame_is_a_broken_protocol(spec, tmp_path):
    python = script(tmp_path / "python", "import os, sys, time\nos.write(int(sys.argv[6]), b'x' * 64)\ntime.sleep(60)")
    with pytest.raises(WorkerProtocol, match="frame starts with b'xxxx'"):
        WorkerClient(replace(spec, python=python)).start()


@pytest.mark.parametrize(
    ("adapter", "error", "match"),
    [
        ("no_such_package.models:Model", PrerequisiteError, "needs the package no_such_package"),
        ("mlipbench.testing.toys:Missing", ConfigError, "is not a class derived from"),
        ("mlipbench.testing.toys", ConfigError, "is not a class derived from"),
        ("collections:OrderedDict", ConfigError, "is not a class derived from"),
    ],
)
def test_adapters_that_are_none(spec, adapter, error, match):
    with pytest.raises(error, match=match):
        loaded_client(spec, LoadModel(adapter))


def test_errors_of_an_adapter_come_with_their_traceback(spec, batch_of):
    with loaded_client(spec, toy("RaiseAdapter", element=1)) as client:
        reply = client.request(task_message(5, batch_of(2), EF))
        assert reply.kind == MessageKind.FAILED
        assert reply.header["error"] == "RuntimeError: no parameters for element 1"
        assert reply.header["id"] == 5
        assert reply.header["memory"] is False
        assert "Traceback" in reply.header["traceback"]
    assert "RuntimeError: no parameters for element 1" in spec.log.read_text()


@pytest.mark.parametrize(("error", "memory"), [("memory", True), ("exit", False)])
def test_running_out_of_memory_is_told_from_other_errors(spec, batch_of, error, memory):
    with loaded_client(spec, toy("RaiseAdapter", error=error)) as client:
        reply = client.request(task_message(0, batch_of(1), EF))
        assert (reply.kind, reply.header["memory"]) == (MessageKind.FAILED, memory)
        assert client.request(task_message(1, batch_of(1), EF)).header["id"] == 1  # it lives on


def test_requests_a_worker_does_not_know_fail_politely(spec, batch_of):
    with WorkerClient(spec) as client:
        assert "does not answer 'dance'" in client.request(Message("dance")).header["error"]
        assert "no model is loaded" in client.request(task_message(0, batch_of(1), EF)).header["error"]


PLUGIN = """
import os, subprocess, sys, time
import numpy as np
from mlipbench.models.interface import FittedAdapter
from mlipbench.testing.toys import SpringAdapter

class Parent(SpringAdapter):
    def forward(self, prepared, properties):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
        with open(self.kwargs["file"], "w") as file:
            file.write(str(child.pid))
        if self.kwargs.get("die"):
            os._exit(5)
        return super().forward(prepared, properties)

class Constant(FittedAdapter, SpringAdapter):
    def __init__(self, parameters):
        super().__init__({})
        self.mean = parameters["mean"]

    @classmethod
    def load(cls, request):
        return cls(request.parameters)

    @classmethod
    def fit(cls, training, kwargs):
        return {"mean": np.array([training.energy.mean() * kwargs["scale"]])}

    def forward(self, prepared, properties):
        predictions = super().forward(prepared, properties)
        predictions.energy[:] = self.mean
        return predictions
"""


@pytest.fixture
def plugin(spec, tmp_path):
    (tmp_path / "plugged").mkdir()
    (tmp_path / "plugged/plugin.py").write_text(PLUGIN)
    return replace(spec, env={"PYTHONPATH": str(tmp_path / "plugged")})


@pytest.mark.parametrize("die", [False, True])
def test_nothing_the_worker_started_outlives_it(plugin, batch_of, tmp_path, die):
    file = tmp_path / "pid"
    model = LoadModel("plugin:Parent", kwargs={"file": str(file), "die": die})
    with loaded_client(plugin, model) as client:
        if die:
            with pytest.raises(WorkerDied, match="code 5"):
                client.request(task_message(0, batch_of(1), EF))
        else:
            client.request(task_message(0, batch_of(1), EF))
    assert vanishes(int(file.read_text()))


def test_fitting_returns_what_loading_takes(plugin, batch_of):
    batch = batch_of(3)
    training = LabelledBatch(batch, np.array([1.0, 2.0, 6.0]), np.zeros((batch.n_atoms, 3)))
    with WorkerClient(plugin) as client:
        fitted = client.request(fit_message("plugin:Constant", {"scale": 2}, training))
        assert fitted.kind == MessageKind.FITTED
        client.load(LoadModel("plugin:Constant", parameters=fitted.arrays))
        np.testing.assert_array_equal(client.request(task_message(0, batch, E)).arrays["energy"], [6.0] * 3)
        refused = client.request(fit_message("mlipbench.testing.toys:NullAdapter", {}, training))
        assert "is not one that is fitted" in refused.header["error"]


def test_the_current_directory_and_other_paths_are_not_importable(spec, tmp_path, monkeypatch):
    (tmp_path / "stray.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(PrerequisiteError, match="needs the package stray"):
        loaded_client(spec, LoadModel("stray:Parent"))


def test_threads_are_held(spec):
    with WorkerClient(replace(spec, threads=1)) as client:
        environment = psutil.Process(client.pid).environ()
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "1"


def test_an_empty_worker_is_small(spec):
    with loaded_client(spec, toy("NullAdapter")) as client:
        assert psutil.Process(client.pid).memory_info().rss < 150 * 2**20


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        ("SpringAdapter", None),
        ("NullAdapter", None),
        ("WrongOrderAdapter", "structure 0 alone and in a batch of 3 differ (energy by"),
        ("BatchMatesAdapter", "structure 0 alone and in a batch of 3 differ (energy by"),
        ("WrongShapeAdapter", "forces have shape (3,), expected"),
    ],
)
def test_batch_consistency(spec, batch_of, adapter, reason):
    with loaded_client(spec, toy(adapter)) as client:
        reply = client.request(verify_message(batch_of(3), EF))
    if adapter == "WrongShapeAdapter":
        assert reply.header["error"].startswith(reason)
    elif reason is None:
        assert reply.header["reason"] is None
    else:
        assert reply.header["reason"].startswith(reason)
        assert reply.header["reason"].endswith("eV): wrong order or dependence on batch mates")
