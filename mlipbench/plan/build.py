"""Building a plan."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from mlipbench.checkpoint import read_checkpoint
from mlipbench.environments import Environments
from mlipbench.environments.compute import has_cuda_device
from mlipbench.errors import ConfigError, NothingSelectedError, PrerequisiteError, StorageError, WorkerError
from mlipbench.models.registry import card_names, load_card
from mlipbench.plan.applicability import (
    EnergyRoute,
    energy_route,
)
from mlipbench.plan.budgets import BudgetQuestion, known_budget
from mlipbench.plan.cells import METRIC_VERSION, check_metrics, gap_cells, plan_cells
from mlipbench.plan.open import open_datasets
from mlipbench.plan.plan import Plan, PlannedSplit, RunPlan, Variant
from mlipbench.plan.splits import SplitQuestion, plan_splits, refusal
from mlipbench.plan.training import PlannedTraining, TrainingPlace, plan_training
from mlipbench.status import Role, Status, Task
from mlipbench.suite.schema import ModelChoice
from mlipbench.yamlfile import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlipbench.budget import BatchBudget
    from mlipbench.checkpoint import CheckpointRecord
    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.environments import Environment
    from mlipbench.models.card import ModelCard
    from mlipbench.plan.plan import PlannedCell, PlannedDataset, Selection
    from mlipbench.recipe import Recipe
    from mlipbench.suite.schema import Suite

PLAN_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class _Context:
    """What all runs of a suite share."""

    suite: Suite
    selection: Selection
    datasets: Mapping[str, PlannedDataset]
    location: DataLocation
    environments: Environments
    threads: int


@dataclass(frozen=True, slots=True)
class _Start:
    """What a run starts from.

    Attributes:
        choice: What the suite or the user calls the model.
        seed: Seed of the run; that of a training is counted on from the recipe's.
        recipe: The recipe that trains the model, or None.
    """

    choice: str
    seed: int
    recipe: Recipe | None


def build_plan(suite: Suite, selection: Selection, location: DataLocation) -> Plan:
    """Decide everything that a suite will do.

    Data files that were never read before are converted on the way.

    Args:
        suite: The suite.
        selection: What of it is wanted.
        location: Where data are.

    Raises:
        ConfigError: A name is unknown or settings contradict a card.
        DatasetError: A data file is invalid.
        NothingSelectedError: No model is left.
    """
    for value, what in ((selection.limit, "limit"), (selection.threads, "number of threads")):
        if value is not None and value < 1:
            raise ConfigError(f"a {what} of {value} makes no sense", remedy="give a number above 0")
    check_metrics(suite)
    choices = _choices(suite, selection)
    cards = [load_card(_card_place(suite, choice.name), trust=selection.trust) for choice in choices]
    _check_conversions(suite, cards)
    recipes = [_recipe(suite, card, choice) for card, choice in zip(cards, choices, strict=True)]
    named = [recipe for recipe in recipes if recipe is not None]
    fitted = any(card.fitted for card in cards)
    datasets, missing = open_datasets(suite, location, fitted=fitted, recipes=named)
    environments = Environments(location.cache, isolated=selection.isolated, failed=selection.failed)
    threads = selection.threads or worker_threads()
    context = _Context(suite, selection, MappingProxyType(datasets), location, environments, threads)
    runs: list[RunPlan] = []
    for card, choice, recipe in zip(cards, choices, recipes, strict=True):
        environments.find(card.environment)  # what is wrong with the user's configuration is no model's fault
        try:
            variant = _variant(context, card, choice)
            runs += [_run(context, card, variant, _Start(choice.name, seed, recipe)) for seed in suite.seeds]
        except StorageError:  # no model's fault
            raise
        except (PrerequisiteError, WorkerError) as error:  # no weights, or no batch budget; the other models can run
            missing += (f"{card.name}: {error}",)
    return Plan(suite, _sha256(suite.model_dump(mode="json")), location, context.datasets, tuple(runs), missing)


def _choices(suite: Suite, selection: Selection) -> list[ModelChoice]:
    """Return the suite's models, or those selected, with the suite's settings where it names them."""
    if selection.models is None:
        return list(suite.models)
    chosen: list[ModelChoice] = []
    for name in dict.fromkeys(selection.models):
        named = [choice for choice in suite.models if name in {choice.name, Path(choice.name).stem}]
        chosen += named or [ModelChoice(name=name)]
    if not chosen:
        raise NothingSelectedError("no model is selected", remedy="name at least one with --models")
    return chosen


def _card_place(suite: Suite, name: str) -> str:
    """Return a card's name, or its path; a path in the suite starts at the suite's folder."""
    if name.endswith((".yaml", ".yml")) and any(choice.name == name for choice in suite.models):
        return str(suite.folder / name)
    return name


def _recipe(suite: Suite, card: ModelCard, choice: ModelChoice) -> Recipe | None:
    """Return the recipe that a suite names for a model."""
    if choice.recipe is None:
        return None
    if card.trainer is None:
        raise ConfigError(
            f"model {card.name!r} is not trained by recipes", where="models", remedy="leave out `recipe` there"
        )
    from mlipbench.recipes import load_recipe

    return load_recipe(choice.recipe, base=suite.folder)


def _check_conversions(suite: Suite, cards: list[ModelCard]) -> None:
    """Refuse a conversion for a model that does not exist: it would silently convert nothing."""
    known = {*card_names(), *(card.name for card in cards), *(Path(choice.name).stem for choice in suite.models)}
    for name, dataset in suite.datasets.items():
        for card in cards:
            if (
                sum(step.shift is not None and card.name in (step.models or (card.name,)) for step in dataset.energy)
                > 1
            ):
                raise ConfigError(
                    f"two energy shifts are declared for model {card.name!r}", where=f"datasets.{name}.energy"
                )
        for step in dataset.energy:
            for model in step.models or ():
                if model not in known:
                    raise ConfigError(
                        f"unknown model {model!r}", where=f"datasets.{name}.energy", remedy=did_you_mean(model, known)
                    )


def _variant(context: _Context, card: ModelCard, choice: ModelChoice) -> Variant:
    capabilities = card.declared()
    device = context.selection.device or choice.device or capabilities.devices[0]
    precision = choice.precision or capabilities.dtypes[0]
    for value, offered, what in (
        (device.partition(":")[0], capabilities.devices, "device"),
        (precision, capabilities.dtypes, "precision"),
    ):
        if value not in offered:
            raise ConfigError(
                f"model {card.name!r} does not offer {what} {value!r}", remedy=f"it declares {', '.join(offered)}"
            )
    budget = choice.batch or card.batch
    if budget is None:
        question = BudgetQuestion(
            card, context.environments.find(card.environment), precision, device, context.threads, choice.settings
        )
        budget = _measured(context, question)
    elif budget.edges is not None and capabilities.cutoff is None:
        raise ConfigError(
            f"model {card.name!r} declares no cutoff, so its batches cannot be cut by edges",
            remedy="give `batch: {atoms: N}` in the card or the suite",
        )
    return Variant(choice.variant or "default", precision, device, budget, MappingProxyType(dict(choice.settings)))


def _measured(context: _Context, question: BudgetQuestion) -> BatchBudget | None:
    """Return the measured budget of a model; None where it is not measured yet and cannot be now."""
    card = question.card
    if card.fitted:
        raise ConfigError(
            f"model {card.name!r} declares no batch budget", remedy="give `batch: {atoms: N}` in the card or the suite"
        )
    if _missing((question.environment,), question.device, {}):
        return None
    known = known_budget(context.location.cache, question)
    if known is not None or context.selection.measure is None:
        return known
    for name, dataset in context.datasets.items():
        for split in dataset.evaluated:
            if refusal(card, name, dataset, dataset.splits[split]) is None:
                return context.selection.measure(question, name, dataset.splits[split])
    return None


def worker_threads() -> int:
    """Return the threads a worker gets: what ``OMP_NUM_THREADS`` says, else the processors at hand."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else len(os.sched_getaffinity(0))


def _run(context: _Context, card: ModelCard, variant: Variant, start: _Start) -> RunPlan:
    splits: list[PlannedSplit] = []
    cells: list[PlannedCell] = []
    fits: dict[str, str] = {}
    routes: dict[str, EnergyRoute] = {}
    trainings: dict[str, PlannedTraining] = {}
    for name, dataset in context.datasets.items():
        conversions = context.suite.datasets[name].energy
        route = energy_route(card, dataset.entry, conversions, dataset.fit_split)
        routes[name] = route
        weights = _weights(context, card, variant, start, name)
        if isinstance(weights, PlannedTraining):
            trainings[name] = weights
        question = SplitQuestion(card, variant, name, dataset, route, weights, context.threads)
        planned = list(plan_splits(question, context.suite, context.selection.limit, context.location))
        splits += planned
        refused = {split.split: split.reason for split in planned if split.reason and split.task is Task.S2EF}
        shown = [split for split in planned if split.role is Role.EVALUATE]
        own = [cell for split in shown for cell in plan_cells(question, split, context.suite, refused)]
        cells += [*own, *(gap_cells(own, dataset.entry.gap) if dataset.entry.gap else ())]
        if card.fitted and dataset.fit_split is not None:
            fits[name] = dataset.fit_split
    environment = context.environments.find(card.environment)
    predicted = {split.dataset for split in splits if split.status is Status.OK}
    used = {name: training for name, training in trainings.items() if name in predicted}
    needed = [environment, *(training.environment for training in used.values() if not training.done)]
    checkpoints = {name: None if name in trainings else card.checkpoint_for(name) for name in context.datasets}
    return RunPlan(
        choice=start.choice,
        card=card,
        environment=environment,
        trusted=context.selection.trust,
        variant=variant,
        seed=start.seed,
        threads=context.threads,
        checkpoints=MappingProxyType(checkpoints),
        trainings=MappingProxyType(used),
        fits=MappingProxyType(fits),
        splits=tuple(splits),
        routes=MappingProxyType(routes),
        cells=tuple(cells),
        missing=_missing(needed, variant.device, routes) or _without_budget(card, variant, splits),
        sha256=_identity(context, card, variant, start.seed, splits, trainings),
    )


def _weights(
    context: _Context, card: ModelCard, variant: Variant, start: _Start, name: str
) -> PlannedTraining | CheckpointRecord | str | None:
    """Return the training that makes a model's weights for a dataset, the record of those it has, or why it has none.

    For models that recipes do not train it is None.
    """
    if card.trainer is None:
        return None
    dataset = context.datasets[name]
    recipe = start.recipe
    if recipe is None:
        location = card.checkpoint_location(name)
        if location is None:
            return f"the model has no checkpoint for {name}, and the suite names no recipe to train it"
        return read_checkpoint(Path(location))
    if recipe.dataset not in {None, dataset.entry.name}:
        return f"the recipe {recipe.recipe} is one for {recipe.dataset}"
    seeded = recipe.model_copy(update={"seed": (recipe.seed + start.seed) % 2**32})
    place = TrainingPlace(
        context.location.cache,
        context.environments.find(card.environment),
        variant.device.partition(":")[0],
        context.threads,
    )
    return plan_training(card, seeded, dataset.entry, dataset.splits, place)


def _without_budget(card: ModelCard, variant: Variant, splits: list[PlannedSplit]) -> tuple[str, ...]:
    if variant.batch is not None or not any(split.status is Status.OK for split in splits):
        return ()
    return (f"model {card.name!r} declares no batch budget; `mlipbench run` measures it once",)


def _missing(environments: Iterable[Environment], device: str, routes: Mapping[str, EnergyRoute]) -> tuple[str, ...]:
    lines = [environment.problem for environment in environments if environment.problem is not None]
    if device.startswith("cuda") and not has_cuda_device():
        lines.append(f"no CUDA device is here for {device!r}; give another --device")
    if any(route.corrections for route in routes.values()) and importlib.util.find_spec("pymatgen") is None:
        lines.append('the energy correction needs pymatgen; run: pip install "mlipbench[corrections]"')
    return tuple(dict.fromkeys(lines))


def _identity(
    context: _Context,
    card: ModelCard,
    variant: Variant,
    seed: int,
    splits: list[PlannedSplit],
    trainings: Mapping[str, PlannedTraining],
) -> str:
    """Hash everything that decides the predictions and the numbers of a run."""
    suite = context.suite
    return _sha256(
        {
            "plan_version": PLAN_VERSION,
            "metric_version": METRIC_VERSION,
            "checkpoints": {
                name: trainings[name].job.identity if name in trainings else card.checkpoint_sha256(name)
                for name in context.datasets
            },
            "suite": [suite.suite, suite.version, suite.tasks.model_dump(mode="json", exclude_none=True)],
            "energy": {name: choice.model_dump(mode="json")["energy"] for name, choice in suite.datasets.items()},
            "card": card.model_dump(mode="json"),
            "environment": context.environments.find(card.environment).identity,
            "variant": [
                variant.name,
                variant.precision,
                variant.device,
                variant.batch.model_dump() if variant.batch else None,
                dict(variant.settings),
            ],
            "seed": seed,
            "threads": context.threads,
            "data": {
                name: [dataset.fit_split, dataset.references_sha256, dataset.factors_sha256, _content(card, dataset)]
                for name, dataset in context.datasets.items()
            },
            "entries": {name: dataset.entry.model_dump(mode="json") for name, dataset in context.datasets.items()},
            "splits": [[*split.key, split.selection, split.role.value, split.content_hash] for split in splits],
            **_trajectories(suite, context.datasets),
        }
    )


def _trajectories(suite: Suite, datasets: Mapping[str, PlannedDataset]) -> dict[str, Any]:
    """Return the identity of the trajectories that simulations are compared with, if there are simulations."""
    if suite.tasks.md is None:
        return {}
    reference = suite.tasks.md.reference
    return {"trajectories": {name: dataset.splits[reference].content_hash for name, dataset in datasets.items()}}


def _content(card: ModelCard, dataset: PlannedDataset) -> str | None:
    """Return the identity of the data that a model is fitted to; those it predicts are listed with the splits."""
    return dataset.splits[dataset.fit_split].content_hash if card.fitted and dataset.fit_split is not None else None


def _sha256(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
