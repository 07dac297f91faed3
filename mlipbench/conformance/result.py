"""What a check found."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from mlipbench.status import CheckStatus

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        check: Name of the check.
        status: How it ended.
        value: What was measured; None where nothing was, or it is not finite.
        unit: Unit of `value` and `tolerance`; empty for pure numbers.
        tolerance: How large `value` may be; None where no number decides.
        note: What was found beside it, or why there was nothing to check.
        problem: What is wrong, where it failed.
        remedy: What would put it right, where it failed.
    """

    check: str
    status: CheckStatus
    value: float | None = None
    unit: str = ""
    tolerance: float | None = None
    note: str | None = None
    problem: str | None = None
    remedy: str | None = None

    def header(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return asdict(self)

    @classmethod
    def of_header(cls, header: Mapping[str, Any]) -> Self:
        """Return the result that `header` gave.

        Raises:
            KeyError: A field is missing.
            ValueError: The status is none.
        """
        fields = {name: header[name] for name in cls.__dataclass_fields__}
        return cls(**fields | {"status": CheckStatus(fields["status"])})


@dataclass(frozen=True, slots=True)
class Measured:
    """A number that a check compares with a tolerance.

    Attributes:
        value: What was measured; NaN counts as beyond any tolerance.
        tolerance: How large it may be.
        unit: Of both.
    """

    value: float
    tolerance: float
    unit: str = ""

    @property
    def within(self) -> bool:
        """Whether the value keeps to the tolerance."""
        return self.value <= self.tolerance

    @property
    def ratio(self) -> float:
        """The value over the tolerance; infinite where it is not finite, or where nothing is allowed."""
        if not math.isfinite(self.value) or (self.tolerance <= 0 < self.value):
            return math.inf
        return self.value / self.tolerance if self.tolerance > 0 else 0.0


def passed(check: str, measured: Measured | None = None, note: str | None = None) -> CheckResult:
    """Return that a check found nothing wrong."""
    return CheckResult(check, CheckStatus.PASSED, *_numbers(measured), note=note)


def failed(check: str, problem: str, remedy: str, measured: Measured | None = None) -> CheckResult:
    """Return that a check found something wrong, and what would put it right."""
    return CheckResult(check, CheckStatus.FAILED, *_numbers(measured), problem=problem, remedy=remedy)


def not_supported(check: str, reason: str) -> CheckResult:
    """Return that the card declares what a check would need as missing."""
    return CheckResult(check, CheckStatus.NOT_SUPPORTED, note=reason)


def not_applicable(check: str, reason: str) -> CheckResult:
    """Return that there is nothing to check."""
    return CheckResult(check, CheckStatus.NOT_APPLICABLE, note=reason)


def judged(check: str, measured: Measured, problem: str, remedy: str, note: str | None = None) -> CheckResult:
    """Return whether a number keeps to its tolerance, with the problem where it does not."""
    if measured.within:
        return passed(check, measured, note)
    return failed(check, problem, remedy, measured)


def _numbers(measured: Measured | None) -> tuple[float | None, str, float | None]:
    if measured is None:
        return None, "", None
    return measured.value if math.isfinite(measured.value) else None, measured.unit, measured.tolerance
