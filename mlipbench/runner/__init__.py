"""Plan -> workers -> store: carrying out the runs of a plan."""

from mlipbench.runner.runs import RunOutcome, RunSettings, run_plan

__all__ = ["RunOutcome", "RunSettings", "run_plan"]
