"""What all findings come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlipbench.errors import ExitCode
from mlipbench.gate.findings import Finding, State

if TYPE_CHECKING:
    from mlipbench.comparison.comparing import Comparison


@dataclass(frozen=True, slots=True)
class Gate:
    """Everything that a gate has to say.

    Attributes:
        findings: One by one.
        comparisons: The comparisons with the baseline that they rest on.
        problems: What was missing or failed on the way, one line each.
        missing: Whether something is missing on this machine that a run of the baseline needs.
        baseline: The file of the baseline, or None.
        against: The older version that times were measured beside, or None.
        policy: Name of the policy.
    """

    findings: tuple[Finding, ...]
    comparisons: tuple[Comparison, ...] = ()
    problems: tuple[str, ...] = ()
    missing: bool = False
    baseline: str | None = None
    against: str | None = None
    policy: str = "default"

    def of(self, *states: State) -> list[Finding]:
        """Return the findings of some states."""
        return [finding for finding in self.findings if finding.state in states]

    @property
    def exit_code(self) -> ExitCode:
        """Missing goes before a regression, that before an incomplete run, and that before nothing measured."""
        if self.missing:
            return ExitCode.MISSING
        if self.of(State.REGRESSION):
            return ExitCode.NEGATIVE_VERDICT
        if self.of(State.INCOMPLETE):
            return ExitCode.TASKS_FAILED
        return ExitCode.DONE if any(finding.measured for finding in self.findings) else ExitCode.NOTHING

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return {
            ExitCode.MISSING: "prerequisites missing",
            ExitCode.NEGATIVE_VERDICT: "regression",
            ExitCode.TASKS_FAILED: "run incomplete",
            ExitCode.NOTHING: "nothing comparable",
            ExitCode.DONE: "pass",
        }[self.exit_code]
