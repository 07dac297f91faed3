"""CGCNN (Xie and Grossman, PRL 120, 145301 (2018)) as the OC20 code base trains it on energies and forces.

    x_i = W khot(Z_i) + b
    z_ij = BatchNorm([x_i | x_j | e_ij] W + b)                          the paper's equation 5 with both its maps in one
    x_i <- softplus(x_i + LayerNorm(Σ_j sigmoid(z_ij[first half]) softplus(z_ij[second half])))
    E = MLP(mean_i x_i),  F = -dE/dr

with Gaussians of the distance as ``e_ij``. The OC20 code base has a layer norm where the paper's own code has a second
batch norm, and no softplus between pooling and the first layer of the readout; both are followed here.

Declared failures, by the definition of the network:

- Energies are not extensive: atoms are averaged, so a doubled cell has the energy of the single one, and half its
  forces on each atom. Two systems far apart do not have the sum of their energies.
- The energy jumps where an atom crosses the cutoff: there is no envelope.
- In training mode predictions depend on batch mates through the statistics of the edges, and processes that share a
  batch have statistics of their own; in evaluation mode they do not.

One thing is not followed. The OC20 code base takes the derivative of the energies of a batch through the statistics of
its edges, which makes the forces of a training step other forces than those of evaluation, however well the running
statistics agree with the batch's: ten molecules learned to 1 meV/Å in training mode were off by 480 meV/Å in evaluation
mode. Here the statistics do not take part in the derivative with respect to positions, in training as in evaluation,
while the weights still learn through them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from mlipbench.errors import ConfigError
from mlipbench.nets.atom_features import CATEGORY_SIZES, KHOT_ELEMENTS, khot_features
from mlipbench.nets.network import ConservativeNetwork, NetworkConfig
from mlipbench.nets.normalisation import BatchNorm, Statistics
from mlipbench.nets.radial import GaussianBasis
from mlipbench.nets.segments import segment_sum, take
from mlipbench.structures.neighbors import NeighborCap

if TYPE_CHECKING:
    from mlipbench.nets.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class CgcnnConfig(NetworkConfig):
    """Sizes of a CGCNN.

    Attributes:
        hidden: Channels of an atom.
        convolutions: Number of convolutions.
        readout: Width of the layers after pooling.
        readout_layers: Number of these, without the last map to the energy.
        radial: Number of Gaussians.

    Raises:
        ConfigError: More elements than the table of features has.
    """

    hidden: int
    convolutions: int
    readout: int
    readout_layers: int
    radial: int

    def __post_init__(self) -> None:
        """Check the elements."""
        if self.elements > KHOT_ELEMENTS + 1:
            raise ConfigError(f"cgcnn has features of elements up to {KHOT_ELEMENTS}, not {self.elements - 1}")


class CgcnnConvolution(nn.Module):
    """One convolution.

    Args:
        hidden: Channels of an atom.
        radial: Number of Gaussians.
    """

    def __init__(self, hidden: int, radial: int) -> None:
        """Build the maps; Xavier weights and no bias to begin with, as in the OC20 code base."""
        super().__init__()
        self.parts = (hidden, hidden, radial)
        self.linear = nn.Linear(2 * hidden + radial, 2 * hidden)
        self.batch_norm = BatchNorm(2 * hidden)
        self.layer_norm = nn.LayerNorm(hidden)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def mix(self, atoms: Tensor, radial: Tensor, graph: Graph) -> Tensor:
        """Return ``[x_i | x_j | e_ij] W + b``, what atoms contribute mapped once per atom in place of once per edge.

        Args:
            atoms: Shape (n_atoms, hidden).
            radial: Shape (n_edges, n_radial).
            graph: Which atoms the edges join.

        Returns:
            Shape (n_edges, 2 hidden).
        """
        receiver, sender, edge = self.linear.weight.split(self.parts, dim=1)
        mixed = nn.functional.linear(radial, edge)
        mixed = mixed + take(nn.functional.linear(atoms, receiver, self.linear.bias), graph.receivers)
        return mixed + take(nn.functional.linear(atoms, sender), graph.senders)

    def forward(self, atoms: Tensor, mixed: Tensor, statistics: Statistics, graph: Graph) -> Tensor:
        """Return the atoms after the convolution.

        Args:
            atoms: Shape (n_atoms, hidden).
            mixed: What `mix` made of them.
            statistics: What edges are normalised by.
            graph: Which atoms the edges join.
        """
        gate, core = self.batch_norm(mixed, statistics).chunk(2, dim=1)
        summed = segment_sum(torch.sigmoid(gate) * nn.functional.softplus(core), graph.receivers)
        return nn.functional.softplus(self.layer_norm(summed) + atoms)


class Cgcnn(ConservativeNetwork):
    """CGCNN with forces from the gradient of its energy.

    Args:
        config: Its sizes.
    """

    features: Tensor

    def __init__(self, config: CgcnnConfig) -> None:
        """Build the network."""
        super().__init__(config)
        self.register_buffer("features", khot_features(config.elements), persistent=False)
        self.gaussians = GaussianBasis(config.radial, config.cutoff)
        self.embedding = nn.Linear(sum(CATEGORY_SIZES), config.hidden)
        self.convolutions = nn.ModuleList(
            CgcnnConvolution(config.hidden, config.radial) for _ in range(config.convolutions)
        )
        widths = [config.hidden, *[config.readout] * config.readout_layers]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.Softplus()]
        self.readout = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def energy(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Return the energies, shape (n_structures,), eV."""
        statistics = None
        if self.training and vectors.requires_grad:
            _, statistics = self._convolve(graph, vectors.detach())
        atoms, _ = self._convolve(graph, vectors, statistics)
        pooled = segment_sum(atoms, graph.structures) / graph.atoms_per_structure.clamp(min=1)
        energies: Tensor = self.readout(pooled)[:, 0]
        return energies

    def _convolve(
        self, graph: Graph, vectors: Tensor, statistics: list[Statistics] | None = None
    ) -> tuple[Tensor, list[Statistics]]:
        """Return the atoms after all convolutions, and what the edges of each were normalised by."""
        radial = self.gaussians(vectors.square().sum(1).sqrt())
        atoms = nn.functional.embedding(graph.numbers, self.embedding(self.features))
        used: list[Statistics] = []
        for number, convolution in enumerate(self.convolutions):
            mixed = convolution.mix(atoms, radial, graph)
            used.append(convolution.batch_norm.statistics(mixed) if statistics is None else statistics[number])
            atoms = convolution(atoms, mixed, used[-1], graph)
        return atoms, used


# The sizes of configs/s2ef/200k/cgcnn of the OC20 code base; those for larger training sets differ in channels and
# convolutions only (2M: 384 and 3, all: 512 and 3).
_OC20 = CgcnnConfig(
    elements=KHOT_ELEMENTS + 1,
    cutoff=6.0,
    cap=NeighborCap(50, whole_shells=True),
    hidden=128,
    convolutions=2,
    readout=128,
    readout_layers=3,
    radial=100,
)
_OURS = replace(_OC20, cutoff=5.0, cap=None)  # nobody published sizes for these datasets

NETWORKS: Final = MappingProxyType({"cgcnn": Cgcnn})
PRESETS: Final = MappingProxyType(
    {
        "cgcnn": MappingProxyType(
            {
                "oc20": _OC20,
                "lips": _OURS,
                "md17": _OURS,
                "iso17": replace(_OURS, cutoff=6.0),
                "small": replace(_OURS, radial=50),
            }
        )
    }
)
