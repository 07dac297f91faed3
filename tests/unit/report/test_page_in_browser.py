"""The page in a browser: Chromium from ``MLIPBENCH_CHROMIUM`` or ``PATH``, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from synthetic_records import HOSTILE, large, number, run

from mlipbench.report.page.page import to_html
from mlipbench.report.plots import figures
from mlipbench.report.table import build_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlipbench.comparison.collect import RunRecord

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = os.environ.get("MLIPBENCH_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no Chromium: MLIPBENCH_CHROMIUM is not set, and none of {', '.join(NAMES)} is on PATH")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page in a browser, with everything it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.context = browser.new_context(**({"viewport": DESKTOP} | settings))
        self.context.set_default_timeout(5_000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = path.as_uri()
        self.page.goto(self.address)

    def models(self) -> list[str]:
        """Return the models of the first table as they stand, without hidden ones."""
        return self.page.eval_on_selector_all(
            ".board table >> nth=0 >> tbody tr:not([hidden]) th > a",
            "links => links.map(link => link.textContent)",
        )


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    pages: list[Opened] = []

    def make(records: Sequence[RunRecord], **settings: Any) -> Opened:
        tables = build_tables(records)
        path = tmp_path / "leaderboard.html"
        path.write_text(to_html(records, tables, figures(tables)), encoding="utf-8")
        pages.append(Opened(browser, path, **settings))
        return pages[-1]

    yield make
    for one in pages:
        one.context.close()
        assert one.complaints == []
        assert [url for url in one.requests if not url.startswith(("data:", "blob:"))] == [one.address]


def three() -> list[RunRecord]:
    """Return three runs with numbers and one that failed."""
    told = (("beta", 0.2, 0.9, 10), ("alpha", 0.1, 0.5, 20), ("gamma", 0.3, 0.7, 5))
    good = [
        run(
            name,
            number("energy_mae", error),
            number("forces_cosine_similarity", cosine, direction="higher"),
            environment={"parameters": size},
        )
        for name, error, cosine, size in told
    ]
    return [*good, run("delta", number("energy_mae", None, status="failed", reason="it crashed"))]


def test_a_press_of_a_head_sorts_better_numbers_first_and_missing_ones_last(opened: Any) -> None:
    one = opened(three())
    head = one.page.get_by_role("columnheader", name="Energy MAE")
    first = one.models()
    for state, order in (
        ("ascending", ["alpha", "beta", "gamma", "delta"]),
        ("descending", ["gamma", "beta", "alpha", "delta"]),
        ("none", first),
    ):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == state
        assert one.models() == order
    share = one.page.get_by_role("columnheader", name="cosine")
    share.get_by_role("button").click()
    assert share.get_attribute("aria-sort") == "descending"
    assert one.models() == ["beta", "gamma", "alpha", "delta"]


def test_the_keyboard_sorts_and_reaches_everything(opened: Any) -> None:
    one = opened(three())
    one.page.keyboard.press("Tab")
    assert one.page.evaluate("document.activeElement.className") == "skip"
    one.page.keyboard.press("Enter")
    assert one.page.evaluate("document.activeElement.id") == "main"
    one.page.get_by_role("columnheader", name="Model").get_by_role("button").focus()
    one.page.keyboard.press("Enter")
    assert one.models() == ["alpha", "beta", "delta", "gamma"]
    one.page.keyboard.press("Space")
    assert one.models() == ["gamma", "delta", "beta", "alpha"]
    outline = one.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_the_filter_hides_rows_and_says_how_many_are_left(opened: Any) -> None:
    one = opened(three())
    field = one.page.get_by_label("Filter models")
    field.fill("ALPH zero-shot")
    assert one.models() == ["alpha"]
    assert one.page.locator("output").inner_text() == "1 of 4 rows"
    field.fill("nobody")
    assert one.models() == []
    field.fill("")
    assert len(one.models()) == 4


@pytest.mark.parametrize("way", ["hover", "focus"])
def test_a_number_says_what_is_known_of_it(opened: Any, way: str) -> None:
    one = opened(three())
    link = one.page.locator(".board").get_by_role("link", name="100", exact=True).first
    getattr(link, way)()
    tip = one.page.get_by_role("tooltip")
    assert tip.is_visible()
    text = tip.inner_text()
    for told in ("alpha, default, seed 0", "0.1 eV", "0.09 to 0.11", "40, 40 independent", "ok", "zero-shot"):
        assert told in text
    assert link.get_attribute("aria-describedby") == "tip"
    one.page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_a_missing_number_says_why(opened: Any) -> None:
    one = opened(three())
    one.page.get_by_role("link", name="failed").hover()
    assert "it crashed" in one.page.get_by_role("tooltip").inner_text()


def test_a_number_links_to_the_section_of_its_run(opened: Any) -> None:
    one = opened(three())
    assert not one.page.locator("details.run[open]").count()
    one.page.locator(".board").get_by_role("link", name="100", exact=True).first.click()
    assert one.page.locator("details.run[open] h3").inner_text() == "alpha, default, seed 0"
    row = one.page.locator("tr:target")
    assert row.is_visible()
    assert "Energy MAE" in row.inner_text()


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_until_the_button_is_pressed(opened: Any, system: str) -> None:
    one = opened(three(), color_scheme=system)
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(255, 255, 255)", "rgb(22, 25, 29)"
    assert one.page.evaluate(paper) == (dark if system == "dark" else light)
    button = one.page.get_by_role("button", name="Dark")
    assert button.get_attribute("aria-pressed") == str(system == "dark").lower()
    button.click()
    other = light if system == "dark" else dark
    assert one.page.evaluate(paper) == other
    one.page.locator(".plot").first.scroll_into_view_if_needed()
    one.page.locator(".plot svg.marks").wait_for()
    drawn = one.page.locator(".plot svg.marks").first
    assert drawn.evaluate("svg => getComputedStyle(svg).backgroundColor") == other
    one.page.reload()
    one.requests.pop()
    assert one.page.evaluate(paper) == other


def with_plots() -> list[RunRecord]:
    """Return two runs with three plots."""
    times = [
        number("latency_p50", time, task="efficiency", unit="ms", split=f"cu-{atoms}")
        for atoms, time in ((10, 1.0), (100, 8.0), (900, 90.0))
    ]
    gap = [number("energy_mae", 0.1), number("energy_mae", 0.2, split="gap")]
    return [run(name, *gap, *times, environment={"parameters": 5}) for name in ("one", "two")]


def test_every_plot_is_drawn_and_described(opened: Any) -> None:
    one = opened(with_plots())
    plots = one.page.locator(".plot")
    assert plots.count() == 3
    for place in range(plots.count()):
        plots.nth(place).scroll_into_view_if_needed()
        drawn = plots.nth(place).locator("svg.marks")
        drawn.wait_for()
        assert drawn.get_attribute("role") == "img"
        assert len(str(drawn.get_attribute("aria-label"))) > 40


def test_the_numbers_of_a_plot_are_reached_by_keyboard(opened: Any) -> None:
    records = with_plots()
    page = opened(records).page
    shown = figures(build_tables(records))
    summaries = page.locator(".values summary")
    assert summaries.all_text_contents() == [f"Numbers of the plot: {figure.title}" for figure in shown]
    for place, figure in enumerate(shown):
        summaries.nth(place).focus()
        page.keyboard.press("Enter")
        table = page.locator(".values").nth(place).locator("table").first
        heads = table.locator("thead th").all_text_contents()
        cells = dict(zip(heads, table.locator("tbody tr").first.locator("td").all_text_contents(), strict=True))
        for name, value in figure.spec["data"]["values"][0].items():
            told = cells[name.replace("_", " ")]
            if isinstance(value, str):
                assert told == value
            elif isinstance(value, float):
                assert float(told) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_is_no_wider_than_the_screen(opened: Any, viewport: dict[str, int]) -> None:
    one = opened(
        [*large(30, 5), run("a-model-with-a-name-as-long-as-" * 5, number("energy_mae", 0.1))], viewport=viewport
    )
    assert one.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    for plot in one.page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        plot.locator("svg.marks").wait_for()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_text_stands_out_from_its_background(opened: Any) -> None:
    """Every colour of text against the page's own and the raised background: 4.5 to 1 (WCAG 2.2, AA)."""
    one = opened(three())
    script = """() => {
      const luminance = (text) => {
        const parts = text.match(/[0-9.]+/g).slice(0, 3).map((part) => {
          const share = part / 255;
          return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
      };
      const probe = document.body.appendChild(document.createElement("i"));
      const colour = (name) => {
        probe.style.color = `var(--${name})`;
        return luminance(getComputedStyle(probe).color);
      };
      const worst = [];
      for (const theme of ["light", "dark"]) {
        document.documentElement.dataset.theme = theme;
        for (const ink of ["ink", "soft", "link"])
          for (const paper of ["paper", "raised", "best", "mark"]) {
            const pair = [colour(ink), colour(paper)].sort((a, b) => b - a);
            worst.push([(pair[0] + 0.05) / (pair[1] + 0.05), theme, ink, paper]);
          }
      }
      return worst.filter((found) => found[0] < 4.5);
    }"""
    assert one.page.evaluate(script) == []


def test_hostile_names_do_nothing(opened: Any) -> None:
    records = [
        run(
            name,
            number("energy_mae", 0.1, reason=name, dataset="</script><script>alert(9)</script>"),
            environment={"parameters": 5},
        )
        for name in HOSTILE
    ]
    one = opened(records)
    one.page.locator(".board").get_by_role("link", name="100", exact=True).first.hover()
    one.page.locator(".plot").first.scroll_into_view_if_needed()
    one.page.locator(".plot svg.marks").wait_for()
    one.page.locator(".plot .mark-symbol path").first.hover(force=True)
    assert one.page.locator("main img").count() == 0
    assert sorted(one.models()) == sorted(" ".join(name.replace("\x1b", "").split()) for name in HOSTILE)


def test_a_large_page_sorts_at_once(opened: Any) -> None:
    one = opened(large(30, 5))
    milliseconds = one.page.evaluate(
        """() => {
          const start = performance.now();
          document.querySelectorAll(".board table")[0].tHead.rows[0].cells[1].querySelector("button").click();
          document.body.getBoundingClientRect();
          return performance.now() - start;
        }"""
    )
    assert milliseconds < 1000
