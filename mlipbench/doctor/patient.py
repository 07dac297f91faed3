"""Which model is examined, with which weights, and on which elements."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.checkpoint import is_checkpoint, read_checkpoint
from mlipbench.conformance.exchange import Examination
from mlipbench.conformance.samples import build_samples
from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import open_split
from mlipbench.environments.compute import has_cuda_device
from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.execution.requests import LoadModel
from mlipbench.models.registry import adapter_target
from mlipbench.recipe import ReferenceKind
from mlipbench.runner.fitting import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.checkpoint import CheckpointRecord
    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.execution.process import WorkerSpec
    from mlipbench.models.card import ModelCard
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import AnyArray

FITTED_TO: Final = "mini-slabs"
"""The embedded dataset that fitted models are fitted to where no other one is named."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a model is examined.

    Attributes:
        dataset: The dataset whose checkpoint is loaded, or that a fitted model is fitted to; None takes the card's
            first checkpoint, or `FITTED_TO`.
        device: Device in place of the card's first.
    """

    dataset: str | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Patient:
    """A model that can be loaded and examined.

    Attributes:
        name: Name of its card.
        network: Name of the network, where a checkpoint of one is examined by its folder; None for cards.
        dataset: The dataset whose checkpoint is loaded, or that it is fitted to; None where there is one model.
        spec: How its workers are started.
        model: What they load.
        examination: What it is examined with.
    """

    name: str
    network: str | None
    dataset: str | None
    spec: WorkerSpec
    model: LoadModel
    examination: Examination


@dataclass(frozen=True, slots=True, eq=False)
class _Weights:
    """What is known of the weights beside the card."""

    dataset: str | None
    elements: frozenset[int]
    parameters: Mapping[str, AnyArray] = field(default_factory=lambda: MappingProxyType({}))
    references: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    network: str | None = None


def find_patient(card: ModelCard, choice: Choice, prepare: Callable[[], WorkerSpec], location: DataLocation) -> Patient:
    """Return what is loaded for a card, fitted first where it has to be.

    Args:
        card: The model.
        choice: What of it is examined.
        prepare: Returns how workers are started, once nothing else stands in the way: an environment may be built.
        location: Where data are, for models that are fitted.

    Raises:
        ConfigError: The card does not offer the device, or has no checkpoint for the dataset.
        PrerequisiteError: The weights, the data or the device are missing.
        WorkerError: The model cannot be fitted.
    """
    capabilities = card.declared()
    device = _device(card, choice.device)
    if card.fitted:
        dataset = choice.dataset or FITTED_TO
        split = _fit_split(dataset, location)
        spec = prepare()
        weights = _Weights(dataset, frozenset(split.elements), fit(card, split, spec))
    else:
        weights = _loaded(card, choice.dataset)
        spec = prepare()
    bound = card.checkpoint_for(weights.dataset)
    model = LoadModel(
        adapter=adapter_target(card),
        device=device,
        dtype=capabilities.dtypes[0],
        checkpoint=card.checkpoint_location(weights.dataset),
        sha256=None if bound is None else bound.sha256,
        kwargs=card.kwargs,
        parameters=weights.parameters,
        threads=spec.threads,
    )
    samples = build_samples(weights.elements, capabilities)
    examination = Examination(capabilities, samples, weights.references)
    return Patient(card.name, weights.network, weights.dataset, spec, model, examination)


def _device(card: ModelCard, wanted: str | None) -> str:
    offered = card.declared().devices
    device = wanted or offered[0]
    if device.partition(":")[0] not in offered:
        remedy = f"it declares {', '.join(offered)}"
        raise ConfigError(f"model {card.name!r} does not offer device {device!r}", where="--device", remedy=remedy)
    if device.startswith("cuda") and not has_cuda_device():
        raise PrerequisiteError(f"no CUDA device is here for {device!r}", where="--device", remedy="give another one")
    return device


def _fit_split(dataset: str, location: DataLocation) -> Split:
    entry = load_entry(dataset)
    if entry.fit_split is None:
        raise ConfigError(f"the dataset {dataset!r} has no split to fit to", where="--dataset", remedy="name another")
    return open_split(entry, entry.fit_split, location)


def _loaded(card: ModelCard, dataset: str | None) -> _Weights:
    """Return what the card or the record of the checkpoint says of the weights.

    Raises:
        ConfigError: The dataset is none of the card's.
        PrerequisiteError: The model has no weights of its own.
    """
    if card.checkpoints and dataset is None:
        dataset = next(iter(card.checkpoints))
    if dataset is not None and dataset not in card.checkpoints:
        known = ", ".join(card.checkpoints) or "none"
        raise ConfigError(
            f"model {card.name!r} has no checkpoint for {dataset!r}", where="--dataset", remedy=f"it has {known}"
        )
    if card.trainer is not None and not card.checkpoints:
        raise PrerequisiteError(
            f"model {card.name!r} has no weights of its own",
            remedy="name the folder of a checkpoint that `mlipbench train` has made",
        )
    record = _record(card, dataset)
    elements = card.declared().elements
    if elements is None:
        if record is None:
            raise PrerequisiteError(f"nothing says which elements the checkpoint of {card.name!r} covers")
        elements = frozenset(record.elements)
    references: Mapping[int, float] = {}
    if record is not None and record.energy_reference.kind is ReferenceKind.PER_ELEMENT:
        references = record.energy_reference.per_element
    network = record.net if record is not None and record.name == card.name else None
    return _Weights(dataset, elements, references=references, network=network)


def _record(card: ModelCard, dataset: str | None) -> CheckpointRecord | None:
    """Return the record of a checkpoint of ours; None for other weights."""
    location = card.checkpoint_location(dataset)
    if location is None or not is_checkpoint(Path(location)):
        return None
    return read_checkpoint(Path(location))
