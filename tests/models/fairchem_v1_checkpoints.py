"""Trainer-style checkpoints of fairchem-core 1 with random weights, made by the package's own classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path

_GEMNET = {
    "num_spherical": 7,
    "num_radial": 6,
    "num_blocks": 2,
    "emb_size_atom": 16,
    "emb_size_edge": 16,
    "emb_size_rbf": 8,
    "emb_size_cbf": 8,
    "num_before_skip": 1,
    "num_after_skip": 1,
    "num_concat": 1,
    "num_atom": 2,
    "cutoff": 6.0,
    "envelope": {"name": "polynomial", "exponent": 5},
    "extensive": True,
    "otf_graph": True,
    "regress_forces": True,
}
_GEMNET_T = {**_GEMNET, "name": "gemnet_t", "emb_size_trip": 16, "emb_size_bil_trip": 16, "max_neighbors": 50}
_GEMNET_OC = {
    **_GEMNET,
    "name": "gemnet_oc",
    "emb_size_trip_in": 16,
    "emb_size_trip_out": 16,
    "emb_size_quad_in": 8,
    "emb_size_quad_out": 8,
    "emb_size_aint_in": 16,
    "emb_size_aint_out": 16,
    "emb_size_sbf": 8,
    "num_output_afteratom": 2,
    "cutoff": 6.0,
    "cutoff_qint": 5.0,
    "cutoff_aeaint": 6.0,
    "cutoff_aint": 7.0,
    "max_neighbors": 30,
    "max_neighbors_qint": 8,
    "max_neighbors_aeaint": 20,
    "max_neighbors_aint": 60,
    "direct_forces": True,
    "forces_coupled": True,
    "cbf": {"name": "spherical_harmonics"},
    "sbf": {"name": "legendre_outer"},
    "rbf": {"name": "gaussian"},
    "quad_interaction": True,
    "atom_edge_interaction": True,
    "edge_atom_interaction": True,
    "atom_interaction": True,
    "qint_tags": [1, 2],
}
_SPHERICAL = {
    "use_pbc": True,
    "regress_forces": True,
    "otf_graph": True,
    "sphere_channels": 8,
    "edge_channels": 8,
    "num_sphere_samples": 16,
    "distance_function": "gaussian",
}
MODELS: dict[str, dict[str, Any]] = {
    "gemnet-dt": {**_GEMNET_T, "direct_forces": True},
    "gemnet-t": {**_GEMNET_T, "direct_forces": False},
    "gemnet-oc": _GEMNET_OC,
    "painn": {"name": "painn", "hidden_channels": 16, "num_layers": 2, "num_rbf": 16, "cutoff": 8.0, "otf_graph": True},
    "schnet": {
        "name": "schnet",
        "hidden_channels": 16,
        "num_filters": 16,
        "num_interactions": 2,
        "num_gaussians": 16,
        "cutoff": 6.0,
        "otf_graph": True,
        "use_pbc": True,
    },
    "dimenet++": {
        "name": "dimenetplusplus",
        "hidden_channels": 16,
        "out_emb_channels": 16,
        "num_blocks": 2,
        "cutoff": 5.0,
        "num_radial": 6,
        "num_spherical": 4,
        "otf_graph": True,
        "use_pbc": True,
        "regress_forces": True,
    },
    "escn": {
        **_SPHERICAL,
        "name": "escn",
        "max_neighbors": 20,
        "cutoff": 6.0,
        "num_layers": 2,
        "lmax_list": [2],
        "mmax_list": [1],
        "hidden_channels": 8,
    },
    "equiformer-v2": {
        **_SPHERICAL,
        "name": "equiformer_v2",
        "max_neighbors": 20,
        "max_radius": 6.0,
        "num_layers": 2,
        "attn_hidden_channels": 8,
        "num_heads": 2,
        "attn_alpha_channels": 8,
        "attn_value_channels": 8,
        "ffn_hidden_channels": 16,
        "lmax_list": [2],
        "mmax_list": [1],
        "grid_resolution": 8,
        "num_distance_basis": 32,
    },
    "scn": {
        "name": "scn",
        "use_pbc": True,
        "otf_graph": True,
        "num_interactions": 2,
        "lmax": 4,
        "num_resolutions": 1,
        "sphere_channels": 8,
        "sphere_channels_reduce": 8,
        "hidden_channels": 16,
        "num_sphere_samples": 16,
        "num_basis_functions": 16,
        "max_num_neighbors": 20,
        "cutoff": 6.0,
    },
}
NORMALIZERS = {"energy": {"mean": -0.7, "rmsd": 2.2}, "forces": {"mean": 0.0, "rmsd": 0.4}}


def make_checkpoint(name: str, **changes: Any) -> dict[str, Any]:
    """Return a checkpoint of the architecture with the name of its card; `load_package` has to come first."""
    from fairchem.core.common.registry import registry

    torch.manual_seed(0)
    options = MODELS[name] | changes
    model = registry.get_model_class(options.pop("name"))(**options)
    with torch.no_grad():
        for weights in model.parameters():  # some output layers start at zero
            if not weights.any():
                weights.normal_(std=0.1)
    config = {
        "trainer": "ocp",
        "model": MODELS[name] | changes,
        "dataset": {"src": "nowhere"},
        "task": {},
        "outputs": {
            "energy": {"level": "system"},
            "forces": {"level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True},
        },
        "loss_functions": [
            {"energy": {"fn": "mae", "coefficient": 1}},
            {"forces": {"fn": "l2mae", "coefficient": 100}},
        ],
        "evaluation_metrics": {"metrics": {"energy": ["mae"]}},
        "optim": {},
        "cmd": {"seed": 0},
    }
    normalizers = {
        target: {key: torch.tensor(value) for key, value in values.items()} for target, values in NORMALIZERS.items()
    }
    return {"state_dict": model.state_dict(), "config": config, "normalizers": normalizers}


def save_checkpoint(path: Path, name: str, **changes: Any) -> Path:
    """Write such a checkpoint."""
    torch.save(make_checkpoint(name, **changes), path)
    return path
