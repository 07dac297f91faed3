"""Loading a checkpoint, and the tensors it holds of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mlipbench.checkpoint import WEIGHTS_FILE, read_checkpoint
from mlipbench.errors import ConfigError
from mlipbench.nets.build import build_from_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from mlipbench.checkpoint import CheckpointRecord
    from mlipbench.nets.network import Network


def load_network(folder: Path) -> tuple[CheckpointRecord, Network]:
    """Return a checkpoint's record and its network on the CPU, in the precision it was trained in.

    Args:
        folder: The folder of the checkpoint.

    Raises:
        ConfigError: The record is invalid, the weights are not those it names, or they do not fit the network.
        PrerequisiteError: A file is missing or cannot be read.
    """
    record = read_checkpoint(folder)
    dtype = torch.float64 if record.recipe.precision == "float64" else torch.float32
    network = build_from_config(record.net, record.config).to(dtype)
    path = folder / WEIGHTS_FILE
    tensors = _read(path)
    _check(tensors, tensors_of(network), path)
    set_tensors(network, tensors)
    return record, network


def tensors_of(network: Network) -> dict[str, Tensor]:
    """Return weights and buffers by name, each once: of names that share a tensor, the first one.

    Args:
        network: The network; its tensors are not copied.
    """
    names = _first_names(network)
    return {name: tensor for name, tensor in network.state_dict().items() if names[name] == name}


def set_tensors(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Copy weights and buffers into a network.

    Args:
        network: The network.
        tensors: By the names of `tensors_of`, neither more nor fewer.
    """
    with torch.no_grad():
        for name, tensor in tensors_of(network).items():
            tensor.copy_(tensors[name])


def _first_names(network: Network) -> dict[str, str]:
    """Return for each name of a tensor the first name that this tensor has."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in network.state_dict(keep_vars=True).items()}


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(path.read_bytes())
    except SafetensorError as error:
        raise ConfigError(
            f"not a whole safetensors file ({error})", file=path, remedy="copy the checkpoint again or train it again"
        ) from None
    return tensors


def _check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    remedy = "the weights are another network's, or another configuration's"
    for name, tensor in expected.items():
        if name not in found:
            raise ConfigError(f"the tensor {name} is missing", file=path, remedy=remedy)
        shape, wanted = tuple(found[name].shape), tuple(tensor.shape)
        if shape != wanted:
            raise ConfigError(f"has shape {shape}, the network's is {wanted}", file=path, where=name, remedy=remedy)
        if found[name].dtype != tensor.dtype:
            problem = f"has the type {found[name].dtype}, the network's is {tensor.dtype}"
            raise ConfigError(problem, file=path, where=name, remedy=remedy)
    unknown = sorted(found.keys() - expected.keys())
    if unknown:
        raise ConfigError(f"the network has no tensor {unknown[0]}", file=path, remedy=remedy)
