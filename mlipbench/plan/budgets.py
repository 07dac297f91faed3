"""Batch budgets that were measured because neither suite nor card names one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mlipbench.budget import BatchBudget
from mlipbench.errors import ResultsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlipbench.environments import Environment
    from mlipbench.models.card import ModelCard
    from mlipbench.structures.columnar import Split


@dataclass(frozen=True, slots=True)
class BudgetQuestion:
    """What a measured budget depends on: model, environment and device.

    Attributes:
        card: The model's card.
        environment: What it runs in.
        precision: Precision it runs in.
        device: Device it runs on.
        threads: Threads of the worker.
        settings: Inference settings.
    """

    card: ModelCard
    environment: Environment
    precision: str
    device: str
    threads: int
    settings: Mapping[str, Any]

    def key(self) -> str:
        """Return the name under which the answer is kept."""
        parts = {
            "card": self.card.model_dump(mode="json"),
            "environment": self.environment.requirements,
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
            "settings": dict(self.settings),
        }
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class BudgetMeasure(Protocol):
    """Measures a budget with the model itself."""

    def __call__(self, question: BudgetQuestion, dataset: str, split: Split) -> BatchBudget:
        """Return the budget at which the structures of a split of `dataset` go through fastest."""


def budget_file(cache: Path, question: BudgetQuestion) -> Path:
    """Return where a measured budget is kept."""
    return cache / "budgets" / f"{question.key()}.json"


def known_budget(cache: Path, question: BudgetQuestion) -> BatchBudget | None:
    """Return the budget that was measured before, or None.

    Raises:
        ResultsError: The file is damaged.
    """
    path = budget_file(cache, question)
    if not path.exists():
        return None
    try:
        return BatchBudget.model_validate(json.loads(path.read_text(encoding="utf-8"))["budget"])
    except (ValueError, KeyError, TypeError):
        raise ResultsError("damaged", file=path, remedy="delete it; it is measured again") from None
