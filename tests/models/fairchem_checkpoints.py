"""Checkpoints of fairchem-core 2 with random weights, made by the package's own classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

_MODELS = "fairchem.core.models.uma"
_BACKBONE = {
    "max_num_elements": 100,
    "sphere_channels": 8,
    "lmax": 2,
    "mmax": 2,
    "otf_graph": True,
    "max_neighbors": 300,
    "use_pbc": True,
    "use_pbc_single": True,
    "cutoff": 6.0,
    "edge_channels": 8,
    "distance_function": "gaussian",
    "num_distance_basis": 16,
    "direct_forces": False,
    "regress_forces": True,
    "regress_stress": True,
    "num_layers": 2,
    "hidden_channels": 8,
    "norm_type": "rms_norm_sh",
    "act_type": "gate",
    "ff_type": "grid",
    "chg_spin_emb_type": "rand_emb",
    "cs_emb_grad": False,
    "dataset_emb_grad": False,
    "always_use_pbc": False,
}
TASKS = ("oc20", "omat", "omol")


def _task(name: str, kind: str, datasets: list[str]) -> dict[str, Any]:
    references = {"energy": [0.0] + [-0.1 * z for z in range(1, 100)]}
    shapes = {"energy": ("system", [1]), "forces": ("atom", [3]), "stress": ("system", [1, 9])}
    level, dimensions = shapes[kind]
    return {
        "_target_": "fairchem.core.units.mlip_unit.mlip_unit.Task",
        "name": name,
        "level": level,
        "property": kind,
        "loss_fn": {"_target_": "torch.nn.L1Loss"},
        "out_spec": {
            "_target_": "fairchem.core.units.mlip_unit.mlip_unit.OutputSpec",
            "dim": dimensions,
            "dtype": "float32",
        },
        "normalizer": {
            "_target_": "fairchem.core.modules.normalization.normalizer.Normalizer",
            "mean": 0.0,
            "rmsd": 1.4,
        },
        "element_references": {
            "_target_": "fairchem.core.modules.normalization.element_references.ElementReferences",
            "element_references": {"_target_": "torch.DoubleTensor", "_args_": [references["energy"]]},
        }
        if kind == "energy"
        else None,
        "datasets": datasets,
        "metrics": ["mae"],
    }


def make_checkpoint(name: str) -> Any:
    """Return a checkpoint of ``uma`` (three tasks, four experts) or ``esen`` (one task, no experts)."""
    import hydra
    from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
    from torch.optim.swa_utils import AveragedModel

    torch.manual_seed(0)
    tasks = TASKS if name == "uma" else ("omol",)
    if name == "uma":
        backbone = {
            **_BACKBONE,
            "model": f"{_MODELS}.escn_moe.eSCNMDMoeBackbone",
            "num_experts": 4,
            "moe_dropout": 0.0,
            "use_composition_embedding": True,
            "dataset_list": list(tasks),
            "use_dataset_embedding": True,
            "moe_layer_type": "pytorch",
        }
        head = {
            "module": f"{_MODELS}.escn_moe.DatasetSpecificMoEWrapper",
            "head_cls": f"{_MODELS}.escn_md.MLP_EFS_Head",
            "head_kwargs": {"wrap_property": False},
            "dataset_mapping": {task: task for task in tasks},
        }
        prefixes = {task: f"{task}_" for task in tasks}
    else:
        backbone = {
            **_BACKBONE,
            "model": f"{_MODELS}.escn_md.eSCNMDBackbone",
            "dataset_list": list(tasks),
            "use_dataset_embedding": False,
        }
        head = {"module": f"{_MODELS}.escn_md.MLP_EFS_Head"}
        prefixes = {"omol": ""}
    config = {
        "_target_": "fairchem.core.models.base.HydraModel",
        "backbone": backbone,
        "heads": {"efs": head},
        "pass_through_head_outputs": True,
    }
    if name == "uma":
        config["model_id"] = "UMA-TINY-1.2.1"
    model = hydra.utils.instantiate({**config, "_recursive_": False})
    settings = [
        _task(f"{prefix}{kind}", kind, [task])
        for task, prefix in prefixes.items()
        for kind in ("energy", "forces", "stress")
    ]
    return MLIPInferenceCheckpoint(
        model_config=config,
        model_state_dict=model.state_dict(),
        ema_state_dict=AveragedModel(model).state_dict(),
        tasks_config=settings,
    )


def save_checkpoint(path: Path, name: str) -> Path:
    """Write such a checkpoint."""
    torch.save(make_checkpoint(name), path)
    return path
