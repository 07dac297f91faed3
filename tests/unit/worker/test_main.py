import os

import numpy as np
import pytest

from mlipbench.errors import ConfigError
from mlipbench.execution.requests import LoadModel, load_message, task_message
from mlipbench.models.interface import Property
from mlipbench.protocol import Message, MessageKind, decode
from mlipbench.tasks import TaskRequest
from mlipbench.worker import main as worker_main
from mlipbench.worker.loading import count_parameters
from mlipbench.worker.main import HANDLERS, answer
from mlipbench.worker.session import Session

ENERGY = TaskRequest(frozenset({Property.ENERGY}))


@pytest.fixture
def session():
    return Session(reply_fd=-1)


def raising(monkeypatch, error):
    def handler(session, message):
        raise error

    monkeypatch.setattr(worker_main, "_find_handler", lambda kind: handler)


def test_every_handler_exists(session):
    for kind in HANDLERS:
        assert callable(worker_main._find_handler(kind))


def test_loading_then_predicting(session, batch):
    loaded = answer(session, load_message(LoadModel("mlipbench.testing.toys:SpringAdapter")))
    assert loaded.kind == MessageKind.LOADED
    assert loaded.header["parameters"] is None
    reply = answer(session, task_message(3, batch, ENERGY))
    assert (reply.kind, reply.header["id"]) == (MessageKind.PREDICTED, 3)
    np.testing.assert_array_equal(reply.arrays["ok"], [True] * 3)


def test_a_model_that_fails_to_load_leaves_none_behind(session, batch):
    answer(session, load_message(LoadModel("mlipbench.testing.toys:SpringAdapter")))
    broken = load_message(LoadModel("mlipbench.testing.toys:SpringAdapter", kwargs={"stiffness": "soft"}))
    assert answer(session, broken).kind == MessageKind.FAILED
    assert answer(session, task_message(0, batch, ENERGY)).header["error"] == "no model is loaded in this worker"


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "line", "memory"),
    [
        (ValueError("first\nsecond"), "ValueError: first", False),
        (ValueError(), "ValueError", False),
        (KeyError("x"), "KeyError: 'x'", False),
        (MemoryError(), "MemoryError", True),
        (OutOfMemoryError("any"), "OutOfMemoryError: any", True),
        (RuntimeError("CUDA error: out of memory"), "RuntimeError: CUDA error: out of memory", True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"),
            "RuntimeError: [enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory",
            True,
        ),
        (ValueError("out of memory"), "ValueError: out of memory", False),
        (SystemExit(3), "SystemExit: 3", False),
        (KeyboardInterrupt(), "KeyboardInterrupt", False),
        (ConfigError("bad", where="kwargs", remedy="fix it"), "kwargs: bad; fix it", False),
    ],
)
def test_whatever_is_raised_becomes_one_line(session, monkeypatch, error, line, memory, capfd):
    raising(monkeypatch, error)
    reply = answer(session, Message(MessageKind.PREDICT, {"id": 9}))
    assert reply.kind == MessageKind.FAILED
    assert reply.header["error"] == line
    assert reply.header["memory"] is memory
    assert reply.header["id"] == 9
    assert "Traceback" in reply.header["traceback"]
    assert reply.header["traceback"] in capfd.readouterr().err


def test_endless_messages_are_cut(session, monkeypatch):
    raising(monkeypatch, ValueError("x" * 10**6))
    header = answer(session, Message(MessageKind.PREDICT)).header
    assert len(header["error"]) <= 500
    assert len(header["traceback"]) <= 20_000


def test_replies_of_many_arrays_are_written_whole():
    read, write = os.pipe()
    session = Session(reply_fd=write)
    message = Message("k", {}, {f"a{i}": np.zeros(i % 3) for i in range(700)})  # more buffers than one call takes
    with os.fdopen(read, "rb") as pipe:
        session.send(message)
        os.close(write)
        data = pipe.read()
    assert list(decode(data).arrays) == list(message.arrays)


class Parameter:
    def __init__(self, n):
        self.n = n

    def numel(self):
        return self.n


class Module:
    def parameters(self):
        return iter([Parameter(3), Parameter(4)])


def test_parameters_are_counted():
    assert count_parameters(None) is None
    assert count_parameters(Module()) == 7
