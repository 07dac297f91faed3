"""Networks as fairchem-core 1.10 configures them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import ConfigError
from mlipbench.training.bridges.bridge import configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.recipe import TrainingJob

_GEMNET_SMALL: Final[Mapping[str, Any]] = {
    "num_spherical": 7,
    "num_radial": 32,
    "num_blocks": 3,
    "emb_size_atom": 64,
    "emb_size_edge": 64,
    "emb_size_rbf": 16,
    "emb_size_cbf": 16,
    "num_before_skip": 1,
    "num_after_skip": 2,
    "num_concat": 1,
    "num_atom": 3,
    "cutoff": 6.0,
}
_GEMNET_T_SMALL: Final[Mapping[str, Any]] = {
    **_GEMNET_SMALL,
    "emb_size_trip": 32,
    "emb_size_bil_trip": 32,
    "max_neighbors": 50,
}
# configs/oc20/s2ef/all/gemnet/gemnet-dT.yml of fairchem-core 1, but that edges are found and not stored
_GEMNET_T_OC20: Final[Mapping[str, Any]] = {
    **_GEMNET_T_SMALL,
    "num_radial": 128,
    "emb_size_atom": 512,
    "emb_size_edge": 512,
    "emb_size_trip": 64,
    "emb_size_bil_trip": 64,
}
# configs/lips/gemnet-T.yml and gemnet-dT.yml of MDSim
_GEMNET_T_LIPS: Final[Mapping[str, Any]] = {
    **_GEMNET_T_SMALL,
    "num_radial": 6,
    "num_blocks": 4,
    "emb_size_atom": 128,
    "emb_size_edge": 128,
    "emb_size_trip": 64,
    "emb_size_bil_trip": 64,
    "num_after_skip": 1,
    "num_atom": 2,
    "cutoff": 5.0,
}
_GEMNET_T: Final = {"small": _GEMNET_T_SMALL, "lips": _GEMNET_T_LIPS, "oc20": _GEMNET_T_OC20}
_GEMNET_OC_SMALL: Final[Mapping[str, Any]] = {
    **_GEMNET_SMALL,
    "num_blocks": 2,
    "emb_size_trip_in": 32,
    "emb_size_trip_out": 32,
    "emb_size_quad_in": 16,
    "emb_size_quad_out": 16,
    "emb_size_aint_in": 32,
    "emb_size_aint_out": 32,
    "emb_size_sbf": 16,
    "num_output_afteratom": 2,
    "num_atom_emb_layers": 1,
    "num_global_out_layers": 2,
    "cutoff_qint": 6.0,
    "cutoff_aeaint": 6.0,
    "cutoff_aint": 6.0,
    "max_neighbors": 20,
    "max_neighbors_qint": 8,
    "max_neighbors_aeaint": 20,
    "max_neighbors_aint": 1000,
    "qint_tags": [1, 2],
}
_EQUIFORMER_SMALL: Final[Mapping[str, Any]] = {
    "num_layers": 3,
    "sphere_channels": 32,
    "attn_hidden_channels": 32,
    "num_heads": 4,
    "attn_alpha_channels": 16,
    "attn_value_channels": 8,
    "ffn_hidden_channels": 64,
    "lmax_list": [2],
    "mmax_list": [2],
    "grid_resolution": 14,
    "edge_channels": 32,
    "num_distance_basis": 64,
    "num_sphere_samples": 128,
    "alpha_drop": 0.0,
    "drop_path_rate": 0.0,
    "proj_drop": 0.0,
    "max_neighbors": 20,
    "max_radius": 6.0,
}
_ESCN_SMALL: Final[Mapping[str, Any]] = {
    "num_layers": 3,
    "sphere_channels": 32,
    "hidden_channels": 64,
    "edge_channels": 32,
    "lmax_list": [2],
    "mmax_list": [2],
    "num_sphere_samples": 64,
    "basis_width_scalar": 2.0,
    "max_neighbors": 20,
    "cutoff": 6.0,
}
_SCN_SMALL: Final[Mapping[str, Any]] = {
    "num_interactions": 3,
    "sphere_channels": 32,
    "sphere_channels_reduce": 32,
    "hidden_channels": 64,
    "lmax": 4,
    "num_bands": 1,
    "num_sphere_samples": 64,
    "num_basis_functions": 64,
    "basis_width_scalar": 2.0,
    "max_num_neighbors": 20,
    "cutoff": 6.0,
}
_PRESETS: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "gemnet-t": _GEMNET_T,
    "gemnet-dt": _GEMNET_T,
    "gemnet-oc": {
        "small": _GEMNET_OC_SMALL,
        # gemnet/gemnet-oc.yml beside it
        "oc20": {
            **_GEMNET_OC_SMALL,
            "num_radial": 128,
            "num_blocks": 4,
            "emb_size_atom": 256,
            "emb_size_edge": 512,
            "emb_size_trip_in": 64,
            "emb_size_trip_out": 64,
            "emb_size_quad_in": 32,
            "emb_size_quad_out": 32,
            "emb_size_aint_in": 64,
            "emb_size_aint_out": 64,
            "emb_size_sbf": 32,
            "num_before_skip": 2,
            "num_output_afteratom": 3,
            "num_atom_emb_layers": 2,
            "cutoff": 12.0,
            "cutoff_qint": 12.0,
            "cutoff_aeaint": 12.0,
            "cutoff_aint": 12.0,
            "max_neighbors": 30,
        },
    },
    "equiformer-v2": {
        "small": _EQUIFORMER_SMALL,
        # equiformer_v2/equiformer_v2_N@8_L@4_M@2_31M.yml beside it
        "oc20": {
            **_EQUIFORMER_SMALL,
            "num_layers": 8,
            "sphere_channels": 128,
            "attn_hidden_channels": 64,
            "num_heads": 8,
            "attn_alpha_channels": 64,
            "attn_value_channels": 16,
            "ffn_hidden_channels": 128,
            "lmax_list": [4],
            "grid_resolution": 18,
            "edge_channels": 128,
            "num_distance_basis": 512,
            "alpha_drop": 0.1,
            "drop_path_rate": 0.1,
            "max_radius": 12.0,
        },
    },
    "escn": {
        "small": _ESCN_SMALL,
        # escn/eSCN-L6-M2-Lay12-All-MD.yml beside it
        "oc20": {
            **_ESCN_SMALL,
            "num_layers": 12,
            "sphere_channels": 128,
            "hidden_channels": 256,
            "edge_channels": 128,
            "lmax_list": [6],
            "num_sphere_samples": 128,
            "cutoff": 12.0,
        },
    },
    "scn": {
        "small": _SCN_SMALL,
        # scn/scn-all-md.yml beside it
        "oc20": {
            **_SCN_SMALL,
            "num_interactions": 16,
            "sphere_channels": 128,
            "sphere_channels_reduce": 128,
            "hidden_channels": 1024,
            "lmax": 6,
            "num_bands": 2,
            "num_sphere_samples": 128,
            "num_basis_functions": 128,
            "max_num_neighbors": 40,
            "cutoff": 8.0,
        },
    },
}
_SHARED: Final[Mapping[str, Any]] = {"regress_forces": True, "otf_graph": True, "use_pbc": True}
# scale factors are those that the published networks were given, and are not fitted here
_GEMNET_FIXED: Final[Mapping[str, Any]] = {**_SHARED, "extensive": True, "scale_file": None}
_FIXED: Final[Mapping[str, Mapping[str, Any]]] = {
    "gemnet-t": {**_GEMNET_FIXED, "name": "gemnet_t", "direct_forces": False},
    "gemnet-dt": {**_GEMNET_FIXED, "name": "gemnet_t", "direct_forces": True},
    "gemnet-oc": {
        **_GEMNET_FIXED,
        "name": "gemnet_oc",
        "direct_forces": True,
        "forces_coupled": False,
        "rbf": {"name": "gaussian"},
        "envelope": {"name": "polynomial", "exponent": 5},
        "cbf": {"name": "spherical_harmonics"},
        "sbf": {"name": "legendre_outer"},
        "quad_interaction": True,
        "atom_edge_interaction": True,
        "edge_atom_interaction": True,
        "atom_interaction": True,
    },
    "equiformer-v2": {
        **_SHARED,
        "name": "equiformer_v2",
        "max_num_elements": 90,
        "norm_type": "layer_norm_sh",
        "use_atom_edge_embedding": True,
        "distance_function": "gaussian",
        "attn_activation": "silu",
        "use_s2_act_attn": False,
        "ffn_activation": "silu",
        "use_gate_act": False,
        "use_grid_mlp": True,
        "weight_init": "uniform",
    },
    "escn": {**_SHARED, "name": "escn", "distance_function": "gaussian"},
    "scn": {**_SHARED, "name": "scn", "distance_function": "gaussian", "use_grid": True},
}


def model_config(job: TrainingJob) -> dict[str, Any]:
    """Return the package's configuration of the network of a job.

    Raises:
        ConfigError: The package has no such network, preset or field.
    """
    if job.net not in _PRESETS:
        raise ConfigError(
            f"the trainer of fairchem-core 1 knows no network {job.net!r}", remedy=f"known: {', '.join(_PRESETS)}"
        )
    return {**_FIXED[job.net], **configuration(job.recipe, _PRESETS[job.net])}


def cutoff_of(config: Mapping[str, Any]) -> float:
    """Return the largest distance over which a configured network sees an atom, Å."""
    names = ("cutoff", "max_radius", "cutoff_qint", "cutoff_aeaint", "cutoff_aint")
    return float(max(config[name] for name in names if name in config))
