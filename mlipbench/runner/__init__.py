"""Plan -> workers -> store: carrying out the runs of a plan."""

from mlipbench.runner.budget import BudgetSearch
from mlipbench.runner.runs import RunOutcome, RunSettings, run_plan

__all__ = ["BudgetSearch", "RunOutcome", "RunSettings", "run_plan"]
