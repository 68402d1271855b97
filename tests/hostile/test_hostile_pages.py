"""The report of all hostile decisions in a real browser: nothing runs, nothing leaves, nothing breaks out of its place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from rolegen_agent.report import Report, customer_section, write_report
from tests.support.browser import Watched, chromium

from .shop import CANARY, HostileShop


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_the_page_of_all_cases_is_only_a_page(browser: Browser, hostile: HostileShop) -> None:
    done = list(hostile.done.values())
    path = write_report(
        hostile.folder / "report.html",
        Report(
            title="Hostile",
            lede="All cases.",
            reasoner="scripted",
            customers=[customer_section(one.decision, None) for one in done],
        ),
    )
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    watched = Watched(page)
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.mouse.move(200, 400)
    page.wait_for_load_state("networkidle")
    assert watched.faults == []
    assert page.evaluate("window.hacked") is None and page.url == path.as_uri()
    assert page.locator("#customers > details").count() == len(done), "no text may open or close an element"
    assert page.locator("img, iframe, object, base, meta[http-equiv=refresh], a[href^=javascript]").count() == 0
    assert page.locator("#customers script, #customers style, #customers svg[onload]").count() == 0
    assert CANARY[:40] not in path.read_text("utf-8")
    page.close()
