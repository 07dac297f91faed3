"""Parameters of models that are fitted to a split before they predict."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mlipbench.errors import WorkerError
from mlipbench.execution.client import WorkerClient
from mlipbench.execution.failures import WorkerDied, as_error
from mlipbench.execution.requests import fit_message
from mlipbench.models.interface import LabelledBatch
from mlipbench.models.registry import adapter_target
from mlipbench.protocol import MessageKind
from mlipbench.store.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.execution.client import WorkerSpec
    from mlipbench.models.card import ModelCard
    from mlipbench.protocol import Message
    from mlipbench.store.rundir import RunDirectory
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import AnyArray

_Result = TypeVar("_Result")


def once_more(action: Callable[[], _Result]) -> _Result:
    """Return what an action returns; one whose worker dies is tried again, as it may have been killed from outside.

    Raises:
        WorkerDied: The worker died again.
    """
    try:
        return action()
    except WorkerDied:
        return action()


def fit(card: ModelCard, split: Split, spec: WorkerSpec) -> dict[str, AnyArray]:
    """Return the parameters of a model on a split, fitted in a worker of its own.

    Raises:
        MlipbenchError: The adapter refuses the split.
        WorkerError: The worker failed.
    """
    whole = (0, split.n_structures)
    training = LabelledBatch(split.structures(*whole), split.energies(*whole), split.labels(*whole).forces)
    message = fit_message(adapter_target(card), card.kwargs, training)

    def ask() -> Message:
        with WorkerClient(spec) as client:
            return client.request(message)

    reply = once_more(ask)
    if reply.kind == MessageKind.FAILED:
        raise as_error(reply)
    if reply.kind != MessageKind.FITTED:
        raise WorkerError(f"worker answered a fit with {reply.kind!r}")
    return {name: np.array(array) for name, array in reply.arrays.items()}


def fitted_parameters(
    directory: RunDirectory, card: ModelCard, dataset: str, split: Split, spec: WorkerSpec
) -> dict[str, AnyArray]:
    """Return the parameters of a model on a dataset, fitted in a worker the first time and stored with the run.

    Raises:
        MlipbenchError: The adapter refuses the split, or the parameters cannot be written.
        WorkerError: The worker failed.
    """
    path = directory.fitted(dataset)
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    parameters = fit(card, split, spec)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **parameters)
    return parameters
