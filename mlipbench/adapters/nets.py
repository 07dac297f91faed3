"""Our own networks, and those that run in their frame: `mlipbench.nets` behind the predict interface."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from mlipbench.adapters.reference import ReferenceEnergies
from mlipbench.adapters.tensors import host
from mlipbench.elements import SYMBOLS
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, Predictions, Property
from mlipbench.nets.graph import find_neighbors, make_graph
from mlipbench.nets.load import load_network
from mlipbench.nets.messages import as_written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from mlipbench.checkpoint import CheckpointRecord
    from mlipbench.models.interface import LoadRequest
    from mlipbench.nets.graph import Graph
    from mlipbench.nets.network import Network, Output
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.neighbors import NeighborList
    from mlipbench.typing import BoolArray, FloatArray

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Structures as the network takes them.

    Attributes:
        graph: Those that it covers.
        covered: Shape (n_structures,), which of the batch these are.
        counts: Shape (n_structures,), atoms of each structure of the batch.
        reference: Shape (n_covered,), eV, what is added to the network's energies.
        not_applicable: Reasons, by index in the batch, for the others.
    """

    graph: Graph
    covered: BoolArray
    counts: Any
    reference: FloatArray
    not_applicable: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a network is run.

    Attributes:
        dtype: Precision of weights and activations.
        device: Where it is.
        compiled: Whether ``torch.compile`` makes kernels for it, of whatever sizes.
    """

    dtype: torch.dtype
    device: torch.device
    compiled: bool


class NetsAdapter(Adapter):
    """A trained network of `mlipbench.nets`.

    Arguments: ``compile``, whether ``torch.compile`` makes kernels for it; ``tf32``, whether products of matrices in
    float32 round their factors to 10 bits, which GPUs have units for. Both are off if left out.

    Args:
        record: The record of its checkpoint.
        network: The network, in evaluation mode.
        settings: How it is run.
    """

    def __init__(self, record: CheckpointRecord, network: Network, settings: Settings) -> None:
        """Keep the network and lay out its reference energies."""
        self._network = network
        self._call: Callable[..., Output] = torch.compile(network, dynamic=True) if settings.compiled else network
        self._dtype = settings.dtype
        self._device = settings.device
        self._covered = np.zeros(len(SYMBOLS) + 1, dtype=np.bool_)
        self._covered[list(record.elements)] = True
        self.trainable = frozenset(name for name, _ in network.named_parameters())
        self._reference = ReferenceEnergies.of_checkpoint(record.energy_reference)

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load a checkpoint folder.

        Raises:
            ConfigError: There is no checkpoint or it is invalid, or an argument does not fit.
            PrerequisiteError: A file is missing, or the compiler that ``compile`` needs.
        """
        if request.checkpoint is None:
            raise ConfigError(
                "the adapter 'nets' needs a checkpoint", remedy="train one with `mlipbench train`, or name a recipe"
            )
        settings = _settings(request)
        record, network = load_network(Path(request.checkpoint))
        network.eval().requires_grad_(False).to(device=settings.device, dtype=settings.dtype)  # noqa: FBT003 - torch's
        return cls(record, network, settings)

    @property
    def cutoff(self) -> float:
        """The network's cutoff, Å."""
        return float(self._network.config.cutoff)

    def prepare(self, batch: StructureBatch, neighbors: NeighborList | None = None) -> Prepared:
        """Build the graph of the structures whose elements the checkpoint has seen."""
        covered, reasons = self._coverage(batch)
        taken = batch if covered.all() else batch.select(np.flatnonzero(covered))
        config = self._network.config
        own = neighbors if covered.all() else None
        edges = find_neighbors(taken, config.cutoff, config.cap, own)
        return Prepared(
            graph=make_graph(taken, edges, self._dtype, self._device),
            covered=covered,
            counts=batch.counts,
            reference=self._reference.of(taken),
            not_applicable=reasons,
        )

    def forward(self, prepared: Prepared, properties: frozenset[Property]) -> Predictions:
        """Run the network."""
        forces, stress = Property.FORCES in properties, Property.STRESS in properties
        with torch.no_grad():
            output = self._call(prepared.graph, forces=forces, stress=stress)
        found = {"energy": host(output.energy) + prepared.reference}
        if output.forces is not None:
            found["forces"] = host(output.forces)
        if output.stress is not None:
            found["stress"] = np.stack([host(output.stress)[:, i, j] for i, j in _VOIGT], axis=1)
        if prepared.covered.all():
            return Predictions(found["energy"], found.get("forces"), found.get("stress"))
        spread = {}
        for name, values in found.items():
            rows = np.repeat(prepared.covered, prepared.counts) if name == "forces" else prepared.covered
            spread[name] = np.full((len(rows), *values.shape[1:]), np.nan)
            spread[name][rows] = values
        return Predictions(spread["energy"], spread.get("forces"), spread.get("stress"), prepared.not_applicable)

    def module(self) -> Any:
        """Return the network."""
        return self._network

    def n_edges(self, prepared: Prepared) -> int:
        """Return the number of edges."""
        return int(prepared.graph.vectors.shape[0])

    def differentiable(self, prepared: Prepared) -> tuple[torch.Tensor, ...]:
        """Return the energies, and the forces where they are no gradient."""
        output = self._network(prepared.graph, forces=not self._network.conservative)
        return tuple(tensor for tensor in output if tensor is not None)

    def countable(self) -> AbstractContextManager[None]:
        """Return a context in which filters are products with all Gaussians, as on a GPU."""
        return as_written(self._network)

    def _coverage(self, batch: StructureBatch) -> tuple[BoolArray, dict[int, str]]:
        known = self._covered[np.minimum(batch.numbers, len(self._covered) - 1)]
        foreign = np.unique(batch.structure_index[~known])
        covered = np.ones(batch.n_structures, dtype=np.bool_)
        covered[foreign] = False
        reasons = {}
        for index in foreign.tolist():
            atoms = slice(batch.offsets[index], batch.offsets[index + 1])
            missing = sorted(set(batch.numbers[atoms][~known[atoms]].tolist()))
            names = ", ".join(SYMBOLS[z] if z < len(SYMBOLS) else str(z) for z in missing)
            reasons[index] = f"the checkpoint was not trained on {names}"
        return covered, reasons


def _settings(request: LoadRequest) -> Settings:
    """Read the arguments, and switch TF32 on where it is asked for: one process runs one model.

    Raises:
        ConfigError: An argument is unknown, or does not fit device or precision.
        PrerequisiteError: There is no compiler.
    """
    unknown = set(request.kwargs) - {"compile", "tf32"}
    if unknown:
        raise ConfigError(f"the adapter 'nets' takes no argument {min(unknown)!r}", where="kwargs")
    for name, value in request.kwargs.items():
        if not isinstance(value, bool):
            raise ConfigError(f"{value!r} is neither true nor false", where=f"kwargs.{name}")
    dtype = torch.float64 if request.dtype == "float64" else torch.float32
    device, compiled = torch.device(request.device), request.kwargs.get("compile", False)
    if request.kwargs.get("tf32", False):
        if device.type != "cuda":
            raise ConfigError(f"the device {request.device!r} has no TF32", where="kwargs.tf32")
        if dtype is not torch.float32:
            raise ConfigError("TF32 is a way to multiply in float32", where="kwargs.tf32")
        torch.set_float32_matmul_precision("high")
    compiler = os.environ.get("CXX", "g++")  # where inductor looks for it
    if compiled and shutil.which(compiler) is None:
        raise PrerequisiteError(
            f"torch.compile needs a C++ compiler, and there is no {compiler!r}",
            remedy="install one, name it in CXX, or leave out the setting `compile`",
        )
    return Settings(dtype, device, compiled)
