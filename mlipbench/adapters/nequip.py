"""NequIP: E(3)-equivariant message passing (Batzner et al., Nature Communications 13 (2022) 2453), and Allegro.

Weights and network are those of nequip; the arrays of a batch are assembled at once, with the neighbour list of the
harness. Predictions equal those of ``NequIPCalculator`` without compilation within rounding. The stress is the virial
over the volume of the cell as given.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.adapters.coverage import Coverage, rows_of_types
from mlipbench.adapters.patching import repeatable, replaced
from mlipbench.adapters.tensors import PreparedArrays, floats, host, indices
from mlipbench.adapters.weights import UNREADABLE, checked, demand, frozen, load_pickle, missing, the_file, unreadable
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, Predictions, Property

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from mlipbench.models.interface import LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.neighbors import NeighborList
    from mlipbench.typing import IntArray

HOST: Final = "nequip.net:"
_PACKAGED: Final = ".nequip.zip"
_KIND: Final = "a NequIP model"


@dataclass(frozen=True, slots=True, eq=False)
class NequipAdapter(Adapter):
    """A model of nequip: a checkpoint of ``nequip-train``, a file of ``nequip-package``, or a name on nequip.net.

    Attributes:
        model: The network.
        device: Where it runs.
        rows: Shape (119,), place of each atomic number among the types of the model, -1 where it has none.
        weights_sha256: Checksum of weights found by name, None for a file.
        trainable: Names of the parameters that training changes.
    """

    model: Any
    device: str
    rows: IntArray
    weights_sha256: str | None = None
    trainable: frozenset[str] | None = None

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load a checkpoint.

        A checkpoint of a training is built in the precision that is asked for; a packaged model has its own.

        Raises:
            ConfigError: An argument, the precision or the file does not fit.
            PrerequisiteError: NequIP is not installed, or the file is neither there nor can be downloaded.
        """
        if request.kwargs:
            raise ConfigError(f"the adapter 'nequip' takes no argument {min(request.kwargs)!r}", where="kwargs")
        if request.checkpoint is None:
            raise ConfigError("the adapter 'nequip' needs a checkpoint", remedy="give a name or a file in the card")
        with _loading():
            with _resolved(request.checkpoint) as path:
                sha256 = None if path == Path(request.checkpoint) else checked("nequip", request, path)
                model = _packaged(path) if path.name.endswith(_PACKAGED) else _from_training(path, request.dtype)
            metadata = dict(model.metadata)
        if metadata["model_dtype"] != request.dtype:
            raise ConfigError(
                f"is packaged in {metadata['model_dtype']} and cannot be run in {request.dtype}",
                file=path, remedy=f"set the precision to {metadata['model_dtype']}",
            )  # fmt: skip
        model = model.to(device=request.device).eval()
        trainable = frozen(model)
        return cls(model, request.device, rows_of_types(metadata["type_names"].split(), path), sha256, trainable)

    def module(self) -> Any:
        """Return the network."""
        return self.model

    def n_edges(self, prepared: PreparedArrays) -> int:
        """Return the number of edges within the largest cutoff."""
        return int(prepared.arrays["edge_index"].shape[1])

    def differentiable(self, prepared: PreparedArrays) -> tuple[torch.Tensor, ...]:
        """Return the energies."""
        return (self._run(prepared, derivatives=False)["total_energy"],)

    @property
    def cutoff(self) -> float:
        """The network's cutoff, the largest where pairs of elements have their own, Å."""
        return float(self.model.metadata["r_max"])

    def prepare(self, batch: StructureBatch, neighbors: NeighborList | None = None) -> PreparedArrays:
        """Search the neighbours, unless a list is given, and lay out the arrays."""
        coverage = Coverage.of(batch)
        coverage.without_elements(batch, self.rows >= 0, "the model")
        taken = coverage.select(batch)
        edges = coverage.edges(taken, neighbors, self.cutoff)
        arrays = {
            "pos": floats(taken.positions, self.device),
            "cell": floats(taken.cell, self.device),
            "edge_index": indices(np.stack([edges.i, edges.j]), self.device),
            "edge_cell_shift": floats(edges.shifts, self.device),
            "atom_types": indices(self.rows[taken.numbers], self.device),
            "batch": indices(taken.structure_index, self.device),
            "num_atoms": indices(taken.counts, self.device),
        }
        return PreparedArrays(coverage, arrays)

    def forward(self, prepared: PreparedArrays, properties: frozenset[Property]) -> Predictions:
        """Run the network once, and once backwards if forces or stress are asked for."""
        forces, stress = Property.FORCES in properties, Property.STRESS in properties
        if not len(prepared.arrays["num_atoms"]):
            return prepared.coverage.nothing(properties)
        output = self._run(prepared, derivatives=forces or stress)
        return prepared.coverage.predictions(
            host(output["total_energy"]).reshape(-1),
            host(output["forces"]) if forces else None,
            -host(output["virial"]) if stress else None,
        )

    def _run(self, prepared: PreparedArrays, *, derivatives: bool) -> dict[str, Any]:
        """Return what the network returns, under the default precision that its package runs it in."""
        from nequip.utils.dtype import torch_default_dtype
        from nequip.utils.global_dtype import _GLOBAL_DTYPE

        # the network marks the positions and the cell it is given
        arrays = {name: tensor.detach() for name, tensor in prepared.arrays.items()}
        with contextlib.ExitStack() as stack:
            stack.enter_context(repeatable(0, self.device))
            stack.enter_context(torch_default_dtype(_GLOBAL_DTYPE))
            for module in self.model.modules():
                if hasattr(module, "do_derivatives"):
                    stack.enter_context(replaced(module, "do_derivatives", derivatives))
            output: dict[str, Any] = self.model(arrays)
        return output


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    """Set what NequIP asks a process for, and undo what would reach others: precision, random numbers, variables."""
    import torch

    before, variables = torch.get_default_dtype(), dict(os.environ)
    try:
        with torch.random.fork_rng():
            try:
                from nequip.utils.global_state import set_global_state
            except ImportError as error:
                raise PrerequisiteError(
                    f"NequIP cannot be imported: {error}", remedy="install the environment 'nequip'"
                ) from error
            set_global_state()
            yield
    finally:
        torch.set_default_dtype(before)
        for name in set(os.environ) - set(variables):
            del os.environ[name]
        os.environ.update(variables)


@contextlib.contextmanager
def _resolved(checkpoint: str) -> Iterator[Path]:
    """Give the file of a checkpoint, which the package downloads where it is a name.

    Raises:
        PrerequisiteError: It is not there.
    """
    if not checkpoint.startswith(HOST):
        yield the_file(checkpoint)
        return
    from nequip.model.saved_models.load_utils import _get_model_file_path
    from nequip.utils.model_repository import ModelNotFoundError, NequIPNetAPIClient

    demand(checkpoint, NequIPNetAPIClient.BASE_URL, "a file whose path the card names")
    try:
        with _get_model_file_path(checkpoint) as path:
            yield path
    except ModelNotFoundError as error:
        raise ConfigError(str(error), where="checkpoint.name", remedy="nequip.net lists what there is") from error
    except OSError as error:
        raise missing(checkpoint, error, "download its package and name the file in the card") from error


def _packaged(path: Path) -> Any:
    from nequip.model.saved_models import ModelFromPackage

    try:
        return _only(ModelFromPackage(str(path)), path)
    except UNREADABLE as error:
        raise unreadable(path, _KIND, error) from error


def _from_training(path: Path, dtype: str) -> Any:
    """Build the network of a checkpoint of ``nequip-train`` in a precision, with averaged weights if it has some."""
    from hydra.utils import get_class
    from nequip.model.modify_utils import only_apply_persistent_modifiers

    checkpoint = load_pickle(path, _KIND)
    try:
        told = dict(checkpoint["hyper_parameters"])
        if "model_dtype" in told["model"]:
            told["model"] = {**told["model"], "model_dtype": dtype, "compile_mode": "eager"}
        training = get_class(told["info_dict"]["training_module"]["_target_"])
        with only_apply_persistent_modifiers(persistent_only=True):
            module = training(**told)
        module.load_state_dict(checkpoint["state_dict"])
        return _only(module.evaluation_model, path)
    except UNREADABLE as error:
        raise unreadable(path, _KIND, error) from error


def _only(models: Any, path: Path) -> Any:
    """Return the model of a file that holds one."""
    if len(models) != 1:
        raise ConfigError(f"holds several models: {', '.join(models)}", file=path, remedy="package one of them alone")
    return next(iter(models.values()))
