from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from synthetic_records import HOSTILE, number, published, run

from mlipbench.report.plots import Figure, figures
from mlipbench.report.plots.pareto import pareto_front
from mlipbench.report.plots.theme import config
from mlipbench.report.table import build_tables
from mlipbench.report.text import clean

if TYPE_CHECKING:
    from pathlib import Path


def drawn(*records: Any) -> dict[str, Figure]:
    """Return the figures that are made of metrics alone."""
    found = figures(build_tables(records))
    return {figure.name: figure for figure in found if figure.name.startswith(("pareto", "gap", "scaling"))}


def cost(metric: str, value: float, split: str = "test", unit: str = "ms") -> Any:
    return number(metric, value, task="efficiency", unit=unit, split=split)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, 'relative luminance')."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)], {(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)}),
        ([(1.0, 3.0), (2.0, 3.0), (2.0, 4.0), (0.5, 9.0)], {(1.0, 3.0), (0.5, 9.0)}),
        ([(1.0, 1.0), (1.0, 1.0)], {(1.0, 1.0)}),
        ([], set()),
    ],
)
def test_the_front_is_what_nobody_beats_in_both(points, front) -> None:
    assert pareto_front(points) == front


def test_errors_are_drawn_against_what_the_same_run_costs_on_the_same_split(scored: Path) -> None:
    told = {"slow": (0.1, 20.0, 4.0), "fast": (0.2, 5.0, 1.0), "worse": (0.3, 6.0, 2.0)}
    slow, fast, worse = (
        run(
            name,
            number("energy_mae", error),
            cost("latency_p50", time),
            cost("flops", operations, unit="GFLOP"),
            directory=scored,
        )
        for name, (error, time, operations) in told.items()
    )
    paper = published("paper", "1.0")
    found = drawn(slow, fast, worse, paper)
    assert set(found) == {"pareto-toys-test-latency-median", "pareto-toys-test-flops-energy-and-forces"}
    values = {value["model"]: value for value in found["pareto-toys-test-latency-median"].spec["data"]["values"]}
    assert set(values) == {"slow", "fast", "worse"}
    slowest = values["slow"]
    assert (slowest["cost"], slowest["cost_low"], slowest["cost_high"]) == pytest.approx((20.0, 18.0, 22.0))
    assert (slowest["value"], slowest["low"], slowest["high"]) == pytest.approx((100.0, 90.0, 110.0))  # meV
    assert {name for name, value in values.items() if value["front"]} == {"slow", "fast"}
    assert "slow; fast" in found["pareto-toys-test-latency-median"].description.replace("fast; slow", "slow; fast")


def test_errors_are_drawn_against_parameters() -> None:
    sizes = {"small": 10, "large": 1000}
    (figure,) = drawn(
        *(run(name, number("forces_mae", 0.1), environment={"parameters": size}) for name, size in sizes.items()),
        run("no network", number("forces_mae", 0.01)),
    ).values()
    assert {value["model"]: value["cost"] for value in figure.spec["data"]["values"]} == sizes


def test_who_is_not_ranked_is_drawn_but_not_on_the_front(scored: Path) -> None:
    records = [
        run("ranked", number("energy_mae", 0.2), environment={"parameters": 10}, directory=scored),
        run("seen", number("energy_mae", 0.1, relation="contaminated"), environment={"parameters": 5}),
        run("partly", number("energy_mae", 0.1, status="partial", reason="x"), environment={"parameters": 5}),
    ]
    (figure,) = drawn(*records).values()
    fronts = {value["model"]: value["front"] for value in figure.spec["data"]["values"]}
    assert fronts == {"ranked": True, "seen": False, "partly": False}


def test_numbers_under_unlike_keys_stand_in_panels_of_their_own() -> None:
    records = [
        run(
            name,
            number("energy_mae", 0.1, comparability_key=key),
            number("forces_mae", 0.1),
            environment={"parameters": 10},
        )
        for name, key in (("a", "k1"), ("b", "k1"), ("c", "k2"), ("d", "k2"))
    ]
    (figure,) = drawn(*records).values()
    panels: dict[str, set[str]] = {}
    for value in figure.spec["data"]["values"]:
        panels.setdefault(value["panel"], set()).add(value["model"])
    assert sorted(map(sorted, panels.values())) == [["a", "b"], ["a", "b", "c", "d"], ["c", "d"]]


def test_gaps_are_drawn_with_their_intervals() -> None:
    records = [
        run(name, number("energy_mae", 0.1), number("energy_mae", gap, split="gap"))
        for name, gap in (("a", 0.05), ("b", 0.2))
    ]
    figure = drawn(*records)["gap-s2ef-toys"]
    values = {value["model"]: (value["value"], value["low"], value["high"]) for value in figure.spec["data"]["values"]}
    assert values["a"] == pytest.approx((50.0, 45.0, 55.0))
    assert values["b"] == pytest.approx((200.0, 180.0, 220.0))


def test_times_are_drawn_against_the_sizes_that_splits_are_named_by() -> None:
    times = {10: 1.0, 100: 8.0, 1000: 90.0}
    one = run(
        "one",
        *(cost("latency_p50", time, f"cu-{atoms}") for atoms, time in times.items()),
        cost("latency_p50", 3.0, "slabs"),
    )
    two = run("two", cost("latency_p50", 2.0, "cu-10"))
    figure = drawn(one, two)["scaling-toys-cu-latency-median"]
    found = {(value["model"], value["atoms"]): value["value"] for value in figure.spec["data"]["values"]}
    assert found == pytest.approx({("one", 10): 1.0, ("one", 100): 8.0, ("one", 1000): 90.0, ("two", 10): 2.0})


def test_two_sizes_are_no_ladder() -> None:
    assert not drawn(run("one", cost("latency_p50", 1.0, "cu-10"), cost("latency_p50", 2.0, "cu-100")))


def test_hostile_names_are_values_alone() -> None:
    records = [
        run(name, number("energy_mae", 0.1, dataset=HOSTILE[0], split=HOSTILE[1]), environment={"parameters": 5})
        for name in HOSTILE
    ]
    (figure,) = drawn(*records).values()
    assert re.fullmatch(r"[a-z0-9-]+", figure.name)
    assert {value["model"] for value in figure.spec["data"]["values"]} == {clean(name) for name in HOSTILE}
    keys: list[str] = []
    json.loads(json.dumps(figure.spec), object_pairs_hook=lambda pairs: keys.extend(key for key, _ in pairs))
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", key) for key in keys)


def test_the_export_shows_every_model_as_text() -> None:
    import vl_convert

    records = [run(name, number("energy_mae", 0.1), environment={"parameters": 5}) for name in ("<b>bold</b>", "a&b")]
    (figure,) = drawn(*records).values()
    svg = vl_convert.vegalite_to_svg(figure.spec, config=config(dark=False), allowed_base_urls=[])
    assert ">&lt;b&gt;bold&lt;/b&gt;<" in svg
    assert ">a&amp;b<" in svg


@pytest.mark.parametrize("dark", [False, True])
def test_marks_and_text_stand_out(dark: bool) -> None:
    theme = config(dark=dark)
    paper = theme["background"]
    assert all(contrast(colour, paper) >= 4.5 for colour in theme["range"]["category"])
    assert contrast(theme["axis"]["labelColor"], paper) >= 7
    assert contrast(theme["style"]["guide"]["color"], paper) >= 3
    assert len(theme["range"]["category"]) + 1 == len(theme["range"]["symbol"])
