"""The models of fairchem-core 1.10: GemNet, EquiformerV2, eSCN, SCN, PaiNN, SchNet and DimeNet++.

Network, trainer and normalisation are the package's; the graphs of a batch are built at once (`fairchem_v1_graph`),
equal to those the package builds for each structure alone. EquiformerV2, eSCN and SCN turn each edge into a random
frame and are equivariant only nearly: their frames are drawn from the seed of the run, anew in each call, so that calls
repeat exactly but a structure's prediction depends, slightly, on its place in the batch.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from mlipbench.adapters.coverage import Coverage
from mlipbench.adapters.fairchem_v1_graph import Limits, find_edges, graph_data, one_structure_at_a_time
from mlipbench.adapters.fairchem_v1_names import find_file
from mlipbench.adapters.patching import repeatable, replaced
from mlipbench.adapters.tensors import host
from mlipbench.adapters.weights import UNREADABLE, checked, frozen, load_pickle, unreadable
from mlipbench.adapters.wrapping import wrapped
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Adapter, Predictions, Property

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from mlipbench.adapters.fairchem_v1_graph import Edges
    from mlipbench.models.interface import LoadRequest
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, IntArray

_PARTS: Final = ("state_dict", "config", "normalizers")
# by how the name of a network's class begins
_FEWEST_EDGES: Final = MappingProxyType({"SchNet": 0, "DimeNet": 0, "GemNetOC": 1, "GemNet": 2})


@dataclass(slots=True, eq=False)
class _Prepared:
    """A batch and its graphs.

    Attributes:
        coverage: Which structures it holds.
        batch: These, with complete cells and atoms inside.
        edges: Their edges, by limits.
        arrays: What the package's batch is made of.
    """

    coverage: Coverage
    batch: StructureBatch
    edges: dict[Limits, Edges]
    arrays: dict[str, torch.Tensor]


@dataclass(slots=True, eq=False)
class FairchemV1Adapter(Adapter):
    """A checkpoint of a trainer of fairchem-core 1: a file, or a name from the package's list of published ones.

    Attributes:
        trainer: The package's trainer, with network and normalisers.
        device: Where it runs.
        seed: Seed of the random frames.
        known: By atomic number, which elements have an embedding.
        fewest_edges: How many edges some atom of a structure has to have.
        limits: Limits of the graphs that the network asks for, as far as known; first those of its edges.
        current: What the network is being run on.
        weights_sha256: Checksum of weights found by name, None for a file.
        trainable: Names of the parameters that training changes.
    """

    trainer: Any
    device: str
    seed: int
    known: BoolArray
    fewest_edges: int = 1
    limits: list[Limits] = field(default_factory=list)
    current: _Prepared | None = None
    weights_sha256: str | None = None
    trainable: frozenset[str] | None = None

    @classmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load a checkpoint.

        Raises:
            ConfigError: The precision is not single, an argument is given, or the file does not fit.
            PrerequisiteError: The package is not installed, or the file is neither there nor can be downloaded.
        """
        if request.dtype != "float32":
            raise ConfigError(f"the models of fairchem-core 1 run in float32, not in {request.dtype}", where="dtype")
        if request.kwargs:
            raise ConfigError(f"the adapter 'fairchem_v1' takes no argument {min(request.kwargs)!r}", where="kwargs")
        if request.checkpoint is None:
            raise ConfigError(
                "the adapter 'fairchem_v1' needs a checkpoint", remedy="give a name or a file in the card"
            )
        path = find_file(request.checkpoint)
        sha256 = checked("fairchem_v1", request, path)
        with contextlib.redirect_stdout(sys.stderr):
            _import_package()
            trainer = _trainer(path, request)
        model = trainer._unwrapped_model.eval()  # noqa: SLF001
        adapter = cls(
            trainer, request.device, request.seed, _known_elements(model, path),
            weights_sha256=sha256, trainable=frozen(model),
        )  # fmt: skip
        adapter._take_over_graphs(path)
        return adapter

    def module(self) -> Any:
        """Return the network."""
        return self.trainer._unwrapped_model  # noqa: SLF001

    def prepare(self, batch: StructureBatch, neighbors: object | None = None) -> _Prepared:
        """Build the graphs that the network is known to ask for; the others are built when it does."""
        del neighbors
        coverage = self._coverage(batch)
        taken = wrapped(coverage.select(batch))
        edges = {limits: find_edges(taken, limits) for limits in self.limits}
        refused = np.flatnonzero(_most_edges(taken, edges[self.limits[0]]) < self.fewest_edges)
        if len(refused):
            number = "two neighbours" if self.fewest_edges > 1 else "a neighbour"
            reason = f"no atom has {number} within the cutoff, which the package refuses"
            coverage.without(coverage.kept[refused], reason)
            taken = wrapped(coverage.select(batch))
            edges = {limits: find_edges(taken, limits) for limits in self.limits}
        return _Prepared(coverage, taken, edges, self._arrays(taken))

    def forward(self, prepared: _Prepared, properties: frozenset[Property]) -> Predictions:
        """Run the network once; it predicts energy and forces together.

        Raises:
            ConfigError: The stress is asked for.
        """
        from torch_geometric.data import Batch

        if Property.STRESS in properties:
            raise ConfigError("the models of fairchem-core 1 predict no stress here")
        forces = Property.FORCES in properties
        if not prepared.batch.n_structures:
            return prepared.coverage.nothing(properties)
        with self._run_on(prepared) as arrays:
            output = self.trainer.predict(Batch(**arrays), per_image=False, disable_tqdm=True)
        return prepared.coverage.predictions(
            host(output["energy"]).reshape(-1), host(output["forces"]).reshape(-1, 3) if forces else None
        )

    def n_edges(self, prepared: _Prepared) -> int:
        """Return the number of edges; GemNet-OC's graphs of other kinds do not count."""
        return len(prepared.edges[self.limits[0]].target)

    def differentiable(self, prepared: _Prepared) -> tuple[torch.Tensor, ...]:
        """Return energies and forces, before they are scaled."""
        from torch_geometric.data import Batch

        with self._run_on(prepared) as arrays:
            output = self.trainer._forward(Batch(**arrays))  # noqa: SLF001 - the rest of predict() detaches
        return output["energy"], output["forces"]

    @contextlib.contextmanager
    def _run_on(self, prepared: _Prepared) -> Iterator[dict[str, torch.Tensor]]:
        """Let the network find the graphs of a batch, and yield what the package's batch is made of."""
        self.current = prepared
        try:
            with repeatable(self.seed, self.device):
                yield {**prepared.arrays, "pos": prepared.arrays["pos"].detach()}  # the network marks the positions
        finally:
            self.current = None

    def _coverage(self, batch: StructureBatch) -> Coverage:
        coverage = Coverage.of(batch)
        coverage.without_elements(batch, self.known, "the model")
        model = self.module()
        if getattr(model, "quad_interaction", False):
            tags = batch.tags if batch.tags is not None else np.zeros(batch.n_atoms, dtype=np.int64)
            marked = np.isin(tags, model.qint_tags.cpu().numpy())
            counts = np.bincount(batch.structure_index, marked, batch.n_structures)
            coverage.without(np.flatnonzero(counts == 0), "the model needs tags of surface and adsorbate atoms")
        return coverage

    def _arrays(self, batch: StructureBatch) -> dict[str, torch.Tensor]:
        import torch

        tags = batch.tags if batch.tags is not None else np.zeros(batch.n_atoms)
        fixed = batch.fixed if batch.fixed is not None else np.zeros(batch.n_atoms)
        columns = {
            "pos": (batch.positions, torch.float32),
            "cell": (batch.cell, torch.float32),
            "atomic_numbers": (batch.numbers, torch.uint8),
            "natoms": (batch.counts, torch.long),
            "tags": (tags, torch.int),
            "fixed": (fixed, torch.int),
            "batch": (batch.structure_index, torch.long),
            "ptr": (batch.offsets, torch.long),
        }
        return {
            name: torch.from_numpy(np.array(values)).to(device=self.device, dtype=dtype)
            for name, (values, dtype) in columns.items()
        }

    def _take_over_graphs(self, path: Path) -> None:
        """Let every part of the network that builds graphs ask this adapter for them.

        Raises:
            ConfigError: It builds them in a way of its own, or without periodic images.
        """
        from fairchem.core.models.base import GraphModelMixin

        builders = [part for part in self.module().modules() if isinstance(part, GraphModelMixin)]
        for part in builders:
            if not hasattr(part, "cutoff"):  # the shell around backbone and heads
                continue
            if type(part).generate_graph is not GraphModelMixin.generate_graph:
                raise ConfigError(f"{type(part).__name__} builds graphs in a way of its own", file=path)
            if not part.use_pbc:
                raise ConfigError("the model takes no periodic images (use_pbc: false)", file=path)
            self.limits.append(_limits(part, {}))
            matching = (n for name, n in _FEWEST_EDGES.items() if type(part).__name__.startswith(name))
            self.fewest_edges = next(matching, 1)
            part.generate_graph = self._graph_builder(part)

    def _graph_builder(self, part: Any) -> Callable[..., Any]:
        def generate_graph(data: Any, **options: Any) -> Any:
            limits = _limits(part, options)
            if limits not in self.limits:
                self.limits.append(limits)
            prepared = self.current
            if prepared is None:
                raise RuntimeError("the network is run outside of forward()")
            if limits not in prepared.edges:
                prepared.edges[limits] = find_edges(prepared.batch, limits)
            return graph_data(data, prepared.edges[limits], self.device)

        return generate_graph


def _most_edges(batch: StructureBatch, edges: Edges) -> IntArray:
    """Return how many edges the atom with most of them has, shape (n_structures,); no structure is empty."""
    degrees = np.bincount(edges.target, minlength=batch.n_atoms)
    most: IntArray = np.maximum.reduceat(degrees, batch.offsets[:-1]) if batch.n_structures else degrees
    return most


def _limits(part: Any, options: dict[str, Any]) -> Limits:
    """Return the limits of a graph: what the network asks for, else what it was made with."""
    strict = options.get("enforce_max_neighbors_strictly")
    return Limits(
        float(options.get("cutoff") or part.cutoff),
        int(options.get("max_neighbors") or part.max_neighbors),
        bool(getattr(part, "enforce_max_neighbors_strictly", True) if strict is None else strict),
    )


def _import_package() -> None:
    """Import the package, with stand-ins for the extensions that are not installed.

    Raises:
        PrerequisiteError: It cannot be imported, or is another release.
    """
    import warnings

    from mlipbench.adapters.stand_ins import provide

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what many packages say of their own future
            provide()
            from fairchem.core.common.utils import get_max_neighbors_mask, setup_imports

            setup_imports()
            from fairchem.core.common.relaxation import ase_utils  # noqa: F401
            from fairchem.core.models.gemnet_oc import gemnet_oc
    except ImportError as error:
        raise PrerequisiteError(
            f"fairchem-core 1 cannot be imported: {error}", remedy="install the environment 'fairchem-v1'"
        ) from error
    gemnet_oc.get_max_neighbors_mask = one_structure_at_a_time(get_max_neighbors_mask)  # it cuts graphs down by itself


def _trainer(path: Path, request: LoadRequest) -> Any:
    """Return the trainer that the package's calculator makes of a checkpoint.

    Raises:
        ConfigError: The file holds no checkpoint of a trainer, or one of another model.
    """
    import torch
    from fairchem.core.common.relaxation.ase_utils import OCPCalculator

    checkpoint = load_pickle(path, "a checkpoint of fairchem-core 1")
    absent = [part for part in _PARTS if not (isinstance(checkpoint, dict) and part in checkpoint)]
    if absent:
        raise ConfigError(f"is no checkpoint of a trainer of fairchem-core 1: no {absent[0]}", file=path)
    _, _, number = request.device.partition(":")
    config = {"dataset": {}, **checkpoint["config"], "is_debug": True, "local_rank": int(number or 0)}
    config["dataset"] = {**(config["dataset"] if isinstance(config["dataset"], dict) else {}), "src": None}
    _drop_absent_scales(config)
    checkpoint = {**checkpoint, "config": config}
    try:
        with replaced(torch, "load", lambda *_, **__: checkpoint):
            calculator = OCPCalculator(
                checkpoint_path=path, cpu=not request.device.startswith("cuda"), seed=request.seed
            )
    except (*UNREADABLE, AssertionError) as error:
        raise unreadable(path, "a model of fairchem-core 1", error) from error
    return calculator.trainer


def _drop_absent_scales(config: dict[str, Any]) -> None:
    """Forget a file of scale factors that is not here: published checkpoints name one, and hold the factors too."""
    for part in (config.get("model"), config.get("model_attributes")):
        if isinstance(part, dict) and isinstance(part.get("scale_file"), str) and not Path(part["scale_file"]).exists():
            part["scale_file"] = None


def _known_elements(model: Any, path: Path) -> BoolArray:
    """Return which atomic numbers the first embedding of a model has rows for."""
    import torch

    for part in model.modules():
        inner = getattr(part, "embeddings", None)
        if type(part).__name__ == "AtomEmbedding" and inner is not None:  # its rows start at hydrogen
            known = np.ones(inner.num_embeddings + 1, dtype=np.bool_)
            break
        if isinstance(part, torch.nn.Embedding):
            known = np.ones(part.num_embeddings, dtype=np.bool_)
            break
    else:
        raise ConfigError(f"{type(model).__name__} has no embedding of elements", file=path)
    known[0] = False
    return known
