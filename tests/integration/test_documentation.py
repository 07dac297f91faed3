"""The documents speak of commands, files and links that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINKING = [*DOCUMENTS, *sorted((ROOT / "examples").rglob("*.md"))]
USAGE = 2


def fenced(document: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Return every line of a console block that calls mlipbench, with its document."""
    found = []
    for document in DOCUMENTS:
        for block in fenced(document, "console"):
            for line in re.split(r"\n|&&", block.replace("\\\n", " ")):
                text = line.strip().removeprefix("$ ")
                if text.startswith("mlipbench "):
                    found.append((str(document.relative_to(ROOT)), text))
    return found


def test_there_are_commands_to_check():
    assert ("README.md", "mlipbench run quickstart") in commands()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache that is empty at first; embedded datasets are prepared in it once and not for every command."""
    return tmp_path_factory.mktemp("documents") / "cache"


@pytest.mark.parametrize(("document", "command"), commands())
def test_the_command_line_accepts_what_a_document_shows(document, command, cache, tmp_path, monkeypatch):
    """`plan` stands in for `run`, `--help` for what trains, builds, judges, examines or downloads: wrong words show."""
    monkeypatch.setenv("MLIPBENCH_CACHE", str(cache))
    words = shlex.split(command, comments=True)[1:]
    if words[0] == "run" and {"--shard", "--engine"} & set(words):
        words = [*words, "--help"]
    elif words[0] == "run":
        words = ["plan", *(word for word in words[1:] if word not in {"--again", "--yes"})]
    if words[0] in {"train", "env", "gate", "doctor"} or words[:2] == ["data", "fetch"]:
        words = [*words, "--help"]
    done = subprocess.run(
        [sys.executable, "-m", "mlipbench", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    complaint = done.stderr.splitlines()[-1] if done.stderr else ""
    assert "No such option" not in complaint
    assert "No such command" not in complaint
    assert done.returncode != USAGE or "/" in command or ".yaml" in command, complaint


@pytest.mark.parametrize("document", LINKING, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("section", ["Quick start", "Tests"])
def test_the_readme_gives_one_command(section):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    body = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"^```.*?\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    assert len(blocks[0].strip().splitlines()) == 1
