"""Plots as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlipbench.report.plots.theme import config
from mlipbench.store.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlipbench.report.plots.figure import Figure

_SCALE: Final = 2


def write_figures(figures: Iterable[Figure], directory: Path) -> tuple[Path, ...]:
    """Write every figure as SVG and as PNG of twice its size, on white; no network is asked for anything.

    Args:
        figures: What `plots.figures` made.
        directory: Where to write; made if it does not exist.

    Returns:
        The files.

    Raises:
        MlipbenchError: A file cannot be written.
    """
    import vl_convert

    written = []
    for figure in figures:
        theme = config(dark=False)
        svg = vl_convert.vegalite_to_svg(figure.spec, config=theme, allowed_base_urls=[])
        png = vl_convert.vegalite_to_png(figure.spec, config=theme, scale=_SCALE, allowed_base_urls=[])
        for suffix, content in ((".svg", svg.encode()), (".png", png)):
            path = directory / f"{figure.name}{suffix}"
            write_atomically(path, content)
            written.append(path)
    return tuple(written)
