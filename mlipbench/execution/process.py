"""Starting a worker process in a clean surrounding, and ending it for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.errors import PrerequisiteError
from mlipbench.version import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_GIB: Final = 2**30
_THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# glibc returns large blocks to the system when they are freed, and every forward pass then pays for its pages anew:
# up to three quarters of the time of a batch. With these it keeps them.
_ALLOCATOR: Final = MappingProxyType(
    {
        "MALLOC_MMAP_THRESHOLD_": str(4 * _GIB),
        "MALLOC_TRIM_THRESHOLD_": str(8 * _GIB),
        "MALLOC_TOP_PAD_": str(_GIB // 4),
    }
)
_LOG_TAIL: Final = 4000


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """How a worker is started and watched.

    Attributes:
        python: Interpreter of the environment.
        log: File its stdout and stderr are appended to.
        threads: Threads of its numerical libraries.
        env: Variables added to its environment; ``PYTHONPATH`` is appended to the path entry of the package.
        package: Folder of the mlipbench that it runs.
        memory_limit: Largest resident memory in bytes, or None.
        start_timeout: Seconds until it must have greeted.
        load_timeout: Seconds until it must have loaded a model.
        request_timeout: Seconds until it must have answered another request.
    """

    python: Path
    log: Path
    threads: int = 1
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    package: Path = PACKAGE
    memory_limit: int | None = None
    start_timeout: float = 120.0
    load_timeout: float = 600.0
    request_timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class Pipes:
    """The parent's ends of the two pipes to a worker.

    Attributes:
        requests: Written by the parent.
        replies: Read by the parent.
    """

    requests: int
    replies: int


def launch(spec: WorkerSpec, path_entry: Path) -> tuple[subprocess.Popen[bytes], Pipes]:
    """Start a worker as the leader of a session of its own.

    Args:
        spec: How to start it.
        path_entry: A directory that holds the running package and nothing else.

    Raises:
        PrerequisiteError: The interpreter cannot be started or the log cannot be written.
    """
    request_read, request_write = os.pipe()
    reply_read, reply_write = os.pipe()
    command = [str(spec.python), "-m", "mlipbench.worker", "--in", str(request_read), "--out", str(reply_write)]
    if threading.current_thread() is threading.main_thread():  # Linux signals the end of a thread, not of a process
        command += ["--die-with-parent", str(os.getpid())]
    try:
        with spec.log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the environment's own interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(spec, path_entry),
                pass_fds=(request_read, reply_write),
                start_new_session=True,
            )
    except OSError as error:
        os.close(request_write)
        os.close(reply_read)
        raise PrerequisiteError(f"cannot start a worker: {error.strerror}", file=error.filename) from error
    finally:
        os.close(request_read)
        os.close(reply_write)
    return process, Pipes(request_write, reply_read)


def child_environment(spec: WorkerSpec, path_entry: Path) -> dict[str, str]:
    """Return the worker's environment: the parent's without what would change which code runs, and on how many cores.

    Nothing outside the environment's own packages and `path_entry` can be imported: neither the current directory
    nor the user's site directory. Hashes are not randomised, so that nothing depends on the order of a set.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MALLOC_"))}
    path = [str(path_entry), *filter(None, [spec.env.get("PYTHONPATH")])]
    return {
        **kept,
        **_ALLOCATOR,
        **dict.fromkeys(_THREAD_VARIABLES, str(spec.threads)),
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        **spec.env,
        "PYTHONPATH": os.pathsep.join(path),
    }


def link_package(directory: Path, package: Path = PACKAGE) -> Path:
    """Make `directory` a path entry that holds a package alone, by default the one that runs, and return it."""
    link = directory / "mlipbench"
    if not link.is_symlink():
        link.symlink_to(package, target_is_directory=True)
    return directory


def end_process(process: subprocess.Popen[bytes], grace: tuple[float, float]) -> int:
    """Wait for a worker to end, then end it and whatever it started: in stages, and certainly.

    Args:
        process: The leader of its process group.
        grace: Seconds to wait before SIGTERM, and before SIGKILL after that.

    Returns:
        The exit code, negative for a signal.
    """
    for patience, number in zip(grace, (signal.SIGTERM, signal.SIGKILL), strict=True):
        if _wait(process, patience):
            break
        _signal_group(process.pid, number)
    status = process.wait()
    _signal_group(process.pid, signal.SIGKILL)  # children that outlived their leader
    return status


def log_tail(path: Path) -> str:
    """Return the last lines of a log, without control characters."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
