"""Adapters without a model behind them: two honest ones and one liar for each way a model can go wrong.

A card or a test names them as ``mlipbench.testing.toys:CrashAdapter``. All but `NullAdapter` predict what
`SpringAdapter` predicts until they meet the atomic number given as ``element``; without it they misbehave always.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.models.interface import Adapter, LoadRequest, Predictions, Property

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray

_CHUNK: Final = 32 * 2**20
_PAUSE: Final = 0.02


class NullAdapter(Adapter):
    """Zero energy, forces and stress: the floor of accuracy, and the upper bound of the harness's throughput."""

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Return the model; nothing is loaded."""
        del request
        return cls()

    def prepare(self, batch: StructureBatch, neighbors: Any | None = None) -> tuple[int, int]:
        """Return the numbers of structures and of atoms."""
        del neighbors
        return batch.n_structures, batch.n_atoms

    def forward(self, prepared: tuple[int, int], properties: frozenset[Property]) -> Predictions:
        """Return zeros."""
        n_structures, n_atoms = prepared
        return Predictions(
            energy=np.zeros(n_structures),
            forces=np.zeros((n_atoms, 3)) if Property.FORCES in properties else None,
            stress=np.zeros((n_structures, 6)) if Property.STRESS in properties else None,
        )


class SpringAdapter(Adapter):
    """Every atom tied to the centroid of its structure: E = k/2 Σ|d|², F = -k d, with d = r - centroid.

    Positions are taken as given and cells are ignored, except that stress is k Σ d⊗d / volume (zero without a
    volume). Forces are the exact negative gradient and sum to zero.

    Args:
        kwargs: ``stiffness`` k in eV/Å² (default 1) and, for the liars, ``element``.
    """

    def __init__(self, kwargs: Mapping[str, Any]) -> None:
        """Keep the arguments of the card."""
        self.kwargs = dict(kwargs)
        self.stiffness = float(kwargs.get("stiffness", 1.0))
        self.element: int | None = kwargs.get("element")

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Return the model."""
        return cls(request.kwargs)

    def prepare(self, batch: StructureBatch, neighbors: Any | None = None) -> StructureBatch:
        """Return the batch as it is."""
        del neighbors
        return batch

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Evaluate the springs."""
        owner = prepared.structure_index
        arms = prepared.positions - self._centroids(prepared)[owner]
        squares = np.einsum("ij,ij->i", arms, arms)
        energy = np.bincount(owner, 0.5 * self.stiffness * squares, minlength=prepared.n_structures)
        return Predictions(
            energy=energy.astype(np.float64, copy=False),
            forces=-self.stiffness * arms if Property.FORCES in properties else None,
            stress=self._stress(prepared, arms) if Property.STRESS in properties else None,
        )

    def _centroids(self, batch: StructureBatch) -> FloatArray:
        sums = _sum_per_structure(batch, batch.positions)
        return sums / np.maximum(batch.counts, 1)[:, None]

    def _stress(self, batch: StructureBatch, arms: FloatArray) -> FloatArray:
        first, second = [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]
        virial = self.stiffness * _sum_per_structure(batch, arms[:, first] * arms[:, second])
        volume = np.abs(np.linalg.det(batch.cell))
        return virial / np.where(volume > 0, volume, np.inf)[:, None]

    def _triggered(self, batch: StructureBatch) -> BoolArray:
        """Return shape (n_structures,), where the chosen element occurs."""
        if self.element is None:
            return np.ones(batch.n_structures, dtype=np.bool_)
        hits = np.bincount(batch.structure_index, batch.numbers == self.element, minlength=batch.n_structures)
        return hits > 0


class CrashAdapter(SpringAdapter):
    """Ends its process; ``how`` is ``segv`` (default), ``kill`` or ``exit``."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, or die."""
        if self._triggered(prepared).any():
            how = self.kwargs.get("how", "segv")
            if how == "exit":
                os._exit(7)
            os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSEGV)
            time.sleep(60)
        return super().forward(prepared, properties)


class HangAdapter(SpringAdapter):
    """Never comes back; with ``deaf: true`` it holds the interpreter's lock, so that no other thread runs either."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, or sleep for ever."""
        if self._triggered(prepared).any():
            if self.kwargs.get("deaf"):
                ctypes.PyDLL(None).sleep(10**6)
            while True:
                time.sleep(60)
        return super().forward(prepared, properties)


class NaNAdapter(SpringAdapter):
    """Returns NaN for a structure; ``field`` is ``forces`` (default, one component), ``energy`` or ``stress``."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, with NaN where the element occurs."""
        predictions = super().forward(prepared, properties)
        bad = np.flatnonzero(self._triggered(prepared))
        field = self.kwargs.get("field", "forces")
        if field == "forces" and predictions.forces is not None:
            predictions.forces[prepared.offsets[bad], 1] = np.nan
        elif field == "stress" and predictions.stress is not None:
            predictions.stress[bad, 3] = np.inf
        elif field == "energy":
            predictions.energy[bad] = np.nan
        return predictions


class WrongShapeAdapter(SpringAdapter):
    """Returns one row of forces, whatever the number of atoms."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, with forces of shape (3,)."""
        predictions = super().forward(prepared, properties)
        if self._triggered(prepared).any():
            return Predictions(predictions.energy, np.zeros(3), predictions.stress)
        return predictions


class NoForcesAdapter(SpringAdapter):
    """Returns energies alone, whatever it is asked for."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict energies."""
        return Predictions(super().forward(prepared, properties).energy)


class WrongOrderAdapter(SpringAdapter):
    """Returns the structures of a batch in reverse order."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict the batch backwards."""
        return super().forward(prepared.select(np.arange(prepared.n_structures)[::-1]), properties)


class BatchMatesAdapter(SpringAdapter):
    """Adds the mean energy of the batch to every energy: each result depends on its batch mates."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict with the mean added."""
        predictions = super().forward(prepared, properties)
        return Predictions(predictions.energy + predictions.energy.mean(), predictions.forces, predictions.stress)


class CircumstancesAdapter(SpringAdapter):
    """Adds to every energy, in eV, how many structures the call has and how many threads its process."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict with both numbers added."""
        found = super().forward(prepared, properties)
        energy = found.energy + prepared.n_structures + int(os.environ["OMP_NUM_THREADS"])
        return Predictions(energy, found.forces, found.stress)


class RaiseAdapter(SpringAdapter):
    """Raises; ``error`` is ``runtime`` (default), ``memory`` or ``exit``. With ``most``, only for larger batches."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, or raise.

        Raises:
            RuntimeError: The element occurs.
            MemoryError: The element occurs and ``error`` is ``memory``.
            SystemExit: The element occurs and ``error`` is ``exit``.
        """
        if prepared.n_structures > self.kwargs.get("most", 0) and self._triggered(prepared).any():
            error = self.kwargs.get("error", "runtime")
            if error == "memory":
                raise MemoryError("cannot allocate the graph")
            if error == "exit":
                raise SystemExit(3)
            raise RuntimeError(f"no parameters for element {self.element}\nand a second line")
        return super().forward(prepared, properties)


class NoisyAdapter(SpringAdapter):
    """Writes much to stdout and stderr, through Python and past it, some of it not text."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict loudly."""
        print("loading weights 100 %|" + "#" * 1000)  # noqa: T201
        print("MLB1", file=sys.stderr)  # noqa: T201
        for channel in (1, 2):
            os.write(channel, b"MLB1\x00\xff\xfe\x1b[31m" + bytes(range(256)) * 64)
        return super().forward(prepared, properties)


class MemoryAdapter(SpringAdapter):
    """Allocates and touches memory without bound, about 1.5 GB/s."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, or fill the memory."""
        hoard = []
        while self._triggered(prepared).any():
            hoard.append(np.ones(_CHUNK, dtype=np.uint8))
            time.sleep(_PAUSE)
        return super().forward(prepared, properties)


class MeddlingAdapter(SpringAdapter):
    """Changes what its whole process shares: defaults, threads and seeds of torch and numpy, the folder, variables."""

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Return the model, and leave nothing as it was."""
        random.seed(7)
        np.random.seed(7)  # noqa: NPY002 - that is the point
        np.seterr(all="ignore")
        os.environ["OMP_NUM_THREADS"] = "17"
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.chdir("/")
        if importlib.util.find_spec("torch") is not None:
            torch = importlib.import_module("torch")
            torch.set_default_dtype(torch.float64)
            torch.set_num_threads(2)
            torch.manual_seed(7)
            torch.use_deterministic_algorithms(mode=True)
        return super().load(request)


class SlowStartAdapter(SpringAdapter):
    """Takes ``seconds`` (default 60) to load."""

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Return the model, later."""
        time.sleep(float(request.kwargs.get("seconds", 60)))
        return super().load(request)


class SlowAdapter(SpringAdapter):
    """Takes ``seconds`` (default 0.1) for each call."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, later."""
        time.sleep(float(self.kwargs.get("seconds", 0.1)))
        return super().forward(prepared, properties)


class BusyAdapter(SpringAdapter):
    """Computes for nothing: ``work`` (default 100) products of matrices of 64 times 64 in each call."""

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, after some work."""
        matrix = np.eye(64)
        for _ in range(int(self.kwargs.get("work", 100))):
            matrix = matrix @ matrix
        return super().forward(prepared, properties)


class ApproximateAdapter(SlowAdapter):
    """Predicts in the precision asked for, its forces multiplied by 1 + ``off`` (default 0)."""

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Return the model, which remembers the precision."""
        return cls({**request.kwargs, "dtype": request.dtype})

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, rounded."""
        found = super().forward(prepared, properties)
        forces = None if found.forces is None else self._rounded(found.forces * (1 + float(self.kwargs.get("off", 0))))
        return Predictions(self._rounded(found.energy), forces, found.stress)

    def _rounded(self, values: FloatArray) -> FloatArray:
        return values.astype(self.kwargs["dtype"]).astype(np.float64)


class DirectForcesAdapter(SpringAdapter):
    """Adds a swirl about z to the forces: they are no gradient of the energy, though its card may say so.

    Args:
        kwargs: ``swirl`` in eV/Å² (default 0.1) beside those of `SpringAdapter`.
    """

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict with forces F = -k d + swirl ẑ x d."""
        predictions = super().forward(prepared, properties)
        if predictions.forces is None:
            return predictions
        arms = -predictions.forces / self.stiffness
        swirl = float(self.kwargs.get("swirl", 0.1)) * np.stack([-arms[:, 1], arms[:, 0], 0 * arms[:, 2]], axis=1)
        return Predictions(predictions.energy, predictions.forces + swirl, predictions.stress)


class EventualAdapter(SpringAdapter):
    """Predicts honestly until an atom is too far from the centroid of its structure, or a pair too close, in Å.

    Args:
        kwargs: ``reach``, or ``nearest`` for dimers that may not come closer; ``how`` it fails: ``segv`` (default),
            ``hang``, ``raise``, ``memory``, ``nan`` or ``decline``; ``marker``, a file that the first failure writes
            and that prevents a second; beside those of `SpringAdapter`.
    """

    def forward(self, prepared: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict, or fail.

        Raises:
            RuntimeError: ``how`` is ``raise``.
            MemoryError: ``how`` is ``memory``.
        """
        found = super().forward(prepared, properties)
        arms = prepared.positions - self._centroids(prepared)[prepared.structure_index]
        lengths = np.linalg.norm(arms, axis=1)
        wrong = (
            lengths > float(self.kwargs["reach"]) if "reach" in self.kwargs else lengths < self.kwargs["nearest"] / 2
        )
        bad = np.unique(prepared.structure_index[wrong])
        how = self.kwargs.get("how", "segv")
        if not bad.size or self._failed_before():
            return found
        if how == "hang":
            time.sleep(10**6)
        if how == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(60)
        if how == "raise":
            raise RuntimeError("the network is undefined there")
        if how == "memory":
            raise MemoryError("cannot allocate the graph")
        rows = np.isin(prepared.structure_index, bad)
        found.energy[bad] = np.nan
        if found.forces is not None:
            found.forces[rows] = np.nan
        reasons = dict.fromkeys(bad.tolist(), "atoms have no neighbours") if how == "decline" else {}
        return Predictions(found.energy, found.forces, found.stress, reasons)

    def _failed_before(self) -> bool:
        """Return whether a failure of this or another process was marked, and mark this one."""
        if "marker" not in self.kwargs:
            return False
        marker = Path(self.kwargs["marker"])
        before = marker.exists()
        marker.touch()
        return before


def _sum_per_structure(batch: StructureBatch, rows: FloatArray) -> FloatArray:
    """Sum rows of shape (n_atoms, k) into shape (n_structures, k)."""
    columns = [np.bincount(batch.structure_index, column, minlength=batch.n_structures) for column in rows.T]
    return np.stack(columns, axis=1)
