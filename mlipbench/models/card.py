"""Model cards: what is known of one model, as validated data."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PrivateAttr,
    field_validator,
    model_validator,
)

from mlipbench.budget import BatchBudget
from mlipbench.elements import parse_elements
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.models.interface import Capabilities, EnergyReference, ForceKind, Need, NeighborSource, Property
from mlipbench.recipe import Trainer
from mlipbench.yamlfile import no_credentials

_NAME = re.compile(r"[a-z0-9][a-z0-9.+_-]*")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Closed(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Checkpoint(_Closed):
    """Weights of a model.

    Attributes:
        name: Name of a checkpoint the model's package knows.
        path: File of the checkpoint, or folder of one of ours (`mlipbench.checkpoint`); a relative path starts at the
            folder of the card.
        sha256: Checksum; None where nobody published or computed one.
    """

    name: str | None = None
    path: str | None = None
    sha256: str | None = None

    @field_validator("name", mode="before")
    @classmethod
    def _name_is_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @field_validator("sha256")
    @classmethod
    def _checksum(cls, value: str | None) -> str | None:
        if value is not None and not _SHA256.fullmatch(value):
            raise ValueError("sha256 must be 64 lower-case hexadecimal digits, or null")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.name is None) == (self.path is None):
            raise ValueError("a checkpoint has either a name or a path")
        return self


def _element_text(value: object) -> object:
    """Join a list of elements into the text form, and check it."""
    if isinstance(value, list | tuple):
        value = ", ".join(str(part) for part in value)
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        parse_elements(value)
    return value


class CapabilitySpec(_Closed):
    """Capabilities as a card declares them; `Capabilities` says what each one means.

    Attributes:
        elements: Symbols, atomic numbers and ranges of these, such as ``1-89`` or ``H, C, N, O``; None where a fit
            or a training decides.
        stress: Whether the model predicts the stress; energy and forces are predicted by every model.
    """

    forces: ForceKind
    stress: bool = False
    elements: Annotated[str | None, BeforeValidator(_element_text)] = None
    energy_reference: EnergyReference
    level_of_theory: str | None = None
    needs: tuple[Need, ...] = ()
    pbc: bool = True
    molecules: bool = True
    single_atoms: bool = True
    dtypes: tuple[Literal["float32", "float64"], ...] = Field(default=("float64",), min_length=1)
    devices: tuple[Literal["cpu", "cuda"], ...] = Field(default=("cpu",), min_length=1)
    cutoff: PositiveFloat | None = None
    neighbors: NeighborSource = NeighborSource.OWN

    @model_validator(mode="after")
    def _some_structures(self) -> Self:
        if not (self.pbc or self.molecules):
            raise ValueError("pbc and molecules cannot both be false")
        return self


class ModelCard(_Closed):
    """One model.

    Attributes:
        name: Unique name, also the stem of the card's file.
        adapter: Short name of a built-in adapter, or ``package.module:Class``.
        environment: Name of the environment the model runs in.
        checkpoint: Weights, where the model has some.
        checkpoints: Weights by name of the dataset, where each dataset has a model of its own.
        fitted: Whether parameters are fitted to the fit split of the dataset.
        trainer: Who trains the model by recipes, or None. For ``nets`` it is the one of `mlipbench.nets` that has the
            card's name. Such a model's energies are those of the labels it is trained on, and its elements are
            those of the training structures.
        kwargs: Arguments of the adapter.
        capabilities: What the model can do.
        batch: Batch budget, or None where it is to be measured.
        training_data: Data that the weights were trained on, or that the weights were trained on with which a recipe
            begins; empty where nothing was learnt from structures, None where it is not known or nothing precedes the
            recipe.
        paper: Address of the publication.
        licence: Licence of code and weights.
        gated: Whether the weights need a registration or an agreement.
        note: Footnote of the tables.
    """

    name: str
    adapter: str
    environment: str
    checkpoint: Checkpoint | None = None
    checkpoints: dict[str, Checkpoint] = Field(default_factory=dict)
    fitted: bool = False
    trainer: Trainer | None = None
    kwargs: dict[str, Any] = Field(default_factory=dict)
    capabilities: CapabilitySpec
    batch: BatchBudget | None = None
    training_data: tuple[str, ...] | None = None
    paper: str | None = None
    licence: str | None = None
    gated: bool = False
    note: str | None = None

    _folder: Path | None = PrivateAttr(default=None)

    @field_validator("name", "environment")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(f"{value!r} must be lower-case letters, digits, dots, dashes, plus signs and underscores")
        return value

    @field_validator("adapter")
    @classmethod
    def _adapter(cls, value: str) -> str:
        if not (_NAME.fullmatch(value) or _TARGET.fullmatch(value)):
            raise ValueError(f"{value!r} is neither the name of an adapter nor package.module:Class")
        return value

    @field_validator("kwargs")
    @classmethod
    def _kwargs(cls, value: dict[str, Any]) -> dict[str, Any]:
        return no_credentials(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.checkpoint is not None and self.checkpoints:
            raise ValueError("a card has either checkpoint or checkpoints")
        if self.fitted and (self.checkpoint is not None or self.checkpoints):
            raise ValueError("a fitted model has no checkpoint")
        if self.fitted and self.trainer:
            raise ValueError("a card has either fitted or trainer")
        if self.trainer and (self.checkpoint or self.capabilities.energy_reference is not EnergyReference.FITTED):
            raise ValueError("a model that recipes train has no checkpoint of its own, and energy_reference fitted")
        if self.capabilities.elements is None and not (self.fitted or self.trainer):
            raise ValueError("capabilities.elements may be left out only where fitted is true or a trainer is named")
        return self

    def declared(self) -> Capabilities:
        """Return the declared capabilities as the dataclass that plan and worker use."""
        spec = self.capabilities
        properties = {Property.ENERGY, Property.FORCES}
        if spec.stress:
            properties.add(Property.STRESS)
        return Capabilities(
            properties=frozenset(properties),
            forces=spec.forces,
            elements=None if spec.elements is None else parse_elements(spec.elements),
            energy_reference=spec.energy_reference,
            level_of_theory=spec.level_of_theory,
            needs=frozenset(spec.needs),
            pbc=spec.pbc,
            molecules=spec.molecules,
            single_atoms=spec.single_atoms,
            dtypes=spec.dtypes,
            devices=spec.devices,
            cutoff=spec.cutoff,
            neighbors=spec.neighbors,
        )

    def checkpoint_for(self, dataset: str | None = None) -> Checkpoint | None:
        """Return the weights for a dataset, or None where there are none (for it).

        Args:
            dataset: Name of the dataset; matters only for a card with `checkpoints`.
        """
        if self.checkpoints:
            return None if dataset is None else self.checkpoints.get(dataset)
        return self.checkpoint

    def checkpoint_location(self, dataset: str | None = None) -> str | None:
        """Return what `LoadRequest.checkpoint` takes: a name the package knows or the path of a file, or None."""
        checkpoint = self.checkpoint_for(dataset)
        if checkpoint is None or checkpoint.path is None:
            return None if checkpoint is None else checkpoint.name
        return str((self._folder or Path()) / checkpoint.path)

    def checkpoint_sha256(self, dataset: str | None = None) -> str | None:
        """Return the checksum of the weights for a dataset: the file's own, else the declared one, else None.

        Raises:
            ConfigError: The file is not the one the card declares.
            PrerequisiteError: The file is missing.
        """
        checkpoint = self.checkpoint_for(dataset)
        if checkpoint is None or checkpoint.path is None:
            return None if checkpoint is None else checkpoint.sha256
        path = (self._folder or Path()) / checkpoint.path
        if path.is_dir():
            from mlipbench.checkpoint import checkpoint_sha256

            found = checkpoint_sha256(path)
            return self._declared(checkpoint, found, path)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise PrerequisiteError(f"the checkpoint cannot be read ({error.strerror})", file=path) from None
        return self._declared(checkpoint, found, path)

    @staticmethod
    def _declared(checkpoint: Checkpoint, found: str, path: Path) -> str:
        """Return the checksum found, if it is the one declared."""
        if checkpoint.sha256 not in {None, found}:
            raise ConfigError(
                f"the checkpoint has sha256 {found}, the card declares {checkpoint.sha256}", file=path,
                remedy="get the declared file, or correct the card",
            )  # fmt: skip
        return found

    def in_folder(self, folder: Path) -> Self:
        """Return the same card, its relative paths starting at `folder`."""
        card = self.model_copy()
        card._folder = folder.resolve()  # noqa: SLF001
        return card
