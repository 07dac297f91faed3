"""Plots of distributions: their values by hand, and drawn, with names that would be code elsewhere."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pytest
import vl_convert
from synthetic_runs import N, Run

from mlipbench.comparison.collect import collect
from mlipbench.errors import ResultsError
from mlipbench.metrics.dynamics import ReplicaScores
from mlipbench.report.page.page import to_html
from mlipbench.report.plots import density, errors, notes, rdf, survival
from mlipbench.report.plots.errors import staircase
from mlipbench.report.plots.theme import config
from mlipbench.report.table import build_tables
from mlipbench.status import Task
from mlipbench.store.distributions import DistributionsRecord
from mlipbench.store.rundir import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = ('<script>alert("1")</script>', "'; datum.x \\\" ` ${1}", "a.b[0]\\n%s")
SIDE = 243  # px


@dataclass
class Simulated(Run):
    """A run of 40 replicas: 10 collapse after 1 ps, 10 after 2, 5 are lost after 1.5, 15 last for all of 4."""

    task: Task = Task.MD
    metrics: tuple[str, ...] = ("stability", "rdf_mae")

    def _errors(self) -> ReplicaScores:
        nothing = np.full(N, np.nan)
        columns = {field.name: nothing for field in fields(ReplicaScores)}
        known = {
            "n_atoms": np.ones(N, dtype=np.int64),
            "seed": np.arange(N),
            "horizon": np.full(N, 4.0),
            "stable": np.repeat([1.0, 2.0, 1.5, 4.0], [10, 10, 5, 15]),
            "failed": np.repeat([1.0, 1.0, 0.0, 0.0], [10, 10, 5, 15]),
            "rdf_mae": np.full(N, 0.25),
        }
        return ReplicaScores(**columns | known)


@dataclass
class Lost(Simulated):
    """A run of 40 replicas that all collapse after 1 ps of 4."""

    def _errors(self) -> ReplicaScores:
        whole = super()._errors()
        columns = {field.name: getattr(whole, field.name) for field in fields(ReplicaScores)}
        return ReplicaScores(**columns | {"stable": np.ones(N), "failed": np.ones(N)})


def forces(cells, counts, beyond=0):
    known = {"limit": 50, "linear": 0.05, "bins": 81, "reference_beyond": beyond, "predicted_beyond": 0}
    return {"forces": known | {"cells": cells, "counts": counts}}


def curve(pairs, distribution="pair_rdf"):
    known = {"pairs": pairs, "distribution": distribution, "limit": 6, "n_replicas": 2}
    curves = {"mean": [0.0, 1.5, 1.0], "low": [0.0, 1.25, 1.0], "high": [0.0, 1.75, 1.0], "reference": [0.0, 2.0, 1.0]}
    return known | curves


def keep(run: Path, content: dict, task: Task = Task.S2EF) -> None:
    record = DistributionsRecord.model_validate(content)
    RunDirectory(run).write_distributions(task, "toys", "test", record)


def drawn(kind, results: Path):
    records = collect([results])
    return list(kind.figures(build_tables(records)))


def svg_of(figure) -> ET.Element:
    return ET.fromstring(vl_convert.vegalite_to_svg(figure.spec, config=config(dark=False), allowed_base_urls=[]))  # noqa: S314  # our own


def texts(svg: ET.Element) -> list[str]:
    return ["".join(one.itertext()) for one in svg.iter("{http://www.w3.org/2000/svg}text")]


def marks(svg: ET.Element, kind: str) -> list[ET.Element]:
    found = []
    for group in svg.iter("{http://www.w3.org/2000/svg}g"):
        classes = group.get("class", "").split()
        if f"mark-{kind}" in classes and "role-mark" in classes:
            found += list(group)
    return found


def test_every_cell_with_components_is_drawn_where_its_bins_are(tmp_path: Path) -> None:
    keep(Run("one").write(tmp_path), forces([0, 41, 6560], [5, 1, 100]))
    (figure,) = drawn(density, tmp_path)
    svg = svg_of(figure)
    boxes = []
    for cell in marks(svg, "rect"):
        x, y, width, height = map(float, re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", cell.get("d"))[:4])
        boxes.append([x, min(y, y + height), width, abs(height)])
    # three pixels a bin on axes that reach to the end of the range: label from the left, prediction from below
    expected = [[0, SIDE - 3, 3, 3], [0, SIDE - 42 * 3, 3, 3], [SIDE - 3, 0, 3, 3]]
    assert np.allclose(boxes, expected, atol=0.01)
    assert {"-10", "-1", "-0.1", "0", "0.1", "1", "10"} <= {text.replace("\u2212", "-") for text in texts(svg)}


def test_axes_end_where_the_outermost_components_are(tmp_path: Path) -> None:
    middle = 40
    keep(Run("one").write(tmp_path), forces([middle * 81 + middle + 8, middle * 81 + middle - 2], [1, 1]))
    (figure,) = drawn(density, tmp_path)
    edge = 0.05 * math.expm1((2 * 49 / 81 - 1) * math.log1p(1000))  # upper edge of bin 48
    scale = figure.spec["spec"]["layer"][0]["encoding"]["x"]["scale"]
    assert scale["domain"] == pytest.approx([-edge, edge])


def test_a_density_says_how_much_it_shows_and_what_not(tmp_path: Path) -> None:
    keep(Run("one").write(tmp_path), forces([0], [1234], beyond=2))
    (figure,) = drawn(density, tmp_path)
    assert "one, float64: 1,236 components, 2 of them beyond 50 eV/Å and not shown, mean absolute error" in (
        figure.description
    )
    assert figure.name == "force-density-toys-test"


def test_errors_up_to_a_size_are_counted_by_hand() -> None:
    assert staircase(np.array([0.0, 0.0, 1.0, 1.0, 2.5])) == {"error": [1.0, 1.0, 2.5], "share": [0.4, 0.8, 1.0]}


def test_many_errors_keep_exact_shares_at_fewer_points() -> None:
    values = np.sort(np.random.default_rng(0).lognormal(size=5_000).round(3))
    found = staircase(values)
    assert 150 < len(found["error"]) <= 201
    assert found["share"].pop(0) == 0
    assert found["error"].pop(0) == found["error"][0]
    assert found["error"][-1] == pytest.approx(values[-1], rel=1e-3)
    exact = [(values <= error * (1 + 1e-9)).mean() for error in found["error"] if error < 1]  # not rounded below 1
    assert found["share"][: len(exact)] == pytest.approx(exact, abs=1e-4)


def test_the_distribution_of_errors_is_that_of_the_scores(tmp_path: Path) -> None:
    Run("one", metrics=("forces_mae", "energy_mae")).write(tmp_path)
    Run("two", error=0.5, metrics=("forces_mae", "energy_mae")).write(tmp_path)
    of_forces, of_energies = drawn(errors, tmp_path)
    rng = np.random.default_rng(1)
    size = np.sort(3.0 * np.abs(0.05 + 0.01 * rng.standard_normal(N)))  # of one atom: the sum over three components
    (first, _) = of_forces.spec["data"]["values"]
    assert first["error"] == pytest.approx([size[0] / 3 * 1000, *(size / 3 * 1000)], rel=1e-3)
    assert first["share"] == pytest.approx(np.arange(N + 1) / N)
    (first, _) = of_energies.spec["data"]["values"]
    assert first["error"][1:] == pytest.approx(size * 1000, rel=1e-3)
    assert f"one, float64: half of 40 structures up to {size[19] / 3 * 1000:.1f}" in of_forces.description
    svg = svg_of(of_energies)
    assert len(marks(svg, "line")) == 2
    assert {"one, float64", "two, float64", "|ΔE| per atom of a structure (meV/atom)"} <= set(texts(svg))


def test_without_scores_there_is_no_distribution_of_errors(tmp_path: Path) -> None:
    Run("one", scores=False).write(tmp_path)
    assert drawn(errors, tmp_path) == []


def test_survival_steps_down_as_by_hand(tmp_path: Path) -> None:
    Simulated("one").write(tmp_path)
    (figure,) = drawn(survival, tmp_path)
    (values,) = figure.spec["data"]["values"]
    assert values["time"] == [0.0, 1.0, 1.5, 2.0, 4.0]
    assert values["share"] == pytest.approx([1.0, 0.75, 0.75, 0.45, 0.45])  # 30 of 40, then 15 of 25
    assert values["censored"] == [0, 0, 5, 0, 15]
    assert "one, float64: 20 of 40 replicas collapsed, 5 not followed to the end" in figure.description
    svg = svg_of(figure)
    assert len(marks(svg, "symbol")) == 2  # at 1.5 and 4 ps
    assert (len(marks(svg, "line")), len(marks(svg, "area"))) == (1, 1)


def test_survival_goes_on_at_zero_when_nobody_is_left(tmp_path: Path) -> None:
    Lost("one").write(tmp_path)
    (figure,) = drawn(survival, tmp_path)
    (values,) = figure.spec["data"]["values"]
    assert (values["time"], values["share"], values["censored"]) == ([0.0, 1.0, 4.0], [1.0, 0.0, 0.0], [0, 0, 0])


def test_every_kind_of_pairs_has_its_figure_over_the_reference(tmp_path: Path) -> None:
    for model in ("one", "two"):
        keep(Simulated(model).write(tmp_path), {"pairs": [curve("O-H"), curve("O-O")]}, Task.MD)
    figures = drawn(rdf, tmp_path)
    assert [figure.name for figure in figures] == ["distances-toys-test-o-h", "distances-toys-test-o-o"]
    assert figures[0].title == "toys test: g(r) of O-H"
    assert "one, float64: 2 replicas, error 0.250" in figures[0].description
    svg = svg_of(figures[0])
    lines = marks(svg, "line")
    assert len(lines) == 4  # reference and mean in each of two panels
    assert len(marks(svg, "area")) == 2
    # the middles of three bins up to 6 Å: 1, 3 and 5 of 6 on 220 px
    assert [float(x) for x in re.findall(r"[ML](-?[\d.]+),", lines[0].get("d"))] == pytest.approx(
        [220 / 6, 110, 220 * 5 / 6], abs=0.01
    )


def test_densities_of_distances_have_a_unit(tmp_path: Path) -> None:
    keep(Simulated("one").write(tmp_path), {"pairs": [curve("all", "distances")]}, Task.MD)
    (figure,) = drawn(rdf, tmp_path)
    assert figure.title == "toys test: h(r) of all atoms"
    assert "h(r) (1/Å)" in texts(svg_of(figure))


@pytest.mark.parametrize("kind", [density, errors, survival, rdf])
def test_names_that_would_be_code_elsewhere_are_text(kind, tmp_path: Path) -> None:
    for model in HOSTILE:
        if kind in {survival, rdf}:
            keep(Simulated(model).write(tmp_path), {"pairs": [curve("all")]}, Task.MD)
        else:
            keep(Run(model).write(tmp_path), forces([0], [1]))
    (figure,) = drawn(kind, tmp_path)
    svg = svg_of(figure)
    assert {f"{model}, float64" for model in HOSTILE} <= set(texts(svg))
    assert not list(svg.iter("script"))
    assert not list(svg.iter("{http://www.w3.org/2000/svg}script"))
    assert re.fullmatch(r"[a-z0-9-]+", figure.name)
    for model in HOSTILE:
        assert model in figure.description


def test_many_models_go_on_in_further_figures(tmp_path: Path) -> None:
    for number in range(25):
        keep(Run(f"m{number:02}", error=0.05 * (number + 1)).write(tmp_path), forces([number], [1]))
    figures = drawn(density, tmp_path)
    assert [figure.name for figure in figures] == [f"force-density-toys-test-{part}" for part in (1, 2, 3)]
    shown = [[value["model"] for value in figure.spec["data"]["values"]] for figure in figures]
    assert [len(models) for models in shown] == [12, 12, 1]
    assert shown[0][:2] == ["m00, float64", "m01, float64"]  # in the order of the table, the best on top
    names = [text for text in texts(svg_of(figures[0])) if text.startswith("m")]
    assert names == shown[0]


def test_runs_without_distributions_are_named(tmp_path: Path) -> None:
    Run("old").write(tmp_path)
    keep(Run("recent").write(tmp_path), forces([0], [1]))
    Simulated("older", dataset="others").write(tmp_path)
    (figure,) = drawn(density, tmp_path)
    assert [value["model"] for value in figure.spec["data"]["values"]] == ["recent, float64"]
    assert drawn(rdf, tmp_path) == []
    assert notes(build_tables(collect([tmp_path]))) == (
        (
            "toys test: no plot of predicted against reference forces for old, float64, whose runs keep none; "
            "`mlipbench score` adds them where predictions are kept."
        ),
        (
            "others test: no plot of distributions of distances for older, float64, whose runs keep none; "
            "`mlipbench score` adds them where predictions are kept."
        ),
    )


def test_the_page_says_which_plots_are_left_out(tmp_path: Path) -> None:
    Run("<i>old</i>", scores=False).write(tmp_path)
    records = collect([tmp_path])
    page = to_html(records, build_tables(records), ())
    assert (
        "<li>toys test: no plot of predicted against reference forces for &lt;i&gt;old&lt;/i&gt;, float64, whose runs "
        "keep none; `mlipbench score` adds them where predictions are kept.</li>"
    ) in page


def test_models_that_are_not_ranked_are_marked(tmp_path: Path) -> None:
    for model, code in (("one", "0.1.0+abc"), ("two", "0.1.0+abc"), ("three", "0.1.0+fff")):
        keep(Run(model, manifest={"code_version": code}).write(tmp_path), forces([0], [1]))
    for kind in (density, errors):
        (figure,) = drawn(kind, tmp_path)
        models = {value["model"] for value in figure.spec["data"]["values"]}
        assert models == {"one, float64", "two, float64", "three, float64, not ranked"}


def test_damaged_distributions_are_named(tmp_path: Path) -> None:
    run = Run("one").write(tmp_path)
    path = RunDirectory(run).distributions("s2ef", "toys", "test")
    path.write_text('{"schema_version": 1, "forces": {')
    with pytest.raises(ResultsError, match=re.escape(str(path))):
        drawn(density, tmp_path)


def test_numbers_of_unlike_keys_stand_in_plots_of_their_own(tmp_path: Path) -> None:
    for model, key in (("one", "k"), ("two", "other")):
        keep(Run(model, key=key, plan=model).write(tmp_path), forces([0], [1]))
    figures = drawn(density, tmp_path)
    assert [figure.name for figure in figures] == ["force-density-toys-1-test", "force-density-toys-2-test"]
    assert [figure.title for figure in figures] == [
        "toys test, table 1: predicted against reference forces",
        "toys test, table 2: predicted against reference forces",
    ]
