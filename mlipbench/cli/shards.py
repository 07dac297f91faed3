"""Shards on the command line: one by this process, or all by an engine."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlipbench.cli.options import PROGRAM, EngineKind, Request, handed_on, parsl_config, place
from mlipbench.cli.output import emit, emit_json, say
from mlipbench.errors import ConfigError

if TYPE_CHECKING:
    from mlipbench.execution.engines import Engine, EngineCommand
    from mlipbench.plan import Plan
    from mlipbench.progress import Display
    from mlipbench.runner import RunSettings, ShardDone
    from mlipbench.runner.campaign import ShardTask


def run_one(text: str, plan: "Plan", settings: "RunSettings", display: "Display", *, json: bool) -> int:
    """Compute one shard of every split, print what became of it, and return the exit code.

    Args:
        text: Which, as ``I/N``.
        plan: The plan.
        settings: How it is carried out.
        display: Shows progress.
        json: Whether the result is printed as JSON.

    Raises:
        MlipbenchError: As of `mlipbench.runner.run_shard`; or the text is no shard.
    """
    from mlipbench.plan.shards import ShardChoice
    from mlipbench.runner import run_shard

    chosen = ShardChoice.parse(text)
    if settings.again:
        remedy = "leave it out; --again with --shards begins a new run that is cut"
        raise ConfigError("a shard belongs to a run that others compute, too", where="--again", remedy=remedy)
    outcome, done = run_shard(plan, chosen, settings, display)
    if json:
        shards = [_as_dict(one) for one in done]
        emit_json({"exit_code": int(outcome.exit_code), "problems": outcome.problems, "shards": shards})
    else:
        for one in done:
            shard, record = one.shard, one.record
            what = f"shard {shard.number} of {shard.count}, structures {shard.start} to {shard.stop - 1}"
            emit(f"{one.title}: {what}: {record.n_predicted} predicted, {record.n_failed} failed")
    for problem in outcome.problems:
        say(f"mlipbench: {problem}")
    return int(outcome.exit_code)


@dataclass(frozen=True, slots=True)
class Cut:
    """How a suite is cut and who computes it.

    Attributes:
        count: Into how many shards splits are cut.
        config: The Parsl configuration; None for this machine.
    """

    count: int
    config: Path | None

    @classmethod
    def of(cls, count: int | None, engine: EngineKind | None, config: Path | None) -> "Cut | None":
        """Return it as the command line says; None where nothing is to be cut.

        Raises:
            ConfigError: The options do not fit each other.
        """
        chosen = parsl_config(engine, config)
        if count is None and engine is not None:
            raise ConfigError("an engine computes shards", where="--engine", remedy="say how many: --shards N")
        return None if count is None else cls(count, chosen)


def run_all(
    cut: Cut, plan: "Plan", settings: "RunSettings", request: Request, display: "Display"
) -> "tuple[Plan, list[str]]":
    """Have all shards of a plan computed, as many at a time as there is room for.

    Args:
        cut: How the plan is cut, and who computes it.
        plan: The plan.
        settings: How it is carried out; without a limit on memory the shards share that of the machine.
        request: What was asked for.
        display: Shows progress.

    Returns:
        The plan without the models of which a shard failed too often, and one line for each such shard.

    Raises:
        MlipbenchError: Results cannot be written, or the engine has failed.
    """
    from mlipbench.runner.campaign import Campaign, begin_runs
    from mlipbench.runner.meter import Meter

    engine, limit = _engine(cut, plan, settings.memory_limit)
    try:
        tasks = begin_runs(plan, cut.count, replace(settings, shards=cut.count), display)
        work = _Work(request, plan, replace(settings, memory_limit=limit))
        outcome = Campaign(tasks, work, engine, display, Meter(plan, settings.results)).run()
    finally:
        engine.close()
    remedy = "set aside; the same command tries it again"
    lines = [f"{title}: failed too often, the last time: {told}; {remedy}" for title, told in outcome.aside.items()]
    return replace(plan, runs=tuple(run for run in plan.runs if run.choice not in outcome.models)), lines


def _engine(cut: Cut, plan: "Plan", memory_limit: int | None) -> "tuple[Engine, int | None]":
    """Return the engine, and the memory that one of its commands may use."""
    if cut.config is not None:
        from mlipbench.execution.engines.parsl import ParslEngine

        return ParslEngine(cut.config), memory_limit
    from mlipbench.execution.engines.local import LocalEngine, local_slots
    from mlipbench.execution.watch import machine_limit

    cuda = any(run.variant.device.startswith("cuda") for run in plan.runs)
    slots = local_slots(max((run.threads for run in plan.runs), default=1), cuda=cuda)
    return LocalEngine(slots), memory_limit or machine_limit() // len(slots)


@dataclass(frozen=True, slots=True)
class _Work:
    """How shards are computed: by `mlipbench run --shard`, in whatever folder on whatever machine.

    Attributes:
        request: What was asked for.
        plan: The plan.
        settings: How it is carried out.
    """

    request: Request
    plan: "Plan"
    settings: "RunSettings"

    def command(self, task: "ShardTask") -> "EngineCommand":
        """Return the command that computes a shard."""
        from mlipbench.execution.engines import EngineCommand

        request, settings = self.request, self.settings
        listed = any(choice.name == task.model for choice in self.plan.suite.models)  # seen from the suite's folder
        options = {
            "--models": task.model if listed else place(task.model),
            "--shard": f"{task.choice.number}/{task.choice.count}",
            "--limit": request.limit,
            "--device": request.device,
            "--data": request.data,
            "--profile": request.profile,
            "--data-root": None if request.data_root is None else place(request.data_root),
            "--results": place(settings.results),
            "--timeout": settings.request_timeout,
            "--memory-limit": settings.memory_limit,
            "--display": "none",
        }
        given = [f"{name}={value}" for name, value in options.items() if value is not None]
        given += [name for name, wanted in {"--trust": request.trust, "--isolated": request.isolated}.items() if wanted]
        threads = next(run.threads for run in self.plan.runs if run.choice == task.model)
        arguments = (*PROGRAM, "run", place(request.suite), *given)
        return EngineCommand(task.title, arguments, {**handed_on(), "OMP_NUM_THREADS": str(threads)})

    def is_there(self, task: "ShardTask") -> bool:
        """Return whether all that a shard consists of is in the results."""
        from mlipbench.runner.campaign import is_there

        return is_there(self.plan, task, self.settings)


def _as_dict(done: "ShardDone") -> dict[str, Any]:
    facts = done.record.model_dump(mode="json", include={"n_predicted", "n_failed", "n_not_applicable", "seconds"})
    shard = {name: getattr(done.shard, name) for name in ("number", "count", "start", "stop", "name")}
    return {"run": str(done.run), "split": done.title, **shard, **facts}
