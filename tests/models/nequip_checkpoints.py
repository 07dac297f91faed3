"""NequIP models with random weights, made by the package's own classes and written as its trainer writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

ELEMENTS = ("H", "C", "N", "O", "Cu")


def model_config(**changes: Any) -> dict[str, Any]:
    """Return what NequIP builds a small model from."""
    config = {
        "_target_": "nequip.model.NequIPGNNModel",
        "seed": 3,
        "model_dtype": "float32",
        "type_names": list(ELEMENTS),
        "num_layers": 2,
        "l_max": 1,
        "parity": True,
        "num_features": 8,
        "r_max": 5.0,
        "avg_num_neighbors": 20.0,
        "per_type_energy_scales": 1.3,
        "per_type_energy_shifts": {"H": -1.0, "C": -2.0, "N": -3.0, "O": -4.0, "Cu": -5.0},
    }
    return config | changes


def save_checkpoint(path: Path, *, ema: bool = False, **changes: Any) -> Path:
    """Write a checkpoint with the fields that NequIP and Lightning read; averages are 1.2 times the weights."""
    import lightning
    from nequip.train import EMALightningModule, NequIPLightningModule
    from nequip.utils.global_state import set_global_state

    before = torch.get_default_dtype()
    try:
        set_global_state()
        kind = EMALightningModule if ema else NequIPLightningModule
        target = f"nequip.train.{kind.__name__}"
        info = {"versions": {}, "training_module": {"_target_": target}}
        told = {"model": model_config(**changes), "info_dict": info}
        told["num_datasets"] = {"train": 1, "val": 1, "test": 0, "predict": 0}
        module = kind(**told)
        if ema:
            for name, weights in module.ema.named_buffers():
                if name.startswith("ema_weight"):
                    weights.mul_(1.2)
        content = {
            "hyper_parameters": told,
            "state_dict": module.state_dict(),
            "pytorch-lightning_version": lightning.__version__,
            "epoch": 2,
        }
        torch.save(content, path)
    finally:
        torch.set_default_dtype(before)
    return path
