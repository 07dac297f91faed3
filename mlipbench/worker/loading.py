"""Loading and fitting a model."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, cast

from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, FittedAdapter, LabelledBatch, LoadRequest
from mlipbench.protocol import Message, MessageKind, ProtocolError, batch_from_arrays
from mlipbench.worker.facts import package_versions, torch_facts

if TYPE_CHECKING:
    from mlipbench.typing import FloatArray
    from mlipbench.worker.session import Session


def load(session: Session, message: Message) -> Message:
    """Load the adapter that ``message.header["adapter"]`` names as ``module:Class``.

    Raises:
        ConfigError: There is no such adapter, or its arguments do not fit.
        PrerequisiteError: Its module needs a package that is not installed.
    """
    header = message.header
    adapter_class = find_adapter(header["adapter"])
    _limit_threads(header["threads"])
    request = LoadRequest(
        device=header["device"],
        dtype=header["dtype"],
        checkpoint=header["checkpoint"],
        sha256=header["sha256"],
        kwargs=header["kwargs"],
        parameters=dict(message.arrays),
        seed=header["seed"],
    )
    session.loaded = session.other = None
    session.loaded = adapter_class.load(request)
    session.request = request
    _limit_threads(header["threads"])
    reply = {
        "packages": package_versions(),
        "parameters": count_parameters(session.loaded.module()),
        "weights_sha256": session.loaded.weights_sha256,
        "facts": torch_facts(),
    }
    return Message(MessageKind.LOADED, reply)


def fit(session: Session, message: Message) -> Message:
    """Fit the adapter named in `message` to the labelled batch it carries and return the parameters.

    Raises:
        ConfigError: The adapter is not one that is fitted.
        ProtocolError: The batch or its energies are missing.
    """
    del session
    adapter_class = find_adapter(message.header["adapter"])
    if not issubclass(adapter_class, FittedAdapter):
        raise ConfigError(f"adapter {message.header['adapter']} is not one that is fitted")
    if "energy" not in message.arrays:
        raise ProtocolError("a batch to fit to has no energy")
    training = LabelledBatch(
        structures=batch_from_arrays(message.arrays),
        energy=cast("FloatArray", message.arrays["energy"]),
        forces=cast("FloatArray | None", message.arrays.get("forces")),
    )
    return Message(MessageKind.FITTED, {}, adapter_class.fit(training, message.header["kwargs"]))


def find_adapter(reference: str) -> type[Adapter]:
    """Import the adapter that `reference` names as ``module:Class``.

    Raises:
        ConfigError: The reference names no `Adapter` class.
        PrerequisiteError: The module, or a package it imports, is not installed.
    """
    module_name, _, class_name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise PrerequisiteError(
            f"adapter {reference} needs the package {error.name}, which this environment lacks",
            remedy="install it there or run the model in its own environment",
        ) from error
    found = getattr(module, class_name, None) if class_name else None
    if not isinstance(found, type) or not issubclass(found, Adapter):
        raise ConfigError(f"adapter {reference} is not a class derived from mlipbench's Adapter")
    return found


def count_parameters(module: Any | None) -> int | None:
    """Return the number of trainable and frozen parameters of a torch module, or None."""
    if module is None:
        return None
    return sum(int(parameter.numel()) for parameter in module.parameters())


def _limit_threads(threads: int) -> None:
    """Hold torch to `threads` threads, if somebody imported it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
