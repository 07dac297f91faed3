"""Text from models and third parties, made harmless for the place where it is shown."""

from __future__ import annotations

import re
import unicodedata
from types import MappingProxyType
from typing import Final

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]#|~$!])")
_LATEX: Final = MappingProxyType(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "[": "{[}",
        "]": "{]}",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "✓": r"$\surd$",
        "✗": r"$\times$",
        **{char: f"\\{char}" for char in "&%$#_{}"},
    }
)
_UNFIT: Final = re.compile(r"[^a-z0-9]+")
_LIST: Final = re.compile(r"^([-+]|\d+[.)])(?=\s|$)")
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with; some spreadsheets take the full-width forms as well."""


def slug(*parts: str) -> str:
    """Return a name made of ASCII letters, digits and hyphens alone; parts that leave nothing are left out."""
    plain = (unicodedata.normalize("NFKD", part).lower() for part in parts)
    return "-".join(filter(None, (_UNFIT.sub("-", part).strip("-") for part in plain)))


def clean(text: str) -> str:
    """Return the text as one line without control, format and unassigned characters.

    Without them nothing moves a terminal's cursor, changes its colours or reverses the direction of writing.
    """
    spaced = " ".join(text.split())
    return "".join(char for char in spaced if unicodedata.category(char)[0] != "C")


def escape_markdown(text: str) -> str:
    """Return one line that Markdown shows as it is, in a table's cell too."""
    harmless = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _LIST.sub(lambda mark: f"{mark[0][:-1]}\\{mark[0][-1]}", _MARKDOWN.sub(r"\\\1", harmless))


def escape_latex(text: str) -> str:
    """Return one line that LaTeX sets as it is, in a table's cell too; ``[`` is no option after a line break."""
    return "".join(_LATEX.get(char, char) for char in clean(text))


def escape_csv(text: str) -> str:
    """Return one line that no spreadsheet takes for a formula."""
    harmless = clean(text)
    return f"'{harmless}" if harmless.startswith(_FORMULA) else harmless
