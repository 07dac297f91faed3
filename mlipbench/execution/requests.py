"""The requests a harness sends, and the replies to its greeting and loading."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from mlipbench.protocol import Message, MessageKind, batch_arrays
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.conformance.exchange import Examination
    from mlipbench.dynamics import Halt, State
    from mlipbench.execution.dynamics import Replicas
    from mlipbench.models.interface import LabelledBatch, Property
    from mlipbench.structures import StructureBatch
    from mlipbench.tasks import TaskRequest
    from mlipbench.typing import AnyArray

_KINDS: Final = MappingProxyType(
    {Task.S2EF: MessageKind.PREDICT, Task.RELAXATION: MessageKind.RELAX, Task.PHYSICS: MessageKind.PROBE}
)


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Which model a worker is to load, and how.

    Attributes:
        adapter: ``module:Class``.
        device: Torch-style device.
        dtype: ``float32`` or ``float64``.
        checkpoint: Name or path of a checkpoint, or None.
        sha256: Checksum that the card pins for a checkpoint by name, or None.
        kwargs: JSON data for the adapter.
        parameters: Fitted parameters; empty for models that are not fitted.
        seed: Seed of whatever the model draws at random.
        threads: Threads of one operation.
    """

    adapter: str
    device: str = "cpu"
    dtype: str = "float64"
    checkpoint: str | None = None
    sha256: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    parameters: Mapping[str, AnyArray] = field(default_factory=lambda: MappingProxyType({}))
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Hello:
    """What a worker says first.

    Attributes:
        protocol: Version of the protocol.
        code: `mlipbench.version.code_version` of the worker.
        python: Version of its interpreter.
        pid: Its process id.
        packages: Versions of the packages that decide a prediction.
        device: Processor, cores and system.
    """

    protocol: int
    code: str
    python: str
    pid: int
    packages: Mapping[str, str]
    device: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a worker says of a loaded model.

    Attributes:
        packages: Versions of the packages that decide a prediction.
        parameters: Number of parameters of its torch module, or None.
        weights_sha256: Checksum of weights that the package found by name, or None.
        facts: What torch says of its device and threads; empty without torch.
    """

    packages: Mapping[str, str]
    parameters: int | None
    weights_sha256: str | None
    facts: Mapping[str, Any]


def load_message(model: LoadModel) -> Message:
    """Return the request to load `model`."""
    header = {
        "adapter": model.adapter,
        "device": model.device,
        "dtype": model.dtype,
        "checkpoint": model.checkpoint,
        "sha256": model.sha256,
        "kwargs": dict(model.kwargs),
        "seed": model.seed,
        "threads": model.threads,
    }
    return Message(MessageKind.LOAD, header, model.parameters)


def fit_message(adapter: str, kwargs: Mapping[str, Any], training: LabelledBatch) -> Message:
    """Return the request to fit `adapter` to a labelled batch."""
    arrays = batch_arrays(training.structures)
    arrays["energy"] = training.energy
    if training.forces is not None:
        arrays["forces"] = training.forces
    return Message(MessageKind.FIT, {"adapter": adapter, "kwargs": dict(kwargs)}, arrays)


def verify_message(batch: StructureBatch, request: TaskRequest) -> Message:
    """Return the request to check that structures alone and in a batch get the same predictions."""
    return Message(MessageKind.VERIFY, {"properties": sorted(request.properties)}, batch_arrays(batch))


def advance_message(
    request_id: int, replicas: Replicas, state: State, halts: Mapping[int, Halt], told: Mapping[str, int | bool]
) -> Message:
    """Return the request to propagate replicas.

    Args:
        request_id: Number of the request.
        replicas: What is simulated.
        state: Where the replicas are.
        halts: Last steps of replicas, by place.
        told: Step to go to, whether the model is called for the first time, and whether every step is to be told.
    """
    header = {
        "id": request_id,
        "parameters": asdict(replicas.dynamics),
        "state": state.header(),
        "halts": {str(place): [halt.step, int(halt.kind), halt.reason] for place, halt in halts.items()},
        **told,
    }
    arrays = {**batch_arrays(replicas.start), **state.arrays(), **replicas.guards.arrays(), "masses": replicas.masses}
    return Message(MessageKind.ADVANCE, header, arrays)


def count_message(request_id: int, batch: StructureBatch, properties: frozenset[Property]) -> Message:
    """Return the request to count parameters and operations of the model on `batch`."""
    header = {"id": request_id, "properties": sorted(properties)}
    return Message(MessageKind.COUNT, header, batch_arrays(batch))


def measure_message(
    request_id: int, batch: StructureBatch, properties: frozenset[Property], told: Mapping[str, Any]
) -> Message:
    """Return the request to time calls of the model on parts of `batch`.

    Args:
        request_id: Number of the request.
        batch: The structures of all calls, one after the other.
        properties: What is asked of the model.
        told: Structures of each call, how many calls do not count, whether memory is given back afterwards, and the
            processors to stay on.
    """
    header = {"id": request_id, "properties": sorted(properties), **told}
    return Message(MessageKind.MEASURE, header, batch_arrays(batch))


def examine_message(check: str, examination: Examination, threads: int) -> Message:
    """Return the request to make one check of the loaded adapter.

    Args:
        check: Name of the check, one of `mlipbench.conformance.catalogue.CHECKS`.
        examination: What it is made with.
        threads: Threads that the worker was given.
    """
    header, batch = examination.pack()
    return Message(MessageKind.EXAMINE, {**header, "check": check, "threads": threads}, batch_arrays(batch))


def task_message(request_id: int, batch: StructureBatch, request: TaskRequest) -> Message:
    """Return the request to carry out a task on `batch`."""
    header = {
        "id": request_id,
        "properties": sorted(request.properties),
        "parameters": dict(request.parameters),
        "physics": None if request.physics is None else asdict(request.physics),
    }
    return Message(_KINDS[request.task], header, batch_arrays(batch))
