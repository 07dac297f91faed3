"""Published rows: what their files may hold, how they stand in tables, and how far measured numbers are from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlipbench.comparison.collect import collect
from mlipbench.comparison.published import Reference, read_publication
from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.names import entry_names
from mlipbench.errors import ConfigError
from mlipbench.models.registry import card_names
from mlipbench.recipes.catalogue import load_recipe
from mlipbench.report.markdown import to_markdown
from mlipbench.report.rows import leaderboard_rows
from mlipbench.report.table import build_tables
from mlipbench.report.terminal import to_text
from mlipbench.status import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Make: TypeAlias = Callable[..., Path]

SHIPPED = Path(__file__).parents[3] / "results" / "published"
TEXT = """\
publication: doe
citation: Doe, Of nets, 2024
url: https://example.org/nets
tables:
  - name: main
    place: Table 2
    training: trained-on-split
    protocol:
      dataset: toys
      description: Toys as they are.
      structures: {test: 40}
      not_established: [the seed]
    defects: [one training each]
    columns:
      - {task: s2ef, split: test, metric: energy_mae, unit: kcal/mol}
      - {task: s2ef, split: test, metric: forces_mae, unit: meV/Å}
    rows:
      - {name: PaperNet, model: net, values: 1.0 50.0}
      - {name: Other, values: "- 0.30", note: no energies}
"""
EXACT = {"value": 0.0525, "ci_low": None, "ci_high": None}


def publish(results: Path, text: str = TEXT) -> Path:
    folder = results / "published"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "doe.yaml").write_text(text, encoding="utf-8")
    return folder / "doe.yaml"


def change_manifest(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    change(manifest)
    (run / "manifest.json").write_text(json.dumps(manifest))


def whole(run: Path) -> None:
    """Let a synthetic run have taken its whole split."""
    change_manifest(run, lambda manifest: manifest["splits"][0].update(selection="all"))


def distances(results: Path) -> dict[str, tuple[float | None, str]]:
    rows = leaderboard_rows(collect([results]), ())
    return {row.model: (row.distance, row.citation) for row in rows if row.source is Source.MEASURED}


def test_numbers_keep_their_digits_and_are_stored_in_the_units_of_their_metrics(tmp_path: Path) -> None:
    found = read_publication(publish(tmp_path))
    net, other = (Reference(found, found.tables[0], row) for row in found.tables[0].rows)
    assert [(one.metric, one.unit) for one in net.metrics] == [("energy_mae", "eV"), ("forces_mae", "eV/Å")]
    assert net.metrics[0].value == pytest.approx(0.0433641, rel=1e-6)  # eV in 1 kcal/mol, CODATA
    assert net.metrics[1].value == 0.05
    assert [(one.metric, one.value) for one in other.metrics] == [("forces_mae", 0.0003)]
    assert {one.comparability_key for one in (*net.metrics, *other.metrics)} == {"published: doe, main"}


def test_published_rows_stand_in_a_table_of_their_own_as_they_are_printed(make_run: Make, tmp_path: Path) -> None:
    make_run("net", draw=1)
    make_run("poor", error=0.2, draw=2)
    publish(tmp_path / "results")
    measured, published = build_tables(collect([tmp_path / "results"]))
    assert (measured.published, published.published) == ("", "doe, Table 2")
    assert (measured.part, published.part) == (0, 0)
    assert [row.model for row in measured.rows] == ["net", "poor"]
    assert [[cell.text for cell in row.cells] for row in published.rows] == [["1.0", "50.0"], ["-", "0.30"]]
    assert [column.unit for column in published.columns] == ["kcal/mol", "meV/Å"]
    assert measured.ranked
    assert not published.ranked
    assert published.footnotes == ("no energies",)
    assert published.about[0] == "Published, not measured: Doe, Of nets, 2024, Table 2; https://example.org/nets"
    assert published.about[-2:] == ("Not established: the seed.", "Known defect: one training each")
    page = to_markdown(collect([tmp_path / "results"]))
    assert page.index("## toys: s2ef\n") < page.index("## toys: s2ef, published (doe, Table 2)")
    assert "toys: s2ef, published (doe, Table 2)" in to_text([published])


def test_a_measured_number_under_the_same_protocol_shows_its_distance(make_run: Make, tmp_path: Path) -> None:
    whole(make_run("net", record=EXACT))
    whole(make_run("unknown-to-doe", record=EXACT, draw=2))
    publish(tmp_path / "results")
    citation = "Doe, Of nets, 2024, Table 2"
    assert distances(tmp_path / "results") == {
        "net": (pytest.approx(0.0025), citation),
        "unknown-to-doe": (None, ""),
    }
    table = build_tables(collect([tmp_path / "results"]))[0]
    (cell,) = next(row for row in table.rows if row.model == "net").cells
    assert [table.footnotes[number - 1] for number in cell.notes] == [
        f"+2.5 meV/Å (+5.0 %) from the published 50.0 meV/Å ({citation}, PaperNet)"
    ]


def _part_of_the_split(manifest: dict[str, Any]) -> None:
    manifest["splits"][0]["selection"] = "first 40"


def _more_structures(manifest: dict[str, Any]) -> None:
    manifest["splits"][0]["n_expected"] = 41


def _other_steps(manifest: dict[str, Any]) -> None:
    manifest["splits"][0]["parameters"] = {"stability": {"threshold": 2.0, "window": 1.0}}


def _other_recipe(manifest: dict[str, Any]) -> None:
    manifest["model"]["checkpoints"]["toys"]["recipe"] = "slow version 1"


def _fewer_trained(manifest: dict[str, Any]) -> None:
    manifest["model"]["checkpoints"]["toys"]["n_train"] = 99


TRAINED = {
    "recipe": "fast version 2", "dataset": "toys", "n_train": 100, "steps": 5, "learning_rate": 0.1, "parameters": 7,
    "preset": "small", "verdict": {"trained": True, "ratio": 0.1, "high": 0.2},
}  # fmt: skip
STRICT = TEXT.replace(
    "      not_established: [the seed]",
    "      parameters: {s2ef: {stability: {threshold: 1.0}}}\n      recipe: fast\n      n_train: 100",
)


@pytest.mark.parametrize(
    "change", [None, _part_of_the_split, _more_structures, _other_steps, _other_recipe, _fewer_trained]
)
def test_under_another_protocol_it_shows_none(
    make_run: Make, tmp_path: Path, change: Callable[[dict[str, Any]], None] | None
) -> None:
    run = make_run("net", record=EXACT)
    whole(run)
    change_manifest(run, lambda manifest: manifest["model"].update(checkpoints={"toys": dict(TRAINED)}))
    parameters = {"stability": {"threshold": 1.0, "window": 1.0}}
    change_manifest(run, lambda manifest: manifest["splits"][0].update(parameters=parameters))
    publish(tmp_path / "results", STRICT)
    if change is None:
        assert distances(tmp_path / "results")["net"][0] == pytest.approx(0.0025)
    else:
        change_manifest(run, change)
        assert distances(tmp_path / "results")["net"] == (None, "")


@pytest.mark.parametrize(
    "setting", [{"dataset": "toys2"}, {"split": "val"}, {"metrics": ("forces_cosine_similarity",)}]
)
def test_on_other_data_or_by_another_metric_it_shows_none(
    make_run: Make, tmp_path: Path, setting: dict[str, Any]
) -> None:
    whole(make_run("net", record=EXACT, **setting))
    publish(tmp_path / "results", TEXT.replace("      structures: {test: 40}\n", ""))
    assert distances(tmp_path / "results")["net"] == (None, "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - name: main", "  - nam: main", "line 5, tables[0].nam: unknown key"),
        ("place: Table 2", "place: Table 2\n    doi: 10/1", "line 7, tables[0].doi: unknown key"),
        ("url: https://example.org/nets", "url: nets", "line 3, url: "),
        ("citation: Doe, Of nets, 2024\n", "", "citation: missing"),
        ("metric: forces_mae", "metric: force_mae", "the task s2ef has no metric 'force_mae'"),
        ("unit: meV/Å", "unit: meV", "forces_mae is in eV/Å, and 'meV' is another quantity"),
        ("task: s2ef, split: test, metric: forces", "task: s3ef, split: test, metric: forces", "columns[1].task: "),
        ("1.0 50.0", "1.0", "rows[0].values: "),
        ("1.0 50.0", '"1.0"', "PaperNet has 1 values for 2 columns"),
        ("1.0 50.0", "1.0 much", "rows[0].values: "),
        ("1.0 50.0", "1.0 .nan", "rows[0].values: "),
        ("name: Other", "name: PaperNet", "two rows have one name"),
        ("metric: energy_mae, unit: kcal/mol", "metric: forces_mae, unit: eV/Å", "two columns are the same"),
        ("training: trained-on-split", "training: some", "tables[0].training: "),
        ("publication: doe", "publication: &a doe", "anchors and aliases are not allowed"),
    ],
)
def test_what_does_not_fit_is_one_line_with_file_and_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TEXT
    path = publish(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        read_publication(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_shipped_files_speak_of_what_there_is() -> None:
    files = sorted(SHIPPED.glob("*.yaml"))
    assert [path.stem for path in files] == ["fairchem", "leignn"]
    for found in map(read_publication, files):
        for table in found.tables:
            protocol = table.protocol
            assert protocol.dataset in entry_names()
            entry = load_entry(protocol.dataset)
            assert {column.split for column in table.columns} <= set(entry.splits)
            assert set(protocol.structures) <= set(entry.splits)
            assert {row.model for row in table.rows if row.model} <= set(card_names())
            if protocol.recipe is not None:
                assert load_recipe(protocol.recipe).dataset == protocol.dataset


def test_the_shipped_ablation_gives_the_improvements_that_the_paper_prints() -> None:
    printed = {
        "ablation-50k": [6.52, 3.58, 9.40, 2.93, 7.81, 3.61, 11.45, 3.37],
        "ablation-200k": [4.38, 1.79, 3.28, 2.17, 7.18, 2.44, 6.98, 2.68],
    }
    found = read_publication(SHIPPED / "leignn.yaml")
    for table in found.tables:
        if table.name in printed:
            rows = {row.name: [float(text or "nan") for text in row.printed] for row in table.rows}
            pairs = zip(rows["Vanilla"], rows["LEIGNN"], strict=True)
            improvements = [100 * (vanilla - leignn) / vanilla for vanilla, leignn in pairs]
            assert improvements == pytest.approx(printed[table.name], abs=0.02)
