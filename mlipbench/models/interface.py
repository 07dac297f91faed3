"""The one predict interface, shared by the harness and the worker."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray, FloatArray


class Property(StrEnum):
    """What a model can predict."""

    ENERGY = "energy"
    FORCES = "forces"
    STRESS = "stress"


class ForceKind(StrEnum):
    """Whether forces are the negative gradient of the energy or an output of their own."""

    CONSERVATIVE = "conservative"
    DIRECT = "direct"


class EnergyReference(StrEnum):
    """What an energy is measured against."""

    TOTAL = "total"
    ADSORPTION = "adsorption"
    ATOMIZATION = "atomization"
    ARBITRARY = "arbitrary"
    FITTED = "fitted"  # the reference of the labels the model was fitted to


class Need(StrEnum):
    """Inputs without which a model cannot predict."""

    CHARGE = "charge"
    SPIN = "spin"
    TAGS = "tags"
    CELL = "cell"


class NeighborSource(StrEnum):
    """Who builds the neighbour list."""

    HARNESS = "harness"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a card declares of its model.

    Attributes:
        properties: What the model predicts.
        forces: Kind of the forces.
        elements: Atomic numbers covered; None where a fit decides.
        energy_reference: What the energies are measured against.
        level_of_theory: Level of theory of the training labels, None where the model has none of its own.
        needs: Inputs the model cannot do without.
        pbc: Whether periodic structures are accepted.
        molecules: Whether structures without periodicity are accepted.
        single_atoms: Whether structures are accepted in which no atom has a neighbour.
        dtypes: Precisions offered, the default first.
        devices: Device types offered, the preferred first.
        cutoff: Å, or None.
        neighbors: Who builds the neighbour list.
    """

    properties: frozenset[Property]
    forces: ForceKind
    elements: frozenset[int] | None
    energy_reference: EnergyReference
    level_of_theory: str | None = None
    needs: frozenset[Need] = frozenset()
    pbc: bool = True
    molecules: bool = True
    single_atoms: bool = True
    dtypes: tuple[str, ...] = ("float64",)
    devices: tuple[str, ...] = ("cpu",)
    cutoff: float | None = None
    neighbors: NeighborSource = NeighborSource.OWN


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model says of a batch, in float64 and host memory.

    Attributes:
        energy: Shape (n_structures,), eV.
        forces: Shape (n_atoms, 3), eV/Å, or None where not asked for.
        stress: Shape (n_structures, 6), eV/Å³, Voigt order xx yy zz yz xz xy in ASE's sign, or None.
        not_applicable: Reasons, by index in the batch, for structures the model does not cover. Their rows hold NaN;
            they are no failures.
    """

    energy: FloatArray
    forces: FloatArray | None = None
    stress: FloatArray | None = None
    not_applicable: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, eq=False)
class LabelledBatch:
    """Structures with reference labels, for models that are fitted.

    Attributes:
        structures: The structures.
        energy: Shape (n_structures,), eV.
        forces: Shape (n_atoms, 3), eV/Å, or None.
    """

    structures: StructureBatch
    energy: FloatArray
    forces: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """How a model is to be loaded.

    Attributes:
        device: Torch-style device, such as ``cpu`` or ``cuda:0``.
        dtype: ``float32`` or ``float64``.
        checkpoint: Name of a checkpoint the package knows, or path of a file; None where there is none.
        sha256: Checksum that the card pins for a checkpoint by name; None where nobody published or computed one.
        kwargs: Arguments of the card and inference settings of the suite.
        parameters: What `FittedAdapter.fit` returned; empty for models that are not fitted.
        seed: Seed of whatever the model draws at random.
    """

    device: str = "cpu"
    dtype: str = "float64"
    checkpoint: str | None = None
    sha256: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    parameters: Mapping[str, AnyArray] = field(default_factory=lambda: MappingProxyType({}))
    seed: int = 0


class Adapter(ABC):
    """Code that makes one package predict.

    One call of `predict` is one forward pass of exactly the structures given. The result does not depend on batch
    mates beyond rounding, inputs are not changed, and nothing is cached between calls.

    Attributes:
        weights_sha256: Checksum of weights that the package found by name; None otherwise.
        trainable: Names of the parameters of `module()` that training changes, where the adapter has frozen them; None
            where ``requires_grad`` says it.
    """

    weights_sha256: str | None = None
    trainable: frozenset[str] | None = None

    @property
    def cutoff(self) -> float | None:
        """The cutoff, Å, of the neighbour lists that `prepare` takes from the harness; None where it takes none."""
        return None

    @classmethod
    @abstractmethod
    def load(cls, request: LoadRequest) -> Self:
        """Load the model.

        Raises:
            ConfigError: The arguments do not fit the model.
            PrerequisiteError: A package or a checkpoint is missing.
        """

    @abstractmethod
    def prepare(self, batch: StructureBatch, neighbors: Any | None = None) -> Any:
        """Build what `forward` needs (graphs on the device) from a batch.

        Args:
            batch: The structures.
            neighbors: A `NeighborList` of the harness where the model takes one; None lets the adapter build it.
        """

    @abstractmethod
    def forward(self, prepared: Any, properties: frozenset[Property]) -> Predictions:
        """Run the model on what `prepare` returned."""

    def predict(self, batch: StructureBatch, properties: frozenset[Property]) -> Predictions:
        """Predict `properties` of every structure of `batch`."""
        return self.forward(self.prepare(batch), properties)

    def module(self) -> Any | None:
        """Return the ``torch.nn.Module``, or None where there is none."""
        return None

    def n_edges(self, prepared: Any) -> int | None:
        """Return how many edges the model's graph has, each direction counted, after `forward` has run on it.

        None where the package does not tell.

        Args:
            prepared: What `prepare` returned.
        """
        del prepared
        return None

    def differentiable(self, prepared: Any) -> tuple[Any, ...] | None:
        """Return outputs as tensors that autograd connects with the parameters: energies, and forces of their own.

        Forces that are the gradient of the energy depend on no parameter that the energy does not depend on, and may be
        left out. Called with gradients switched on. None where the package gives no such tensors.

        Args:
            prepared: What `prepare` returned.
        """
        del prepared
        return None

    def countable(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the model does as written what it otherwise does by a shorter way of its own.

        Operations are counted in it, so that their number depends on neither device nor kernels.
        """
        return contextlib.nullcontext()


class FittedAdapter(Adapter):
    """An adapter whose parameters are fitted, in closed form, to a labelled split before it predicts."""

    @classmethod
    @abstractmethod
    def fit(cls, training: LabelledBatch, kwargs: Mapping[str, Any]) -> dict[str, AnyArray]:
        """Return the parameters as arrays; `load` gets them back as ``request.parameters``.

        Raises:
            DatasetError: The split cannot determine any parameter.
        """
