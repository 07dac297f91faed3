"""Batches of an optimiser step or a validation: which structures, and what the network and the loss are given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np
import torch

from mlipbench.errors import DatasetError
from mlipbench.nets.graph import Graph, find_neighbors, make_graph
from mlipbench.nets.segments import Segments
from mlipbench.structures.neighbors import NeighborList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from mlipbench.nets import NetworkConfig
    from mlipbench.structures import StructureBatch
    from mlipbench.training.data import LabelledStructures
    from mlipbench.typing import AnyArray, FloatArray, IntArray

    Made = TypeVar("Made")

CACHE_BYTES: Final = 2 << 30
"""Neighbour lists of one set of structures take at most this much memory; the others are searched each time."""


class Batch(NamedTuple):
    """What one pass of the network needs.

    Attributes:
        members: Shape (n_structures,), places in the set of structures, on the host.
        graph: The structures.
        energy: Shape (n_structures,), eV, reference subtracted.
        forces: Shape (n_atoms, 3), eV/Å, or None where there are none.
        counted: Shape (n_atoms, 1), one where an atom's forces count, else zero; None where all count.
        padding: Whether these structures only keep a process busy that has none of the batch.
    """

    members: IntArray
    graph: Graph
    energy: Tensor
    forces: Tensor | None
    counted: Tensor | None
    padding: bool = False

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; a copy to a GPU does not wait."""
        return self if device.type == "cpu" else self._mapped(lambda part: part.to(device, non_blocking=True))

    def pinned(self, device: torch.device) -> Batch:
        """Return the batch in memory that is page-locked for a GPU."""
        with torch.cuda.device(device):  # which one a thread works with is the thread's own affair
            return self._mapped(torch.Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        graph = Graph(
            *(Segments(*map(change, part)) if isinstance(part, Segments) else change(part) for part in self.graph)
        )
        energy, forces, counted = (
            None if part is None else change(part) for part in (self.energy, self.forces, self.counted)
        )
        return self._replace(graph=graph, energy=energy, forces=forces, counted=counted)


class BatchMaker:
    """Makes batches of a set of structures, and remembers their neighbour lists.

    Args:
        data: The structures.
        targets: Shape (n_structures,), eV, float64: their energies without reference.
        config: Of the network: cutoff and cap.
        place: Precision and device of the network.
        cache_bytes: Memory for neighbour lists.
    """

    def __init__(
        self,
        data: LabelledStructures,
        targets: FloatArray,
        config: NetworkConfig,
        place: tuple[torch.dtype, torch.device],
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Start with an empty cache."""
        self.data = data
        self.targets = targets
        self._config = config
        self._dtype, self._device = place
        self._room = cache_bytes
        self._known: dict[int, _Edges] = {}
        self._all_count = bool(data.counted.all())

    def make(self, members: IntArray, *, padding: bool = False) -> Batch:
        """Return a batch in host memory, page-locked where it is to be copied to a GPU.

        Args:
            members: Shape (n_structures,), at least one, places in the set of structures.
            padding: As in `Batch`.

        Raises:
            DatasetError: A structure has no neighbour list.
        """
        structures = self.data.structures.select(members)
        graph = make_graph(structures, self._neighbors(structures, members), self._dtype)
        atoms = _atoms(self.data.structures.offsets, members)
        forces = None if self.data.forces is None else torch.from_numpy(self.data.forces[atoms]).to(self._dtype)
        counted = None if self._all_count else torch.from_numpy(self.data.counted[atoms]).to(self._dtype)[:, None]
        energy = torch.from_numpy(self.targets[members]).to(self._dtype)
        batch = Batch(members, graph, energy, forces, counted, padding)
        return batch if self._device.type == "cpu" else batch.pinned(self._device)

    def _neighbors(self, structures: StructureBatch, members: IntArray) -> NeighborList:
        parts = [self._edges(structures, place, int(member)) for place, member in enumerate(members)]
        counts = np.array([len(part.i) for part in parts])
        first = np.repeat(structures.offsets[:-1], counts)
        shifts = np.zeros((len(first), 3), dtype=np.int64)
        if any(part.shifts is not None for part in parts):
            np.concatenate([_shifts(part) for part in parts], out=shifts)
        return NeighborList(
            cutoff=self._config.cutoff,
            i=np.concatenate([part.i for part in parts]) + first,
            j=np.concatenate([part.j for part in parts]) + first,
            shifts=shifts,
            offsets=np.concatenate([[0], np.cumsum(counts)]),
        )

    def _edges(self, structures: StructureBatch, place: int, member: int) -> _Edges:
        known = self._known.get(member)
        if known is not None:
            return known
        try:
            found = find_neighbors(structures.slice(place, place + 1), self._config.cutoff, self._config.cap)
        except ValueError as error:
            index = int(self.data.indices[member])
            name = self.data.split.names(index, index + 1)[0]
            raise DatasetError(
                str(error).removeprefix("structure 0: ").removeprefix("structure 0 "),
                file=self.data.split.directory, where=f"structure {name}", remedy="leave the structure out",
            ) from None  # fmt: skip
        narrow = np.int8 if np.abs(found.shifts).max(initial=0) <= np.iinfo(np.int8).max else np.int32
        shifts = found.shifts.astype(narrow) if found.shifts.any() else None
        edges = _Edges(found.i.astype(np.int32), found.j.astype(np.int32), shifts)
        size = sum(part.nbytes for part in edges if part is not None)
        if size <= self._room:
            self._room -= size
            self._known[member] = edges
        return edges


class _Edges(NamedTuple):
    """Neighbours of one structure, atoms counted from its first; no shifts where all are zero."""

    i: AnyArray
    j: AnyArray
    shifts: AnyArray | None


def ahead(make: Callable[[int], Made], steps: Sequence[int]) -> Iterator[Made]:
    """Yield what `make` returns for each step; the next one is made meanwhile, by another thread."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
        coming = [pool.submit(make, step) for step in steps[:1]]
        for step in steps[1:]:
            made = coming.pop().result()
            coming.append(pool.submit(make, step))
            yield made
        for last in coming:
            yield last.result()


def _shifts(edges: _Edges) -> AnyArray:
    return np.zeros((len(edges.i), 3), dtype=np.int8) if edges.shifts is None else edges.shifts


def _atoms(offsets: IntArray, members: IntArray) -> IntArray:
    counts = offsets[members + 1] - offsets[members]
    starts = np.cumsum(counts) - counts
    atoms: IntArray = np.repeat(offsets[members] - starts, counts) + np.arange(counts.sum())
    return atoms
