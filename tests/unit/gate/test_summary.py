"""What a gate says, in each form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mlipbench.comparison.collect import single_run
from mlipbench.comparison.scores import ScoreReader
from mlipbench.gate.findings import Finding, State
from mlipbench.gate.judge import judge
from mlipbench.gate.policy import Policy
from mlipbench.gate.summary import as_annotations, as_dict, to_markdown, to_text
from mlipbench.gate.verdict import Gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def regressed(make_run: Callable[..., Path]) -> Gate:
    """Return the judgement of a run whose errors doubled, most of all that of structure 7."""
    sizes = np.full(40, 0.05)
    worse = np.where(np.arange(40) % 2, 0.08, 0.12)
    worse[7] = 0.48
    git = {"commit": "f00d", "dirty": False}
    told = {"arguments": ["run", "my suite.yaml"], "git": git}
    base = make_run("net", sizes=sizes)
    head = make_run("net", sizes=worse, manifest=told, started="2026-01-03T03:04:06Z")
    found = judge([single_run(base)], [single_run(head)], Policy(), ScoreReader())
    return Gate(found.findings, found.comparisons, baseline="base`line.json")


def test_the_markdown_says_what_changed_by_how_much_where_and_how_to_repeat_it(regressed: Gate) -> None:
    """50 meV/Å become 80, 120 and once 480: (19 * 80 + 20 * 120 + 480) / 40 = 110, 120 % more."""
    text = to_markdown(regressed)
    assert text.startswith("## mlipbench gate: regression\n\nBaseline: `baseline.json`.")
    (row,) = [line for line in text.splitlines() if line.startswith("| net float64 | toys/test | forces\\_mae")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[3:5] == ["50.0 meV/Å", "110 meV/Å"]
    assert cells[5].startswith("+120 ")
    assert cells[6:] == ["1 %", "worse"]
    worst = text.split("### Structures that got worse")[1].split("###")[0]
    assert worst.splitlines()[4] == "| toys/test | forces\\_mae (meV/Å) | s7 | 50.0 | 480 | +430 |"
    assert "```console\ngit checkout f00d\nmlipbench run 'my suite.yaml'\n```" in text


def test_the_text_ends_with_the_verdict(regressed: Gate) -> None:
    lines = to_text(regressed).splitlines()
    assert lines[0].startswith("regression: net float64: toys/test: forces_mae: 50.0 meV/Å -> 110 meV/Å (+120 ")
    assert lines[-1] == "verdict: regression"


def test_the_json_holds_the_same(regressed: Gate) -> None:
    content = json.loads(json.dumps(as_dict(regressed), allow_nan=False))
    assert (content["verdict"], content["exit_code"]) == ("regression", 1)
    (finding,) = content["findings"]
    assert (finding["state"], finding["metric"]) == ("regression", "forces_mae")
    assert finding["tolerance"] == pytest.approx(0.01 * 0.05)
    assert content["comparisons"][0]["baseline"]["path"] == "base`line.json"
    assert content["comparisons"][0]["comparisons"][0]["metrics"][0]["b"] == pytest.approx(0.11)


def test_annotations_are_one_line_each_and_escaped(regressed: Gate) -> None:
    (line,) = as_annotations(regressed)
    assert line.startswith("::error title=mlipbench%3A regression::net float64: toys/test: forces_mae: ")
    assert "%25" in line
    assert "\n" not in line
    hostile = Finding(State.WARNING, "net\n::error::x", "a%b", "said\r\nmore")
    (line,) = as_annotations(Gate((hostile,)))
    assert line == "::warning title=mlipbench%3A warning::net ::error::x: a%25b: said more"


def test_hostile_text_stays_text() -> None:
    hostile = Finding(State.REGRESSION, "<img src=x>|", "`rm`", "[x](javascript:1)\n# head")
    text = to_markdown(Gate((hostile,), problems=("![x](y)",), against="*ref*"))
    assert "<img" not in text
    assert "\n# head" not in text
    assert "\\[x\\](javascript:1)" in text
    assert "Times beside \\*ref\\*." in text


def test_numbers_that_cannot_be_compared_for_one_reason_stand_on_one_line() -> None:
    findings = [Finding(State.NOT_COMPARABLE, "net", f"m{number}", "other processor") for number in range(5)]
    text = to_markdown(Gate(tuple(findings)))
    assert "- net: m0, m1, m2 and 2 more: other processor" in text
    assert text.startswith("## mlipbench gate: nothing comparable")
