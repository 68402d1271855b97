"""The report in a real browser: hostile text does no harm, search works, and it fits a phone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from rolegen_agent.report import Figure, Metric, Report, System, customer_section, write_report
from tests.support.browser import Watched, chromium
from tests.support.customers import came_back, customer, stayed_away

HOSTILE = (
    "<script>window.hacked=1</script>",
    "</title></style></script><script>window.hacked=2</script>",
    '"><img src=x onerror=window.hacked=3>',
    "' onmouseover=window.hacked=4 x='",
    "<svg/onload=window.hacked=5>",
    "{{ 7*7 }}{% include '/etc/passwd' %}",
    "<iframe srcdoc='<script>parent.hacked=6</script>'></iframe>",
    "\u202egnihtemos daer uoy\u2066",
    "nul \x00 bell \x07 \ud800 end",
    "&lt;b&gt; &amp; <!-- --> ]]>",
    "javascript:window.hacked=8",
    "x" * 100_000,
    "<a href='javascript:window.hacked=9'>free</a>",
    "<details open ontoggle=window.hacked=10>",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(None, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(HOSTILE, tmp_path_factory.mktemp("hostile"))


def page_of(titles: tuple[str, ...] | None, folder: Path) -> Path:
    made = [customer(n, titles=titles) if titles else customer(n) for n in range(14)]
    if titles:
        made[0] = customer(0, titles=titles, user=HOSTILE[0])
    sections = [
        customer_section(d, stayed_away(d) if n % 2 else came_back(d, "item4", HOSTILE[2])) for n, d in enumerate(made)
    ]
    text = titles[1] if titles else "A title"
    return write_report(
        folder / "report.html",
        Report(
            title=text,
            lede=text,
            reasoner=text,
            metrics=[Metric(key="hit1", label=text, meaning=text)],
            systems=[System(name=text, figures={"hit1": Figure(value=0.3, low=0.2, high=0.4)})],
            notes=[text],
            customers=sections,
            commands=[text],
            attribution=text,
        ),
    )


@pytest.mark.parametrize("report", ["plain", "hostile"])
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_runs_nothing_leaks_and_it_fits(
    browser: Browser, request: pytest.FixtureRequest, report: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark")
    watched = Watched(page)
    page.goto(request.getfixturevalue(report).as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.mouse.move(200, 400)
    page.wait_for_load_state("networkidle")
    assert watched.faults == []
    assert page.evaluate("window.hacked") is None
    assert page.locator("#customers > details").count() == 14, "no title may open or close an element"
    assert page.locator("img, iframe, a[href^=javascript]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_hostile_text_is_shown_as_text_and_bounded(browser: Browser, hostile: Path) -> None:
    page = browser.new_page()
    page.goto(hostile.as_uri())
    assert page.locator("h3", has_text="<script>window.hacked=1</script>").count() == 1
    first = page.locator("#customers > details").first
    text = first.text_content() or ""
    assert "x… (100,000 characters)" in (page.locator("#customers").text_content() or "")
    assert "\u202e" not in text
    assert "{{ 7*7 }}" in text
    assert hostile.stat().st_size < 200_000
    page.close()


def test_search_and_filter(browser: Browser, plain: Path) -> None:
    page = browser.new_page()
    watched = Watched(page)
    page.goto(plain.as_uri())
    shown = page.locator("#customers > details:visible")
    assert shown.count() == 14
    page.keyboard.press("/")
    page.keyboard.type("12003")
    assert shown.count() == 1
    assert shown.get_attribute("open") is not None, "the only match opens by itself"
    assert page.locator("#found").inner_text() == "1 of 14"
    page.keyboard.press("Escape")
    page.get_by_label("Show").select_option("back")
    assert shown.count() == 7
    assert "came back" in (shown.last.text_content() or "")
    page.get_by_label("Customer id").fill("no such customer")
    assert shown.count() == 0
    assert "no customer matches" in page.locator("#found").inner_text()
    assert watched.faults == []
    page.close()


def test_it_can_be_read_without_script(browser: Browser, plain: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(plain.as_uri())
    assert page.locator("#tools").is_hidden(), "a search box that cannot search would mislead"
    page.get_by_role("heading", name="12005").click()
    assert page.locator("#c6").get_by_text("Paths that were imagined").is_visible()
    context.close()


def test_the_outline_is_accessible(browser: Browser, plain: Path) -> None:
    page = browser.new_page()
    page.goto(plain.as_uri())
    for landmark in ("banner", "main", "contentinfo", "search"):
        assert page.get_by_role(landmark).count() == 1, landmark  # type: ignore[arg-type]
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), "no level is skipped"
    assert page.locator("table caption").count() == 1
    charts = page.locator("[role=img]")
    assert charts.count() == 4
    assert all(charts.nth(i).get_attribute("aria-label") for i in range(charts.count()))
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, plain: Path, scheme: str) -> None:
    """WCAG AA: at least 4.5:1 for the colours that text uses, computed from what the browser resolved."""
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(plain.as_uri())
    found = page.evaluate(
        """() => {
          const style = getComputedStyle(document.documentElement);
          const rgb = (name) => {
            const probe = document.body.appendChild(document.createElement('p'));
            probe.style.color = style.getPropertyValue(name);
            return getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(Number);
          };
          const light = (c) => c.map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
          const out = {};
          for (const ink of ['--ink', '--soft', '--accent', '--good', '--bad'])
            for (const ground of ['--bg', '--card', '--wash']) {
              const [a, b] = [light(rgb(ink)), light(rgb(ground))].sort((x, y) => y - x);
              out[ink + ' on ' + ground] = (a + .05) / (b + .05);
            }
          return out;
        }"""
    )
    assert len(found) == 15
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}
    page.close()


def test_a_deep_link_opens_its_customer(browser: Browser, plain: Path) -> None:
    page = browser.new_page()
    page.goto(plain.as_uri() + "#c9")
    assert page.locator("#c9").get_attribute("open") is not None
    page.close()
