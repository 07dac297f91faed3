"""What can go wrong with a worker, as errors with a one-line problem."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ConfigError, DatasetError, MlipbenchError, PrerequisiteError, WorkerError

if TYPE_CHECKING:
    from mlipbench.protocol import Message

_MAX_LINE: Final = 200
_USER_ERRORS: Final = (ConfigError, DatasetError, PrerequisiteError)


class WorkerLostError(WorkerError):
    """The worker process is gone or had to be ended; a new one has to be started."""


class WorkerDied(WorkerLostError):  # noqa: N818 - says what happened
    """The worker ended by itself.

    Attributes:
        status: Exit code, negative for a signal, as `subprocess` counts.
    """

    def __init__(self, status: int, *, detail: str = "") -> None:
        """Describe the status; `detail` is the tail of the worker's log."""
        super().__init__(describe_exit(status, detail), detail=detail)
        self.status = status


class WorkerTimeout(WorkerLostError):  # noqa: N818 - says what happened
    """The worker did not answer in time."""


class WorkerMemory(WorkerLostError):  # noqa: N818 - says what happened
    """The worker's resident memory passed the limit."""


class WorkerProtocol(WorkerLostError):  # noqa: N818 - says what happened
    """The worker sent something that is not a reply to what it was asked."""


class HandshakeRefused(WorkerError):  # noqa: N818 - says what happened
    """The worker runs other code than the harness."""


def describe_exit(status: int, log_tail: str = "") -> str:
    """Return a line such as ``worker killed by SIGSEGV`` or ``worker exited with code 1: last line of its log``."""
    if status < 0:
        try:
            return f"worker killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"worker killed by signal {-status}"
    lines = [line.strip() for line in log_tail.splitlines() if line.strip()]
    said = f": {lines[-1][:_MAX_LINE]}" if lines else ""
    return f"worker exited with code {status}{said}"


def as_error(message: Message) -> MlipbenchError:
    """Return the error that a ``failed`` reply reports.

    Errors a user can mend (`ConfigError`, `DatasetError`, `PrerequisiteError`) keep their class and so their exit
    code; everything else becomes a `WorkerError` with the worker's traceback as detail.
    """
    problem, kind = str(message.header["error"]), message.header.get("type")
    for error_class in _USER_ERRORS:
        if kind == error_class.__name__:
            return error_class(problem)
    return WorkerError(problem, detail=str(message.header.get("traceback", "")))
