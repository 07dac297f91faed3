from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from mlipbench.cli.display import PlainDisplay, RichDisplay, default_kind, open_display
from mlipbench.cli.options import DisplayKind

if TYPE_CHECKING:
    import pytest


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_display_speaks_at_most_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    display = PlainDisplay(clock)
    display.begin("emt float64: toys/test", 100)
    for _ in range(100):
        clock.now += 0.1
        display.advance(1, failed=int(clock.now > 9.95))
    display.end("emt float64: toys/test", "done")
    out, err = capsys.readouterr()
    assert out == ""
    first, middle, last = err.splitlines()
    assert first == "emt float64: toys/test: 100 structures"
    assert "10 structures/s" in middle
    assert "s left" in middle
    assert last == "emt float64: toys/test: done, 100 structures in 10.0 s, 10 structures/s, 1 failed"


def test_rich_display_makes_foreign_text_harmless() -> None:
    stream = io.StringIO()
    display = RichDisplay(Console(file=stream, force_terminal=False, width=100))
    display.begin("evil[red]\x1b[2J", 2)
    display.advance(2, failed=1)
    display.note("[bold]note\x07")
    display.end("evil[red]", "failed")
    display.close()
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]note" in text
    assert "evil[red]: failed, 2 structures" in text
    assert "1 failed" in text


def test_none_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with open_display(DisplayKind.NONE) as display:
        display.begin("run", 1)
        display.advance(1)
        display.note("note")
        display.end("run", "done")
    assert capsys.readouterr() == ("", "")


def test_plain_is_the_default_off_a_terminal_and_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_kind() is DisplayKind.PLAIN
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    assert default_kind() is DisplayKind.RICH
    monkeypatch.setenv("CI", "true")
    assert default_kind() is DisplayKind.PLAIN
