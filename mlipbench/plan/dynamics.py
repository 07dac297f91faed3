"""What only simulations have to settle in the plan: where replicas start, what cannot be measured, and disk space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.errors import ConfigError, DatasetError
from mlipbench.status import Integrator
from mlipbench.structures.plausible import implausible
from mlipbench.suite.tasks import Criterion, Distribution

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.datasets.entry import DatasetEntry, SplitSpec
    from mlipbench.structures.columnar import Split
    from mlipbench.suite.tasks import MDTask
    from mlipbench.typing import IntArray

_ROUNDING: Final = 1e-6


def start_places(task: MDTask, split: Split, where: str) -> IntArray:
    """Return the structures that the replicas start from, shape (n_seeds,).

    A seed draws the same one whatever the other seeds are, unless an earlier seed has drawn it already.

    Args:
        task: The task.
        split: The split.
        where: Name of dataset and split, for errors.

    Raises:
        ConfigError: The split has too few structures, or the suite names one that it does not have.
    """
    if task.start_frames is not None:
        for place in task.start_frames:
            if place >= split.n_structures:
                remedy = f"{where} has structures 0 to {split.n_structures - 1}"
                raise ConfigError(f"there is no structure {place}", where="tasks.md.start_frames", remedy=remedy)
        return np.asarray(task.start_frames, dtype=np.int64)
    if len(task.seeds) > split.n_structures:
        raise ConfigError(
            f"{len(task.seeds)} replicas cannot start from {split.n_structures} structures",
            where="tasks.md.seeds",
            remedy=f"give fewer seeds, or name start_frames of {where}",
        )
    drawn: list[int] = []
    for seed in task.seeds:
        # raw output of the bit generator: unlike Generator.permutation it may not change between numpy versions
        order = np.argsort(np.random.PCG64(seed).random_raw(split.n_structures), kind="stable")
        drawn.append(next(place for place in order.tolist() if place not in drawn))
    return np.asarray(drawn, dtype=np.int64)


def why_not_simulated(split: Split, places: IntArray, dataset: str) -> str | None:
    """Return why no replica can start from these structures, or None.

    Raises:
        DatasetError: One of them is physically impossible.
    """
    start = split.subset(places).structures(0, len(places))
    if start.fixed is not None and start.fixed.any():
        return "atoms of the structures are held in place, and simulations move all"
    for place, reason in implausible(start).items():
        raise DatasetError(
            f"no simulation can start there: {reason}",
            where=f"{dataset}/{split.name}, structure {int(places[place])}",
            remedy="name other structures as tasks.md.start_frames",
        )
    return None


def reference_split(task: MDTask, entry: DatasetEntry, dataset: str) -> str:
    """Return the name of the split that holds the reference trajectory.

    Raises:
        ConfigError: The entry has no such split.
    """
    if task.reference not in entry.splits:
        raise ConfigError(
            f"dataset {dataset} has no split {task.reference!r} to compare simulations with",
            where="tasks.md.reference",
            remedy=f"name one of its splits: {', '.join(sorted(entry.splits))}",
        )
    return task.reference


def asked_about(task: MDTask) -> frozenset[str]:
    """Return what the parameters of a task ask about, as `why_no_metric` names it."""
    asked = {"distribution", "speed"}
    asked |= {"stability"} if task.stability is not None else set()
    asked |= {"diffusion"} if task.diffusion is not None else set()
    asked |= {"elements"} if task.distribution is not Distribution.DISTANCES else set()
    return frozenset(asked | {"energy" if task.integrator is Integrator.VELOCITY_VERLET else "temperature"})


def why_no_metric(group: str, task: MDTask, entry: DatasetEntry, reference: Split, split: Split) -> str | None:
    """Return why a metric of simulations cannot be had, or None.

    Args:
        group: What it is about: ``stability``, ``distribution``, ``elements``, ``diffusion``, ``energy``,
            ``temperature`` or ``speed``.
        task: The task.
        entry: The dataset's entry.
        reference: The reference trajectory.
        split: The split that replicas start from.
    """
    checks = {
        "stability": _no_stability,
        "distribution": _no_distribution,
        "elements": _no_elements,
        "diffusion": _no_diffusion,
        "energy": _no_conservation,
        "temperature": _no_temperature,
    }
    if group not in checks:
        return None
    return next(checks[group](task, entry, reference, split), None)


def length_ps(task: MDTask) -> float:
    """Return the simulated time of a replica that completes, ps."""
    return task.steps * task.timestep / 1000


def _no_stability(task: MDTask, entry: DatasetEntry, reference: Split, split: Split) -> Iterator[str]:
    if task.stability is None:
        yield "the suite names no criterion of stability"
        return
    if task.stability.criterion is Criterion.WINDOWS:
        yield from _no_distribution(task, entry, reference, split)
        window = task.stability.window or 0.0
        if window >= length_ps(task):
            yield f"a simulation of {length_ps(task):g} ps holds no window of {window:g} ps"


def _no_distribution(task: MDTask, entry: DatasetEntry, reference: Split, split: Split) -> Iterator[str]:
    del entry
    if task.distribution is not Distribution.DISTANCES and (split.has_molecules or reference.has_molecules):
        yield "a radial distribution needs structures that are periodic in all directions"
    counts = np.unique(reference.counts)
    if len(counts) > 1 or not np.array_equal(counts, np.unique(split.counts)):
        yield "the reference trajectory is not one of the same atoms"


def _no_elements(task: MDTask, entry: DatasetEntry, reference: Split, split: Split) -> Iterator[str]:
    if task.distribution is Distribution.DISTANCES:
        yield "radial distributions of pairs of elements are for periodic systems"
    yield from _no_distribution(task, entry, reference, split)


def _no_diffusion(task: MDTask, entry: DatasetEntry, reference: Split, split: Split) -> Iterator[str]:
    asked = task.diffusion
    if asked is None:
        yield "the suite asks for no diffusivity"
        return
    if SYMBOLS.index(asked.element) not in split.elements:
        yield f"the structures hold no {asked.element}"
    if length_ps(task) < asked.least:
        yield f"a simulation of {length_ps(task):g} ps does not reach the {asked.least:g} ps that a diffusivity needs"
    interval = entry.frame_interval_fs
    if interval is None or not _in_order(entry.splits[reference.name]):
        yield "nobody says that the frames of the reference are in order of time, and how far apart"
        return
    stride = asked.spacing * 1000 / interval
    if abs(stride - round(stride)) > _ROUNDING or stride < 1:
        yield f"{asked.spacing:g} ps is no multiple of the {interval:g} fs between the frames of the reference"
    elif (reference.n_structures - asked.start * 1000 / interval) / stride <= asked.lag + 1:
        yield "the reference trajectory is too short for that lag"
    yield from _no_distribution(task, entry, reference, split)


def _in_order(spec: SplitSpec) -> bool:
    """Return whether a split holds frames as they follow each other in its files."""
    rules = (spec.indices, spec.mdsim, spec.leignn, spec.shuffle_seed)
    return rules == (None, None, None, None) and (spec.slice is None or spec.slice[2] in {None, 1})


def _no_conservation(task: MDTask, entry: DatasetEntry, reference: Split, split: Split) -> Iterator[str]:
    del entry, reference, split
    if task.integrator is not Integrator.VELOCITY_VERLET:
        yield "a thermostat does not conserve the energy"


def _no_temperature(task: MDTask, entry: DatasetEntry, reference: Split, split: Split) -> Iterator[str]:
    del entry, reference, split
    if task.integrator is Integrator.VELOCITY_VERLET:
        yield "nothing holds the temperature"
