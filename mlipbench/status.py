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
    AVERAGED = "averaged"  # over measured runs that differ in their training seed
    PUBLISHED = "published"


class Task(StrEnum):
    """What is carried out on a split."""

    S2EF = "s2ef"
    RELAXATION = "relaxation"
    MD = "md"
    PHYSICS = "physics"
    EFFICIENCY = "efficiency"


class Integrator(StrEnum):
    """How a replica goes from one step to the next."""

    NOSE_HOOVER = "nose_hoover"
    LANGEVIN = "langevin"
    VELOCITY_VERLET = "velocity_verlet"


class Training(StrEnum):
    """How the data that a model learnt from relate to the structures it is evaluated on; ranks stay within one kind."""

    SPLIT = "trained-on-split"  # trained, or fitted, on the training structures of the dataset
    FINE_TUNED = "fine-tuned"  # likewise, beginning with weights that were trained on other data
    ZERO_SHOT = "zero-shot"  # trained on other data at the level of theory of the labels
    OTHER_LEVEL = "zero-shot-other-level"  # trained on other data at another level of theory
    CLASSICAL = "classical"  # learnt from no structures
    UNKNOWN = "unknown"  # nobody says what it was trained on, or whether these structures are part of that
    CONTAMINATED = "contaminated"  # trained on these very structures; never ranked


class Role(StrEnum):
    """What a split is predicted for."""

    EVALUATE = "evaluate"
    SHIFT = "shift"
    REFERENCE = "reference"


class CheckStatus(StrEnum):
    """How a check of an adapter ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_SUPPORTED = "not_supported"  # the card declares that the model does not take such structures
    NOT_APPLICABLE = "not_applicable"  # there is nothing to check
