"""LEIGNN, published as E2GNN (arXiv 2311.02869), and its ablations.

One implementation, four networks: `leignn`, the ablations `vanilla` (PaiNN's update, no global state) and
`vanilla-nmu` (LEIGNN's update, no global state), and `leignn-smooth`. The equations are those of the released code,
which differs from the paper's text; numbers in brackets are the paper's.

The first three are as published, and so have the published defects: filters have a bias outside the envelope, so that
energy and forces jump where an atom crosses the cutoff, and again where it crosses the cap; the global state makes the
energy of two molecules far apart no sum; the forces have a net force. The last layer's aggregation changes nothing and
is not computed, but its parameters are there and get no gradient. `leignn-smooth` has none of the jumps, no net force
and no dead modules; it keeps the global state, which ``global_state=False`` switches off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from mlipbench.nets.messages import EdgeBasis, MessageBasis, edge_messages, joined, norms, rows
from mlipbench.nets.network import Network, NetworkConfig, Output
from mlipbench.nets.painn import PainnUpdate, energy_head
from mlipbench.nets.radial import ScaledSiLU
from mlipbench.nets.segments import segment_sum, take
from mlipbench.structures.neighbors import NeighborCap

if TYPE_CHECKING:
    from mlipbench.nets.edge_blocks import BlockedEdges
    from mlipbench.nets.graph import Graph


class Update(StrEnum):
    """How a layer mixes scalars and vectors of an atom."""

    NMU = "nmu"
    PAINN = "painn"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeignnConfig(NetworkConfig):
    """Sizes and switches of a LEIGNN.

    Attributes:
        hidden: Number of channels, even.
        layers: Number of layers.
        radial: Number of Gaussians.
        update: The update of atoms.
        global_state: Whether each structure has a global scalar and vector.
        smooth: Whether filters vanish at the cutoff, and modules without effect are left out.
        remove_net_force: Whether the mean force of a structure is subtracted from each atom's.
    """

    hidden: int
    layers: int
    radial: int
    update: Update = Update.NMU
    global_state: bool = True
    smooth: bool = False
    remove_net_force: bool = False

    def __post_init__(self) -> None:
        """Turn the name of the update, as a file holds it, into a member."""
        object.__setattr__(self, "update", Update(self.update))


class GlobalState(NamedTuple):
    """What a structure knows as a whole.

    Attributes:
        scalars: Shape (n_structures, n_channels).
        vectors: Shape (n_structures, 3, n_channels), or None while all are zero.
    """

    scalars: Tensor
    vectors: Tensor | None


class ScalarMixer(nn.Module):
    """``MLP([first; second])`` with an activation after either map."""

    def __init__(self, hidden: int) -> None:
        """Build the maps."""
        super().__init__()
        self.first = nn.Linear(2 * hidden, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.activation = ScaledSiLU()


class Distribute(nn.Module):
    """The global state to the atoms, (5) and (6), residual: ``x += MLP([x; s])``, ``v += W (v + w)``."""

    def __init__(self, hidden: int, *, with_vectors: bool) -> None:
        """Build the maps."""
        super().__init__()
        self.scalars = ScalarMixer(hidden)
        self.vectors = nn.Linear(hidden, hidden, bias=False) if with_vectors else None

    def forward(
        self, scalars: Tensor, vectors: Tensor | None, state: GlobalState, graph: Graph
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new scalars and vectors of the atoms."""
        first, width = self.scalars.first, scalars.shape[1]
        # the structures' half of the product is formed once a structure and not once an atom
        shared = nn.functional.linear(state.scalars, first.weight[:, width:])
        hidden = nn.functional.linear(scalars, first.weight[:, :width], first.bias) + take(shared, graph.structures)
        activation = self.scalars.activation
        scalars = scalars + activation(self.scalars.second(activation(hidden)))
        if vectors is not None and state.vectors is not None and self.vectors is not None:
            vectors = vectors + self.vectors(vectors + take(state.vectors, graph.structures))
        return scalars, vectors


class Aggregate(nn.Module):
    """The atoms to the global state, (7) and (8), by means and residual."""

    def __init__(self, hidden: int) -> None:
        """Build the maps."""
        super().__init__()
        self.scalars = ScalarMixer(hidden)
        self.vectors = nn.Linear(hidden, hidden, bias=False)

    def forward(self, scalars: Tensor, vectors: Tensor, state: GlobalState, graph: Graph) -> GlobalState:
        """Return the new global state."""
        sizes = graph.atoms_per_structure.clamp(min=1)  # a structure without atoms must not spoil gradients with NaN
        mean = segment_sum(scalars, graph.structures) / sizes
        mean_vectors = segment_sum(vectors, graph.structures) / sizes[:, :, None]
        activation = self.scalars.activation
        mixed = activation(self.scalars.second(activation(joined(self.scalars.first, mean, state.scalars))))
        if state.vectors is None:
            return GlobalState(state.scalars + mixed, self.vectors(mean_vectors))
        return GlobalState(state.scalars + mixed, state.vectors + self.vectors(mean_vectors + state.vectors))


class Message(nn.Module):
    """Messages (1) and (2); the outputs of both maps are ordered as `edge_messages` wants them."""

    def __init__(self, hidden: int, radial: int) -> None:
        """Build the maps."""
        super().__init__()
        self.hidden = hidden
        self.first = nn.Linear(hidden, hidden // 2)
        self.second = nn.Linear(hidden // 2, 3 * hidden)
        self.filter = nn.Linear(radial, 3 * hidden)
        self.activation = ScaledSiLU()

    def forward(
        self, scalars: Tensor, vectors: Tensor | None, basis: EdgeBasis | BlockedEdges, graph: Graph
    ) -> tuple[Tensor, Tensor]:
        """Return ``dx = Σ q3`` and ``dv = Σ (q1 v_j + q2 u) / √channels``, each with another ``1/√3``."""
        skipped = self.hidden if vectors is None else 0
        values = self.activation(self.first(scalars)) * (1 / math.sqrt(3))
        weight, bias = rows(self.second, skipped)
        values = nn.functional.linear(values, weight, bias * (1 / math.sqrt(3)))
        dx, dv = edge_messages(values, vectors, basis, rows(self.filter, skipped), graph)
        return dx, dv * (1 / math.sqrt(self.hidden))


class NodeUpdate(nn.Module):
    """The update (3) and (4): ``x = m + b / √2 + tanh(c) m`` and ``v = mv + a (U mv)``, from ``[m; |V mv|]``."""

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
        if want_vectors:
            first, second = self.mix(vectors).chunk(2, dim=-1)
            a, b, c = self.second(self._gates(scalars, second)).chunk(3, dim=-1)
            return _gated(scalars, b, c), vectors + a[:, None, :] * first
        second = nn.functional.linear(vectors, self.mix.weight[self.hidden :])
        b, c = nn.functional.linear(self._gates(scalars, second), *rows(self.second, self.hidden)).chunk(2, dim=-1)
        return _gated(scalars, b, c), None

    def _gates(self, scalars: Tensor, second: Tensor) -> Tensor:
        gates: Tensor = self.activation(joined(self.first, scalars, norms(second)))
        return gates


def _gated(scalars: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return scalars + b * (1 / math.sqrt(2)) + torch.tanh(c) * scalars


class Layer(nn.Module):
    """Distribution, messages, update and aggregation.

    Args:
        config: Sizes and switches.
        first: Whether it is the first layer, whose vectors are zero.
        last: Whether it is the last layer, whose aggregation nobody reads.
    """

    def __init__(self, config: LeignnConfig, *, first: bool, last: bool) -> None:
        """Build the parts."""
        super().__init__()
        self.last = last
        self.distribute = (
            Distribute(config.hidden, with_vectors=not (first and config.smooth)) if config.global_state else None
        )
        self.message = Message(config.hidden, config.radial)
        self.update = (NodeUpdate if config.update is Update.NMU else PainnUpdate)(config.hidden)
        self.aggregate = Aggregate(config.hidden) if config.global_state and not (last and config.smooth) else None

    def forward(
        self,
        atoms: tuple[Tensor, Tensor | None],
        state: GlobalState,
        basis: EdgeBasis | BlockedEdges,
        graph: Graph,
        *,
        forces: bool,
    ) -> tuple[tuple[Tensor, Tensor | None], GlobalState]:
        """Return the new scalars and vectors of the atoms, and the new global state."""
        scalars, vectors = atoms
        if self.distribute is not None:
            scalars, vectors = self.distribute(scalars, vectors, state, graph)
        dx, dv = self.message(scalars, vectors, basis, graph)
        scalars, vectors = self.update(
            (scalars + dx) * (1 / math.sqrt(2)),
            dv if vectors is None else vectors + dv,
            want_vectors=forces or not self.last,
        )
        if self.aggregate is not None and not self.last:
            state = self.aggregate(scalars, vectors, state, graph)
        return (scalars, vectors), state


class Leignn(Network):
    """LEIGNN or one of its ablations.

    Args:
        config: Sizes and switches.
    """

    conservative = False

    def __init__(self, config: LeignnConfig) -> None:
        """Build the network, with torch's own initialisation of linear maps as the released code."""
        super().__init__(config)
        self.remove_net_force = config.remove_net_force
        self.basis = MessageBasis(config.radial, config.cutoff, 3 * config.hidden, smooth=config.smooth)
        self.embedding = nn.Embedding(config.elements, config.hidden)
        nn.init.uniform_(self.embedding.weight, -math.sqrt(3), math.sqrt(3))
        self.global_embedding = nn.Parameter(torch.randn(1, config.hidden)) if config.global_state else None
        self.layers = nn.ModuleList(
            Layer(config, first=number == 1, last=number == config.layers) for number in range(1, config.layers + 1)
        )
        self.energy_head = energy_head(config.hidden)
        self.force_head = nn.Linear(config.hidden, 1, bias=False)

    def forward(self, graph: Graph, *, forces: bool = True, stress: bool = False) -> Output:
        """Predict a batch.

        Raises:
            ValueError: The stress is asked for.
        """
        if stress:
            raise ValueError("LEIGNN predicts no stress: its forces are no gradient of its energy")
        # unit vectors point from the sender to the receiver, as in the released code
        basis = self.basis(-graph.vectors, graph)
        scalars, vectors = self._atoms(graph, basis, forces=forces)
        energy = segment_sum(self.energy_head(scalars), graph.structures)[:, 0]  # (9)
        if vectors is None:
            return Output(energy)
        pull = self.force_head(vectors)[:, :, 0]
        if self.remove_net_force:
            sizes = graph.atoms_per_structure.clamp(min=1)
            pull = pull - take(segment_sum(pull, graph.structures) / sizes, graph.structures)
        return Output(energy, pull)

    def _atoms(self, graph: Graph, basis: EdgeBasis, *, forces: bool) -> tuple[Tensor, Tensor | None]:
        """Return the scalars after the last layer, and the vectors where forces are wanted."""
        atoms: tuple[Tensor, Tensor | None] = self.embedding(graph.numbers), None
        n_structures = graph.atoms_per_structure.shape[0]
        state = GlobalState(atoms[0], None)  # nobody reads the state of a network that has none
        if self.global_embedding is not None:
            state = GlobalState(self.global_embedding.expand(n_structures, -1), None)
        for layer in self.layers:
            atoms, state = layer(atoms, state, basis, graph, forces=forces)
        return atoms


NETWORKS: Final = MappingProxyType(dict.fromkeys(("leignn", "leignn-smooth", "vanilla", "vanilla-nmu"), Leignn))
_SHELLS: Final = NeighborCap(50, whole_shells=True)
# the edges stored with OC20's frames: exactly 50, nearest first
_OC20: Final = LeignnConfig(
    elements=118, cutoff=6.0, cap=NeighborCap(50, whole_shells=False), hidden=512, layers=4, radial=128
)
_PUBLISHED: Final = MappingProxyType(
    {
        "oc20": _OC20,
        "iso17": replace(_OC20, elements=83, cap=NeighborCap(20, whole_shells=True)),
        "lips": replace(_OC20, cutoff=5.0, cap=_SHELLS),
        "md17": replace(_OC20, cutoff=5.0, cap=_SHELLS),
        "small": replace(_OC20, cutoff=5.0, cap=_SHELLS, hidden=96, layers=3, radial=32),
    }
)


def _presets(**switches: Any) -> MappingProxyType[str, LeignnConfig]:
    return MappingProxyType({name: replace(config, **switches) for name, config in _PUBLISHED.items()})


PRESETS: Final = MappingProxyType(
    {
        "leignn": _presets(),
        "leignn-smooth": _presets(cap=None, smooth=True, remove_net_force=True),
        "vanilla": _presets(global_state=False, update=Update.PAINN),
        "vanilla-nmu": _presets(global_state=False),
    }
)
"""`oc20`, `iso17` and `lips` are those of the released training scripts. There is no script for MD17: `md17` has the
sizes of the others and the cutoff of `lips`. `small` is for processors."""
