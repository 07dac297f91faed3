"""Requests to count, of models that are no networks; those that are have their tests beside their adapters."""

from __future__ import annotations

import os

import pytest

from mlipbench.cost import NO_MODULE, CostFacts
from mlipbench.models.interface import LoadRequest
from mlipbench.protocol import Message, MessageKind, batch_arrays, decode, encode
from mlipbench.testing import toys
from mlipbench.worker.device import Processor
from mlipbench.worker.main import answer
from mlipbench.worker.session import Session


class EnergyOnly(toys.SpringAdapter):
    """Cannot predict forces."""

    def forward(self, prepared, properties):
        predictions = super().forward(prepared, properties)
        return type(predictions)(predictions.energy)


class Near(toys.SpringAdapter):
    """Takes the neighbour list of the harness."""

    cutoff = 1.5


@pytest.fixture
def ask():
    """Send a request to count to a worker that holds a model, and return the reply."""
    reading, writing = os.pipe()

    def send(adapter, batch, *properties):
        request = Message(MessageKind.COUNT, {"properties": properties, "id": 5}, batch_arrays(batch))
        return answer(Session(reply_fd=writing, loaded=adapter), decode(b"".join(encode(request))))

    yield send
    os.close(reading)
    os.close(writing)


def spring(cls=toys.SpringAdapter):
    return cls.load(LoadRequest())


def test_a_model_without_a_module_has_no_figures_and_says_why(ask, batch):
    reply = ask(spring(), batch, "energy", "forces")
    assert (reply.kind, reply.header["id"]) == (MessageKind.COUNTED, 5)
    facts = CostFacts.from_header(reply.header)
    assert (facts.n_structures, facts.n_atoms, facts.n_edges) == (3, 6, None)
    assert (facts.parameters.total, facts.parameters.reason) == (None, NO_MODULE)
    for cost in (facts.energy, facts.forces):
        assert (cost.dispatched.flops, cost.dispatched.reason) == (None, NO_MODULE)
        assert (cost.thop.macs, cost.thop.reason) == (None, NO_MODULE)


def test_energies_alone(ask, batch):
    assert CostFacts.from_header(ask(spring(), batch, "energy").header).forces is None


def test_a_model_without_forces_is_told_in_one_line(ask, batch):
    assert ask(spring(EnergyOnly), batch, "energy").kind == MessageKind.COUNTED
    reply = ask(spring(EnergyOnly), batch, "energy", "forces")
    assert (reply.kind, reply.header["error"]) == (MessageKind.FAILED, "forces are missing")


def test_edges_of_a_model_that_takes_the_harness_list(ask, batch):
    near = sum(
        ((batch.positions[a] - batch.positions[b]) ** 2).sum() < 1.5**2
        for first, last in zip(batch.offsets, batch.offsets[1:], strict=False)
        for a in range(first, last)
        for b in range(first, last)
        if a != b
    )
    assert near > 0
    assert CostFacts.from_header(ask(spring(Near), batch, "energy").header).n_edges == near


def test_memory_that_counting_took_is_given_back(ask, batch, monkeypatch):
    """The models that are measured beside would miss it."""
    given_back = []

    class Watched(Processor):
        def release(self):
            given_back.append(True)

    monkeypatch.setattr("mlipbench.worker.session.find_device", lambda _: Watched())
    assert ask(toys.SpringAdapter({}), batch, "energy").kind == MessageKind.COUNTED
    assert given_back == [True]
