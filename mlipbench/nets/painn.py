"""PaiNN (Schütt, Unke and Gastegger, ICML 2021) as the OC20 code base shapes it, with forces of either kind.

Equations follow section "PaiNN" of the OC20 code base, the baseline of LEIGNN's paper: layer normalisation before the
messages, Gaussians with a polynomial envelope, sums scaled by ``1/√2``, ``1/√3`` and ``1/√channels``. Differences:

- `painn`'s forces are the gradient of its energy. In the OC20 code base they are the gradient of the sum of all
  embeddings, which is no energy.
- `painn`'s envelope multiplies the whole filter, as the cosine cutoff of the original paper does: a bias outside the
  envelope lets the energy jump at the cutoff, and then its gradient is not the force. `painn-direct` keeps the
  published form.
- No scale factors, which are fitted to data before training there, and are no parameters.
- Edges are taken as they come. The OC20 code base drops and mirrors edges of a capped list to make it symmetric.
- Elements are rows of a table by atomic number, not by atomic number minus one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from torch import Tensor, nn

from mlipbench.nets.messages import EdgeBasis, MessageBasis, edge_messages, joined, norms, rows
from mlipbench.nets.network import ConservativeNetwork, Network, NetworkConfig, Output
from mlipbench.nets.radial import ScaledSiLU
from mlipbench.nets.segments import segment_sum
from mlipbench.structures.neighbors import NeighborCap

if TYPE_CHECKING:
    from mlipbench.nets.edge_blocks import BlockedEdges
    from mlipbench.nets.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class PainnConfig(NetworkConfig):
    """Sizes of a PaiNN.

    Attributes:
        hidden: Number of channels, even.
        layers: Number of layers.
        radial: Number of Gaussians.
    """

    hidden: int
    layers: int
    radial: int


class PainnMessage(nn.Module):
    """The message block; the outputs of both linear maps are ordered as `edge_messages` wants them."""

    def __init__(self, hidden: int, radial: int) -> None:
        """Build the two maps."""
        super().__init__()
        self.hidden = hidden
        self.normalise = nn.LayerNorm(hidden)
        self.first = nn.Linear(hidden, hidden)
        self.second = nn.Linear(hidden, 3 * hidden)
        self.filter = nn.Linear(radial, 3 * hidden)
        self.activation = ScaledSiLU()

    def forward(
        self, scalars: Tensor, vectors: Tensor | None, basis: EdgeBasis | BlockedEdges, graph: Graph
    ) -> tuple[Tensor, Tensor]:
        """Return what the edges add: ``dx = Σ q3``, ``dv = Σ (q1 v_j / √3 + q2 u) / √channels``."""
        skipped = self.hidden if vectors is None else 0
        values = self.activation(self.first(self.normalise(scalars)))
        values = nn.functional.linear(values, *rows(self.second, skipped))
        if vectors is not None:
            vectors = vectors * (1 / math.sqrt(3))
        dx, dv = edge_messages(values, vectors, basis, rows(self.filter, skipped), graph)
        return dx, dv * (1 / math.sqrt(self.hidden))


class PainnUpdate(nn.Module):
    """The update block: ``x = m + (a + b <v1, v2> / √channels) / √2`` and ``v = mv + c v1``."""

    def __init__(self, hidden: int) -> None:
        """Build the maps."""
        super().__init__()
        self.hidden = hidden
        self.mix = nn.Linear(hidden, 2 * hidden, bias=False)
        self.first = nn.Linear(2 * hidden, hidden)
        self.second = nn.Linear(hidden, 3 * hidden)
        self.activation = ScaledSiLU()

    def forward(self, scalars: Tensor, vectors: Tensor, *, want_vectors: bool) -> tuple[Tensor, Tensor | None]:
        """Return the new scalars, and the new vectors where they are wanted."""
        first, second = self.mix(vectors).chunk(2, dim=-1)
        gates = self.activation(joined(self.first, scalars, norms(second)))
        product = (first * second).sum(1) * (1 / math.sqrt(self.hidden))
        if not want_vectors:
            weight, bias = self.second.weight[: 2 * self.hidden], self.second.bias[: 2 * self.hidden]
            a, b = nn.functional.linear(gates, weight, bias).chunk(2, dim=-1)
            return scalars + (a + b * product) * (1 / math.sqrt(2)), None
        a, b, c = self.second(gates).chunk(3, dim=-1)
        return scalars + (a + b * product) * (1 / math.sqrt(2)), vectors + c[:, None, :] * first


class GatedBlock(nn.Module):
    """A gated equivariant block (the paper's figure 3), the head for forces.

    ``n = |W1 v|``, ``[x', g] = MLP([x; n])``, ``v' = g (W2 v)``, ``x' = act(x')``.
    """

    def __init__(self, hidden: int, out: int) -> None:
        """Build the maps."""
        super().__init__()
        self.out = out
        self.norm_mix = nn.Linear(hidden, hidden, bias=False)
        self.mix = nn.Linear(hidden, out, bias=False)
        self.first = nn.Linear(2 * hidden, hidden)
        self.second = nn.Linear(hidden, 2 * out)
        self.activation = ScaledSiLU()

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return scalars of shape (n_atoms, out) and vectors of shape (n_atoms, 3, out)."""
        hidden = self.activation(joined(self.first, scalars, norms(self.norm_mix(vectors))))
        scalars, gates = self.second(hidden).chunk(2, dim=-1)
        return self.activation(scalars), gates[:, None, :] * self.mix(vectors)


class PainnTrunk(nn.Module):
    """Everything below the heads."""

    def __init__(self, config: PainnConfig, *, smooth: bool) -> None:
        """Build the layers."""
        super().__init__()
        self.basis = MessageBasis(config.radial, config.cutoff, 3 * config.hidden, smooth=smooth)
        self.embedding = nn.Embedding(config.elements, config.hidden)
        self.messages = nn.ModuleList(PainnMessage(config.hidden, config.radial) for _ in range(config.layers))
        self.updates = nn.ModuleList(PainnUpdate(config.hidden) for _ in range(config.layers))

    def forward(self, graph: Graph, edges: Tensor, *, want_vectors: bool) -> tuple[Tensor, Tensor | None]:
        """Return the scalars after the last layer, and the vectors where they are wanted."""
        basis = self.basis(edges, graph)
        scalars = self.embedding(graph.numbers)
        vectors: Tensor | None = None
        for number, (message, update) in enumerate(zip(self.messages, self.updates, strict=True), start=1):
            dx, dv = message(scalars, vectors, basis, graph)
            last = number == len(self.updates)
            scalars, vectors = update(
                (scalars + dx) * (1 / math.sqrt(2)),
                dv if vectors is None else vectors + dv,
                want_vectors=want_vectors or not last,
            )
        return scalars, vectors


def energy_head(hidden: int) -> nn.Sequential:
    """Return the map from an atom's channels to its energy, as LEIGNN and PaiNN have it."""
    return nn.Sequential(nn.Linear(hidden, hidden // 2), ScaledSiLU(), nn.Linear(hidden // 2, 1))


def initialise(network: nn.Module) -> None:
    """Draw weights as the OC20 code base does: Xavier, biases zero, elements uniform with variance one."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.uniform_(module.weight, -math.sqrt(3), math.sqrt(3))


class Painn(ConservativeNetwork):
    """PaiNN with forces from the gradient of its energy.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: PainnConfig) -> None:
        """Build the network."""
        super().__init__(config)
        self.trunk = PainnTrunk(config, smooth=True)
        self.energy_head = energy_head(config.hidden)
        initialise(self)

    def energy(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Return the energies, shape (n_structures,), eV."""
        scalars, _ = self.trunk(graph, vectors, want_vectors=False)
        return segment_sum(self.energy_head(scalars), graph.structures)[:, 0]


class PainnDirect(Network):
    """PaiNN with a head for forces.

    Args:
        config: Its sizes.
    """

    conservative = False

    def __init__(self, config: PainnConfig) -> None:
        """Build the network."""
        super().__init__(config)
        self.trunk = PainnTrunk(config, smooth=False)
        self.energy_head = energy_head(config.hidden)
        self.force_head = nn.ModuleList(
            [GatedBlock(config.hidden, config.hidden // 2), GatedBlock(config.hidden // 2, 1)]
        )
        initialise(self)

    def forward(self, graph: Graph, *, forces: bool = True, stress: bool = False) -> Output:
        """Predict a batch.

        Raises:
            ValueError: The stress is asked for.
        """
        if stress:
            raise ValueError("painn-direct predicts no stress: its forces are no gradient of its energy")
        scalars, vectors = self.trunk(graph, graph.vectors, want_vectors=forces)
        energy = segment_sum(self.energy_head(scalars), graph.structures)[:, 0]
        if vectors is None:
            return Output(energy)
        for block in self.force_head:
            scalars, vectors = block(scalars, vectors)
        return Output(energy, vectors[:, :, 0])


NETWORKS: Final = MappingProxyType({"painn": Painn, "painn-direct": PainnDirect})
_OC20: Final = PainnConfig(
    elements=84, cutoff=12.0, cap=NeighborCap(50, whole_shells=True), hidden=512, layers=6, radial=128
)
_LIPS: Final = replace(_OC20, elements=118, cutoff=5.0, cap=None, layers=4)
_PRESETS: Final = MappingProxyType(
    {
        "oc20": _OC20,
        "iso17": replace(_LIPS, elements=83, cutoff=6.0),
        "lips": _LIPS,
        "md17": _LIPS,
        "small": replace(_LIPS, hidden=96, layers=3, radial=32),
    }
)
PRESETS: Final = MappingProxyType({"painn": _PRESETS, "painn-direct": _PRESETS})
"""`oc20` is the OC20 code base's own configuration, with one row more for bismuth to have its atomic number. No others
are published: `iso17`, `lips` and `md17` have the sizes and cutoffs of LEIGNN's, `small` is for processors; atoms there
have fewer neighbours than LEIGNN's caps, and these have none."""
