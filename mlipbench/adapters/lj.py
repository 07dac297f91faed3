"""A 12-6 pair potential, fitted to the dataset: the classical baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.adapters.composition import ElementEnergies, composition, element_energies
from mlipbench.elements import SYMBOLS
from mlipbench.errors import ConfigError, DatasetError
from mlipbench.models.interface import FittedAdapter, Predictions, Property
from mlipbench.structures.neighbors import neighbor_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scipy.sparse import csr_array

    from mlipbench.models.interface import LabelledBatch, LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.neighbors import NeighborList
    from mlipbench.typing import AnyArray, BoolArray, FloatArray, IntArray

_CHUNK: Final = 4_000  # atoms of a chunk of the fit: some 100 MB with 100 neighbours each
_RANK: Final = 1e-12  # eigenvalues of the scaled normal matrix below this fraction of the largest count as zero
_CORE: Final = 0.5  # sigma is at least this fraction of the shortest distance of the pair in the fit split
_VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True, slots=True)
class Range:
    """Where the potential ends.

    Between `onset` and `cutoff` both powers are multiplied by ``1 - 10 t³ + 15 t⁴ - 6 t⁵`` with ``t = (r - onset) /
    (cutoff - onset)``, which goes from one to zero with continuous first and second derivatives.

    Attributes:
        onset: Å.
        cutoff: Å.
    """

    onset: float
    cutoff: float

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> Self:
        """Read ``cutoff`` (6 Å by default) and ``onset`` (80 % of the cutoff by default).

        Raises:
            ConfigError: Another argument is given, or not ``0 < onset < cutoff``.
        """
        unknown = set(kwargs) - {"cutoff", "onset"}
        if unknown:
            raise ConfigError(f"the adapter 'lj' takes no argument {min(unknown)!r}", where="kwargs")
        cutoff = float(kwargs.get("cutoff", 6.0))
        onset = float(kwargs.get("onset", 0.8 * cutoff))
        if not 0 < onset < cutoff < np.inf:
            raise ConfigError(f"onset {onset} and cutoff {cutoff} must be 0 < onset < cutoff", where="kwargs")
        return cls(onset, cutoff)

    def powers(self, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the smoothed r⁻¹² and r⁻⁶, and their derivatives divided by r.

        Args:
            r: Shape (n_edges,), Å.

        Returns:
            Two arrays of shape (n_edges, 2): the values in Å⁻¹² and Å⁻⁶, and ``(du/dr) / r``.
        """
        width = self.cutoff - self.onset
        t = np.clip((r - self.onset) / width, 0.0, 1.0)
        switch = 1 - t * t * t * (10 - t * (15 - 6 * t))  # products, because powers take several times as long
        slope = -30 * (t * (1 - t)) ** 2 / width
        inverse = 1 / (r * r)
        sixth = inverse * inverse * inverse
        plain = np.stack([sixth * sixth, sixth], axis=1)
        inner = np.array([-12.0, -6.0]) * plain * inverse[:, None]
        return plain * switch[:, None], inner * switch[:, None] + plain * (slope / r)[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Pairs of atoms within the cutoff, each in both directions.

    Attributes:
        i: Shape (n_edges,), atom an edge starts at.
        structure: Shape (n_edges,), structure an edge belongs to.
        vectors: Shape (n_edges, 3), Å.
        r: Shape (n_edges,), Å.
        pair: Shape (n_edges,), index of the pair of elements; -1 where an element is unknown.
    """

    i: IntArray
    structure: IntArray
    vectors: FloatArray
    r: FloatArray
    pair: IntArray

    @classmethod
    def within(cls, batch: StructureBatch, neighbors: NeighborList, cutoff: float, numbers: IntArray) -> Self:
        """Take the edges of `neighbors` that are shorter than `cutoff`."""
        vectors = neighbors.vectors(batch)
        squares = _rowwise(vectors, vectors)
        short = np.flatnonzero(squares < cutoff * cutoff)  # places are taken faster than by a mask, five times
        i, j = neighbors.i[short], neighbors.j[short]
        pair = pair_index(batch.numbers[i], batch.numbers[j], numbers)
        return cls(i, neighbors.structure_index[short], vectors[short], np.sqrt(squares[short]), pair)


def pair_index(first: IntArray, second: IntArray, numbers: IntArray) -> IntArray:
    """Return the index of each unordered pair of elements in the upper triangle, row by row, or -1.

    Args:
        first: Shape (n,), atomic numbers.
        second: Shape (n,), atomic numbers.
        numbers: Shape (n_elements,), known atomic numbers, ascending.
    """
    place = np.full(max(len(SYMBOLS), int(numbers.max(initial=0)) + 1), -1)
    place[numbers] = np.arange(len(numbers))
    low, high = np.minimum(place[first], place[second]), np.maximum(place[first], place[second])
    index: IntArray = low * len(numbers) - low * (low - 1) // 2 + high - low
    return np.where(low < 0, -1, index)


@dataclass(frozen=True, slots=True, eq=False)
class _Design:
    """The linear problem of a fit; column ``2 p`` multiplies A of pair ``p``, column ``2 p + 1`` multiplies -B.

    Attributes:
        energy_rows: Shape (n_structures, 2 n_pairs), sparse.
        gram: Shape (2 n_pairs, 2 n_pairs), normal matrix of the force components.
        moments: Shape (2 n_pairs,), right-hand side of the force components.
        shortest: Shape (n_pairs,), Å, shortest distance of each pair; infinite where there is none.
    """

    energy_rows: csr_array
    gram: FloatArray
    moments: FloatArray
    shortest: FloatArray

    @classmethod
    def of(cls, structures: StructureBatch, forces: FloatArray | None, numbers: IntArray, span: Range) -> Self:
        """Sum up the rows of all structures, chunk by chunk."""
        from scipy.sparse import vstack

        n_pairs = len(numbers) * (len(numbers) + 1) // 2
        gram, moments = np.zeros((2 * n_pairs, 2 * n_pairs)), np.zeros(2 * n_pairs)
        shortest = np.full(n_pairs, np.inf)
        rows = []
        cuts = np.unique(np.searchsorted(structures.offsets, np.arange(0, structures.n_atoms, _CHUNK)))
        for start, stop in zip(cuts, [*cuts[1:], structures.n_structures], strict=True):
            chunk = structures.slice(int(start), int(stop))
            edges = Edges.within(chunk, neighbor_list(chunk, span.cutoff), span.cutoff, numbers)
            np.minimum.at(shortest, edges.pair, edges.r)
            values, slopes = span.powers(edges.r)
            rows.append(_sparse(0.5 * values, edges.structure, edges.pair, (chunk.n_structures, 2 * n_pairs)))
            if forces is not None:
                wanted = forces[structures.offsets[start] : structures.offsets[stop]]
                for x in range(3):
                    pulls = slopes * edges.vectors[:, x, None]
                    force_rows = _sparse(pulls, edges.i, edges.pair, (chunk.n_atoms, 2 * n_pairs))
                    gram += (force_rows.T @ force_rows).toarray()
                    moments += force_rows.T @ wanted[:, x]
        return cls(vstack(rows, format="csr"), gram, moments, shortest)

    def solve(self, training: LabelledBatch, plain: ElementEnergies) -> tuple[FloatArray, FloatArray]:
        """Return A and B of every pair, each of shape (n_pairs,).

        Non-negative least squares in the functions ``u₁₂`` and ``s⁶ u₁₂ - u₆``, where ``s`` is the least sigma allowed:
        with coefficients ``a`` and ``b``, ``A = a + s⁶ b`` and ``B = b``, hence ``A / B >= s⁶``.
        """
        from scipy.optimize import nnls

        gram, moments = self._weighted(training, plain)
        least = np.where(self.shortest < np.inf, _CORE * self.shortest, 0.0) ** 6
        basis = np.zeros((len(moments), len(moments)))
        even = np.arange(0, len(moments), 2)
        basis[even, even], basis[even, even + 1], basis[even + 1, even + 1] = 1.0, least, -1.0
        gram, moments = basis.T @ gram @ basis, basis.T @ moments
        scale = np.sqrt(np.diag(gram))
        used = np.flatnonzero(scale > 0)
        solution = np.zeros(len(moments))
        if used.size:
            scale = scale[used]
            values, vectors = np.linalg.eigh(gram[np.ix_(used, used)] / np.outer(scale, scale))
            kept = values > _RANK * values[-1]
            roots = np.sqrt(values[kept])
            matrix = roots[:, None] * vectors[:, kept].T
            target = vectors[:, kept].T @ (moments[used] / scale) / roots
            solution[used] = nnls(matrix, target, maxiter=30 * used.size)[0] / scale
        a, b = solution.reshape(-1, 2).T
        return a + least * b, b

    def _weighted(self, training: LabelledBatch, plain: ElementEnergies) -> tuple[FloatArray, FloatArray]:
        """Return normal matrix and right-hand side of energies and forces together."""
        gram, moments = np.zeros_like(self.gram), np.zeros_like(self.moments)
        if training.forces is not None and (training.forces != 0).any():
            weight = 1 / (np.mean(training.forces**2) * training.forces.size)
            gram, moments = weight * self.gram, weight * self.moments
        rest = training.energy - plain.total(training.structures)
        if np.abs(rest).max() > _RANK * np.abs(training.energy).max():
            weight = 1 / (np.mean(rest**2) * len(rest))
            left, singular, _ = np.linalg.svd(composition(training.structures, plain.numbers), full_matrices=False)
            left = left[:, singular > _RANK * singular[0]]
            across = np.asarray(left.T @ self.energy_rows)
            gram = gram + weight * ((self.energy_rows.T @ self.energy_rows).toarray() - across.T @ across)
            moments = moments + weight * (self.energy_rows.T @ rest - across.T @ (left.T @ rest))
        return gram, moments


def _sparse(entries: FloatArray, row: IntArray, pair: IntArray, shape: tuple[int, int]) -> csr_array:
    """Return a sparse matrix with ``entries[e, k]`` summed at ``[row[e], 2 pair[e] + k]``."""
    from scipy.sparse import coo_array

    columns = 2 * pair[:, None] + np.arange(2)
    rows = np.broadcast_to(row[:, None], columns.shape)
    return coo_array((entries.ravel(), (rows.ravel(), columns.ravel())), shape=shape).tocsr()


@dataclass(frozen=True, slots=True)
class _Prepared:
    batch: StructureBatch
    edges: Edges


@dataclass(frozen=True, slots=True, eq=False)
class LennardJonesAdapter(FittedAdapter):
    """``E = Σ_pairs (A u₁₂(r) - B u₆(r)) + Σ_atoms e``, with A and B of each pair and e of each element from a fit.

    ``u₁₂`` and ``u₆`` are smoothed as `Range` says. Structures with an element, or within the cutoff a pair of
    elements, that the fit split lacks are not applicable, and so are those whose composition it does not determine.

    Attributes:
        span: Onset and cutoff.
        elements: Energies of the elements.
        coefficients: Shape (n_pairs, 2), A in eV Å¹² and -B in eV Å⁶.
        known: Shape (n_pairs,), whether the fit split holds the pair within the cutoff.
    """

    span: Range
    elements: ElementEnergies
    coefficients: FloatArray
    known: BoolArray

    @classmethod
    def fit(cls, training: LabelledBatch, kwargs: Mapping[str, Any]) -> dict[str, AnyArray]:
        """Fit the parameters by non-negative least squares.

        What is minimised is the sum of the mean squared error of the energies, in units of what the best energies of
        the elements leave, and of that of the force components, in units of the mean squared force. The
        energies of the elements may have any sign and are eliminated by projection; A and B are not negative, and B is
        bounded so that sigma is at least half the shortest distance seen: no pair attracts down to zero distance.

        Returns:
            ``numbers``, ``energies`` and ``span`` as of `ElementEnergies`; ``range`` (onset, cutoff); ``coefficients``
            and ``known`` as of this class; and for the reader ``pairs`` (n_pairs, 2), ``sigma`` and ``epsilon``
            (n_pairs,) in Å and eV, zero where A or B is zero.

        Raises:
            ConfigError: The arguments do not fit.
            DatasetError: The split holds no atoms, or labels that are not finite.
        """
        span = Range.from_kwargs(kwargs)
        if training.forces is not None and not np.isfinite(training.forces).all():
            raise DatasetError("a force of the fit split is not finite")
        structures = training.structures
        plain = ElementEnergies.fit(structures, training.energy)
        design = _Design.of(structures, training.forces, plain.numbers, span)
        a, b = design.solve(training, plain)
        rest = training.energy - design.energy_rows @ np.stack([a, -b], axis=1).ravel()
        elements = ElementEnergies.fit(structures, rest)
        both = (a > 0) & (b > 0)
        ratio = np.divide(a, b, out=np.zeros_like(a), where=both)
        first, second = np.triu_indices(len(plain.numbers))
        return {
            "numbers": elements.numbers,
            "energies": elements.energies,
            "span": elements.span,
            "range": np.array([span.onset, span.cutoff]),
            "coefficients": np.stack([a, -b], axis=1),
            "known": design.shortest < np.inf,
            "pairs": np.stack([elements.numbers[first], elements.numbers[second]], axis=1),
            "sigma": ratio ** (1 / 6),
            "epsilon": np.divide(b * b, 4 * a, out=np.zeros_like(a), where=both),
        }

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Take the parameters that `fit` returned.

        Raises:
            ConfigError: The parameters are missing, or were fitted with another cutoff.
        """
        elements = element_energies(request.parameters)
        fitted = Range(*np.asarray(request.parameters["range"], dtype=np.float64).tolist())
        if Range.from_kwargs(request.kwargs) != fitted:
            raise ConfigError(f"the parameters were fitted with {fitted}", where="kwargs", remedy="fit the model again")
        coefficients = np.asarray(request.parameters["coefficients"], dtype=np.float64)
        return cls(fitted, elements, coefficients, np.asarray(request.parameters["known"], dtype=np.bool_))

    @property
    def cutoff(self) -> float:
        """The cutoff, Å."""
        return self.span.cutoff

    def prepare(self, batch: StructureBatch, neighbors: NeighborList | None = None) -> _Prepared:
        """Find the pairs, or take those of `neighbors` that are within the cutoff."""
        if neighbors is None:
            neighbors = neighbor_list(batch, self.span.cutoff)
        return _Prepared(batch, Edges.within(batch, neighbors, self.span.cutoff, self.elements.numbers))

    def forward(self, prepared: _Prepared, properties: frozenset[Property]) -> Predictions:
        """Add up the pairs; forces and stress are the exact derivatives."""
        batch, edges = prepared.batch, prepared.edges
        coefficients = self.coefficients[edges.pair] * (edges.pair >= 0)[:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # atoms on top of each other
            values, slopes = self.span.powers(edges.r)
            pair_energy = 0.5 * _rowwise(coefficients, values)  # every pair stands twice
            pull = _rowwise(coefficients, slopes)[:, None] * edges.vectors
        energy = self.elements.total(batch) + _sums(edges.structure, pair_energy, batch.n_structures)
        reasons = self._not_covered(batch, edges)
        forces = stress = None
        if Property.FORCES in properties:
            forces = np.stack([_sums(edges.i, pull[:, k], batch.n_atoms) for k in range(3)], axis=1)
        if Property.STRESS in properties:
            volumes = np.abs(np.linalg.det(batch.cell))
            stress = _stress(edges, pull, volumes)
            reasons |= {int(s): "the stress needs three lattice vectors" for s in np.flatnonzero(volumes == 0)}
        return _without(Predictions(energy, forces, stress, reasons), batch)

    def _not_covered(self, batch: StructureBatch, edges: Edges) -> dict[int, str]:
        reasons = self.elements.not_covered(batch)
        strange = (edges.pair >= 0) & ~self.known[edges.pair]
        pairs, structures = edges.pair[strange], edges.structure[strange]
        rows, columns = np.triu_indices(len(self.elements.numbers))
        for s, first in zip(*np.unique(structures, return_index=True), strict=True):
            pair = pairs[first]
            names = "-".join(SYMBOLS[self.elements.numbers[k]] for k in (rows[pair], columns[pair]))
            reasons.setdefault(int(s), f"the fit split holds no {names} pair within {self.span.cutoff:g} Å")
        return reasons


def _rowwise(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the dot product of each row of one array with that of another; for few columns faster than `einsum`."""
    products: FloatArray = first[:, 0] * second[:, 0]
    for column in range(1, first.shape[1]):
        products += first[:, column] * second[:, column]
    return products


def _sums(index: IntArray, values: FloatArray, length: int) -> FloatArray:
    """Return the sum of the values of each index; of no values too, where `bincount` returns integers."""
    return np.bincount(index, values, length).astype(np.float64, copy=False)


def _stress(edges: Edges, pull: FloatArray, volumes: FloatArray) -> FloatArray:
    """Return the derivative of the energy by strain over the volume, shape (n_structures, 6)."""
    columns = [_sums(edges.structure, pull[:, a] * edges.vectors[:, b], len(volumes)) for a, b in _VOIGT]
    virial = np.stack(columns, axis=1)
    return np.divide(0.5 * virial, volumes[:, None], out=np.full_like(virial, np.nan), where=volumes[:, None] > 0)


def _without(predictions: Predictions, batch: StructureBatch) -> Predictions:
    """Put NaN where the model is not applicable."""
    rows = list(predictions.not_applicable)
    predictions.energy[rows] = np.nan
    if predictions.forces is not None:
        predictions.forces[np.isin(batch.structure_index, rows)] = np.nan
    if predictions.stress is not None:
        predictions.stress[rows] = np.nan
    return predictions
