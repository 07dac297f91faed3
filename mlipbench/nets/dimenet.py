"""DimeNet (Gasteiger et al., ICLR 2020, arXiv 2003.03123) and DimeNet++ (arXiv 2011.14115), on our own edges.

Embedding, interaction and output blocks and the radial basis are torch-geometric's, weights by the same names. Ours are

- edges and triplets, which know periodic images: torch-geometric drops every triplet whose ends are images of one atom;
- the spherical basis. It gives the values of torch-geometric's, from recurrences in float64 where that one expands
  formulas with sympy. These cancel: in float32 the highest order is off by 2 % at an eighth of the cutoff (a bond of
  H2) and by 10 % at a tenth. They also take seconds to simplify, for each network built;
- the cosine of the angle in place of the angle, because the basis is a polynomial of the cosine: no derivative of any
  order is singular where three atoms are in line.

As in torch-geometric and in the published weights, DimeNet's angle is the one at the receiver ``i`` between ``j`` and
``k``; DimeNet++'s is the one at ``j`` between the directions of the two edges, zero where the way is straight. The
last layers start at zero, as published: an untrained network predicts nothing, and the first step changes them alone.

Every term carries the envelope of its edges, so that energy and forces are continuous at the cutoff.

Triplets are counted in the forward pass, for which a GPU is waited for. Sums over them are torch-geometric's scatter
additions: on a GPU the last bits differ from call to call.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn

from mlipbench.errors import ConfigError
from mlipbench.nets.network import ConservativeNetwork, NetworkConfig
from mlipbench.nets.segments import segment_sum
from mlipbench.nets.triplets import Triplets, find_triplets

with warnings.catch_warnings():
    # torch-geometric compiles parts that are not used here in a way torch has deprecated
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
    from torch_geometric.nn.models import dimenet as geometric
    from torch_geometric.nn.models.dimenet_utils import Jn, Jn_zeros

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlipbench.nets.graph import Graph

_ENVELOPE: Final = 5  # the exponent p - 1 of the envelope, as published


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionalConfig(NetworkConfig):
    """What DimeNet and DimeNet++ have in common.

    Attributes:
        hidden: Number of channels of an edge.
        blocks: Number of interaction blocks.
        spherical: Number of orders of the spherical basis.
        radial: Number of radial functions.
        before_skip: Residual layers of an interaction block before its skip connection.
        after_skip: Residual layers after it.
        output_layers: Dense layers of an output block.
    """

    hidden: int
    blocks: int
    spherical: int = 7
    radial: int = 6
    before_skip: int = 1
    after_skip: int = 2
    output_layers: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DimeNetConfig(DirectionalConfig):
    """Sizes of a DimeNet.

    Attributes:
        bilinear: Width of the bilinear layer.
    """

    bilinear: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DimeNetPlusPlusConfig(DirectionalConfig):
    """Sizes of a DimeNet++.

    Attributes:
        out_emb: Channels of the output blocks.
        int_emb: Channels of an edge in the sums over triplets.
        basis_emb: Channels the bases are projected to.
    """

    out_emb: int
    int_emb: int
    basis_emb: int = 8


class SphericalBasis(nn.Module):
    """The two-dimensional basis of distance and angle (DimeNet, eq. 6), with the envelope of eq. 8.

    ``u(d/c) sqrt(2 / j_{l+1}(z_ln)²) j_l(z_ln d/c) Y_l0``, ``z_ln`` the n-th root of the spherical Bessel function
    ``j_l``. As in torch-geometric, the paper's factor ``c^(-3/2)`` is left out and ``u`` is divided by ``d/c``.

    Args:
        spherical: Number of orders l.
        radial: Number of roots n of each.
        cutoff: c, Å.
    """

    roots: Tensor
    factors: Tensor

    def __init__(self, spherical: int, radial: int, cutoff: float) -> None:
        """Find the roots."""
        super().__init__()
        self.spherical = spherical
        self.radial = radial
        self.cutoff = cutoff
        self.envelope = geometric.Envelope(_ENVELOPE)
        roots = Jn_zeros(spherical, radial).astype(np.float64)
        orders = np.arange(spherical)[:, None]
        factors = math.sqrt(2) / np.abs(Jn(roots, orders + 1)) * np.sqrt((2 * orders + 1) / (4 * np.pi))
        self.register_buffer("roots", torch.from_numpy(roots.ravel()), persistent=False)
        self.register_buffer("factors", torch.from_numpy(factors.ravel()), persistent=False)

    def forward(self, distances: Tensor, cosines: Tensor, edge_kj: Tensor) -> Tensor:
        """Return the basis of each triplet.

        Args:
            distances: Shape (n_edges,), Å.
            cosines: Shape (n_triplets,), of the angles.
            edge_kj: Shape (n_triplets,), the edge whose distance counts.

        Returns:
            Shape (n_triplets, spherical · radial), by order first.
        """
        radial = self._radial(distances).to(cosines.dtype).view(-1, self.spherical, self.radial)
        angular = self._legendre(cosines)
        return (radial.index_select(0, edge_kj) * angular[:, :, None]).flatten(1)

    def _radial(self, distances: Tensor) -> Tensor:
        """Return the functions of the distance in float64, by ``j_{l+1}(x) = (2l + 1)/x j_l(x) - j_{l-1}(x)``."""
        scaled = (distances.double() / self.cutoff)[:, None]
        x = scaled * self.roots.double()
        below, current = torch.cos(x) / x, torch.sin(x) / x
        found = [current[:, : self.radial]]
        for order in range(self.spherical - 1):
            # Columns of this order are done with
            below, current, x = (part[:, self.radial :] for part in (below, current, x))
            below, current = current, (2 * order + 1) / x * current - below
            found.append(current[:, : self.radial])
        return torch.cat(found, dim=1) * self.factors.double() * self.envelope(scaled)

    def _legendre(self, cosines: Tensor) -> Tensor:
        """Return the Legendre polynomials by ``(l + 1) P_{l+1}(z) = (2l + 1) z P_l(z) - l P_{l-1}(z)``."""
        found = [torch.ones_like(cosines), cosines]
        for order in range(1, self.spherical - 1):
            found.append(((2 * order + 1) * cosines * found[-1] - order * found[-2]) / (order + 1))
        return torch.stack(found[: self.spherical], dim=1)


class DirectionalNetwork(ConservativeNetwork):
    """Messages along edges that know of the angles to the edges before them.

    Args:
        config: Its sizes.
        interactions: torch-geometric's interaction blocks.
        outputs: Its output blocks, one more.
    """

    def __init__(
        self, config: DirectionalConfig, interactions: Iterable[nn.Module], outputs: Iterable[nn.Module]
    ) -> None:
        """Put the blocks together.

        Raises:
            ConfigError: The number of elements is not that of torch-geometric's table.
        """
        super().__init__(config)
        self.rbf = geometric.BesselBasisLayer(config.radial, config.cutoff, _ENVELOPE)
        self.sbf = SphericalBasis(config.spherical, config.radial, config.cutoff)
        self.emb = geometric.EmbeddingBlock(config.radial, config.hidden, nn.SiLU())
        self.interaction_blocks = nn.ModuleList(interactions)
        self.output_blocks = nn.ModuleList(outputs)
        rows = self.emb.emb.num_embeddings
        if config.elements != rows:
            raise ConfigError(f"the table of elements has {rows} rows, not {config.elements}", where="elements")

    @staticmethod
    @abstractmethod
    def cosines(vectors: Tensor, units: Tensor, triplets: Triplets) -> Tensor:
        """Return the cosines of the angles that count.

        Args:
            vectors: Shape (n_edges, 3), Å, from receiver to sender.
            units: Shape (n_edges, 3), their directions.
            triplets: The pairs of edges.

        Returns:
            Shape (n_triplets,).
        """

    def energy(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Return the energies, shape (n_structures,), eV."""
        triplets = find_triplets(graph)
        distances = torch.linalg.vector_norm(vectors, dim=1)
        cosines = self.cosines(vectors, vectors / distances[:, None], triplets)
        radial, spherical = self.rbf(distances), self.sbf(distances, cosines, triplets.edge_kj)
        receiver, n_atoms = graph.receivers.owner, len(graph.numbers)
        messages = self.emb(graph.numbers, radial, receiver, graph.senders.owner)
        first, *others = self.output_blocks
        atoms = first(messages, radial, receiver, num_nodes=n_atoms)
        for interaction, output in zip(self.interaction_blocks, others, strict=True):
            messages = interaction(messages, radial, spherical, triplets.edge_kj, triplets.edge_ji)
            atoms = atoms + output(messages, radial, receiver, num_nodes=n_atoms)
        return segment_sum(atoms, graph.structures)[:, 0]


class DimeNet(DirectionalNetwork):
    """DimeNet with forces from the gradient of its energy.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: DimeNetConfig) -> None:
        """Build the network."""
        c, activation = config, nn.SiLU()
        sizes = (c.hidden, c.bilinear, c.spherical, c.radial, c.before_skip, c.after_skip, activation)
        super().__init__(
            config,
            [geometric.InteractionBlock(*sizes) for _ in range(c.blocks)],
            [geometric.OutputBlock(c.radial, c.hidden, 1, c.output_layers, activation) for _ in range(c.blocks + 1)],
        )

    @staticmethod
    def cosines(vectors: Tensor, units: Tensor, triplets: Triplets) -> Tensor:
        """Return the cosines of the angles between ``j`` and ``k`` as ``i`` sees them."""
        to_j = units.index_select(0, triplets.edge_ji)
        to_k = vectors.index_select(0, triplets.edge_ji) + vectors.index_select(0, triplets.edge_kj)
        return (to_j * to_k).sum(dim=1) / torch.linalg.vector_norm(to_k, dim=1)


class DimeNetPlusPlus(DirectionalNetwork):
    """DimeNet++ with forces from the gradient of its energy.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: DimeNetPlusPlusConfig) -> None:
        """Build the network."""
        c, activation = config, nn.SiLU()
        sizes = (c.hidden, c.int_emb, c.basis_emb, c.spherical, c.radial, c.before_skip, c.after_skip, activation)
        out_sizes = (c.radial, c.hidden, c.out_emb, 1, c.output_layers, activation)
        super().__init__(
            config,
            [geometric.InteractionPPBlock(*sizes) for _ in range(c.blocks)],
            [geometric.OutputPPBlock(*out_sizes) for _ in range(c.blocks + 1)],
        )

    @staticmethod
    def cosines(vectors: Tensor, units: Tensor, triplets: Triplets) -> Tensor:  # noqa: ARG004 - DimeNet needs vectors
        """Return the cosines of the angles between the directions of the two edges."""
        return (units.index_select(0, triplets.edge_ji) * units.index_select(0, triplets.edge_kj)).sum(dim=1)


NETWORKS: Final = MappingProxyType({"dimenet": DimeNet, "dimenet++": DimeNetPlusPlus})

_DIMENET: Final = DimeNetConfig(elements=95, cutoff=5.0, hidden=128, blocks=6)
_PLUS_PLUS: Final = DimeNetPlusPlusConfig(elements=95, cutoff=5.0, hidden=128, blocks=4, out_emb=256, int_emb=64)
PRESETS: Final = MappingProxyType(
    {
        "dimenet": MappingProxyType(
            {
                "oc20": replace(_DIMENET, cutoff=6.0),  # the paper's sizes; OC20's own configuration is not at hand
                "iso17": _DIMENET,  # ours
                "lips": _DIMENET,  # ours: MDSim takes DimeNet++ there
                "md17": _DIMENET,  # the paper's, and MDSim's by its number of parameters
                "small": replace(_DIMENET, hidden=64, blocks=4),  # ours
            }
        ),
        "dimenet++": MappingProxyType(
            {
                "oc20": replace(_PLUS_PLUS, cutoff=6.0, hidden=192, blocks=3, out_emb=192),  # for 200k structures
                "iso17": _PLUS_PLUS,  # ours
                "lips": _PLUS_PLUS,  # MDSim's
                "md17": _PLUS_PLUS,  # ours: the sizes for LiPS
                "small": replace(_PLUS_PLUS, hidden=96, blocks=3, out_emb=128, int_emb=48),  # ours
            }
        ),
    }
)
"""Configurations by name of the network and of the preset."""
