"""Deep Potentials with random weights, made by the package's own classes and written as its trainer writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

ELEMENTS = ("H", "C", "N", "O", "Cu")


def model_config(precision: str = "float32", **descriptor: Any) -> dict[str, Any]:
    """Return what deepmd-kit builds a small model from."""
    part = {"precision": precision, "seed": 3}
    told = {"type": "se_e2_a", "rcut": 5.0, "rcut_smth": 0.5, "sel": [70] * 5, "neuron": [8, 16], "axis_neuron": 4}
    return {
        "type_map": list(ELEMENTS),
        "descriptor": {**told, "type_one_side": True, **part, **descriptor},
        "fitting_net": {"neuron": [16, 16], "resnet_dt": True, **part},
    }


def save_checkpoint(path: Path, config: dict[str, Any] | None = None) -> Path:
    """Write a checkpoint; energies of atoms are biased, and inputs of the network as wide as its neurons."""
    from copy import deepcopy

    from deepmd.pt.model.model import get_model
    from deepmd.pt.train.wrapper import ModelWrapper

    config = config or model_config()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = get_model(deepcopy(config))
    with torch.no_grad():
        for name, values in model.named_buffers():
            if name.endswith("out_bias"):
                values.copy_(torch.arange(values.numel()).reshape(values.shape) - 3.0)
            elif name.endswith(("stddev", "dstd")):
                values.fill_(0.05)
    torch.save({"model": ModelWrapper(model, model_params=config).state_dict()}, path)
    return path
