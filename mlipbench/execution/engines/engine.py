"""What an engine is told and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

JOB_END: Final = "MLIPBENCH_JOB_END"
"""Variable that tells a command when the job that it runs in ends, in seconds since 1970."""
TAIL: Final = 2000
"""Characters of what a command wrote last that are kept."""


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """A command that can be given again until it ends well.

    Attributes:
        title: What messages call it.
        arguments: The program and its arguments.
        environment: Variables added to those of the process that runs it.
    """

    title: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended.

    Attributes:
        command: The command.
        status: Its exit status, negative for a signal; None where it was lost with the machine or the job it ran in.
        told: The last line that it wrote, or what became of it.
    """

    command: EngineCommand
    status: int | None
    told: str


class Engine(Protocol):
    """Carries out commands side by side."""

    def submit(self, command: EngineCommand) -> None:
        """Take a command; it begins as soon as there is room.

        Raises:
            MlipbenchError: It cannot be taken.
        """

    def wait(self) -> list[CommandEnd]:
        """Wait until commands have ended, and return how.

        Returns:
            At least one, or none after a while in which nothing ended.

        Raises:
            MlipbenchError: The engine itself has failed.
        """

    def close(self) -> None:
        """End whatever still runs."""


def last_line(text: str) -> str:
    """Return the last line of what a command wrote that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
