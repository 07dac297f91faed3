"""What rows of tables are called."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mlipbench.models.interface import ForceKind
from mlipbench.report.notes import training_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.comparison.collect import RunRecord


def labels_of(runs: Sequence[RunRecord], dataset: str, *, forces: bool) -> list[tuple[str, str]]:
    """Return model and variant of each run; seed and run stand there only where they tell rows apart.

    Beside costs it is said whether forces are a gradient, which costs a backward pass.
    """
    names = [(run.model, _variant(run, dataset) + (_forces(run) if forces else "")) for run in runs]
    several = {
        name for name in names if len({run.seed for run, own in zip(runs, names, strict=True) if own == name}) > 1
    }
    seeded = [
        (run.model, f"{name[1]}, seed {run.seed}" if name in several and run.seed is not None else name[1])
        for run, name in zip(runs, names, strict=True)
    ]
    taken = Counter(seeded)
    return [
        (f"{label[0]} ({run.run_id})", label[1]) if taken[label] > 1 and run.run_id else label
        for run, label in zip(runs, seeded, strict=True)
    ]


def _variant(run: RunRecord, dataset: str) -> str:
    """Return the settings of a run, and whether its network counts as trained."""
    facts = training_facts(run, dataset)
    return f"{run.variant}, untrained" if facts and not facts["verdict"]["trained"] else run.variant


def _forces(run: RunRecord) -> str:
    card = run.manifest.model.card if run.manifest else {}
    kinds = {ForceKind.CONSERVATIVE.value: ", gradient forces", ForceKind.DIRECT.value: ", direct forces"}
    return kinds.get(card.get("capabilities", {}).get("forces"), "")
