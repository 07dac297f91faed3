"""The page of one model as Markdown and HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.report.page.page import page_style, policy, template
from mlipbench.report.text import escape_markdown, slug
from mlipbench.store.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mlipbench.report.sheet.sheet import Grid, Part, Sheet

LEGEND = (
    "Intervals in brackets are 95 %. Behind the dot: ranks among models of equal training. ✓ keeps to the threshold at "
    "the head of its line, ✗ does not; where a "
    "threshold has neither, the model does not claim to keep to it: its forces are declared direct."
)


def write_sheet(sheet: Sheet, directory: Path) -> tuple[Path, Path]:
    """Write ``model-NAME.md`` and ``model-NAME.html``, each whole or not at all, and return their paths.

    Args:
        sheet: What `build_sheet` made.
        directory: Where to write; made if it does not exist.

    Raises:
        MlipbenchError: The files cannot be written.
    """
    name = f"model-{slug(sheet.model)}"
    markdown, html = directory / f"{name}.md", directory / f"{name}.html"
    write_atomically(markdown, to_markdown(sheet).encode())
    write_atomically(html, to_html(sheet).encode())
    return markdown, html


def to_markdown(sheet: Sheet) -> str:
    """Return the page as Markdown."""
    parts = [f"# {escape_markdown(sheet.model)}", f"First failing axis: {escape_markdown(sheet.first)}"]
    parts.append(markdown_table(("Axis", "", "Found"), [(axis.name, axis.word, axis.said) for axis in sheet.axes]))
    parts.append(LEGEND)
    for part in sheet.parts:
        parts.extend(_part(part))
    return "\n\n".join(parts) + "\n"


def to_html(sheet: Sheet) -> str:
    """Return the page as HTML, without links to other files and without scripts."""
    return template("model.html.j2").render(sheet=sheet, legend=LEGEND, style=page_style(), policy=policy(()))


def _part(part: Part) -> Iterator[str]:
    yield f"## {escape_markdown(part.title)}"
    if part.empty:
        yield f"{escape_markdown(part.absent)}."
    if part.facts:
        yield "\n".join(f"- {escape_markdown(term)}: {escape_markdown(value)}" for term, value in part.facts)
    for grid in part.grids:
        yield f"### {escape_markdown(grid.title)}"
        yield _grid(grid)


def _grid(grid: Grid) -> str:
    return markdown_table(grid.heads, grid.lines)


def markdown_table(heads: Iterable[str], lines: Iterable[tuple[str, ...]]) -> str:
    """Return a table whose cells show as they are."""
    rows = [tuple(heads), *lines]
    shown = [f"| {' | '.join(escape_markdown(cell) for cell in row)} |" for row in rows]
    return "\n".join([shown[0], f"|{' --- |' * len(rows[0])}", *shown[1:]])
