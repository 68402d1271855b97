"""The report as data and as a file: what it says about a customer, and that it stays one bounded, closed page."""

from __future__ import annotations

import doctest
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from rolegen_agent.report import (
    CustomerSection,
    Fact,
    Figure,
    Metric,
    Report,
    System,
    customer_section,
    page,
    reasoner_words,
    text,
    words,
    write_report,
)
from rolegen_agent.story import story
from rolegen_graphs.words import ROLES, Answer, LabelParts, PathChoice, Worth
from tests.support.customers import came_back, customer, stayed_away

METRICS = (Metric(key="hit1", label="hit@1", meaning="The first item was bought."), Metric(key="cov", label="coverage"))
SYSTEMS = (
    System(name="popularity", figures={"hit1": Figure(value=0.0814, low=0.0621, high=0.0984)}),
    System(name="RoleGen", ours=True, figures={"hit1": Figure(value=0.3625), "cov": Figure(value=0.97)}),
)


def report(*sections: CustomerSection) -> Report:
    return Report(
        title="Awakening dormant customers",
        lede="What was done.",
        reasoner=reasoner_words("evidence"),
        facts=[Fact(label="Decision date", value="2011-09-01")],
        metrics=METRICS,
        systems=SYSTEMS,
        figures_caption="1 customer who came back",
        notes=["RoleGen minus popularity: +0.281"],
        customers=sections,
        commands=["rolegen explain 12001"],
        attribution="Data: made up.",
    )


def visible(page: str) -> str:
    """The text of the page outside style and script, white space collapsed."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S)
    found: list[str] = []
    parser = HTMLParser()
    parser.handle_data = found.append  # type: ignore[method-assign]
    parser.feed(body)
    return re.sub(r"\s+", " ", " ".join(found))


def test_the_doctests_hold() -> None:
    assert doctest.testmod(text).failed == doctest.testmod(words).failed == 0


def test_a_section_tells_the_story_of_the_decision() -> None:
    made = customer(1)
    section = customer_section(made, came_back(made, "item4", "item77", "item10"), {"item77": "TEA TOWEL"})
    assert section.outcome == "back"
    assert [(b.title, b.hit) for b in section.bought] == [
        ("LUNCH BAG BLACK SKULL.", True),  # the title that the decision knows, in single spaces
        ("TEA TOWEL", False),
        ("NATURAL SLATE HEART CHALKBOARD", False),  # only the slate without reasoning had it
    ]
    assert section.hits == 1
    assert [i for i, item in enumerate(section.slate) if item.fresh] == [4]
    assert [i for i, item in enumerate(section.slate) if item.hit] == [4]
    assert [i for i, item in enumerate(section.slate_without) if item.hit] == [9]
    assert section.moments[0].intent == "browsing, home & light → deciding, party"
    assert section.moments[1].intent == ""
    assert [p.effect.change for p in section.paths if p.effect] == [0.034, 0.011, -0.031]
    assert section.paths[2].steps[1].title == ""
    assert section.paths[2].steps[1].reason == "out of stock at the decision"
    assert section.paths[0].steps[1].wish == "party, 2.00 to 5.50"
    assert dict(section.fates) == {"mapped": 3, "accepted": 2, "rejected": 1}
    assert "1 of 6 wishes met no item" in section.remarks


def test_a_section_shows_both_sides_of_a_label_every_choice_and_why_an_llm_was_asked(tmp_path: Path) -> None:
    made = customer(1)
    last = made.rounds[0]
    parts = LabelParts(
        llm_role="bridge",
        llm_confidence=0.8,
        log_role="target",
        log_probability=0.71,
        log_for_llm_role=0.0,
        support=1200,
        log_weight=0.984,
    )
    labels = list(last.reading.labels)
    labels[6] = labels[6].model_copy(update={"parts": parts})
    choices = (
        PathChoice(path=1, chosen=True, place=1, reason="the best effect"),
        PathChoice(path=2, chosen=False, reason="the quota of 2 for role <b>target</b> is full"),
        PathChoice(path=3, chosen=True, place=2, reason="the best of effect and likeness to those before it"),
    )
    worth = Worth(uncertainty=0.5, thinness=0.5, value=0.5, worth=0.5, rounds=0, why="worth 0.50, so <i>no</i> LLM")
    round_ = last.model_copy(
        update={"reading": last.reading.model_copy(update={"labels": tuple(labels)}), "choices": choices}
    )
    made = made.model_copy(update={"rounds": (round_,), "worth": worth})
    section = customer_section(made, None)
    assert (
        section.moments[6].parts == "the LLM said bridge 80%; the log target 71% from 1,200 observations, weight 0.98"
    )
    assert [path.choice for path in section.paths] == [
        "used, 1st choice: the best effect",
        "not used: the quota of 2 for role <b>target</b> is full",
        "used, 2nd choice: the best of effect and likeness to those before it",
    ]
    page = write_report(tmp_path / "page.html", report(section)).read_text(encoding="utf-8")
    for told in ("the LLM said bridge 80%", "&lt;b&gt;target&lt;/b&gt; is full", "so &lt;i&gt;no&lt;/i&gt; LLM"):
        assert told in page
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(story(made, None, {}))
    told = console.export_text()
    assert "the LLM said bridge 80%" in told and "used, 1st choice" in told and "not used: the quota" in told
    assert "worth 0.50, so <i>no</i> LLM" in told
    assert told.index("1st choice") < told.index("2nd choice") < told.index("not used")


def test_a_horizon_that_is_open_is_not_taken_for_a_customer_who_stayed_away() -> None:
    made = customer(1)
    assert customer_section(made, stayed_away(made)).outcome == "away"
    assert customer_section(made, stayed_away(made, final=False)).outcome == "open"
    assert customer_section(made, None).outcome == "unknown"


def test_what_is_left_out_is_counted() -> None:
    made = customer(1, labels=19)
    section = customer_section(made, came_back(made, *[f"x{i}" for i in range(40)]))
    assert len(section.moments) + section.moments_left_out == 19
    assert len(section.bought) + section.bought_left_out == 40
    assert section.moments[-1].at == made.observation.trajectory.events[-1].at, "the latest events are the ones to keep"


def test_a_fallback_of_the_llm_shows() -> None:
    made = customer(1)
    answer = Answer(node="reason", reasoner="evidence", why="the LLM gave no valid answer twice")
    last = made.rounds[0].model_copy(update={"answers": (answer,)})
    section = customer_section(made.model_copy(update={"rounds": (last,), "reasoner": "mixed"}), None)
    assert "reason was answered by evidence: the LLM gave no valid answer twice" in section.remarks


def test_the_page_says_what_a_reader_needs(tmp_path: Path) -> None:
    one, two = customer(1), customer(2)
    path = write_report(
        tmp_path / "new folder" / "report.html",
        report(customer_section(one, came_back(one, "item4")), customer_section(two, stayed_away(two))),
    )
    said = visible(path.read_text(encoding="utf-8"))
    for expected in (
        "no LLM was called",
        "2011-09-01",
        "0.081 0.062 to 0.098",
        "RoleGen minus popularity: +0.281",
        "came back, 1 of 10 shown bought",
        "stayed away",
        "+3.4 points [+1.4, +5.4]",
        "rejected: out of stock at the decision",
        "bridge, path 1, new by reasoning; repeat .31 next .12 candidate -.07",
        "rebuy regularity 2.10 [1.40, 3.00] of 34",
        "they are associations, unless",
        "Answered by the evidence reasoner, not an LLM, in 1 round.",
        "rolegen explain 12001",
        "Data: made up.",
        *ROLES,
    ):
        assert expected in said
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_report_about_nobody_says_what_to_do(tmp_path: Path) -> None:
    html = write_report(tmp_path / "report.html", report()).read_text(encoding="utf-8")
    assert "No customer was dormant at this date. Try" in visible(html)


def test_thousands_of_customers_fit_in_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = customer(1)
    section = customer_section(made, stayed_away(made))
    few, many = (write_report(tmp_path / f"{n}.html", report(*[section] * n)).stat().st_size for n in (10, 30))
    assert (many - few) / 20 < 4_600  # bytes each, so that 3,300 customers make 15 MB
    monkeypatch.setattr(page, "_SECTIONS", 20)
    cut = write_report(tmp_path / "cut.html", report(*[section] * 30)).read_text(encoding="utf-8")
    assert cut.count("<details ") == 20
    assert "10 more customers are counted above but have no section here" in cut


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    made = customer(1)
    html = write_report(tmp_path / "report.html", report(customer_section(made, None))).read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"?(?![#\"])[^\s>]+", html.replace("xlink:href", ""))
    assert set(re.findall(r"https?://[^\s\"]+", html)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert " style=" not in html, "the content security policy would refuse it"


@pytest.mark.parametrize(
    ("reasoner", "expected"),
    [("llm:qwen3", "the LLM qwen3"), ("mixed", "several: one stood in")],
)
def test_the_reasoner_is_named_as_what_it_is(reasoner: str, expected: str) -> None:
    assert reasoner_words(reasoner).startswith(expected)
