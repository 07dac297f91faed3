"""What a suite file may hold."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from mlipbench.budget import BatchBudget
from mlipbench.errors import ConfigError
from mlipbench.suite.part import MAX_SEED, Part
from mlipbench.suite.tasks import Tasks
from mlipbench.units import energy_factor
from mlipbench.yamlfile import no_credentials

NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
_CARD_ONLY = frozenset({"adapter", "arguments", "calculator", "checkpoint", "environment", "kwargs", "pass", "python"})


def _known(unit: str) -> str:
    try:
        energy_factor(unit)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return unit


EnergyUnit = Annotated[str, AfterValidator(_known)]


class ModelChoice(Part):
    """A model and the settings it is run with.

    A suite may set precision, device, batch budget and inference settings, and which recipe trains a network; never
    what is loaded.

    Attributes:
        name: Name of a card, or its path.
        variant: Name of the row's variant, where a model has several.
        recipe: Name of a recipe, or its path from the suite's folder, that trains the network in place of a checkpoint.
        precision: Replaces the card's default.
        device: Replaces the card's preferred device.
        batch: Replaces the card's batch budget.
        settings: Inference settings passed to the adapter.
    """

    name: str
    variant: Annotated[str, Field(pattern=NAME)] | None = None
    recipe: str | None = None
    precision: Literal["float32", "float64"] | None = None
    device: str | None = None
    batch: BatchBudget | None = None
    settings: dict[str, Any] = Field(default_factory=dict)

    @field_validator("settings")
    @classmethod
    def _harmless(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in settings:
            if name in _CARD_ONLY:
                raise ValueError(f"{name!r} decides what is loaded: only a card may set it")
        no_credentials(settings)
        try:
            json.dumps(settings, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("settings hold something else than text, finite numbers, truth values and lists") from None
        return settings


class Correction(StrEnum):
    """Named energy corrections a suite can ask for."""

    MP2020 = "mp2020"


class ShiftKind(StrEnum):
    """How a shift between two energy references is fitted."""

    PER_ELEMENT = "per_element"


class Conversion(Part):
    """An explicit step that brings labels and predictions to one energy reference.

    Attributes:
        models: Models it applies to; None means every model of the suite.
        shift: Kind of a shift that is fitted to label - prediction on the split `fit` and added to predictions.
        fit: Split the shift is fitted on; None means the dataset entry's own.
        correction: A named correction that is added to the labels.
    """

    models: tuple[str, ...] | None = None
    shift: ShiftKind | None = None
    fit: str | None = None
    correction: Correction | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.shift is None) == (self.correction is None):
            raise ValueError("give either shift or correction")
        if self.fit is not None and self.shift is None:
            raise ValueError("fit goes with shift")
        return self


class DatasetChoice(Part):
    """Splits of one dataset, and how its labels are used.

    Attributes:
        splits: Names of the splits to evaluate on.
        entry: Path of a dataset entry file, relative to the suite; None takes the shipped entry of that name.
        overrides: Fields of the entry that this suite declares differently.
        fit: Split that fitted models are fitted on; None means the dataset entry's own.
        energy: Conversions of energies, in order.
    """

    splits: Annotated[tuple[str, ...], Field(min_length=1)]
    entry: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    fit: str | None = None
    energy: tuple[Conversion, ...] = ()


def _as_choice(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=MAX_SEED)], ...], Field(min_length=1)]
Models = Annotated[tuple[Annotated[ModelChoice, BeforeValidator(_as_choice)], ...], Field(min_length=1)]


class Profile(Part):
    """A suite run differently under a name of its own, such as a quick version of it.

    Attributes:
        data: ``mini`` for the embedded datasets; None for the suite's.
        models: Models in place of the suite's; None keeps those.
        seeds: Seeds in place of the suite's; None keeps those.
        tasks: Parameters of tasks in place of the suite's, by task.
    """

    data: Literal["mini"] | None = None
    models: Models | None = None
    seeds: Seeds | None = None
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Suite(Part):
    """A validated, frozen suite.

    Attributes:
        suite: Name of the suite.
        version: Version; numbers of different versions are not compared.
        description: One line for listings.
        models: The models, with permitted overrides.
        datasets: The datasets by name.
        tasks: The tasks with their parameters.
        units: Units of energy that tables show, such as meV and kcal/mol, one column each; forces and stresses follow
            them. Chosen by the size of the numbers where none is given.
        seeds: Seeds; every model is run once per seed.
        profiles: Other ways to run it, by name.
    """

    suite: Annotated[str, Field(pattern=NAME)]
    version: Annotated[int, Field(ge=1)]
    description: str = ""
    models: Models
    datasets: Annotated[dict[Annotated[str, Field(pattern=NAME)], DatasetChoice], Field(min_length=1)]
    tasks: Tasks
    units: tuple[EnergyUnit, ...] = ()
    seeds: Seeds = (0,)
    profiles: dict[Annotated[str, Field(pattern=NAME)], Profile] = Field(default_factory=dict)

    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        """The folder of the suite's file, at which paths of dataset entries start."""
        return self._folder

    def in_folder(self, folder: Path) -> Self:
        """Return the same suite, its relative paths starting at `folder`."""
        suite = self.model_copy()
        suite._folder = folder  # noqa: SLF001  # another instance of this class
        return suite

    @model_validator(mode="after")
    def _no_duplicates(self) -> Self:
        rows = [(choice.name, choice.variant or "default") for choice in self.models]
        for kind, names in (("models", rows), ("seeds", list(self.seeds))):
            if len(set(names)) != len(names):
                raise ValueError(f"{kind}: an entry is listed twice; give rows of one model different variant names")
        for name, choice in self.datasets.items():
            if len(set(choice.splits)) != len(choice.splits):
                raise ValueError(f"datasets.{name}.splits: a split is listed twice")
        return self
