"""Scores of probes of physics: what was found is what is scored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.metrics.probes import FINDINGS, PhysicsFindings
from mlipbench.scoring.scored import Scored
from mlipbench.store.predictions import State

if TYPE_CHECKING:
    from mlipbench.scoring.treatment import Treatment
    from mlipbench.store.predictions import PredictionBlock
    from mlipbench.structures.columnar import Split


def score_probed(split: Split, block: PredictionBlock, start: int, treatment: Treatment) -> Scored:
    """Return what was found in some structures; no labels enter."""
    del split, start, treatment
    return Scored(PhysicsFindings(**{name: block.columns[name] for name in FINDINGS}), block.state == State.OK)
