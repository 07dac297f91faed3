"""UMA and eSEN: the models of fairchem-core 2.

The package's own prediction unit runs the model; a batch is handed to it as one object, without a structure on its own.
How it runs is said by name or field by field (``inference_settings``), never left to the package: its default compiles
the network and silently changes its settings when the composition does. A change during a run ends the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.adapters.coverage import Coverage
from mlipbench.adapters.fairchem_names import find_file
from mlipbench.adapters.patching import repeatable
from mlipbench.adapters.tensors import host
from mlipbench.adapters.weights import UNREADABLE, checked, frozen, unreadable
from mlipbench.adapters.wrapping import wrapped
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, Predictions, Property

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from mlipbench.models.interface import LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray

_ARGUMENTS: Final = frozenset({"task_name", "inference_settings"})
_SETTINGS: Final = "batch"  # the package's settings for unlike structures: neither merged nor compiled
_DEFAULT: Final = "default"
_MOLECULAR: Final = "omol"  # the task whose predictions depend on charge and spin
_CHARGES: Final = (-100, 100)  # what the package takes
_SPINS: Final = (0, 100)


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A batch as the package has it.

    Attributes:
        coverage: Which structures it holds.
        data: These, None where there are none.
        volumes: Shape (n_kept,), Å³, of the completed cells.
    """

    coverage: Coverage
    data: Any
    volumes: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class FairchemAdapter(Adapter):
    """A checkpoint of fairchem-core 2: a file, or a name the package knows, most of them behind an agreement.

    Arguments: ``task_name`` (``oc20``, ``omat``, ``omol``, ...), needed where the checkpoint has several tasks;
    ``inference_settings``, the name of one of the package's settings or a mapping of their fields, ``batch`` if left
    out.

    Attributes:
        unit: The package's prediction unit.
        task: The task.
        settings: The settings it was loaded with.
        dtype: Precision of weights and activations.
        seed: Seed of the random frames that the network turns edges into.
        weights_sha256: Checksum of weights found by name, None for a file.
        trainable: Names of the parameters that training changes.
    """

    unit: Any
    task: str
    settings: Any
    dtype: torch.dtype
    seed: int
    weights_sha256: str | None = None
    trainable: frozenset[str] | None = None

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load a checkpoint.

        Raises:
            ConfigError: An argument, the name or the file does not fit.
            PrerequisiteError: The package is not installed, or the file is neither there nor can be downloaded.
        """
        unknown = set(request.kwargs) - _ARGUMENTS
        if unknown:
            raise ConfigError(f"the adapter 'fairchem' takes no argument {min(unknown)!r}", where="kwargs")
        if request.checkpoint is None:
            raise ConfigError("the adapter 'fairchem' needs a checkpoint", remedy="give a name or a file in the card")
        path = find_file(request.checkpoint)
        sha256 = checked("fairchem", request, path)
        with contextlib.redirect_stdout(sys.stderr):
            unit = _unit(path, request)
        task = _task(unit, request.kwargs.get("task_name"))
        trainable = frozen(unit.model)
        dtype = unit.inference_settings.base_precision_dtype
        settings = dataclasses.replace(unit.inference_settings)
        return cls(unit, task, settings, dtype, request.seed, sha256, trainable)

    def module(self) -> Any:
        """Return the network."""
        return self.unit.model

    def differentiable(self, prepared: _Prepared) -> tuple[torch.Tensor, ...] | None:
        """Return what the package predicts; None where it predicts without gradients."""
        with repeatable(self.seed, self.unit.device):
            output = self.unit.predict(prepared.data)
        energy, forces = output["energy"], output["forces"]
        return (energy, forces) if energy.requires_grad else None

    def prepare(self, batch: StructureBatch, neighbors: object | None = None) -> _Prepared:
        """Lay out the arrays; the package searches the neighbours in its forward pass."""
        del neighbors
        coverage = self._coverage(batch)
        taken = wrapped(coverage.select(batch))
        data = atomic_data(taken, self.task, self.dtype) if taken.n_structures else None
        return _Prepared(coverage, data, np.abs(np.linalg.det(taken.cell)))

    def forward(self, prepared: _Prepared, properties: frozenset[Property]) -> Predictions:
        """Run the package's prediction; it predicts all it can together.

        Raises:
            ConfigError: The stress is asked for and not predicted, or the package changed its settings.
        """
        offered = {task.property for task in self.unit.dataset_to_tasks[self.task]}
        if not {str(wanted) for wanted in properties} <= offered:
            raise ConfigError(f"the task {self.task!r} predicts {', '.join(sorted(offered))} only")
        if prepared.data is None:
            return prepared.coverage.nothing(properties)
        with repeatable(self.seed, self.unit.device):
            output = self.unit.predict(prepared.data)
        found = {name: host(values) for name, values in output.items()}
        self._check_settings()
        virial = None
        if Property.STRESS in properties:
            virial = found["stress"].reshape(-1, 3, 3) * prepared.volumes[:, None, None]
        forces = found["forces"].reshape(-1, 3) if Property.FORCES in properties else None
        return prepared.coverage.predictions(found["energy"].reshape(-1), forces, virial)

    def _check_settings(self) -> None:
        now = self.unit.inference_settings
        for field in dataclasses.fields(now):
            before, after = getattr(self.settings, field.name), getattr(now, field.name)
            if before != after:
                raise ConfigError(
                    f"the package changed its settings during the run: {field.name} from {before} to {after}",
                    where="kwargs.inference_settings", remedy="use `batch`, which serves structures of any composition",
                )  # fmt: skip

    def _coverage(self, batch: StructureBatch) -> Coverage:
        coverage = Coverage.of(batch)
        known = np.ones(self.unit.model.module.backbone.max_num_elements, dtype=np.bool_)
        known[0] = False
        coverage.without_elements(batch, known, "the model")
        periodic, flat = batch.pbc.any(axis=1), np.isnan(coverage.volumes)
        coverage.without(
            np.flatnonzero(periodic & flat), "the package needs three lattice vectors where a direction is periodic"
        )
        if not self.unit.model.module.supports_single_atoms:
            alone = (batch.counts == 1) & ~periodic
            coverage.without(np.flatnonzero(alone), "the package does not predict single atoms in a batch")
        columns = {"charge": (batch.charge, _CHARGES), "spin": (batch.spin, _SPINS)}
        for name, (values, bounds) in columns.items():
            if values is None:
                if self.task == _MOLECULAR:
                    coverage.without(range(batch.n_structures), f"the task omol needs the {name} of the structure")
                continue
            wrong = ~((values == np.rint(values)) & (values >= bounds[0]) & (values <= bounds[1]))
            coverage.without(
                np.flatnonzero(wrong), f"the package takes a {name} that is an integer from {bounds[0]} to {bounds[1]}"
            )
        return coverage


def atomic_data(batch: StructureBatch, dataset: str, dtype: torch.dtype) -> Any:
    """Return what `AtomicData.from_ase` and the package's collater make of structures.

    Args:
        batch: The structures.
        dataset: The name of the dataset, which the package chooses the task by.
        dtype: Precision of positions and cells.
    """
    import torch
    from fairchem.core.datasets.atomic_data import AtomicData

    def integers(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(values, dtype=np.int64))

    def floats(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(values)).to(dtype)

    n_structures, n_atoms = batch.n_structures, batch.n_atoms
    return AtomicData(
        pos=floats(batch.positions),
        atomic_numbers=integers(batch.numbers),
        cell=floats(batch.cell),
        pbc=torch.from_numpy(batch.pbc.copy()),
        natoms=integers(batch.counts),
        edge_index=torch.empty((2, 0), dtype=torch.long),
        cell_offsets=torch.empty((0, 3), dtype=dtype),
        nedges=torch.zeros(n_structures, dtype=torch.long),
        charge=integers(np.zeros(n_structures) if batch.charge is None else batch.charge),
        spin=integers(np.zeros(n_structures) if batch.spin is None else batch.spin),
        fixed=integers(np.zeros(n_atoms) if batch.fixed is None else batch.fixed),
        tags=integers(np.zeros(n_atoms) if batch.tags is None else batch.tags),
        batch=integers(batch.structure_index),
        sid=[""] * n_structures,
        dataset=[dataset] * n_structures,
    )


def _unit(path: Path, request: LoadRequest) -> Any:
    """Return the package's prediction unit of a checkpoint.

    Raises:
        ConfigError: The settings or the file do not fit.
        PrerequisiteError: The package is not installed.
    """
    try:
        from fairchem.core.units.mlip_unit import load_predict_unit
    except ImportError as error:
        raise PrerequisiteError(
            f"fairchem-core 2 cannot be imported: {error}", remedy="install the environment 'fairchem'"
        ) from error
    settings = _settings(request)
    try:
        return load_predict_unit(
            path, inference_settings=settings, device=request.device.partition(":")[0], seed=request.seed
        )
    except (*UNREADABLE, AssertionError) as error:
        raise unreadable(path, "a checkpoint of fairchem-core 2", error) from error


def _settings(request: LoadRequest) -> Any:
    """Return the settings asked for, in the precision asked for.

    Raises:
        ConfigError: There are no such settings, or it is left to the package to choose them.
    """
    from fairchem.core.units.mlip_unit.api.inference import NAME_TO_INFERENCE_SETTING, InferenceSettings

    where, wanted = "kwargs.inference_settings", request.kwargs.get("inference_settings", _SETTINGS)
    known = sorted(set(NAME_TO_INFERENCE_SETTING) - {_DEFAULT})
    if isinstance(wanted, str):
        if wanted not in known:
            raise ConfigError(
                f"{wanted!r} names no explicit settings", where=where, remedy=f"known: {', '.join(known)}"
            )
        settings = NAME_TO_INFERENCE_SETTING[wanted]
    else:
        try:
            settings = InferenceSettings(**wanted)
        except (AssertionError, TypeError) as error:
            raise ConfigError(f"no settings of the package: {error}", where=where) from error
    return dataclasses.replace(settings, base_precision_dtype=request.dtype)


def _task(unit: Any, wanted: object) -> str:
    """Return the task by its name, or the only one.

    Raises:
        ConfigError: There is no such task, or there are several.
    """
    known = sorted(unit.dataset_to_tasks)
    if wanted is None and len(known) == 1:
        return str(known[0])
    if wanted not in known:
        problem = "a task has to be named" if wanted is None else f"the checkpoint has no task {wanted!r}"
        raise ConfigError(problem, where="kwargs.task_name", remedy=f"known: {', '.join(known)}")
    return str(wanted)
