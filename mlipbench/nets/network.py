"""What all networks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mlipbench.nets.segments import segment_sum

if TYPE_CHECKING:
    from mlipbench.nets.graph import Graph
    from mlipbench.structures.neighbors import NeighborCap


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """What every architecture's configuration has.

    Attributes:
        elements: Rows of the table of elements; atomic numbers below this are covered.
        cutoff: Å.
        cap: Most neighbours of an atom; None takes all within the cutoff.
    """

    elements: int
    cutoff: float
    cap: NeighborCap | None = None


class Output(NamedTuple):
    """What a network says of a graph.

    Attributes:
        energy: Shape (n_structures,), eV, without the reference energies of the elements.
        forces: Shape (n_atoms, 3), eV/Å, or None where not asked for.
        stress: Shape (n_structures, 3, 3), eV/Å³, positive where the structure is under tension (ASE's sign), or None.
            NaN where a structure is not periodic in all directions.
    """

    energy: Tensor
    forces: Tensor | None = None
    stress: Tensor | None = None


class Network(nn.Module, ABC):
    """A network over an explicit list of edges.

    Attributes:
        config: What it was built from.
        conservative: Whether forces are the negative gradient of the energy.
    """

    conservative: ClassVar[bool]

    def __init__(self, config: NetworkConfig) -> None:
        """Keep the configuration."""
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, graph: Graph, *, forces: bool = True, stress: bool = False) -> Output:
        """Predict a batch.

        Args:
            graph: The structures and their edges; atomic numbers below ``config.elements``.
            forces: Whether forces are wanted.
            stress: Whether the stress is wanted; only conservative networks have one.
        """


class ConservativeNetwork(Network):
    """A network whose forces and stress are derivatives of its energy with respect to the vectors of the edges."""

    conservative = True

    @abstractmethod
    def energy(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Return the energies.

        Args:
            graph: The structures; its own `vectors` are not to be used.
            vectors: Shape (n_edges, 3), Å, from receiver to sender.

        Returns:
            Shape (n_structures,), eV.
        """

    def forward(self, graph: Graph, *, forces: bool = True, stress: bool = False) -> Output:
        """Predict a batch; in training mode forces can be differentiated once more."""
        if not (forces or stress):
            return Output(self.energy(graph, graph.vectors))
        with torch.enable_grad():
            vectors = graph.vectors.detach().requires_grad_()
            energy = self.energy(graph, vectors)
            (gradient,) = torch.autograd.grad(energy.sum(), vectors, create_graph=self.training, materialize_grads=True)
        pull = segment_sum(gradient, graph.receivers) - segment_sum(gradient, graph.senders) if forces else None
        return Output(
            energy if self.training else energy.detach(), pull, _stress(graph, vectors, gradient) if stress else None
        )


def _stress(graph: Graph, vectors: Tensor, gradient: Tensor) -> Tensor:
    """Return dE/dε / V = Σ_edges r ⊗ dE/dr / V, symmetrised."""
    virial = segment_sum(gradient[:, :, None] * vectors.detach()[:, None, :], graph.receivers)
    total = segment_sum(virial, graph.structures)
    return (total + total.transpose(1, 2)) / (2.0 * graph.volumes[:, None, None])
