"""Colours, shapes and fonts of plots, light and dark."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

_COLOURS: Final = MappingProxyType(
    {
        False: ("#0072b2", "#b34700", "#00795a", "#a3457f", "#6b5b00", "#333333"),
        True: ("#56b4e9", "#e69f00", "#2fc49a", "#e08fc0", "#f0e442", "#dddddd"),
    }
)
"""After Okabe and Ito, Color Universal Design (2008): told apart by people with any colour vision; each at 4.5 to 1
against its background."""
_SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
"""One more than colours, so that 42 models look unlike each other."""
_RAMP: Final = MappingProxyType(
    {False: ("#9cc9e6", "#3f8fc5", "#08519c", "#001b3d"), True: ("#1f5680", "#3f8fc5", "#9cc9e6", "#ffffff")}
)
"""From few to many, told apart by lightness alone."""
_INK: Final = MappingProxyType({False: "#1a1a1a", True: "#e8e8e8"})
_GRID: Final = MappingProxyType({False: "#e0e0e0", True: "#3a3f45"})
_GUIDE: Final = MappingProxyType({False: "#6b6b6b", True: "#a0a0a0"})
_PAPER: Final = MappingProxyType({False: "#ffffff", True: "#16191d"})
_FONT: Final = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def config(*, dark: bool) -> dict[str, Any]:
    """Return the configuration that every specification is drawn with.

    The mark style ``guide`` is for lines of reference.

    Args:
        dark: Whether the background is dark.
    """
    ink = _INK[dark]
    return {
        "background": _PAPER[dark],
        "font": _FONT,
        "axis": {
            "labelColor": ink,
            "titleColor": ink,
            "gridColor": _GRID[dark],
            "domainColor": ink,
            "tickColor": ink,
            "titleFontWeight": "normal",
        },
        "legend": {"labelColor": ink, "titleColor": ink, "titleFontWeight": "normal", "labelLimit": 240},
        "header": {"labelColor": ink, "titleColor": ink, "titleFontWeight": "normal"},
        "title": {"color": ink, "fontWeight": "normal"},
        "text": {"color": ink},
        "mark": {"color": _COLOURS[dark][0]},
        "view": {"stroke": None},
        "range": {"category": list(_COLOURS[dark]), "symbol": list(_SHAPES), "heatmap": list(_RAMP[dark])},
        "style": {"guide": {"color": _GUIDE[dark], "strokeWidth": 1, "strokeDash": [4, 3]}},
    }
