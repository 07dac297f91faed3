from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic_records import HOSTILE, large, number, published, run

from mlipbench.cli.app import main
from mlipbench.comparison.collect import collect
from mlipbench.report.page.page import to_html
from mlipbench.report.plots import figures
from mlipbench.report.table import build_tables
from mlipbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.errors import MlipbenchError

    Make: TypeAlias = Callable[..., Path]

MEGABYTES = 1_000_000


class Page(HTMLParser):
    """What a browser makes of a page: its elements in order, and its text without scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag in {"script", "style"}
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script and self.elements[-1][0] == "script":
            self.scripts[-1] += data
        elif not self._in_script:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("\n".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def html_of(records: Sequence[RunRecord]) -> str:
    tables = build_tables(records)
    return to_html(records, tables, figures(tables))


def page_of(*records: RunRecord) -> Page:
    return Page(html_of(records))


def test_hostile_names_are_text() -> None:
    harmless = page_of(
        *(
            run(f"model-{place}", number("energy_mae", 0.1), environment={"parameters": 5})
            for place, _ in enumerate(HOSTILE)
        )
    )
    records = [
        run(
            name,
            number("energy_mae", 0.1, reason=name, training=name, conversion=name),
            arguments=["run", name],
            environment={"parameters": 5, "packages": {name: name}},
        )
        for name in HOSTILE
    ]
    hostile = Page(html_of(records))
    for name in HOSTILE:
        assert " ".join(clean(name).split()) in hostile.text
    for tag in ("script", "img", "style"):
        assert len(hostile.all(tag)) == len(harmless.all(tag))
    assert not any(key.startswith("on") for _, attributes in hostile.elements for key in attributes)
    assert "\x1b" not in html_of(records)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_datasets_and_splits_are_text(name: str) -> None:
    page = page_of(*(run(model, number("energy_mae", 0.1, dataset=name, split=name)) for model in "ab"))
    assert clean(name) in page.text
    assert {script.get("type") for script in page.all("script")} == {None, "application/json"}


def test_specifications_on_the_page_are_those_of_the_figures() -> None:
    records = [run(name, number("energy_mae", 0.1), environment={"parameters": 5}) for name in (HOSTILE[0], HOSTILE[1])]
    (figure,) = figures(build_tables(records))
    page = page_of(*records)
    data = [
        json.loads(text)
        for text, tag in zip(page.scripts, page.all("script"), strict=True)
        if tag.get("id") == "plot-0"
    ]
    assert data == [figure.spec]


def test_a_browser_may_run_the_scripts_of_the_page_alone() -> None:
    page = page_of(run("one", number("energy_mae", 0.1)))
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    own = [text for text, tag in zip(page.scripts, page.all("script"), strict=True) if tag.get("type") is None]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in own}
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy


def test_nothing_on_the_page_refers_to_another_file() -> None:
    page = page_of(*large(2, 1))
    addresses = [
        attributes[key] for _, attributes in page.elements for key in ("href", "src") if attributes.get(key) is not None
    ]
    assert addresses
    assert all(str(address).startswith(("#", "data:,")) for address in addresses)


def test_every_number_links_to_its_row_and_every_name_is_unique() -> None:
    page = page_of(*large(3, 2), published("paper", "300"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = {str(link["href"])[1:] for link in page.all("a")}
    assert links <= set(ids)
    rows = {str(row["id"]) for row in page.all("tr") if "id" in row}
    assert len(rows) == 3 * 20 + 1
    assert rows <= links


def test_tables_can_be_read_aloud() -> None:
    page = page_of(*large(2, 1))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(head.get("scope") in {"col", "row", "rowgroup"} for head in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("a")[0]["href"] == "#main"
    assert {control.get("type") for control in page.all("button")} == {"button"}


def test_published_tables_stand_apart() -> None:
    page = page_of(run("one", number("energy_mae", 0.1)), published("paper", "90.0"))
    assert [section.get("class") for section in page.all("section")][:2] == ["board", "board published"]
    assert "Published, not measured here; never ranked with measured numbers." in page.text
    assert "Published, not measured: J. Doe, Toys, table 2, https://example.org/toys" in page.text
    assert "90.0" in page.text


def test_a_run_says_where_its_numbers_come_from() -> None:
    one = run(
        "one",
        number("energy_mae", 0.125, reason="why", n_failed=2, status="partial"),
        arguments=["run", "my suite.yaml", "--seed", "3"],
        git={"commit": "abc123", "dirty": True},
        packages={"parent": {"numpy": "9.9"}, "worker": {"torch": "8.8"}},
        environment={"name": "mace", "lock_sha256": "f" * 64, "packages": {"e3nn": "0.4.4"}, "parameters": 77},
        routes=[{"dataset": "toys", "shift": "per-element", "fit": "train"}],
        hardware={"parent": {"processor": "Abacus 9000"}, "worker": {"gpu": "Slide Rule"}},
    )
    text = page_of(one).text
    for told in (
        "mlipbench run 'my suite.yaml' --seed 3",
        "git checkout abc123",
        "mlipbench env create mace --from requirements.lock",
        "The code had changes that were not committed.",
        "numpy 9.9",
        "torch 8.8",
        "e3nn 0.4.4",
        "processor Abacus 9000",
        "gpu Slide Rule",
        "shift per-element, fitted on train",
        "Energy reference total",
        "0.125 eV",
        "0.1125 to 0.1375",
        "40, 40 independent",
        "sha256 " + "f" * 64,
    ):
        assert told in text, told


def test_structures_without_a_prediction_are_named(make_run: Make, tmp_path: Path) -> None:
    directory = make_run("one")
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    manifest["splits"][0] |= {"n_predicted": 38, "n_failed": 2, "status": "partial", "reason": "two crashed"}
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    scores = directory / "scores" / "s2ef" / "toys" / "test.parquet"
    table = pq.read_table(scores)
    ok = [place not in {3, 17} for place in range(40)]
    pq.write_table(table.set_column(table.schema.get_field_index("ok"), "ok", pa.array(ok)), scores)
    text = page_of(*collect([tmp_path / "results"])).text
    assert "Without a prediction in s2ef on toys, test: s3 , s17 ." in text


def test_a_split_without_any_prediction_has_no_scores_to_miss(make_run: Make, tmp_path: Path) -> None:
    directory = make_run("one", record={"status": "not_applicable", "value": None, "ci_low": None, "ci_high": None})
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    manifest["splits"][0] |= {"n_predicted": 0, "n_not_applicable": 40, "status": "not_applicable", "reason": "no gold"}
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (directory / "scores" / "s2ef" / "toys" / "test.parquet").unlink()
    problems: list[MlipbenchError] = []
    records = collect([tmp_path / "results"])
    to_html(records, build_tables(records, problems), (), problems)
    assert problems == []


def test_why_a_row_is_not_ranked_stands_in_it(make_run: Make, tmp_path: Path) -> None:
    make_run("one", record={"status": "partial", "reason": "2 structures crashed"})
    make_run("two")
    page = page_of(*collect([tmp_path / "results"]))
    assert [row.get("class") for row in page.all("tr")].count("unranked") == 1
    assert "partial, not ranked: 2 structures crashed" in page.text


def test_the_page_does_not_depend_on_the_order_of_reading(make_run: Make) -> None:
    paths = [make_run(name) for name in ("b", "a", "c")]
    assert html_of(collect(paths)) == html_of(collect(paths[::-1]))


def test_thirty_models_by_fifty_columns_stay_small() -> None:
    html = html_of(large(30, 5))
    assert html.count("data-sort=") == 30 * 50
    assert len(html.encode()) < 5 * MEGABYTES


def test_report_writes_all_formats(make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, error in (("one", 0.05), ("two", 0.5)):
        make_run(name, error=error, manifest={"environment": {"parameters": 5}})
    command = ["report", str(tmp_path / "results"), "--output", str(tmp_path / "out")]
    assert main([*command, "--figures", str(tmp_path / "plots"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    names = {"leaderboard.csv", "leaderboard.md", "leaderboard.html", "leaderboard.tex"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert sorted(told["leaderboard"].values()) == sorted(str(tmp_path / "out" / name) for name in names)
    plots = sorted((tmp_path / "plots").iterdir())
    assert [str(path) for path in plots] == sorted(told["figures"])
    pareto = tmp_path / "plots" / "pareto-toys-parameters.png"
    assert pareto.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in pareto.with_suffix(".svg").read_text(encoding="utf-8")


def test_a_damaged_file_is_one_line_and_the_page_is_made(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, _ = make_run("one"), make_run("two")
    (damaged / "scores" / "s2ef" / "toys" / "test.parquet").write_bytes(b"PAR1")
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "out")]) == 3
    lines = [line for line in capsys.readouterr().err.splitlines() if "test.parquet" in line]
    assert len(lines) == 1
    assert "two" in Page((tmp_path / "out" / "leaderboard.html").read_text(encoding="utf-8")).text
