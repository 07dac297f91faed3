"""What a long operation says while it goes on; how it is shown is the caller's choice."""

from __future__ import annotations

from typing import Protocol


class Display(Protocol):
    """Shows the progress of runs, one at a time.

    The texts may come from models and third parties; implementations make them harmless before they show them.
    """

    def begin(self, run: str, total: int, unit: str = "structures") -> None:
        """Start a new part.

        Args:
            run: What it is, such as ``emt float64: mini-slabs/test``.
            total: How many are still to be done; 0 where it is not known.
            unit: What is counted.
        """

    def advance(self, done: int, failed: int = 0) -> None:
        """Count what was done since the last call.

        Args:
            done: How many were finished since the last call, failed ones included.
            failed: How many of these failed.
        """

    def note(self, text: str) -> None:
        """Show a message between parts or during one."""

    def end(self, run: str, status: str) -> None:
        """End the part that `begin` started.

        Args:
            run: The same text as in `begin`.
            status: How it ended, such as ``ok`` or ``failed``.
        """


class SilentDisplay:
    """A `Display` that shows nothing."""

    def begin(self, run: str, total: int, unit: str = "structures") -> None:
        """Show nothing."""

    def advance(self, done: int, failed: int = 0) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def end(self, run: str, status: str) -> None:
        """Show nothing."""
