"""The page of one model as data: what it is, what was verified, what it scores, and where it fails first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import NothingSelectedError
from mlipbench.report.layout import blocks, rank_text
from mlipbench.report.sheet.axes import Axis, axes
from mlipbench.status import CheckStatus, Source, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.report.table import Table, TableRow
    from mlipbench.store.diagnoses import DiagnosisRecord

_SECTIONS: Final = (
    ("Accuracy", frozenset({Task.S2EF, Task.RELAXATION})),
    ("Cost", frozenset({Task.EFFICIENCY})),
    ("Stability", frozenset({Task.MD})),
    ("Physics", frozenset({Task.PHYSICS})),
)
_PLAIN: Final = ("paper", "licence", "note")


@dataclass(frozen=True, slots=True)
class Grid:
    """Numbers of the model on one dataset.

    Attributes:
        title: What they are.
        heads: Heads of the columns.
        lines: Cells, one tuple a row.
    """

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the page.

    Attributes:
        title: What it is about.
        facts: Terms with their values.
        grids: Tables.
        absent: What is said where there is nothing.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    grids: tuple[Grid, ...] = ()
    absent: str = "not measured"

    @property
    def empty(self) -> bool:
        """Whether there is nothing."""
        return not self.facts and not self.grids


@dataclass(frozen=True, slots=True)
class Sheet:
    """The page of one model.

    Attributes:
        model: Name of the model.
        first: The axis that fails first, in words.
        axes: What each axis says.
        parts: The parts of the page.
    """

    model: str
    first: str
    axes: tuple[Axis, ...]
    parts: tuple[Part, ...]


def build_sheet(
    model: str, records: Sequence[RunRecord], tables: Sequence[Table], diagnoses: Sequence[DiagnosisRecord]
) -> Sheet:
    """Return the page of a model.

    Args:
        model: Name of the model.
        records: What `collect` found, of all models: ranks are among them.
        tables: What `build_tables` made of them.
        diagnoses: What doctor found of the model.

    Raises:
        NothingSelectedError: There is neither a run nor a diagnosis of the model.
    """
    runs = [run for run in records if run.model == model and run.source is Source.MEASURED and run.manifest is not None]
    if not runs and not diagnoses:
        known = ", ".join(sorted({run.model for run in records if run.source is Source.MEASURED})) or "none"
        raise NothingSelectedError(f"there is no run of {model!r}", remedy=f"there are runs of {known}")
    found = axes(runs, diagnoses)
    failing = next((axis for axis in found if axis.passes is False), None)
    parts = [_identity(runs), _verified(diagnoses)]
    parts += [_numbers(title, tasks, model, tables) for title, tasks in _SECTIONS]
    return Sheet(model, _first(failing, found), found, tuple(parts))


def _first(failing: Axis | None, found: Sequence[Axis]) -> str:
    """Return the first failing axis in words, or that none fails of those that were looked at."""
    if failing is not None:
        return f"{failing.name}: {failing.said}"
    unknown = [axis.name for axis in found if axis.passes is None]
    return "none" + (f" of those that were looked at; not looked at: {', '.join(unknown)}" if unknown else "")


def _identity(runs: Sequence[RunRecord]) -> Part:
    """Return what the newest run says of the model."""
    manifests = [run.manifest for run in runs if run.manifest is not None]
    if not manifests:
        return Part("Identity", absent="no run says what the model is")
    newest = max(manifests, key=lambda manifest: manifest.started)
    card = newest.model.card
    facts = [("adapter", str(card.get("adapter", ""))), ("environment", str(card.get("environment", "")))]
    facts += [(name, str(card[name])) for name in _PLAIN if card.get(name)]
    learnt = card.get("training_data")
    facts += [("training data", ", ".join(learnt) or "none")] if learnt is not None else []
    facts += list(_declared(card.get("capabilities", {})))
    for name, weights in sorted({k: v for one in manifests for k, v in one.model.checkpoints.items()}.items()):
        facts.append((f"weights for {name}", _weights(weights)))
    facts.append(("card", f"sha256 {newest.model.card_sha256}"))
    return Part("Identity", tuple(facts))


def _declared(capabilities: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("forces", "stress", "elements", "cutoff", "dtypes", "devices", "energy_reference", "level_of_theory"):
        value = capabilities.get(name)
        if value not in (None, "", []):
            words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"declared {name.replace('_', ' ')}", words


def _weights(facts: Mapping[str, Any]) -> str:
    parts = [f"{facts['parameters']:,} parameters"] if isinstance(facts.get("parameters"), int) else []
    if facts.get("recipe"):
        data = f"{facts.get('n_train', '?')} structures of {facts.get('dataset', '?')}"
        parts.append(f"recipe {facts['recipe']} on {data}")
    digest = facts.get("sha256")
    return "; ".join([*parts, *([f"sha256 {digest}"] if digest else [])]) or "as the package has them"


def _verified(diagnoses: Sequence[DiagnosisRecord]) -> Part:
    """Return what doctor found, one grid for each examination."""
    return Part("Capabilities verified", grids=tuple(map(_examined, diagnoses)), absent="not examined by doctor")


def _examined(found: DiagnosisRecord) -> Grid:
    groups = dict.fromkeys(check.group for check in found.checks)
    lines = []
    for group in groups:
        checks = [check for check in found.checks if check.group == group]
        counts = [str(sum(check.status is status for check in checks)) for status in CheckStatus]
        wrong = "; ".join(f"{check.check}: {check.problem}" for check in checks if check.problem)
        lines.append((group, *counts, wrong))
    weights = f", {found.model}" if found.network else ""
    weights += "" if found.dataset is None else f", weights for {found.dataset}"
    title = f"doctor{weights}: {found.dtype} on {found.device}"
    return Grid(title, ("group", *(status.replace("_", " ") for status in CheckStatus), "what is wrong"), tuple(lines))


def _numbers(title: str, tasks: frozenset[Task], model: str, tables: Iterable[Table]) -> Part:
    grids = [
        grid
        for table in tables
        if not table.published and table.task in tasks
        for grid in _grids(table, [row for row in table.rows if row.run is not None and row.run.model == model])
    ]
    return Part(title, grids=tuple(grids))


def _grids(table: Table, rows: Sequence[TableRow]) -> Iterator[Grid]:
    """Yield the numbers of a table of one model, a line for each metric and split, a column for each variant."""
    if not rows:
        return
    lines = []
    for block in blocks(table, by_metric=True):
        for position, label in zip(block.columns, block.labels, strict=True):
            cells = [row.cells[position] for row in rows]
            if any(cell.record is not None for cell in cells):
                shown = (cell.text + rank_text(cell) for cell in cells)
                lines.append((block.title or label, table.columns[position].head, *shown))
    heads = ("metric", "split", *(f"{row.variant}, {row.training}" for row in rows))
    yield Grid(table.heading, heads, tuple(lines))
