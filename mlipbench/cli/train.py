"""``mlipbench train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from mlipbench.cli import completion, options
from mlipbench.cli.output import emit, emit_json
from mlipbench.errors import ConfigError, ExitCode, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.checkpoint import CheckpointRecord
    from mlipbench.plan.training import PlannedTraining
    from mlipbench.progress import Display


_Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="Name of a shipped recipe, or a YAML file.", autocompletion=completion.recipes
    ),
]
_Model = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Model in place of the recipe's.")]
_Dataset = Annotated[
    str | None, typer.Option("--dataset", metavar="NAME", help="Dataset (or entry file) in place of the recipe's.")
]


def train(  # noqa: PLR0913 - options
    recipe: _Recipe,
    *,
    model: _Model = None,
    dataset: _Dataset = None,
    data_root: options.DataRootOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder of the checkpoint, in place of one in the cache."),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="cpu|cuda", help="Device.")] = "cpu",
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", min=1, help="Processes (or GPUs) that train together.")
    ] = 1,
    isolated: options.IsolatedOption = False,
    engine: options.EngineOption = None,
    engine_config: options.EngineConfigOption = None,
    yes: options.YesOption = False,
    display: options.DisplayOption = None,
    json: options.JsonOption = False,
) -> int:
    """Train a model by a recipe and print the folder of its checkpoint, which `--models` takes.

    An interrupted training is resumed by the same command; a finished one is only reported.
    """
    from mlipbench.cli.display import open_display
    from mlipbench.runner.training import ensure_trained

    training = _plan(recipe, model, dataset, data_root, (output, device, isolated))
    with open_display(display) as shown:
        shown.note(f"{training.job.name}: {training.describe()}")
        training = _ready(training, shown, consent=yes)
        config = options.parsl_config(engine, engine_config)
        if config is not None and not training.done:
            given = {"--model": model, "--dataset": dataset, "--data-root": data_root, "--output": output}
            _elsewhere(training, config, (recipe, *_again(given, device, processes, isolated=isolated)), shown)
        record = ensure_trained(training, shown, processes)
    if json:
        emit_json(_as_dict(training, record))
    else:
        emit(_describe(training, record))
    return int(ExitCode.DONE)


def _again(given: "Mapping[str, str | Path | None]", device: str, processes: int, *, isolated: bool) -> tuple[str, ...]:
    """Return the options of the same training, with paths that any machine finds."""
    known = [f"{name}={options.place(value)}" for name, value in given.items() if value is not None]
    flags = ["--isolated"] if isolated else []
    return (*known, f"--device={device}", f"--processes={processes}", *flags, "--display=none")


def _elsewhere(training: "PlannedTraining", config: Path, line: tuple[str, ...], display: "Display") -> None:
    """Train in a job of its own.

    Raises:
        WorkerError: It failed too often.
        MlipbenchError: The engine has failed.
    """
    from mlipbench.checkpoint import is_checkpoint
    from mlipbench.errors import WorkerError
    from mlipbench.execution.engines import EngineCommand
    from mlipbench.execution.engines.parsl import ParslEngine
    from mlipbench.runner.campaign import Campaign, TrainingTask

    class Work:
        def command(self, task: TrainingTask) -> EngineCommand:
            arguments = (*options.PROGRAM, "train", options.place(line[0]), *line[1:])
            threads = {"OMP_NUM_THREADS": str(training.job.threads)}
            return EngineCommand(task.title, arguments, {**options.handed_on(), **threads})

        def is_there(self, task: TrainingTask) -> bool:
            del task
            return is_checkpoint(training.folder)

    task, engine = TrainingTask(training.job.name), ParslEngine(config)
    try:
        outcome = Campaign({task.model: [task]}, Work(), engine, display).run()
    finally:
        engine.close()
    if outcome.aside:
        raise WorkerError(f"{task.title} failed too often, the last time: {outcome.aside[task.title]}")


def _ready(training: "PlannedTraining", display: "Display", *, consent: bool) -> "PlannedTraining":
    """Return the training with its environment built, if it needs one."""
    from dataclasses import replace

    from mlipbench.cachedir import default_cache
    from mlipbench.cli.env import build_missing
    from mlipbench.environments import Environments, Provision

    if training.done or training.environment.how is not Provision.MISSING:
        return training
    environments = Environments(default_cache(), isolated=True)  # what the running interpreter has did not do
    failed = build_missing(environments, [training.environment], display, consent=consent)
    if failed:
        raise PrerequisiteError(*failed.values())
    return replace(training, environment=environments.find(training.environment.name))


def _plan(
    recipe: str, model: str | None, dataset: str | None, data_root: Path | None, where: tuple[Path | None, str, bool]
) -> "PlannedTraining":
    from mlipbench.datasets.entry import load_entry
    from mlipbench.datasets.prepare import open_split
    from mlipbench.environments import Environments
    from mlipbench.models.registry import load_card
    from mlipbench.plan.build import worker_threads
    from mlipbench.plan.training import TrainingPlace, plan_training
    from mlipbench.recipes import load_recipe

    output, device, isolated = where
    chosen = load_recipe(recipe)
    net, source = model or chosen.model, dataset or chosen.dataset
    if net is None or source is None:
        option = "--model" if net is None else "--dataset"
        raise ConfigError(f"the recipe {chosen.recipe} names none", where=option, remedy=f"give {option}")
    if device not in {"cpu", "cuda"}:
        raise ConfigError(f"unknown device {device!r}", where="--device", remedy="give cpu or cuda")
    entry = load_entry(source)
    location = options.data_location(data_root)
    names = dict.fromkeys((chosen.train.split, chosen.validation.split))
    splits = {name: open_split(entry, name, location) for name in names}
    kind = cast("Literal['cpu', 'cuda']", device)
    card = load_card(net)
    environment = Environments(location.cache, isolated=isolated).find(card.environment)
    place = TrainingPlace(location.cache, environment, kind, worker_threads(), output)
    return plan_training(card, chosen, entry, splits, place)


def _describe(training: "PlannedTraining", record: "CheckpointRecord") -> str:
    best = next(candidate for candidate in record.candidates if candidate.learning_rate == record.learning_rate)
    verdict = record.verdict
    size = f"{record.name}: {record.parameters} parameters, learning rate {record.learning_rate:g}"
    forces = "" if best.forces_mae is None else f"forces MAE {1000 * best.forces_mae:.2f} meV/A, "
    interval = "" if verdict.high is None else f" (95 % interval {verdict.low:.3f} to {verdict.high:.3f})"
    share = (
        "no forces" if verdict.ratio is None else f"forces MAE over that of zero forces {verdict.ratio:.3f}{interval}"
    )
    return "\n".join(
        [
            f"{size}, best of {best.steps} steps at {best.best_step}",
            f"validation ({verdict.n_structures} structures): {forces}energy MAE {1000 * best.energy_mae:.2f} meV",
            f"{'trained' if verdict.trained else 'untrained'}: {share}",
            str(training.folder),
        ]
    )


def _as_dict(training: "PlannedTraining", record: "CheckpointRecord") -> dict[str, Any]:
    return {"folder": str(training.folder), **record.model_dump(mode="json")}
