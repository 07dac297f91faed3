from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from synthetic_records import HOSTILE, number, published, run

from mlipbench.report.latex import to_latex
from mlipbench.report.table import build_tables
from mlipbench.report.text import escape_latex

if TYPE_CHECKING:
    from pathlib import Path

HEAD = r"Model & Variant & Training & test: Energy MAE (meV) $\downarrow$ & test: Force MAE (meV/Å) $\downarrow$ \\"
AS_TEXT = {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
    r"\textgreater{}": ">", r"\textbar{}": "|", r"\textquotedbl{}": '"', "{[}": "[", "{]}": "]", r"\&": "&", r"\%": "%",
    r"\$": "$", r"\#": "#", r"\_": "_", r"\{": "{", r"\}": "}",
}  # fmt: skip


def as_set(latex: str) -> str:
    """Return what LaTeX sets, of text without commands of its own."""
    return re.sub("|".join(map(re.escape, AS_TEXT)), lambda found: AS_TEXT[found[0]], latex)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_set_is_the_name(name: str) -> None:
    escaped = escape_latex(name)
    assert as_set(escaped) == name.replace("\x1b", "")
    rest = re.sub("|".join(map(re.escape, AS_TEXT)), "", escaped)
    assert not set(rest) & set("\\$%&_#{}~^")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_every_place(name: str) -> None:
    records = [run(name, number("energy_mae", 0.1, dataset=name, split=name, reason=name))]
    latex = to_latex(build_tables(records))
    assert latex.count(escape_latex(name)) >= 4  # caption, head, row, footnote
    assert r"\input" not in latex
    assert "\x1b" not in latex


def test_a_table_is_what_a_paper_shows(scored: Path) -> None:
    failed = number("forces_mae", None, unit="eV/Å", status="failed", reason="it crashed")
    records = [
        run("alpha", number("energy_mae", 0.125), failed, directory=scored),
        run("beta", number("energy_mae", 0.5), number("forces_mae", 0.25, unit="eV/Å"), directory=scored),
    ]
    lines = to_latex(build_tables(records)).splitlines()
    start = lines.index(r"\begin{tabular}{lllrr}")
    assert lines[start + 1 : start + 8] == [
        r"\toprule",
        HEAD,
        r"\midrule",
        r"alpha & default & zero-shot & \textbf{125 {[}112, 138{]}} & failed$^{1}$ \\",
        r"beta & default & zero-shot & \textbf{500 {[}450, 550{]}} & 250 {[}225, 275{]} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert r"\caption{toys: s2ef}" in lines
    assert r"$^{1}$~failed: it crashed" in lines


def test_published_tables_are_called_so() -> None:
    lines = to_latex(build_tables([published("paper", "90.0")])).splitlines()
    assert r"\caption{toys: s2ef, published (Doe 2024, table 2)}" in lines
    assert r"paper & - & trained-on-split & 90.0 \\" in lines
