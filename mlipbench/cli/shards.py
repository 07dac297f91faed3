"""Shards on the command line: one by this process, or all by an engine."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlipbench.cli.options import Request
from mlipbench.cli.output import emit, emit_json, say
from mlipbench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.execution.engines import EngineCommand
    from mlipbench.plan import Plan
    from mlipbench.progress import Display
    from mlipbench.runner import RunSettings, ShardDone
    from mlipbench.runner.campaign import ShardTask

_KEPT: Final = ("MLIPBENCH_", "XDG_", "PIP_", "UV_")
"""Variables that decide where things are found; commands on other machines get them, too."""


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
    outcome, done = run_shard(plan, chosen.number, replace(settings, shards=chosen.count), display)
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


def run_all(
    count: int, plan: "Plan", settings: "RunSettings", request: Request, display: "Display"
) -> "tuple[Plan, list[str]]":
    """Have all shards of a plan computed on this machine, as many at a time as it has room for.

    Args:
        count: Into how many shards splits are cut.
        plan: The plan.
        settings: How it is carried out; without a limit on memory the shards share that of the machine.
        request: What was asked for.
        display: Shows progress.

    Returns:
        The plan without the models of which a shard failed too often, and one line for each such shard.

    Raises:
        MlipbenchError: Results cannot be written, or the engine has failed.
    """
    from mlipbench.execution.engines.local import LocalEngine, local_slots
    from mlipbench.execution.watch import machine_limit
    from mlipbench.runner.campaign import TRIES, Campaign, begin_runs

    tasks = begin_runs(plan, count, replace(settings, shards=count), display)
    cuda = any(run.variant.device.startswith("cuda") for run in plan.runs)
    slots = local_slots(max((run.threads for run in plan.runs), default=1), cuda=cuda)
    limited = replace(settings, memory_limit=settings.memory_limit or machine_limit() // len(slots))
    engine = LocalEngine(slots)
    try:
        outcome = Campaign(tasks, _commands(request, limited, plan), engine, display).run()
    finally:
        engine.close()
    remedy = "set aside; the same command tries it again"
    lines = [f"{title}: failed {TRIES} times, the last time: {told}; {remedy}" for title, told in outcome.aside.items()]
    return replace(plan, runs=tuple(run for run in plan.runs if run.choice not in outcome.models)), lines


def _commands(request: Request, settings: "RunSettings", plan: "Plan") -> "Callable[[ShardTask], EngineCommand]":
    """Return what makes the command that computes a shard, which may be given in any folder."""
    from mlipbench.execution.engines import EngineCommand

    options = {
        "--limit": request.limit,
        "--device": request.device,
        "--data": request.data,
        "--profile": request.profile,
        "--data-root": None if request.data_root is None else request.data_root.resolve(),
        "--results": settings.results.resolve(),
        "--timeout": settings.request_timeout,
        "--memory-limit": settings.memory_limit,
    }
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    given += [name for name, wanted in {"--trust": request.trust, "--isolated": request.isolated}.items() if wanted]
    threads = {run.choice: str(run.threads) for run in plan.runs}
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}

    def command(task: "ShardTask") -> EngineCommand:
        chosen = (f"--models={_place(task.model)}", f"--shard={task.choice.number}/{task.choice.count}")
        arguments = (sys.executable, "-m", "mlipbench", "run", _place(request.suite), *given, *chosen, "--display=none")
        return EngineCommand(task.title, arguments, {**kept, "OMP_NUM_THREADS": threads[task.model]})

    return command


def _place(name: str) -> str:
    """Return a path as an absolute one, and a name as it is."""
    path = Path(name)
    return str(path.resolve()) if path.exists() else name


def _as_dict(done: "ShardDone") -> dict[str, Any]:
    facts = done.record.model_dump(mode="json", include={"n_predicted", "n_failed", "n_not_applicable", "seconds"})
    shard = {name: getattr(done.shard, name) for name in ("number", "count", "start", "stop", "name")}
    return {"run": str(done.run), "split": done.title, **shard, **facts}
