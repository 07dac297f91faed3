"""Running uv: what it says is followed, censored and kept, and it ends with this process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.errors import PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mlipbench.environments.pipconfig import Indexes

_PATIENCE: Final = 5.0  # seconds between SIGTERM and SIGKILL
_LONGEST: Final = 400  # characters of a cause
_CAUSE: Final = re.compile(r"^\s*(?:\u00d7|[├╰]─▶|error:|cause:|Caused by:)\s*")
_FRAME: Final = re.compile(r"^\s*│?\s*")
_PROGRESS: Final = re.compile(
    r"^\s*((Using|Resolved|Downloading|Downloaded|Building|Built|Prepared|Installed|Uninstalled|Creating|Updating|"
    r"Updated|Audited|Activate) |warning:|hint:|[+~-] )"
)
_LAST_WORD: Final = re.compile(r"(^[\w.]*(Error|Exception)|\berror)\b", re.IGNORECASE)
# Stands between this process and uv, and ends uv and whatever it has started when this process is gone.
_TIED: Final = """
import ctypes, os, signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
raise SystemExit(subprocess.call(sys.argv[2:]))
"""


class UvError(Exception):
    """uv failed; the message is the cause in one line."""


@dataclass(frozen=True, slots=True)
class Uv:
    """uv with the user's indexes.

    Attributes:
        indexes: Where packages are looked for.
        log: File that everything uv says is appended to, censored.
        folder: Folder it runs in; nothing there is read as a project.
        variables: Further environment variables, for builds.
    """

    indexes: Indexes
    log: Path
    folder: Path
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def run(self, *words: str, text: str = "", follow: Callable[[str], None] | None = None) -> str:
        """Run a command and return its output.

        Args:
            words: The command, such as ``venv`` or ``pip compile``, with its options.
            text: Its input.
            follow: Called with every line that it says meanwhile.

        Raises:
            PrerequisiteError: uv is not installed.
            UvError: It failed.
        """
        command = [sys.executable, "-I", "-c", _TIED, str(os.getpid()), _binary(), *words, "--no-config"]
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ uv {self.indexes.censor(' '.join(words))}\n")
            log.flush()
            process = subprocess.Popen(  # noqa: S603 - uv itself
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env={
                    **self.indexes.variables(os.environ),
                    **self.variables,
                    "NO_COLOR": "1",
                    "UV_NO_PROGRESS": "1",
                },
                start_new_session=True,
            )
            try:
                output, said = _converse(process, text, lambda line: self._hear(line, log.write, follow))
            finally:
                _end(process)
        if process.returncode:
            raise UvError(condensed(said) or f"uv ended with status {process.returncode}")
        return output

    def _hear(self, line: str, write: Callable[[str], object], follow: Callable[[str], None] | None) -> str:
        text = self.indexes.censor(line)
        write(text)
        if follow is not None:
            follow(text.strip())
        return text


def condensed(said: str) -> str:
    """Return the decisive parts of what uv said, as one line.

    The error, its first cause and its last one; where a package could not be built, the last error of the build.
    """
    causes: list[str] = []
    output: list[str] | None = None  # of a build backend, once it began
    for line in said.splitlines():
        if line.strip() in {"[stdout]", "[stderr]"}:
            output = output or []
        elif output is not None and (not line.strip() or line[0].isspace()):
            output.append(line.strip())
        elif _CAUSE.match(line):
            causes.append(_CAUSE.sub("", line).strip())
        elif causes and line.strip() and not _PROGRESS.match(line):
            causes[-1] += f" {_FRAME.sub('', line).strip()}"
    errors = [line for line in output or () if _LAST_WORD.search(line)]
    parts = [causes[0], errors[-1]] if causes and errors else [*causes[:2], *causes[2:][-1:]]
    text = " ".join(": ".join(part.rstrip(":") for part in parts).split()).rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rsplit(' ', 1)[0]} ..."


def _binary() -> str:
    try:
        import uv
    except ModuleNotFoundError:
        raise PrerequisiteError("uv is not installed", remedy="run: pip install uv") from None
    try:
        return uv.find_uv_bin()
    except FileNotFoundError:
        raise PrerequisiteError("the program uv is missing", remedy="run: pip install --force-reinstall uv") from None


def _converse(process: subprocess.Popen[bytes], text: str, hear: Callable[[str], str]) -> tuple[str, str]:
    """Return what a process wrote and said; the latter is heard line by line."""
    import threading

    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise UvError("uv was started without pipes")
    written: list[bytes] = []
    reader = threading.Thread(target=lambda pipe: written.append(pipe.read()), args=(process.stdout,), daemon=True)
    reader.start()
    try:
        process.stdin.write(text.encode())
        process.stdin.close()
    except BrokenPipeError:  # it ended already; what it said tells why
        pass
    said = [hear(line.decode(errors="replace")) for line in process.stderr]
    process.wait()
    reader.join()
    return b"".join(written).decode(errors="replace"), "".join(said)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started, if it still runs."""
    if process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, number)
            try:
                process.wait(_PATIENCE)
                break
            except subprocess.TimeoutExpired:
                continue
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
