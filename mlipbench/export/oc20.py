"""Predictions for OC20's public leaderboard.

The format is that which fairchem-core writes (``trainers/base_trainer.py``, ``save_results``) and joins
(``scripts/make_submission_file.py``): one compressed NPZ file with, for each of the four splits,

- ``SPLIT_ids``: ``sid_fid`` in the order of strings;
- ``SPLIT_energy``: adsorption energies, eV, float16;
- ``SPLIT_forces``: forces of the free atoms of all structures, one after the other, eV/Å, float16, shape (n, 3);
- ``SPLIT_chunk_idx``: where the forces of each structure but the first begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from mlipbench.datasets.entry import DatasetEntry
from mlipbench.datasets.prepare import open_split
from mlipbench.errors import ConfigError, ResultsError, from_os_error
from mlipbench.models.interface import EnergyReference
from mlipbench.status import Task
from mlipbench.store.predictions import State, read_predictions
from mlipbench.store.rundir import MANIFEST, RunDirectory
from mlipbench.yamlfile import validate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.store.records import DatasetIdentity, Manifest
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import AnyArray

SPLITS: Final = ("id", "ood_ads", "ood_cat", "ood_both")


class Prediction(NamedTuple):
    """Predictions of one split in the order of its structures.

    Attributes:
        ids: Shape (n_structures,), their names.
        energy: Shape (n_structures,), eV.
        forces: Shape (n_free, 3), eV/Å, of free atoms.
        free: Shape (n_structures,), free atoms of each structure.
    """

    ids: AnyArray
    energy: AnyArray
    forces: AnyArray
    free: AnyArray


def export_oc20(run: Path, output: Path, location: DataLocation) -> dict[str, int]:
    """Write the predictions of a run as the leaderboard takes them.

    Args:
        run: The run directory; it holds four splits named ``test_id`` and so on, or ``val_id`` and so on.
        output: The file, which is replaced.
        location: Where data are.

    Returns:
        Number of structures by split.

    Raises:
        ConfigError: The run is not of OC20's adsorption energies, or a split is missing.
        ResultsError: A prediction is missing, or the run is damaged.
        PrerequisiteError: Data are missing.
    """
    directory = RunDirectory(run)
    manifest = directory.manifest()
    dataset, names = _found(manifest, run)
    entry = validate(DatasetEntry, dataset.entry, run / MANIFEST)
    _check_energies(manifest, entry, run)
    arrays: dict[str, AnyArray] = {}
    sizes = {}
    for short, name in zip(SPLITS, names, strict=True):
        _check_whole(manifest, dataset.name, name, run)
        split = open_split(entry, name, location)
        if split.content_hash != dataset.splits[name]:
            raise ResultsError(f"the data of {name} are not those this run was made with", file=run)
        prediction = _prediction(directory.predictions(Task.S2EF, dataset.name, name), split)
        arrays |= {f"{short}_{key}": values for key, values in arranged(prediction).items()}
        sizes[name] = len(split)
    _write(output, arrays)
    return sizes


def arranged(prediction: Prediction) -> dict[str, AnyArray]:
    """Return the arrays of one split as the leaderboard takes them.

    Args:
        prediction: The predictions.
    """
    order = np.argsort(prediction.ids, kind="stable")
    starts = np.concatenate([[0], np.cumsum(prediction.free)])
    counts = prediction.free[order]
    rows = np.repeat(starts[order] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
    return {
        "ids": prediction.ids[order],
        "energy": prediction.energy[order].astype(np.float16),
        "forces": prediction.forces[rows].astype(np.float16),
        "chunk_idx": np.cumsum(counts)[:-1],
    }


def _found(manifest: Manifest, run: Path) -> tuple[DatasetIdentity, Sequence[str]]:
    """Return the dataset that has all four splits, and their names."""
    for dataset in manifest.datasets:
        for prefix in ("test", "val"):
            names = [f"{prefix}_{name}" for name in SPLITS]
            done = {record.split for record in manifest.splits if record.dataset == dataset.name}
            if done.issuperset(names):
                return dataset, names
    raise ConfigError(
        f"the leaderboard takes four splits, {', '.join(f'test_{name}' for name in SPLITS)}, and the run lacks some",
        file=run, remedy="run a suite that evaluates all of them",
    )  # fmt: skip


def _check_energies(manifest: Manifest, entry: DatasetEntry, run: Path) -> None:
    """Refuse energies that are no adsorption energies, or no energies of the model alone.

    Raises:
        ConfigError: They are.
    """
    route = next(route for route in manifest.routes if route.dataset == entry.name)
    problem = route.refusal
    if entry.energy_reference is not EnergyReference.ADSORPTION:
        problem = f"the energies of {entry.name} are {entry.energy_reference.value} energies"
    elif route.shift is not None:
        problem = "the suite shifts the energies of the model"
    if problem is not None:
        raise ConfigError(f"the leaderboard takes adsorption energies, and {problem}", file=run)


def _check_whole(manifest: Manifest, dataset: str, split: str, run: Path) -> None:
    """Refuse a split of which only a part was predicted."""
    for record in manifest.splits:
        if (record.task, record.dataset, record.split) == (Task.S2EF, dataset, split) and record.places is not None:
            raise ResultsError(
                f"only a part of {split} was predicted ({record.selection})", file=run,
                remedy="the leaderboard takes whole splits only: run it without --limit",
            )  # fmt: skip


def _prediction(path: Path, split: Split) -> Prediction:
    """Read the predictions of a split, forces of free atoms only.

    Raises:
        ResultsError: A prediction is missing, or is too large for half precision.
    """
    energy, forces, free, start = [], [], [], 0
    for block in read_predictions(path, Task.S2EF):
        stop = start + len(block)
        structures = split.structures(start, stop)
        lost = np.flatnonzero(block.state != State.OK)
        if lost.size:
            reason = block.reasons.get(int(lost[0]), "no reason given")
            name = structures.id[lost[0]] if structures.id is not None else start + lost[0]
            raise ResultsError(
                f"there is no prediction of structure {name} ({reason})", file=path,
                remedy="the leaderboard takes whole splits only",
            )  # fmt: skip
        if "forces" not in block.columns:
            raise ResultsError("the predictions hold no forces", file=path, remedy="choose a model that predicts them")
        chosen = np.ones(structures.n_atoms, dtype=np.bool_) if structures.fixed is None else ~structures.fixed
        forces.append(block.columns["forces"][chosen])
        energy.append(block.columns["energy"])
        free.append(np.add.reduceat(chosen, structures.offsets[:-1], dtype=np.int64))
        start = stop
    if start != len(split):
        raise ResultsError(f"predictions of {start} structures, expected {len(split)}", file=path)
    found = Prediction(split.ids, np.concatenate(energy), np.concatenate(forces), np.concatenate(free))
    largest = float(np.finfo(np.float16).max)
    if np.abs(found.energy).max() > largest or np.abs(found.forces).max(initial=0.0) > largest:
        raise ResultsError(f"a prediction is larger than half precision holds, {largest:g}", file=path)
    return found


def _write(output: Path, arrays: dict[str, AnyArray]) -> None:
    fresh = output.with_name(f".{output.name}.new")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        fresh.replace(output)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise from_os_error(error, output) from None
