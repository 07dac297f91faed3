"""What a plot is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot.

    Attributes:
        name: Name of its file and its anchor: ASCII letters, digits and hyphens, unlike that of any other figure.
        title: What stands above it.
        description: What it shows, for those who cannot see it.
        spec: Specification in Vega-Lite without colours and fonts, which `theme.config` gives. Names of models and of
            data stand only in values, where they are text, never in names of fields or in expressions.
    """

    name: str
    title: str
    description: str
    spec: dict[str, Any]
