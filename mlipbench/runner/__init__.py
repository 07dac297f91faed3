"""Plan -> workers -> store: carrying out the runs of a plan."""

from mlipbench.runner.budget import BudgetSearch
from mlipbench.runner.runs import RunOutcome, ShardDone, run_plan, run_shard
from mlipbench.runner.settings import RunSettings

__all__ = ["BudgetSearch", "RunOutcome", "RunSettings", "ShardDone", "run_plan", "run_shard"]
