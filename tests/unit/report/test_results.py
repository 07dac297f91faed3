"""The leaderboards in ``results/`` are what `mlipbench report` makes of the records and published rows there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlipbench.cli.app import main

RESULTS = Path(__file__).parents[3] / "results"


MODELS = Path(__file__).parents[3] / "docs/models"


def without_library(path: Path) -> str:
    """Return a file, the page without the plotting library and its hash, which change with the library's version."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".html":
        return text
    return re.sub(r"<script>.*?</script>|'sha256-[^']+'", "", text, flags=re.DOTALL)


@pytest.mark.skipif(not RESULTS.is_dir(), reason="there is no results/: not a checkout")
def test_tracked_leaderboards_are_those_of_the_records(tmp_path: Path) -> None:
    sources = [str(RESULTS / "published"), str(RESULTS / "records")]
    assert main(["report", *sources, "--output", str(tmp_path)]) == 0
    made = {path.name: without_library(path) for path in tmp_path.iterdir()}
    kept = {path.name: without_library(path) for path in RESULTS.glob("leaderboard.*")}
    assert sorted(made) == sorted(kept)
    for name, content in made.items():
        assert content == kept[name], f"results/{name} is not up to date: `tox run -e results` makes it anew"


@pytest.mark.skipif(not RESULTS.is_dir(), reason="there is no results/: not a checkout")
def test_the_page_of_all_models_is_that_of_cards_and_records(tmp_path: Path) -> None:
    assert main(["report", "--results", str(RESULTS), "--zoo", "--output", str(tmp_path)]) == 0
    made, kept = ((folder / "zoo.md").read_text(encoding="utf-8") for folder in (tmp_path, MODELS))
    assert made == kept, "docs/models/zoo.md is not up to date: `tox run -e results` makes it anew"
