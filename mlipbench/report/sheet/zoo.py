"""The page of all models: what their cards say, and what runs and diagnoses verify of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlipbench.report.sheet.axes import axes
from mlipbench.report.sheet.write import markdown_table
from mlipbench.report.text import escape_markdown
from mlipbench.status import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.models.card import ModelCard
    from mlipbench.store.diagnoses import DiagnosisRecord

HEADS: Final = (
    "model", "paper", "parameters", "forces", "trained on", "licence", "gated", "verified here", "runs here",
)  # fmt: skip
_TITLE: Final = "# All models"
_WORDS: Final = (
    "What the cards of all models say, by environment and package, and what the runs and diagnoses behind this page "
    "verify of it. ✓: nothing is wrong on these [axes](../reference/leaderboard.md#the-page-of-a-model); ✗: something "
    "is; nobody looked at the others. Nothing stands where nothing was run. Parameters are those of the runs, least "
    "and most: recipes train some models in several sizes. `mlipbench report --model NAME` writes the page of one."
)
_OWN: Final = "mlipbench"


def to_markdown(
    cards: Iterable[ModelCard],
    packages: Mapping[str, str],
    records: Sequence[RunRecord],
    diagnoses: Sequence[DiagnosisRecord],
) -> str:
    """Return the page as Markdown, a table for each environment.

    Args:
        cards: Of all models.
        packages: Name and version of the package of an environment; mlipbench itself where there is none.
        records: What `collect` found.
        diagnoses: What doctor found.
    """
    groups: dict[str, list[tuple[str, ...]]] = {}
    for card in sorted(cards, key=lambda card: card.name):
        runs = [run for run in records if run.model == card.name and run.source is Source.MEASURED]
        examined = [found for found in diagnoses if found.is_of(card.name)]
        groups.setdefault(card.environment, []).append(_row(card, runs, examined))
    parts = [_TITLE, _WORDS]
    for environment, rows in sorted(groups.items()):
        parts.append(f"## {escape_markdown(environment)}: {escape_markdown(packages.get(environment, _OWN))}")
        parts.append(markdown_table(HEADS, rows))
    return "\n\n".join(parts) + "\n"


def _row(card: ModelCard, runs: Sequence[RunRecord], diagnoses: Sequence[DiagnosisRecord]) -> tuple[str, ...]:
    suites = dict.fromkeys(run.manifest.suite.name for run in runs if run.manifest is not None)
    return (
        card.name,
        card.paper or "",
        _parameters(runs),
        card.capabilities.forces.value,
        _learnt(card),
        card.licence or "",
        "yes" if card.gated else "no",
        _verified(runs, diagnoses),
        ", ".join(sorted(suites)),
    )


def _parameters(runs: Sequence[RunRecord]) -> str:
    """Return the least and the largest number of parameters."""
    counts = {run.manifest.environment.parameters for run in runs if run.manifest is not None} - {None}
    ends = sorted(count for count in counts if count is not None)
    return " to ".join(f"{end:,}" for end in dict.fromkeys([*ends[:1], *ends[-1:]]))


def _learnt(card: ModelCard) -> str:
    if card.trainer is not None:
        before = f"{', '.join(card.training_data)}, then " if card.training_data else ""
        return f"{before}what the recipe says"
    if card.fitted:
        return "fitted to the dataset"
    if card.training_data is None:
        return "not known"
    return ", ".join(card.training_data) or "nothing"


def _verified(runs: Sequence[RunRecord], diagnoses: Sequence[DiagnosisRecord]) -> str:
    """Return the axes on which nothing is wrong, and those on which something is."""
    if not runs and not diagnoses:
        return ""
    found = axes(runs, diagnoses)
    marks = {"✓": [axis.name for axis in found if axis.passes], "✗": [a.name for a in found if a.passes is False]}
    return "; ".join(f"{mark} {', '.join(names)}" for mark, names in marks.items() if names)
