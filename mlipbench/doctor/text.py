"""A diagnosis for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.conformance.catalogue import CHECKS
from mlipbench.status import CheckStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.conformance.result import CheckResult
    from mlipbench.doctor.examine import Diagnosis, Finding

COLUMNS = ("group", "check", "status", "measured", "tolerance", "note")


def rows(diagnosis: Diagnosis) -> list[dict[str, str]]:
    """Return one row for each check, by the names of `COLUMNS`."""
    return [_row(one) for one in diagnosis.findings]


def heading(diagnosis: Diagnosis) -> str:
    """Return what was examined, in one line."""
    weights = "" if diagnosis.dataset is None else f", {diagnosis.dataset}"
    return f"{diagnosis.model}{weights}: {diagnosis.dtype} on {diagnosis.device}, {diagnosis.seconds:.0f} s"


def problems(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield what is wrong and what would put it right, three lines for each check that failed."""
    for result in diagnosis.failed:
        yield f"{result.check}: {CHECKS[result.check].title}"
        yield f"  wrong: {result.problem}"
        yield f"  mend: {result.remedy}"


def verdict(diagnosis: Diagnosis) -> str:
    """Return how many checks ended how, in one line."""
    counts = dict.fromkeys(CheckStatus, 0)
    for one in diagnosis.findings:
        counts[one.result.status] += 1
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items() if count)


def _row(finding: Finding) -> dict[str, str]:
    result = finding.result
    return {
        "group": finding.group,
        "check": result.check,
        "status": result.status.replace("_", " "),
        "measured": _number(result.value, result),
        "tolerance": _number(result.tolerance, result),
        "note": result.note or "",
    }


def _number(value: float | None, result: CheckResult) -> str:
    return "" if value is None else f"{value:.2g} {result.unit}".rstrip()
