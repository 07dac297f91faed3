"""Names and messages of third parties are text in CSV, Markdown and on the terminal."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from typing import TYPE_CHECKING

import pytest

from mlipbench.cli.app import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    Make: TypeAlias = Callable[..., Path]

HOSTILE = {
    "html": "<script>alert(1)</script>&amp;<img src=x onerror=a>",
    "markdown": "[a](javascript:1) **b** `c` | d ~e~ ![f](g) # h * i_j_ $k$",
    "formula": '=HYPERLINK("http://x","y")',
    "plus": "+1+1",
    "at": "@SUM(1)",
    "wide formula": "\uff1d1+1",
    "list": "- one",
    "numbered list": "12) one",
    "rule": "---",
    "ansi": "\x1b[31mred\x1b[0m\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x9b2J",
    "bidi": "\u202egnp.exe\u2066\u200b",
    "lines": "one\r\n| two | three |\n\n# four\u2028five",
    "rich": "[red]stop[/red] [link=http://x]y[/link] :smile:",
}  # fmt: skip
FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028\u202e\u2066]")


def visible(text: str) -> str:
    """What of a hostile text is left to read: without controls, on one line."""
    return "".join(char for char in " ".join(text.split()) if not FORBIDDEN.match(char))


@pytest.fixture(params=sorted(HOSTILE))
def hostile(request: pytest.FixtureRequest, make_run: Make) -> str:
    """Write a run with a hostile text for its model, dataset and title, split, variant, note and reason; return it."""
    text = HOSTILE[request.param]
    run = make_run("net", card={"note": text}, record={"status": "partial", "n_failed": 1, "reason": text})
    for name in ("manifest.json", "metrics.json"):
        content = json.dumps(json.loads((run / name).read_text()))
        for word in ("net", "toys", "Toy structures", "test", "float64"):
            content = content.replace(json.dumps(word), json.dumps(text))
        (run / name).write_text(content)
    return text


def test_in_csv(hostile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(tmp_path / "results"), "--output", str(tmp_path)])
    content = (tmp_path / "leaderboard.csv").read_text(encoding="utf-8")
    assert not FORBIDDEN.search(content)
    (row,) = csv.DictReader(io.StringIO(content))
    shown = visible(hostile)
    for column in ("model", "variant", "dataset", "split", "reason"):
        assert row[column] == (f"'{shown}" if shown[0] in "=+-@\uff1d" else shown)


def test_in_markdown(hostile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(tmp_path / "results"), "--output", str(tmp_path)])
    page = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert not FORBIDDEN.search(page)
    assert "<script" not in page
    assert "<img" not in page
    (row,) = [line for line in page.splitlines() if line.startswith("| ") and "unknown" in line]
    cells = re.split(r"(?<!\\)\|", row)[1:-1]
    assert len(cells) == 4
    assert rendered(cells[1]) == visible(hostile)
    assert rendered(cells[0]).startswith(visible(hostile))
    (title,) = [line for line in page.splitlines() if line.startswith("- ") and "Labels" in line]
    assert not re.match(r"- (?:[-+]|\d+[.)])\s", title)
    (head,) = [line for line in page.splitlines() if line.startswith("## ") and "s2ef" in line]
    assert rendered(head) == f"## {visible(hostile)}: s2ef"


def rendered(text: str) -> str:
    """What Markdown shows: every mark that could mean something must be escaped."""
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", text).removeprefix("## ")
    assert not re.search(r"[`*_\[\]|~$<>]", bare), text
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)).strip()


def test_on_the_terminal(hostile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mlipbench.cli.run import show_tables
    from mlipbench.comparison.collect import collect

    show_tables(collect([tmp_path / "results"]))
    out, err = capsys.readouterr()
    assert err == ""
    assert not FORBIDDEN.search(out)
    (row,) = [line for line in out.splitlines() if line.endswith("¹") or "¹,²" in line]
    assert row.startswith(visible(hostile))  # markup of rich stands there as it is
    assert f"¹ partial, not ranked: {visible(hostile)}" in out


def test_in_messages(hostile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (manifest,) = (tmp_path / "results").rglob("manifest.json")
    content = json.loads(manifest.read_text()) | {hostile: 1}
    manifest.write_text(json.dumps(content))
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "out")]) == 5
    err = capsys.readouterr().err
    assert not FORBIDDEN.search(err)
    assert visible(hostile) in err
