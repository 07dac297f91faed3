"""The engine that puts commands wherever Parsl's executors run: SLURM, PBS Pro, LSF, Kubernetes, or this machine."""

from __future__ import annotations

import concurrent.futures
import os
import runpy
from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import ConfigError, PrerequisiteError
from mlipbench.execution.engines.engine import JOB_END, TAIL, CommandEnd, last_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlipbench.execution.engines.engine import EngineCommand

_PATIENCE: Final = 2.0  # seconds after which `wait` returns although nothing has ended
_DRAINED: Final = 120.0  # seconds before the end of a job, at most, from which on it takes nothing
_FRESH: Final = 0.1  # share of a job's time in which whatever is begun may take all of it


class ParslEngine:
    """Hands commands to the executors of a Parsl configuration.

    Args:
        file: A Python file that defines ``config``, an ordinary ``parsl.config.Config``. It is executed.

    Raises:
        ConfigError: The file is none, or Parsl refuses what it says.
        PrerequisiteError: Parsl is not installed, or its executors cannot be started.
    """

    def __init__(self, file: Path) -> None:
        """Read the configuration and start the executors."""
        self._file = file
        config = read_config(file)
        from parsl.dataflow.dflow import DataFlowKernel
        from parsl.errors import ParslError

        for executor in config.executors:
            _drain(executor)
        try:
            self._kernel = DataFlowKernel(config)
        except (ParslError, OSError, ValueError, TypeError, AssertionError) as error:
            raise PrerequisiteError(f"Parsl cannot start: {last_line(str(error))}", file=file) from error
        self._lasts = min(filter(None, map(_walltime, config.executors)), default=None)
        self._out: dict[concurrent.futures.Future[Any], EngineCommand] = {}

    def submit(self, command: EngineCommand) -> None:
        """Take a command; Parsl begins it where there is room."""
        from parsl.app.app import python_app

        app = python_app(carry_out, data_flow_kernel=self._kernel)
        future = app(tuple(command.arguments), dict(command.environment), self._lasts)
        self._out[future] = command

    def wait(self) -> list[CommandEnd]:
        """Wait until commands have ended, and return how; none after a while in which nothing ended.

        Raises:
            PrerequisiteError: An executor has given up, for instance because its queue takes no jobs.
        """
        done, _ = concurrent.futures.wait(self._out, _PATIENCE, concurrent.futures.FIRST_COMPLETED)
        return [self._end(self._out.pop(future), future) for future in done]

    def close(self) -> None:
        """Cancel the jobs."""
        self._kernel.cleanup()

    def _end(self, command: EngineCommand, future: concurrent.futures.Future[Any]) -> CommandEnd:
        from parsl.executors.errors import BadStateException

        error = future.exception()
        if isinstance(error, BadStateException):
            raise PrerequisiteError(
                f"the executor {error.executor.label!r} has given up: {last_line(str(error.reason))}", file=self._file,
                remedy="correct what it asks the scheduler for; the same command goes on with what is there",
            ) from error  # fmt: skip
        if error is not None:
            return CommandEnd(command, None, last_line(f"{type(error).__name__}: {error}"))
        status, told = future.result()
        return CommandEnd(command, status, told)


def read_config(file: Path) -> Any:
    """Return the Parsl configuration that a file defines; the file is executed.

    Raises:
        ConfigError: There is no such file, it fails, or it defines none.
        PrerequisiteError: Parsl is not installed.
    """
    try:
        from parsl.config import Config
    except ImportError:
        raise PrerequisiteError("the engine needs Parsl", remedy='run: pip install "mlipbench[parsl]"') from None
    remedy = "define `config = parsl.config.Config(...)` there; see docs/shards.md"
    if not file.is_file():
        raise ConfigError("there is no such file", file=file, where="--engine-config", remedy=remedy)
    try:
        found = runpy.run_path(str(file)).get("config")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's own code
        raise ConfigError(f"fails: {type(error).__name__}: {last_line(str(error))}", file=file) from None
    if not isinstance(found, Config):
        kind = "there is none" if found is None else f"it is a {type(found).__name__}"
        raise ConfigError(f"`config` is no configuration of Parsl: {kind}", file=file, remedy=remedy)
    return found


def _drain(executor: Any) -> None:
    """Let the workers of an executor take nothing any more shortly before their job ends, unless it says itself when.

    A command that is refused for lack of time would be given to the same job again, and be lost with it.
    """
    lasts = _walltime(executor)
    if lasts is not None and getattr(executor, "drain_period", 0) is None:
        executor.drain_period = int(lasts - min(_FRESH * lasts, _DRAINED))


def _walltime(executor: Any) -> float | None:
    """Return the seconds that a job of an executor lasts; None where nothing says so."""
    text = getattr(getattr(executor, "provider", None), "walltime", None)
    parts = str(text).split(":") if text else []
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):  # noqa: PLR2004 - HH:MM:SS
        return None
    hours, minutes, seconds = map(int, parts)
    return 3600.0 * hours + 60.0 * minutes + seconds


def carry_out(arguments: Sequence[str], environment: Mapping[str, str], lasts: float | None) -> tuple[int, str]:
    """Run a command in a worker of Parsl; return its exit status and the last line it wrote.

    A command learns when its job ends, but for those that begin with the job: what takes longer than a job would never
    be begun otherwise, and goes on in the next one.

    Args:
        arguments: The program and its arguments.
        environment: Variables added to those of the worker.
        lasts: Seconds that a job lasts, counted from when the pool of workers was started; None without a limit.
    """
    import subprocess
    import time

    import psutil

    given = {**os.environ, **environment}
    begun = psutil.Process(os.getppid()).create_time()
    if lasts is not None and time.time() - begun > _FRESH * lasts:
        given[JOB_END] = str(begun + lasts)
    done = subprocess.run(  # noqa: S603 - this program
        list(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=given,
        check=False,
    )  # fmt: skip
    return done.returncode, last_line(done.stdout[-TAIL:].decode(errors="replace"))
