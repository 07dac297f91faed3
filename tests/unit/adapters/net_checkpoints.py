"""Checkpoints of networks with random weights."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from checkpoint_records import write_folder
from safetensors.torch import save

from mlipbench.nets import build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def save_network(folder: Path, net: str, *, per_element: Mapping[int, float]) -> None:
    torch.manual_seed(0)
    network = build(net, "small", hidden=16)
    write_folder(
        folder,
        save(network.state_dict()),
        per_element=per_element,
        name=f"{net}-mine",
        net=net,
        config=asdict(network.config),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )
