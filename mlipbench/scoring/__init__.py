"""Store + datasets -> scores and metrics, from the stored predictions alone."""

from mlipbench.scoring.run import score_run

__all__ = ["score_run"]
