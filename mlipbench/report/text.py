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
        **{char: f"\\{char}" for char in "&%$#_{}"},
    }
)
_FORMULA: Final = ("=", "+", "-", "@")


def clean(text: str) -> str:
    """Return the text as one line without control, format and unassigned characters.

    Without them nothing moves a terminal's cursor, changes its colours or reverses the direction of writing.
    """
    spaced = " ".join(text.split())
    return "".join(char for char in spaced if unicodedata.category(char)[0] != "C")


def escape_markdown(text: str) -> str:
    """Return one line that Markdown shows as it is, in a table's cell too."""
    harmless = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", harmless)


def escape_latex(text: str) -> str:
    """Return one line that LaTeX sets as it is, in a table's cell too; ``[`` is no option after a line break."""
    return "".join(_LATEX.get(char, char) for char in clean(text))


def escape_csv(text: str) -> str:
    """Return one line that no spreadsheet takes for a formula."""
    harmless = clean(text)
    return f"'{harmless}" if harmless.startswith(_FORMULA) else harmless


def unescape_csv(text: str) -> str:
    """Undo `escape_csv`."""
    return text[1:] if text.startswith(tuple(f"'{char}" for char in _FORMULA)) else text
