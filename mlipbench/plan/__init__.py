"""Suite + cards + datasets -> Plan of runs, splits and batches, content-hashed."""

from mlipbench.plan.build import build_plan
from mlipbench.plan.plan import Plan, PlannedCell, PlannedDataset, PlannedSplit, RunPlan, Selection, Variant

__all__ = ["Plan", "PlannedCell", "PlannedDataset", "PlannedSplit", "RunPlan", "Selection", "Variant", "build_plan"]
