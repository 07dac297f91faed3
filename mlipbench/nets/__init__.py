"""The networks of mlipbench itself, and those of others that it runs in the same frame."""

from mlipbench.nets.build import NET_NAMES, build, build_from_config, presets_of
from mlipbench.nets.network import ConservativeNetwork, Network, NetworkConfig, Output

__all__ = [
    "NET_NAMES",
    "ConservativeNetwork",
    "Network",
    "NetworkConfig",
    "Output",
    "build",
    "build_from_config",
    "presets_of",
]
