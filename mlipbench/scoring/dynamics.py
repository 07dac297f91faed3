"""Scores of simulations: what each replica's trajectory shows, against the reference trajectory."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.dynamics import End
from mlipbench.metrics.blocks import half_width
from mlipbench.metrics.dynamics import ReplicaScores
from mlipbench.metrics.pairs import Bins, Lattice, count_pairs
from mlipbench.metrics.rdf import (
    bond_collapse,
    curve_mae,
    find_bonds,
    largest_deviations,
    mean_bond_lengths,
    wasserstein,
    window_collapse,
)
from mlipbench.scoring.reference import compared_pairs, curves, diffusivities, element_pairs, observed
from mlipbench.scoring.split import SplitScores
from mlipbench.scoring.thermo import thermal
from mlipbench.store.distributions import DistributionsRecord, PairDistributionRecord
from mlipbench.store.predictions import State, join, read_predictions
from mlipbench.store.trajectories import read_trajectory
from mlipbench.suite.tasks import Criterion, Distribution

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlipbench.metrics.pairs import PairCounts
    from mlipbench.scoring.reference import Reference
    from mlipbench.store.records import SplitRecord
    from mlipbench.store.rundir import RunDirectory
    from mlipbench.store.trajectories import Trajectory
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import FloatArray

FEWEST_STRETCHES: Final = 5
"""Stretches between checkpoints below which a speed has no interval."""
_DIGITS: Final = 5
"""Significant digits of curves that are kept for plots."""


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What simulations are compared with.

    Attributes:
        split: The reference trajectory.
        interval_fs: fs between its frames; None where nobody says that they are in order.
        cache: The user's cache.
    """

    split: Split
    interval_fs: float | None
    cache: Path


def score_simulations(directory: RunDirectory, record: SplitRecord, split: Split, compared: Compared) -> SplitScores:
    """Score the replicas that start from one split.

    Args:
        directory: The run.
        record: What became of the split.
        split: The split that they start from.
        compared: The reference.

    Raises:
        ResultsError: Predictions or trajectories are damaged.
    """
    path = directory.predictions(record.task, record.dataset, record.split)
    block = join(list(read_predictions(path, record.task)))
    reference = observed(compared.split, record.parameters, compared.interval_fs, compared.cache)
    speed = _speed(directory, record)
    rows, found = [], []
    for place in range(len(block)):
        seed, steps, end = (int(block.columns[name][place]) for name in ("seed", "steps", "end"))
        row = {"n_atoms": float(block.offsets[place + 1] - block.offsets[place]), "seed": float(seed)}
        if block.state[place] == State.OK:
            stored = directory.trajectories(record.dataset, record.split, seed)
            replica = _Replica(read_trajectory(stored), record.parameters, end, reference)
            scores, curves = replica.scores(steps, compared.split)
            row |= scores | speed
            found.append(curves)
        rows.append(row)
    names = [field.name for field in fields(ReplicaScores)]
    columns: dict[str, Any] = {name: np.asarray([row.get(name, np.nan) for row in rows]) for name in names}
    columns["n_atoms"] = columns["n_atoms"].astype(np.int64)
    return SplitScores(
        errors=ReplicaScores(**columns),
        state=block.state.astype(np.int64),
        energy_applicable=np.ones(len(block), dtype=np.bool_),
        clusters=np.arange(len(block)),
        ids=np.asarray([f"seed {int(row['seed'])}: {name}" for row, name in zip(rows, split.ids, strict=True)]),
        declined=_declined(block),
        distributions=_distributions([curves for curves in found if curves], reference, record.parameters),
    )


def _distributions(
    found: Sequence[Mapping[str, FloatArray]], reference: Reference, parameters: Mapping[str, Any]
) -> DistributionsRecord | None:
    """Return the curves of all replicas that have some beside those of the reference."""
    if not found:
        return None
    pairs = []
    for name, known in reference.curves.items():
        replicas = np.stack([curves[name] for curves in found])
        pairs.append(
            PairDistributionRecord(
                pairs=name,
                distribution=parameters["distribution"],
                limit=parameters["range"],
                n_replicas=len(found),
                mean=_rounded(replicas.mean(axis=0)),
                low=_rounded(replicas.min(axis=0)),
                high=_rounded(replicas.max(axis=0)),
                reference=_rounded(known),
            )
        )
    return DistributionsRecord(pairs=pairs)


def _rounded(curve: FloatArray) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in curve.tolist()]


def _declined(block: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for place in np.flatnonzero(block.state == State.NOT_APPLICABLE).tolist():
        reason = block.reasons.get(place, "no reason given")
        found[reason] = found.get(reason, 0) + 1
    return found


class _Replica:
    """One replica and what it is compared with.

    Args:
        trajectory: Its frames.
        parameters: Of the task.
        end: `End` of the replica.
        reference: What the reference shows.
    """

    def __init__(self, trajectory: Trajectory, parameters: Mapping[str, Any], end: int, reference: Reference) -> None:
        """Keep the arguments."""
        self._trajectory = trajectory
        self._parameters = parameters
        self._end = End(end)
        self._reference = reference
        self._distribution = Distribution(parameters["distribution"])
        self._bins = Bins(parameters["range"], parameters["bins"])
        self._interval = parameters["timestep"] * parameters["save_interval"] / 1000
        open_ended = self._distribution is Distribution.DISTANCES or not bool(np.all(trajectory.pbc))
        self._lattice = None if open_ended else Lattice.of(trajectory.cell)

    def scores(self, steps: int, reference: Split) -> tuple[dict[str, float], dict[str, FloatArray]]:
        """Return the columns of the replica, and its distributions as MDSim defines them, by pairs.

        Args:
            steps: Steps that it completed.
            reference: The reference trajectory.
        """
        parameters = self._parameters
        comparable = self._comparable(reference)
        counts = self._counts() if comparable else {}
        collapse = self._collapse(counts, reference) if comparable else None
        frames = len(self._trajectory.positions)
        stop = frames if collapse is None else collapse
        simulated = steps * parameters["timestep"] / 1000
        at_risk = simulated if collapse is None else (collapse - 1) * self._interval
        row = {
            "horizon": parameters["steps"] * parameters["timestep"] / 1000,
            "simulated": simulated,
            "stable": at_risk if parameters["stability"] is not None else np.nan,
            "failed": float(collapse is not None or self._end is End.PHYSICAL),
            "step": parameters["timestep"],
        }
        found: dict[str, FloatArray] = {}
        if comparable:
            distances, found = self._distances(counts, stop)
            row |= distances
        return row | self._diffusion(stop) | thermal(self._trajectory, parameters), found

    def _comparable(self, reference: Split) -> bool:
        """Return whether there is a distribution to compare at all."""
        same = int(reference.counts[0]) == len(self._trajectory.numbers)
        return same and (self._distribution is Distribution.DISTANCES or self._lattice is not None)

    def _counts(self) -> dict[str, PairCounts]:
        trajectory = self._trajectory
        return {
            pairs.name: count_pairs(trajectory.positions, self._lattice, self._bins, pairs.first, pairs.second)
            for pairs in compared_pairs(self._distribution, trajectory.numbers)
        }

    def _collapse(self, counts: Mapping[str, PairCounts], reference: Split) -> int | None:
        """Return the frame at which the replica collapsed, None where it did not."""
        asked = self._parameters["stability"]
        if asked is None:
            return None
        if asked["criterion"] == Criterion.WINDOWS:
            window = round(asked["window"] / self._interval)
            known = [self._reference.curves[name] for name in counts]
            return window_collapse(list(counts.values()), known, window, asked["threshold"])
        positions = self._trajectory.positions
        bonds = find_bonds(self._trajectory.numbers, positions[0])
        deviations = largest_deviations(positions, bonds, mean_bond_lengths(reference.frames(), bonds))
        return bond_collapse(deviations, asked["threshold"])

    def _distances(self, counts: Mapping[str, PairCounts], stop: int) -> tuple[dict[str, float], dict[str, FloatArray]]:
        """Return how far the distributions before the collapse are from those of the reference, and themselves."""
        errors, corrected, moved, found = [], [], [], {}
        for name, counted in counts.items():
            mdsim, true = curves(counted.frames(0, stop), self._distribution)
            found[name] = mdsim
            errors.append(curve_mae(mdsim, self._reference.curves[name], self._bins))
            corrected.append(curve_mae(true, self._reference.corrected[name], self._bins))
            distance = wasserstein(true, self._reference.corrected[name], self._bins)
            moved.append(np.nan if distance is None else distance)
        row = {"rdf_mae": max(errors), "rdf_mae_corrected": max(corrected), "rdf_wasserstein": max(moved)}
        if self._reference.elements:
            row["element_rdf_mae"] = max(self._element_errors(stop))
        return row, found

    def _element_errors(self, stop: int) -> list[float]:
        trajectory, found = self._trajectory, []
        for pairs in element_pairs(trajectory.numbers):
            counted = count_pairs(trajectory.positions[:stop], self._lattice, self._bins, pairs.first, pairs.second)
            _, true = curves(counted, Distribution.RDF)
            found.append(curve_mae(true, self._reference.elements[pairs.name], self._bins))
        return found

    def _diffusion(self, stop: int) -> dict[str, float]:
        """Return the diffusivity before the collapse, if it came late enough; MDSim's gate is strict."""
        asked, known = self._parameters["diffusion"], self._reference
        if asked is None or known.diffusivity is None or (stop - 1) * self._interval < asked["least"] * (1 - 1e-9):
            return {}
        trajectory = self._trajectory
        mdsim, true = diffusivities(trajectory.positions[:stop], trajectory.numbers, asked, self._interval)
        if mdsim is None or true is None or known.diffusivity_mdsim is None:
            return {}
        return {
            "diffusivity_mdsim": mdsim,
            "diffusivity_error_mdsim": abs(mdsim - known.diffusivity_mdsim),
            "diffusivity": true.value,
            "diffusivity_reference": known.diffusivity,
            "diffusion_blocks": true.n_blocks,
            "diffusion_mean": true.mean,
            "diffusion_spread": true.spread,
        }


def _speed(directory: RunDirectory, record: SplitRecord) -> dict[str, float]:
    """Return the steps of all replicas of a batch in a second, and half its interval; nothing where none was timed.

    The interval is Student's over the stretches between checkpoints, the first of each size left out.
    """
    import pyarrow.parquet as pq

    rows = pq.read_table(directory.timings).to_pylist() if directory.timings.exists() else []
    place = (record.task, record.dataset, record.split)
    own = [row for row in rows if (row["task"], row["dataset"], row["split"]) == place]
    warm = [row for row in own if not row["cold"]] or own
    if not warm:
        return {}
    rates = np.asarray([row["n_structures"] * row["calls"] / row["seconds"] for row in warm])
    steps = sum(row["n_structures"] * row["calls"] for row in warm)
    found = {"steps_per_second": float(steps) / sum(row["seconds"] for row in warm)}
    if len(rates) >= FEWEST_STRETCHES:
        found["speed_half"] = half_width(rates)
    return found
