"""Latency cases for pytest-benchmark, timed by the code that the task ``efficiency`` times with.

In a ``conftest.py``::

    pytest_plugins = ["mlipbench.testing.latency"]

and in a test, which ``pytest --benchmark-json=FILE`` writes down::

    def test_latency(latency):
        latency("leignn", [molecule("CH3CH2OH")], dataset="mini-ethanol")

What pytest-benchmark reports are the seconds that the worker measured around the model, neither more nor less.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path  # noqa: TC003 - pytest looks at the annotations of fixtures
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pytest

from mlipbench.cachedir import default_cache
from mlipbench.environments import Environments
from mlipbench.errors import WorkerError
from mlipbench.execution.client import WorkerClient, WorkerSpec, loaded_client
from mlipbench.execution.failures import as_error
from mlipbench.execution.requests import LoadModel, measure_message
from mlipbench.models.interface import Property
from mlipbench.models.registry import adapter_target, load_card
from mlipbench.protocol import MessageKind
from mlipbench.structures import StructureBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ase import Atoms

JITTER = 0.01
"""Å, width of the normal distribution that every coordinate is moved by before a call."""


class Latency(Protocol):
    """What the fixture `latency` returns."""

    def __call__(
        self, model: str, structures: Sequence[Atoms], *, dataset: str | None = None, rounds: int = 30
    ) -> None:
        """Time calls for energy and forces of one structure after the other, in turn.

        Args:
            model: Name of a card, or its path.
            structures: What is predicted.
            dataset: Name of the dataset whose checkpoint is loaded, for cards with one for each.
            rounds: Number of timed calls; as many structures as there are before it do not count.

        Raises:
            MlipbenchError: The environment is missing, or the model cannot be loaded.
            WorkerError: The model fails.
        """


class _Clock:
    """A clock that goes while the model computes."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def latency(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Latency]:
    """Return what times a model; its worker ends with the test."""
    clock = _Clock()
    request.node.add_marker(pytest.mark.benchmark(timer=clock))
    benchmark = request.getfixturevalue("benchmark")
    with ExitStack() as workers:

        def measure(model: str, structures: Sequence[Atoms], *, dataset: str | None = None, rounds: int = 30) -> None:
            client = workers.enter_context(_worker(model, dataset, tmp_path / "log.txt"))
            batch = StructureBatch.from_atoms(list(structures))
            generator = np.random.default_rng(0)
            calls = iter(range(len(batch) + rounds))

            def call() -> None:
                number = next(calls)
                one = batch.slice(number % len(batch), number % len(batch) + 1)
                moved = one.positions + JITTER * generator.standard_normal(one.positions.shape)
                clock.seconds += _seconds(client, number, one.moved(moved))

            benchmark.pedantic(call, rounds=rounds, warmup_rounds=len(batch))

        yield measure


def _worker(model: str, dataset: str | None, log: Path) -> WorkerClient:
    """Start a worker in the environment of a card, with the model loaded."""
    card = load_card(model, trust=True)  # whoever runs a test file trusts what it names
    spec = WorkerSpec(python=Environments(default_cache()).find(card.environment).interpreter(), log=log)
    capabilities = card.declared()
    return loaded_client(
        spec,
        LoadModel(
            adapter=adapter_target(card),
            device=capabilities.devices[0],
            dtype=capabilities.dtypes[0],
            checkpoint=card.checkpoint_location(dataset),
            kwargs=card.kwargs,
            threads=spec.threads,
        ),
    )


def _seconds(client: WorkerClient, number: int, structure: StructureBatch) -> float:
    both = frozenset({Property.ENERGY, Property.FORCES})
    reply = client.request(measure_message(number, structure, both, {"sizes": [1], "untimed": 0}))
    if reply.kind == MessageKind.FAILED:
        raise WorkerError(as_error(reply).problem)
    return float(reply.arrays["prepare_seconds"][0] + reply.arrays["forward_seconds"][0])
