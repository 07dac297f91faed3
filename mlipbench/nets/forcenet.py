"""ForceNet (Hu et al., arXiv:2103.01436): forces straight from unconstrained messages, with an energy beside them.

The published default of the OC20 code base (``basis: sphallmul``, ``ablation: none``), which MDsim uses, too:

    h_i = W sines(features(Z_i)) + b
    f_ij = W sines([d, d - R_j, d - R_i, d - R_i - R_j] / cutoff, each at least 0.001) + b           four numbers
    e_ij = W (Y(r_ij / d) ⊗ f_ij) + b                                                              nine harmonics
    w_ij = cos(π d / (2 cutoff)) MLP([e_ij | h_j | h_i])                    the filter, conditioned on both its ends
    v_i  = W h_i + b
    h_i <- h_i + MLP(Σ_j v_j w_ij + a v_i)
    g_i  = swish(W h_i + b),  F_i = MLP(g_i),  E = W Σ_i g_i + b

``sines(x)`` are ``sin(1.1^k x)`` for k = 0 ... 49, MLPs of atoms have a batch norm before their swish, and ``R`` are
empirical radii. Spherical harmonics are real and imaginary parts of the complex ones with m >= 0, of degrees 0 to 2, in
closed form; the code base computes them on the processor.

Declared failures, by the definition of the network:

- Forces do not turn with the structure, nor does the energy stay the same: nothing but training on rotated structures
  can teach it. Translations and permutations hold.
- Forces are not the gradient of the energy. The trainings published for OC20, and MDsim's for MD17, fit forces alone.
- The energy head's bias counts once per structure, whatever its size: a doubled cell has twice the energy less the
  bias.
- In training mode predictions depend on batch mates through the statistics of the atoms; in evaluation mode they do
  not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor, nn

from mlipbench.errors import ConfigError
from mlipbench.nets.atom_features import CONTINUOUS_ELEMENTS, atomic_radii, continuous_features
from mlipbench.nets.network import Network, NetworkConfig, Output
from mlipbench.nets.normalisation import BatchNorm
from mlipbench.nets.segments import segment_sum, take
from mlipbench.structures.neighbors import NeighborCap

if TYPE_CHECKING:
    from mlipbench.nets.graph import Graph

_DISTANCES = 4  # numbers per edge that are expanded in sines: the distance, and the distance less either or both radii
_SMALLEST_DISTANCE = 1e-3  # relative to the cutoff
_HARMONICS = 9
_FREQUENCIES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceNetConfig(NetworkConfig):
    """Sizes of a ForceNet.

    Attributes:
        hidden: Channels, of atoms, filters and the decoder alike.
        layers: Number of interaction blocks.

    Raises:
        ConfigError: More elements than the table of features has.
    """

    hidden: int
    layers: int

    def __post_init__(self) -> None:
        """Check the elements."""
        if self.elements > CONTINUOUS_ELEMENTS + 1:
            raise ConfigError(f"forcenet has features of elements up to {CONTINUOUS_ELEMENTS}, not {self.elements - 1}")


def spherical_harmonics(units: Tensor) -> Tensor:
    """Return spherical harmonics of degrees 0 to 2.

    Args:
        units: Shape (n_edges, 3), unit vectors.

    Returns:
        Shape (n_edges, 9): of the complex functions with the Condon-Shortley phase, orthonormal on the sphere,
        ``Y00, Y10, Y20, Re Y11, Re Y21, Re Y22, Im Y11, Im Y21, Im Y22``.
    """
    x, y, z = units.unbind(1)
    first, second, third = (math.sqrt(factor / (8 * math.pi)) for factor in (3, 15, 15 / 4))
    return torch.stack(
        [
            torch.full_like(z, math.sqrt(1 / (4 * math.pi))),
            math.sqrt(3 / (4 * math.pi)) * z,
            math.sqrt(5 / (16 * math.pi)) * (3 * z * z - 1),
            -first * x,
            -second * x * z,
            third * (x * x - y * y),
            -first * y,
            -second * y * z,
            third * (2 * x * y),
        ],
        dim=1,
    )


class Sines(nn.Module):
    """``sin(1.1^k x)`` of each column ``x`` for k from 0 to 49, all columns of one k side by side."""

    frequencies: Tensor

    def __init__(self) -> None:
        """Lay out the frequencies."""
        super().__init__()
        self.register_buffer("frequencies", torch.tensor([1.1**k for k in range(_FREQUENCIES)]), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return shape (n_rows, 50 n_columns) of values of shape (n_rows, n_columns)."""
        return torch.sin(self.frequencies[None, :, None] * values[:, None, :]).flatten(1)


class Edges(NamedTuple):
    """What interaction blocks need to know of the edges; all share it.

    Attributes:
        basis: Shape (n_edges, 36), products of harmonics and radial numbers.
        envelope: Shape (n_edges, 1), zero at the cutoff.
    """

    basis: Tensor
    envelope: Tensor


class EdgeBasis(nn.Module):
    """Harmonics of the direction times four learned functions of the distances.

    Args:
        elements: Number of rows of the table of radii.
        cutoff: Å.
    """

    radii: Tensor

    def __init__(self, elements: int, cutoff: float) -> None:
        """Lay out the radii and build the map."""
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("radii", atomic_radii(elements), persistent=False)
        self.sines = Sines()
        self.linear = nn.Linear(_DISTANCES * _FREQUENCIES, _DISTANCES)

    def forward(self, graph: Graph) -> Edges:
        """Return the basis of the edges."""
        radii = self.radii[graph.numbers]
        senders, receivers = take(radii, graph.senders), take(radii, graph.receivers)
        distances = graph.vectors.square().sum(1).sqrt()
        shifted = torch.stack(
            [distances, distances - senders, distances - receivers, distances - senders - receivers], dim=1
        )
        radial = self.linear(self.sines((shifted / self.cutoff).clamp(min=_SMALLEST_DISTANCE)))
        harmonics = spherical_harmonics(graph.vectors / distances[:, None])
        return Edges(
            (harmonics[:, :, None] * radial[:, None, :]).flatten(1),
            torch.cos(0.5 * math.pi * distances / self.cutoff)[:, None],
        )


class Interaction(nn.Module):
    """An interaction block: a convolution with filters conditioned on both atoms of an edge.

    Args:
        hidden: Channels.
    """

    def __init__(self, hidden: int) -> None:
        """Build the maps; Xavier weights and no biases to begin with, as in the OC20 code base."""
        super().__init__()
        self.hidden = hidden
        self.edge = nn.Linear(_HARMONICS * _DISTANCES, hidden)
        self.filter_in = nn.Linear(3 * hidden, hidden)
        self.filter_out = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.value = nn.Linear(hidden, hidden)
        self.own = nn.Parameter(torch.empty(1, hidden))
        self.update = _normalised_mlp(hidden, hidden)
        _xavier(self)
        nn.init.xavier_uniform_(self.own)

    def forward(self, atoms: Tensor, edges: Edges, graph: Graph) -> Tensor:
        """Return what is added to the atoms, shape (n_atoms, hidden)."""
        filters = self.filter_out(self._conditions(atoms, edges.basis, graph)) * edges.envelope
        values = self.value(atoms)
        summed = segment_sum(take(values, graph.senders) * filters, graph.receivers)
        updated: Tensor = self.update(summed + self.own * values)
        return updated

    def _conditions(self, atoms: Tensor, basis: Tensor, graph: Graph) -> Tensor:
        """Return the first layer of the filter, ``W [e_ij | h_j | h_i] + b``.

        Nothing stands between the map to ``e_ij`` and this layer, so both are joined into one of 36 columns, and what
        atoms contribute is mapped once per atom in place of once per edge.
        """
        edge, sender, receiver = self.filter_in.weight.split(self.hidden, dim=1)
        bias = edge @ self.edge.bias + self.filter_in.bias
        mixed = nn.functional.linear(basis, edge @ self.edge.weight)
        mixed = mixed + take(nn.functional.linear(atoms, sender), graph.senders)
        return mixed + take(nn.functional.linear(atoms, receiver, bias), graph.receivers)


class ForceNet(Network):
    """ForceNet with its heads for forces and energy.

    Args:
        config: Its sizes.
    """

    conservative = False
    features: Tensor

    def __init__(self, config: ForceNetConfig) -> None:
        """Build the network."""
        super().__init__(config)
        hidden = config.hidden
        features = continuous_features(config.elements)
        self.register_buffer("features", features, persistent=False)
        self.sines = Sines()
        self.embedding = nn.Linear(features.shape[1] * _FREQUENCIES, hidden)
        self.edges = EdgeBasis(config.elements, config.cutoff)
        self.interactions = nn.ModuleList(Interaction(hidden) for _ in range(config.layers))
        self.last = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU())
        self.force_head = _normalised_mlp(hidden, 3)
        self.energy_head = nn.Linear(hidden, 1)
        _xavier(self.force_head)

    def forward(self, graph: Graph, *, forces: bool = True, stress: bool = False) -> Output:
        """Predict a batch.

        Raises:
            ValueError: The stress is asked for.
        """
        if stress:
            raise ValueError("forcenet predicts no stress: its forces are no gradient of its energy")
        edges = self.edges(graph)
        atoms = nn.functional.embedding(graph.numbers, self.embedding(self.sines(self.features)))
        for interaction in self.interactions:
            atoms = atoms + interaction(atoms, edges, graph)
        atoms = self.last(atoms)
        energy = self.energy_head(segment_sum(atoms, graph.structures))[:, 0]
        return Output(energy, self.force_head(atoms) if forces else None)


def _normalised_mlp(hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, hidden), BatchNorm(hidden), nn.SiLU(), nn.Linear(hidden, out))


def _xavier(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


# configs/s2ef/all/forcenet/fn_forceonly of the OC20 code base; MDsim takes the same sizes and cutoff for LiPS and MD17.
# Of its molecules none reaches the cap.
_PUBLISHED = ForceNetConfig(
    elements=CONTINUOUS_ELEMENTS + 1, cutoff=6.0, cap=NeighborCap(50, whole_shells=True), hidden=512, layers=5
)
_MOLECULES = replace(_PUBLISHED, cap=None)

NETWORKS: Final = MappingProxyType({"forcenet": ForceNet})
PRESETS: Final = MappingProxyType(
    {
        "forcenet": MappingProxyType(
            {
                "oc20": _PUBLISHED,
                "lips": _PUBLISHED,
                "md17": _MOLECULES,
                "iso17": _MOLECULES,
                "small": replace(_MOLECULES, hidden=128, layers=3),
            }
        )
    }
)
