"""Putting the page together."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlipbench.comparison.scores import ScoreReader
from mlipbench.report.notes import origin
from mlipbench.report.page.anchors import Anchors
from mlipbench.report.page.grids import section
from mlipbench.report.page.library import plotting_library
from mlipbench.report.page.runs import run_section
from mlipbench.report.plots import notes
from mlipbench.report.plots.theme import config
from mlipbench.report.seeds import averaged
from mlipbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Template
    from markupsafe import Markup

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.errors import MlipbenchError
    from mlipbench.report.plots.figure import Figure
    from mlipbench.report.table import Table

_TEMPLATES: Final = Path(__file__).parent / "templates"


def to_html(
    records: Sequence[RunRecord],
    tables: Sequence[Table],
    figures: Sequence[Figure],
    problems: list[MlipbenchError] | None = None,
) -> str:
    """Return the leaderboard as one page without links to other files.

    Args:
        records: What `collect` found.
        tables: What `build_tables` made of them.
        figures: What `plots.figures` made of them.
        problems: Takes what is wrong with files of scores; without it damaged ones are raised.

    Raises:
        ResultsError: A file of scores or distributions is damaged.
        MlipbenchError: The plotting library cannot be kept in the cache.
    """
    from markupsafe import Markup

    runs = [*records, *averaged(tables)]
    anchors, scores = Anchors(runs), ScoreReader(problems)
    scripts = [plotting_library()] if figures else []
    scripts.append((_TEMPLATES / "page.js").read_text(encoding="utf-8"))
    return template("page.html.j2").render(
        origin=origin(records),
        sections=[section(table, anchors) for table in tables],
        runs=[run_section(run, anchors, scores) for run in runs],
        figures=[(anchors.take("figure", figure.name), figure) for figure in figures],
        left_out=notes(tables, problems),
        plots={"light": config(dark=False), "dark": config(dark=True)},
        style=page_style(),
        scripts=[Markup(script) for script in scripts],  # noqa: S704  # our own file and the library
        policy=policy(scripts),
    )


def template(name: str) -> Template:
    """Return one of our templates, which escapes what it is given and drops control characters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def harmless(value: Any) -> Any:
        """Return text without control characters; markup of the templates stays as it is."""
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def page_style() -> Markup:
    """Return the style of all pages."""
    from markupsafe import Markup

    return Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8"))  # noqa: S704  # our own file


def policy(scripts: Sequence[str]) -> str:
    """Return a policy under which a browser runs these scripts alone and asks no network for anything."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
