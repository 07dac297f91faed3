"""SchNet (Schütt et al., NeurIPS 2017, arXiv 1706.08566) as torch-geometric has it, on our own edges.

Modules and weights are torch-geometric's; edges come from the graph given, with all periodic images, and atoms are
summed up by structure. The filters carry a cosine cutoff, so that energy and forces are continuous there.

Sums over neighbours are torch-geometric's scatter additions: on a GPU the last bits differ from call to call.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from mlipbench.errors import ConfigError
from mlipbench.nets.network import ConservativeNetwork, NetworkConfig
from mlipbench.nets.segments import segment_sum

with warnings.catch_warnings():
    # torch-geometric compiles parts that are not used here in a way torch has deprecated
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
    from torch_geometric.nn.models import schnet as geometric

if TYPE_CHECKING:
    from mlipbench.nets.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class SchNetConfig(NetworkConfig):
    """Sizes of a SchNet.

    Attributes:
        hidden: Number of channels of an atom.
        filters: Number of channels of the filters.
        interactions: Number of interaction blocks.
        gaussians: Number of Gaussians of the distance, at least 2.
    """

    hidden: int
    filters: int
    interactions: int
    gaussians: int


class SchNet(ConservativeNetwork):
    """SchNet with forces from the gradient of its energy.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: SchNetConfig) -> None:
        """Build the network.

        Raises:
            ConfigError: The number of elements is not that of torch-geometric's table.
        """
        super().__init__(config)
        self.model = geometric.SchNet(
            hidden_channels=config.hidden,
            num_filters=config.filters,
            num_interactions=config.interactions,
            num_gaussians=config.gaussians,
            cutoff=config.cutoff,
        )
        rows = self.model.embedding.num_embeddings
        if config.elements != rows:
            raise ConfigError(f"the table of elements has {rows} rows, not {config.elements}", where="elements")
        for interaction in self.model.interactions:
            del interaction.mlp  # the same module as `interaction.conv.nn`: a checkpoint holds its weights once

    def energy(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Return the energies, shape (n_structures,), eV."""
        model = self.model
        edges = torch.stack([graph.senders.owner, graph.receivers.owner])
        distances = torch.linalg.vector_norm(vectors, dim=1)
        gaussians = model.distance_expansion(distances)
        atoms = model.embedding(graph.numbers)
        for interaction in model.interactions:
            atoms = atoms + interaction(atoms, edges, distances, gaussians)
        return segment_sum(model.lin2(model.act(model.lin1(atoms))), graph.structures)[:, 0]


NETWORKS: Final = MappingProxyType({"schnet": SchNet})

# The OC20 code base's for 200k structures, and MDSim's; MDSim's networks for LiPS and MD17 differ in the cutoff alone.
_OC20: Final = SchNetConfig(elements=100, cutoff=6.0, hidden=1024, filters=256, interactions=3, gaussians=200)
_LIPS: Final = SchNetConfig(elements=100, cutoff=6.0, hidden=64, filters=64, interactions=6, gaussians=25)
PRESETS: Final = MappingProxyType(
    {
        "schnet": MappingProxyType(
            {
                "oc20": _OC20,
                "iso17": _LIPS,  # ours: no configuration for ISO17 is at hand
                "lips": _LIPS,
                "md17": replace(_LIPS, cutoff=5.0),
                "small": replace(_LIPS, cutoff=5.0, hidden=128, filters=128, gaussians=50),  # ours
            }
        )
    }
)
"""Configurations by name of the preset."""
