"""Networks and tasks as fairchem-core 2 configures them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import ConfigError
from mlipbench.training.bridges.bridge import FORCE_SHARE, configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.recipe import TrainingJob

_SMALL: Final[Mapping[str, Any]] = {
    "sphere_channels": 32,
    "hidden_channels": 32,
    "edge_channels": 32,
    "lmax": 2,
    "mmax": 2,
    "num_layers": 2,
    "num_distance_basis": 64,
    "cutoff": 6.0,
    "max_neighbors": 300,
}
# configs/uma/training_release/backbone/K4L2.yaml of fairchem-core 2, but with one dataset and without dropout; without
# its experts it is the small eSEN of OMol25
_K4L2: Final[Mapping[str, Any]] = {
    **_SMALL,
    "sphere_channels": 128,
    "hidden_channels": 128,
    "edge_channels": 128,
    "num_layers": 4,
    "ff_type": "spectral",
}
_PRESETS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "esen": {"small": _SMALL, "esen-sm": _K4L2},
    "uma": {"small": {**_SMALL, "num_experts": 4}, "uma-s": {**_K4L2, "num_experts": 32}},
}
_FIXED: Final[Mapping[str, Any]] = {
    "max_num_elements": 100,
    "otf_graph": True,
    "always_use_pbc": False,
    "distance_function": "gaussian",
    "direct_forces": False,
    "regress_forces": True,
    "regress_stress": True,
    "norm_type": "rms_norm_sh",
    "act_type": "gate",
    "ff_type": "grid",
    "chg_spin_emb_type": "rand_emb",
    "cs_emb_grad": False,
    "dataset_emb_grad": False,
}
DATASET: Final = "recipe"  # what the package knows the structures as
_MODELS: Final = "fairchem.core.models.uma"
_MODULES: Final = "fairchem.core.modules"
_UNIT: Final = "fairchem.core.units.mlip_unit.mlip_unit"


def model_config(job: TrainingJob) -> dict[str, Any]:
    """Return the package's configuration of the network of a job.

    Raises:
        ConfigError: The package has no such network, preset or field.
    """
    if job.net not in _PRESETS:
        raise ConfigError(
            f"the trainer of fairchem-core 2 knows no network {job.net!r}", remedy=f"known: {', '.join(_PRESETS)}"
        )
    fields = configuration(job.recipe, _PRESETS[job.net])
    backbone = {**_FIXED, **fields, "dataset_mapping": {DATASET: DATASET}}
    config = {
        "_target_": "fairchem.core.models.base.HydraModel",
        "backbone": backbone,
        "heads": {"efs": {"module": f"{_MODELS}.escn_md.MLP_EFS_Head"}},
        "pass_through_head_outputs": True,
    }
    if job.net == "esen":
        backbone |= {"model": f"{_MODELS}.escn_md.eSCNMDBackbone", "use_dataset_embedding": False}
        return config
    backbone |= {
        "model": f"{_MODELS}.escn_moe.eSCNMDMoeBackbone",
        "use_dataset_embedding": True,
        "use_composition_embedding": True,
        "moe_layer_type": "pytorch",
        "moe_dropout": 0.0,
    }
    return config | {"model_id": "UMA-SMALL"}  # the package refuses a UMA without a name


def task_configs(job: TrainingJob, scale: float) -> list[dict[str, Any]]:
    """Return what is learned and how the loss weighs it, as the package's configuration.

    Args:
        job: What is trained.
        scale: What targets are divided by, eV and eV/Å.
    """
    loss, free = job.recipe.loss, job.data.free_atoms_only
    energy = _task("energy", 1, scale, ("MAELoss", loss.energy * scale))
    forces = _task("forces", 3, scale, ("L2NormLoss", loss.forces * FORCE_SHARE * scale))
    return [energy, {**forces, "train_on_free_atoms": free, "eval_on_free_atoms": free}]


def _task(name: str, dimension: int, scale: float, loss: tuple[str, float]) -> dict[str, Any]:
    kind, coefficient = loss
    return {
        "_target_": f"{_UNIT}.Task",
        "name": name,
        "level": "system" if dimension == 1 else "atom",
        "property": name,
        "loss_fn": {
            "_target_": f"{_MODULES}.loss.DDPMTLoss",
            "loss_fn": {"_target_": f"{_MODULES}.loss.{kind}"},
            "reduction": "mean",
            "coefficient": coefficient,
        },
        "out_spec": {"_target_": f"{_UNIT}.OutputSpec", "dim": [dimension], "dtype": "float32"},
        "normalizer": {"_target_": f"{_MODULES}.normalization.normalizer.Normalizer", "mean": 0.0, "rmsd": scale},
        "datasets": [DATASET],
        "metrics": ["mae"],
    }
