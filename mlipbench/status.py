"""The closed sets that plan, store and reports share."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """State of a run, of a split inside it, or of one cell of a table."""

    RUNNING = "running"
    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"
    NOT_APPLICABLE = "not_applicable"


class Source(StrEnum):
    """Where a number comes from."""

    MEASURED = "measured"
    PUBLISHED = "published"


class Task(StrEnum):
    """What is carried out on a split."""

    S2EF = "s2ef"
    RELAXATION = "relaxation"


class Role(StrEnum):
    """What a split is predicted for."""

    EVALUATE = "evaluate"
    SHIFT = "shift"
    REFERENCE = "reference"
