"""The page of a comparison in a real browser: it says the verdict, and hostile texts do no harm in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolegen_evals.suites.cases import Case
from rolegen_evals.suites.comparison import compare
from rolegen_evals.suites.decided import DECIDED, Decided, Head, Journal, seen_digest
from rolegen_evals.suites.page import write_comparison
from rolegen_evals.suites.runs import Run
from rolegen_evals.suites.suite import Suite
from rolegen_graphs.words import Decision
from tests.agent.test_report_browser import HOSTILE as TEXTS
from tests.support.browser import Watched, chromium
from tests.support.customers import customer

SUITE = Suite(graders=("recall", "validity", "cost"), primary={"recall": 0.02, "validity": 0.02})
HOSTILE = tuple(text.replace("\ud800", "") for text in TEXTS)  # which no JSON file can hold
HEAD = Head(configuration="c", code="1")


def case_of(decision: Decision) -> Case:
    return Case(
        case=decision.decision,
        user=decision.user,
        at=decision.at,
        observation=decision.observation,
        strata={"cohort": HOSTILE[3], "history": "short"},
        bought=(),
        artefacts="1",
    )


def run_of(name: str, values: dict[str, dict[str, float]], failed: dict[str, str]) -> Run:
    return Run(
        name=name,
        configuration=HOSTILE[1],
        suite="s",
        commit="1",
        prompts={"reason": name},
        values=values,
        failures=failed,
        log="",
    )


@pytest.fixture
def page(tmp_path: Path) -> Path:
    made = [customer(n, titles=HOSTILE) for n in range(24)]
    cases = [case_of(decision) for decision in made]
    folders = (tmp_path / "first", tmp_path / "second")
    for folder in folders:
        journal = Journal(folder / DECIDED, HEAD)
        for case, decision in zip(cases, made, strict=True):
            text = decision.model_dump_json(exclude={"observation"})
            journal.add(Decided(case=case.case, seen=seen_digest(case), decision=text, asked=(), again={}))
    first = {case.case: {"recall": 0.1 + n % 3 / 10, "validity": 1.0, "cost": 0.01} for n, case in enumerate(cases)}
    second = {
        case: {**one, "recall": one["recall"] + 0.2 + n % 5 / 50, "cost": 0.03}
        for n, (case, one) in enumerate(first.items())
    }
    failed = second.pop(cases[0].case) and {cases[0].case: f"grader x: {HOSTILE[0]}"}
    runs = (run_of("before", first, {}), run_of(HOSTILE[2], second, failed))
    found = compare(SUITE, cases, ("before", HOSTILE[2]), first, second)
    return write_comparison(tmp_path / "page.html", found, cases, runs, folders)


def test_the_page_tells_the_verdict_and_runs_nothing(page: Path) -> None:
    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 390, "height": 800})
        watched = Watched(shown)
        shown.goto(page.as_uri())
        shown.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        shown.wait_for_load_state("networkidle")
        assert watched.faults == []
        assert shown.evaluate("window.hacked") is None and shown.url == page.as_uri()
        assert shown.locator("h1").inner_text().endswith(": better")
        assert shown.locator("img, iframe, object, base, script, a[href^=javascript]").count() == 0
        assert shown.locator(".pair").count() == 5 and shown.locator(".pair > div").count() == 10
        assert "grader x: <script>" in shown.locator("section[aria-labelledby=failed]").inner_text()
        assert shown.locator("figure svg").count() >= 2
        assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it fits a phone"
