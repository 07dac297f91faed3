"""The training process: one job, all its learning rates, one checkpoint, whoever trains."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from mlipbench.errors import ConfigError, ExitCode, MlipbenchError, PrerequisiteError, from_os_error
from mlipbench.recipe import Event, EventKind, Trainer, TrainingJob
from mlipbench.training.events import EventLog

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_LINE: Final = 500
_TRANSPORTS: Final = ("gloo", "nccl")
"""Names that torch's errors hold where processes that train together cannot reach each other."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what the job file says, in the folder it lies in, and end with the exit code of what happened.

    Every process that ``torchrun`` starts calls this; the first one writes. A job that was interrupted goes on.
    """
    options = _parse(arguments)
    if options.die_with_parent:
        threading.Thread(target=_watch, args=(options.die_with_parent,), name="parent", daemon=True).start()
    sys.exit(_run(options.job.absolute()))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mlipbench.training", description=main.__doc__)
    parser.add_argument("job", type=Path, metavar="JOB", help="the job file; its folder is worked in")
    parser.add_argument("--die-with-parent", type=int, default=0, metavar="PID", help="end when this process ends")
    return parser.parse_args(arguments)


def _run(path: Path) -> int:
    first = int(os.environ.get("RANK", "0")) == 0
    try:
        train(path)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except (MlipbenchError, OSError) as error:
        known = from_os_error(error, path.parent) if isinstance(error, OSError) else error
        # errors of the job are the same in all processes, and the first one tells
        return _report(path.parent, str(known), known.exit_code, silent=known is error and not first)
    except Exception as error:  # noqa: BLE001 - the boundary to foreign code
        traceback.print_exc()
        text = " ".join(f"internal error: {type(error).__name__}: {error}".split())
        return _report(path.parent, text[:_MAX_LINE], ExitCode.TASKS_FAILED, silent=_lost_another(text))
    return ExitCode.DONE


def _lost_another(text: str) -> bool:
    """Return whether an error says that another process of the training is gone, which only the parent can mend."""
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return together and any(word in text.lower() for word in _TRANSPORTS)


def _report(folder: Path, text: str, exit_code: int, *, silent: bool = False) -> int:
    """Say what went wrong, to whoever started it and to whoever follows the events."""
    if not silent:
        print(text, file=sys.stderr)  # noqa: T201 - no harness may be there
        try:
            EventLog(folder).write(Event(kind=EventKind.ERROR, text=text, exit_code=exit_code))
        except OSError as error:
            print(from_os_error(error, folder), file=sys.stderr)  # noqa: T201 - nowhere else to say it
    return exit_code


def train(path: Path) -> None:
    """Train what a job file says and write the checkpoint beside it.

    Args:
        path: The job file.

    Raises:
        MlipbenchError: The job is invalid, does not fit its data or its network, something is missing, or the loss
            diverges at every learning rate.
    """
    try:
        job = TrainingJob.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise PrerequisiteError("there is no such job file", file=path) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or None
        raise ConfigError(f"not a training job: {first['msg']}", file=path, where=where) from None
    if job.trainer is not Trainer.NETS:
        _bridged(job, path.parent)
        return
    # else every process of DDP warns that all weights have gradients, for the networks of which that is true
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        from mlipbench.training.job import train_job
    except ModuleNotFoundError as error:
        remedy = "install mlipbench[torch]"
        raise PrerequisiteError(f"training needs the module {error.name}", remedy=remedy) from None
    train_job(job, path.parent)


def _bridged(job: TrainingJob, folder: Path) -> None:
    from mlipbench.training.bridges.bridge import bridge_class
    from mlipbench.training.bridges.drive import train_bridged

    train_bridged(job, folder, bridge_class(job.trainer))


def _watch(parent: int) -> None:
    """End this process when another one is gone; under ``torchrun`` that one is not its parent."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(ExitCode.INTERRUPTED)
        except PermissionError:  # it lives, under another user
            return
        time.sleep(1.0)
