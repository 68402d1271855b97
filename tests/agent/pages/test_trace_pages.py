"""The trace pages in a real browser, over real decisions of the bundled shop, some of them by a scripted LLM."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from rolegen_agent.facade import RoleGen
from rolegen_agent.memory import Memory, open_memory
from rolegen_agent.memory.browsing import Digest, Filters
from rolegen_agent.pages import catalogue_titles, create_app, overview, write_export
from rolegen_graphs.words import ROLES, Lesson, Outcome
from tests.support.browser import Watched, chromium
from tests.support.decisions import make_decision
from tests.support.scripted_llm import ScriptedLlm
from tests.support.serving import Strict, keep_picture, served
from tests.support.shop import AT, Line

PATIENCE = 60_000
"""milliseconds; a busy machine may take its time"""
expect.set_options(timeout=PATIENCE)
LLM = {"model": "scripted", "retries": 1, "api_key": "k", "input_usd_per_million": 2.0, "output_usd_per_million": 8.0}
LESSON = Lesson(
    lesson="early-birds",
    scope="all",
    scope_key="",
    text="Offer what is small",
    learnt_at=datetime(2011, 8, 1, tzinfo=UTC),
)


@dataclass(frozen=True)
class Demo:
    """A shop with decisions, their outcomes, and its pages."""

    folder: Path
    memory: Memory
    base: str

    @property
    def lines(self) -> tuple[Digest, ...]:
        return self.memory.browse(Filters(), limit=200).lines

    def by_llm(self) -> Digest:
        return next(line for line in self.lines if line.calls)

    def by_evidence(self, outcome: str = "ordered") -> Digest:
        return next(line for line in self.lines if not line.calls and line.outcome == outcome)


@pytest.fixture(scope="module")
def demo(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("pages") / "shop"))
    with RoleGen.open(folder) as shop:
        users = [str(user) for user in shop.dormant(AT)["user"].head(14)]
        shop.memory.record_lesson(LESSON)
        shop.awaken(users, AT)
    with ScriptedLlm("rate_limited", "malformed", "good") as server:
        overrides = {"reasoner": {"kind": "llm", "think": "always"}, "llm": {**LLM, "base_url": server.url}}
        with RoleGen.open(folder, overrides=overrides) as shop:
            shop.awaken(users[:3], AT)
    with RoleGen.open(folder) as shop:
        shop.outcomes_from_log()
        shop.attribute()
        app = create_app(shop.memory, titles=catalogue_titles(shop.project.items))
        with served(app) as base:
            yield Demo(folder, shop.memory, base)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """A page of its own that must not complain."""
    context = browser.new_context(viewport={"width": 1240, "height": 900})
    context.set_default_timeout(PATIENCE)
    made = context.new_page()
    strict = Strict(made, demo.base)
    yield made
    assert strict.faults == []
    context.close()


def addresses(demo: Demo) -> dict[str, str]:
    llm, runs = demo.by_llm(), list(demo.memory.run_sizes())
    same = [line.decision for line in demo.memory.browse(Filters(user=llm.user), sort="time").lines]
    return {
        "overview": "/",
        "filtered": f"/?role=target&outcome=not_ordered&run={runs[0]}",
        "decision by an llm": f"/decisions/{llm.decision}",
        "decision by evidence": f"/decisions/{demo.by_evidence().decision}",
        "user": f"/users?id={llm.user}",
        "lessons": "/lessons",
        "lesson": f"/lessons?id={LESSON.lesson}",
        "prompts": "/prompts",
        "prompt": "/prompts?name=reason",
        "two decisions": f"/compare?a={same[0]}&b={same[-1]}",
        "two runs": f"/compare?a={runs[0]}&b={runs[-1]}",
        "compare": "/compare",
        "error": "/decisions/none",
    }


@pytest.mark.parametrize(("width", "scheme"), [(1240, "light"), (390, "dark")])
def test_every_page_is_sound_accessible_and_fits(browser: Browser, demo: Demo, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    found = {}
    for name, address in addresses(demo).items():
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        strict = Strict(page, demo.base)
        page.goto(demo.base + address)
        keep_picture(page, f"{name} {scheme} {width}")
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        violations = Axe().run(page).response["violations"]
        serious = [
            f"{one['id']}: {one['nodes'][0]['html'][:160]}"
            for one in violations
            if one["impact"] in ("serious", "critical")
        ]
        wide = page.evaluate("document.documentElement.scrollWidth") > width
        faults = [fault for fault in strict.faults if not (name == "error" and "404" in fault)]
        if serious or wide or faults:
            found[name] = [*serious, *faults, *(["it is wider than the screen"] if wide else [])]
        page.close()
    context.close()
    assert found == {}


# --- five questions that a newcomer answers from the page alone


def test_question_why_this_item(page: Page, demo: Demo) -> None:
    line = next(one for one in demo.lines if one.fresh and not one.calls)
    page.goto(f"{demo.base}/decisions/{line.decision}")
    page.get_by_role("link", name="Why these items").click()
    section = page.get_by_role("region", name="Why these items")
    expect(section.locator("li", has_text="new by reasoning").first).to_contain_text(
        re.compile("path|roles that were read")
    )
    wished = section.locator("ol.places > li", has=page.locator("a")).first
    expect(wished).to_contain_text(re.compile(r"path \d+ wanted a \w+"))
    expect(wished).to_contain_text("expected to change the chance of an order by")
    wished.get_by_role("link", name=re.compile(r"path \d+")).click()
    expect(page.locator("li.branch:target")).to_contain_text("points")
    for place in section.locator("ol.places > li").all():
        expect(place).to_contain_text("of its score")


def test_question_what_did_the_llm_say(page: Page, demo: Demo) -> None:
    line = demo.by_llm()
    page.goto(f"{demo.base}/decisions/{line.decision}")
    page.get_by_role("link", name="What the LLM said").click()
    section = page.get_by_role("region", name="What the LLM said")
    calls = demo.memory.calls(decision=line.decision)
    assert section.locator("details.call").count() == len(calls)
    said = next(call for call in calls if call.raw.startswith("{"))
    shown = section.locator("details.call").nth(calls.index(said))
    if shown.get_attribute("open") is None:
        shown.locator("summary").first.click()
    expect(shown.locator("pre.raw")).to_contain_text(re.search(r'"(\w+)"', said.raw)[1])  # type: ignore[index]
    shown.get_by_text("The prompt as it was sent").click()
    expect(shown).to_contain_text("system")
    page.goto(f"{demo.base}/decisions/{demo.by_evidence().decision}#calls")
    expect(page.get_by_role("region", name="What the LLM said")).to_contain_text("No LLM was asked")


def test_question_what_was_rejected_and_why(page: Page, demo: Demo) -> None:
    for line in demo.lines:
        rejected = [c for c in demo.memory.get(line.decision).rounds[-1].candidates if c.fate == "rejected"]
        page.goto(f"{demo.base}/decisions/{line.decision}")
        section = page.get_by_role("region", name="What was rejected, and why")
        if not rejected:
            expect(section).to_contain_text("No wish was rejected")
            continue
        assert section.locator("ul.plain > li").count() == len(rejected)
        expect(section.locator("ul.plain > li").first).to_contain_text(rejected[0].reason.split("(")[0].strip()[:40])
        return


def test_question_what_did_it_cost(page: Page, demo: Demo) -> None:
    line = demo.by_llm()
    page.goto(f"{demo.base}/decisions/{line.decision}")
    tile = page.locator("dl.tiles > div", has_text="what it cost")
    expect(tile).to_contain_text(f"${line.cost_usd:.4f}")
    expect(tile).to_contain_text(f"{line.calls} calls")
    expect(tile).to_contain_text(f"{line.input_tokens:,} tokens in")
    page.goto(f"{demo.base}/decisions/{demo.by_evidence().decision}")
    expect(page.locator("dl.tiles > div", has_text="what it cost")).to_contain_text("no LLM was asked")


def test_question_what_was_learnt(page: Page, demo: Demo) -> None:
    told = next(one for one in demo.lines if demo.memory.get(one.decision).observation.lessons)
    page.goto(f"{demo.base}/decisions/{told.decision}")
    section = page.get_by_role("region", name="What was learnt")
    expect(section).to_contain_text(LESSON.text)
    expect(section).to_contain_text("What came of it")
    section.get_by_role("link", name=LESSON.text).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(LESSON.text)
    expect(page.get_by_role("region", name="Decisions that were told of this lesson")).to_contain_text(told.user)


# --- filters, paging, links, keys


def shown(page: Page) -> list[str]:
    return [(link.get_attribute("href") or "").rpartition("/")[2] for link in page.locator("#list a.open").all()]


def test_every_filter_shows_what_it_says(page: Page, demo: Demo) -> None:
    lines, llm = demo.lines, demo.by_llm()
    word = llm.top.split()[0]
    wanted = {
        "run": (llm.run, [one for one in lines if one.run == llm.run]),
        "cohort": (llm.cohort, [one for one in lines if one.cohort == llm.cohort]),
        "role": ("target", [one for one in lines if "target" in one.roles]),
        "reasoner": (llm.reasoner, [one for one in lines if one.reasoner == llm.reasoner]),
        "prompt": (llm.prompts[0], [one for one in lines if llm.prompts[0] in one.prompts]),
        "outcome": ("ordered", [one for one in lines if one.outcome == "ordered"]),
    }
    for label, (value, expected) in wanted.items():
        page.goto(demo.base)
        page.get_by_text("Filter", exact=True).click()
        page.locator(f"select[name={label}]").select_option(value)
        page.get_by_role("button", name="Show").click()
        assert shown(page) == [one.decision for one in expected], label
    for query, expected in {
        f"text={word}": [one for one in lines if word.lower() in one.top.lower()],
        "since=2011-09-01&until=2011-09-01": list(lines),
        "until=2011-08-31": [],
        "collapsed=1": [one for one in lines if one.collapsed],
    }.items():
        page.goto(f"{demo.base}/?{query}")
        found = shown(page)
        assert set(found) >= {one.decision for one in expected} and (expected or not found), query
    page.goto(f"{demo.base}/?role=nonsense&since=soon")
    assert page.get_by_role("alert").count() == 2, "a filter that is none is said, not swallowed"


def test_search_finds_users_and_decisions(page: Page, demo: Demo) -> None:
    line = demo.by_evidence()
    page.goto(demo.base)
    page.keyboard.press("/")
    page.keyboard.type(line.user)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(line.user)
    page.get_by_role("searchbox").fill(line.decision)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"Why {line.user} got these items")


def test_paging_shows_each_decision_once(page: Page, demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LINES", 5)
    for sort in ("recorded", "time", "cost", "seconds"):
        page.goto(f"{demo.base}/?sort={sort}")
        seen = shown(page)
        while page.locator("a[rel=next]").count():
            page.keyboard.press("n")
            page.wait_for_function(
                "(first) => !document.querySelector('#list a.open').href.endsWith(first)", arg=seen[-5]
            )
            page.wait_for_load_state()  # before that nobody listens to keys
            seen += shown(page)
        assert sorted(seen) == sorted(one.decision for one in demo.lines), sort


def test_every_link_leads_somewhere(page: Page, demo: Demo) -> None:
    todo, done = ["/"], set[str]()
    while todo and len(done) < 60:
        address = todo.pop(0)
        done.add(address)
        answer = page.request.get(demo.base + address)
        assert answer.status == 200, address
        text = answer.text()
        ids = set(re.findall(r'\bid="([^"]+)"', text))
        for href in re.findall(r'href="([^"]*)"', text):
            link = href.replace("&amp;", "&")
            if link.startswith("#"):
                assert link[1:] in ids, f"{address}: {link} leads nowhere"
            elif link.startswith("/") and link not in done and link not in todo:
                todo.append(link)
    assert len(done) >= 30


def test_keys_alone_are_enough(page: Page, demo: Demo) -> None:
    page.goto(demo.base)
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(demo.lines[1].decision))
    page.wait_for_load_state()  # before that nobody listens to keys
    page.keyboard.press("g")
    page.keyboard.press("l")
    expect(page.get_by_role("heading", level=1)).to_have_text("Lessons")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_two_runs_and_two_decisions_stand_side_by_side(page: Page, demo: Demo) -> None:
    runs = list(demo.memory.run_sizes())
    page.goto(f"{demo.base}/compare")
    page.get_by_label("First").fill(runs[0])
    page.get_by_label("Second").fill(runs[1])
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("row", name=re.compile("^decisions"))).to_contain_text(
        str(demo.memory.run_sizes()[runs[0]])
    )
    page.locator("main ul a.open").first.click()
    assert page.locator(".sides > section").count() == 2
    page.goto(f"{demo.base}/compare?a=nothing&b=none")
    expect(page.get_by_role("alert")).to_contain_text("nothing, none")


# --- other places


def test_a_page_keeps_up_with_a_batch(browser: Browser, tmp_path: Path) -> None:
    with open_memory(tmp_path / "memory.sqlite") as memory, served(create_app(memory)) as base:
        page = browser.new_page()
        strict = Strict(page, base)
        page.goto(base)
        expect(page.get_by_text("There is no decision yet.")).to_be_visible()
        memory.begin("demo", "1", datetime(2012, 1, 1, tzinfo=UTC))
        decision = make_decision("1")
        memory.record(decision)
        expect(page.locator("#list a.open")).to_have_count(1)
        expect(page.locator("#figures")).to_contain_text("1 under way")
        page.locator("#list a.open").click()
        expect(page.get_by_text("Nothing is known yet.")).to_be_visible()
        memory.record_outcome(Outcome(decision=decision.decision, user="1", ordered_at=decision.at + timedelta(days=2)))
        expect(page.locator("#outcome")).to_contain_text("came back and ordered")
        assert strict.faults == []
        page.close()


def test_an_export_needs_nothing_outside_itself(browser: Browser, demo: Demo, line: Line, tmp_path: Path) -> None:
    users = [demo.by_llm().user, demo.by_evidence().user]
    done = line("inspect", "--export", *users, "--to", "trace.html", "--project", str(demo.folder))
    assert done.returncode == 0 and "2 decisions in trace.html" in done.stdout, done.stderr
    page = browser.new_page(viewport={"width": 390, "height": 800})
    watched = Watched(page)
    page.goto((tmp_path / "trace.html").as_uri())
    keep_picture(page, "export")
    assert page.locator("article").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (
        page.evaluate(
            "[...document.querySelectorAll('[id]')].map((one) => one.id).filter((id, i, all) => all.indexOf(id) < i)"
        )
        == []
    )
    page.locator("article").first.get_by_role("link", name="What the LLM said").click()
    assert not [a for a in page.evaluate("[...document.links].map((one) => one.getAttribute('href'))") if a[0] != "#"]
    page.keyboard.press("e")
    expect(page.locator("pre.raw").first).to_be_visible()
    assert watched.faults == []
    page.close()
    again = line("inspect", "--export", "nobody", "--project", str(demo.folder))
    assert again.returncode == 1 and "there is no decision on user 'nobody'" in again.stderr


def test_masked_pages_tell_nobody_who_it_is(demo: Demo, tmp_path: Path, browser: Browser) -> None:
    users = {one.user for one in demo.lines}
    with served(create_app(demo.memory, mask=True)) as base:
        page = browser.new_page()
        line = demo.by_llm()
        for address in ("/", f"/decisions/{line.decision}", f"/users?of={line.decision}", "/compare"):
            page.goto(base + address)
            text = page.content()
            assert not [user for user in users if re.search(rf"\b{user}\b", text)], address
        page.goto(f"{base}/decisions/{line.decision}")
        assert demo.memory.calls(decision=line.decision)[0].raw[:40] not in page.content()
        page.locator(".crumbs a").nth(1).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("user-")
        assert page.request.get(f"{base}/users?id={line.user}").status == 404
        assert line.user not in page.request.get(f"{base}/?text={line.user}", max_redirects=0).headers.get(
            "location", ""
        )
        page.close()
    write_export(tmp_path / "masked.html", demo.memory, [line.user], mask=True)
    assert not re.search(rf"\b{line.user}\b", (tmp_path / "masked.html").read_text("utf-8"))


def test_it_works_within_an_app_of_ones_own(demo: Demo, browser: Browser) -> None:
    outer = Starlette(routes=[Mount("/insight/traces", create_app(demo.memory))])
    with served(outer) as base:
        page = browser.new_page()
        strict = Strict(page, f"{base}/insight/traces")
        page.goto(f"{base}/insight/traces/")
        page.locator("#list a.open").first.click()
        page.locator(".crumbs a").nth(1).click()
        expect(page.get_by_role("heading", level=1)).not_to_have_text("That did not work")
        page.get_by_role("link", name="Prompts").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Prompts")
        assert strict.faults == []
        page.close()


def test_roles_have_a_colour_each() -> None:
    style = (Path(overview.__file__).parents[1] / "report" / "style.css").read_text("utf-8")
    assert all(f".r{number}{{--c:" in style for number in range(len(ROLES)))
