"""Every case of the corpus through the real path: log, ingestion, evidence, prompt, a captured model over HTTP, grounding,
slate and memory. It may not change a role, leak the prompt, force an item, or disturb what people and models read."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from rich.console import Console

from rolegen_agent.facade import RoleGen
from rolegen_agent.memory import open_memory
from rolegen_agent.report import Report, customer_section, write_report
from rolegen_agent.story import story
from rolegen_agent.tool import summary
from rolegen_errors import PromptError
from rolegen_graphs import LoopSettings
from rolegen_graphs.guard import half
from rolegen_graphs.llm.schemas import answer_schema
from rolegen_graphs.words import ROLES, Decision
from rolegen_prompts import PromptPack, estimate_tokens
from tests.support.browser import Watched, chromium
from tests.support.scripted_llm import Asked
from tests.support.shop import Line

from .cases import CASES, DECIDED, Case
from .conversation import LINES, disturbing, events_of, fences, messages, skeleton
from .shop import AT, CANARY, TOKENS, Done, HostileShop

REST = 9000
"""estimated tokens of a prompt beside its history: the instructions, 41 categories, 12 lessons, 8 paths, 12 labels"""
NEWCOMERS = LoopSettings(run="any").newcomers
"""places of ten that reasoning may change in a slate, honest or not"""
NUMBERS = {"max_labels": 12, "number_of_paths": 8}


def every_case(check: Callable[[Done, HostileShop], None]) -> Callable[[HostileShop], None]:
    """A test that holds ``check`` against every decided case, and names all those that fail it, each with the reason."""

    def test(hostile: HostileShop) -> None:
        wrong: list[str] = []
        for done in hostile.done.values():
            try:
                check(done, hostile)
            except AssertionError as error:
                wrong.append(f"{done.case.id}: {str(error)[:1500]}")
        assert not wrong, "\n".join([f"{len(wrong)} of {len(hostile.done)} cases", *wrong])

    return test


@cache
def pack_of(folder: Path) -> PromptPack:
    return PromptPack.load(folder / "prompts")


def task_of(asked: Asked) -> str:
    return str(asked.body["response_format"]["json_schema"]["name"])


def test_the_corpus_is_large_and_its_ids_are_unique() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 60
    assert len(DECIDED) >= 60 and len({case.kind for case in CASES}) >= 20


def test_all_but_the_ids_that_are_too_long_get_into_the_shop(hostile: HostileShop) -> None:
    assert {case.id for case in DECIDED} == set(hostile.done)
    told = hostile.ingested.quarantined
    assert set(told) == {case.refused for case in CASES if case.where in ("user", "item", "session") and case.refused}
    assert hostile.ingested.rows == hostile.ingested.kept + sum(told.values()) + sum(hostile.ingested.dropped.values())


@every_case
def test_the_prompt_keeps_its_structure(done: Done, hostile: HostileShop) -> None:
    assert done.asked
    for asked in done.asked:
        task, said = task_of(asked), messages(asked.body)
        prompt = pack_of(hostile.folder).get(task)
        plain = prompt.render(**{name: NUMBERS.get(name, "x") for name in prompt.variables})
        if asked.repairing:
            plain = (*plain, *pack_of(hostile.folder).get("repair").render(answer="x", problems="x"))
        assert [speaker for speaker, _ in said] == [one.role for one in plain], done.case.id
        for (speaker, content), expected in zip(said, plain, strict=True):
            if speaker != "assistant":
                assert skeleton(content) == skeleton(expected.content), done.case.id
        assert json.dumps(asked.body["response_format"]["json_schema"]["schema"]) == json.dumps(answer_schema(task))
        assert estimate_tokens(said[0][1] + said[1][1]) <= TOKENS + REST, done.case.id


@every_case
def test_every_record_stays_one_record(done: Done, hostile: HostileShop) -> None:
    seen, last = done.decision.observation, done.decision.rounds[-1]
    listed = range(1, len(seen.trajectory.events) + 1)
    for asked in done.asked:
        for speaker, content in messages(asked.body)[1:]:
            assert speaker != "assistant" or not disturbing(content), done.case.id
            for name, lines in fences(content).items():
                assert not disturbing("\n".join(lines)), (done.case.id, name)
                if name == "trajectory":
                    shown = events_of(lines, seen.trajectory.total_events)
                    assert shown and shown == [event for event in listed if event in shown], done.case.id
                    assert estimate_tokens("\n".join(lines)) <= TOKENS, done.case.id
                else:
                    bad = [line for line in lines if not LINES[name].fullmatch(line)]
                    assert not bad, (done.case.id, name, bad)
                if name == "categories":
                    assert len(lines) <= 41, done.case.id
                if name == "lessons":
                    assert len(lines) == max(1, len(seen.lessons)), done.case.id
                if name == "reading" and "mixed" not in done.decision.reasoner:
                    assert len(lines) == len(last.reading.labels) + 1, done.case.id


@every_case
def test_ids_stay_out_of_the_prompt(done: Done, hostile: HostileShop) -> None:
    hidden = {done.user, done.item, *(event.session for event in done.decision.observation.trajectory.events)}
    telling = [one for one in hidden if one and len(one) >= 12]
    said = [content for _, content in messages(done.asked[0].body)]  # later the captured model tells what it never saw
    assert not [one for one in telling if any(one in content or one[:60] in content for content in said)]


@every_case
def test_it_changes_no_role(done: Done, hostile: HostileShop) -> None:
    for one in done.decision.rounds:
        used = {label.role for label in one.reading.labels} | {c.role for c in one.candidates}
        used |= {spec.role for path in one.paths for spec in path.specs()}
        assert used <= set(ROLES), done.case.id
        assert all(0 <= label.confidence <= 1 for label in one.reading.labels), done.case.id
    if done.case.role:
        assert done.decision.reasoner in ("evidence", "mixed"), done.case.id
        first = done.decision.rounds[0].answers[0]
        assert first.reasoner == "evidence" and "labels.0.role: Input should be 'trigger'" in first.why, done.case.id


@every_case
def test_a_useless_answer_is_shown_once_and_then_the_evidence_reasoner_answers(
    done: Done, hostile: HostileShop
) -> None:
    by_task: dict[str, list[Asked]] = {}
    for asked in done.asked:
        by_task.setdefault(task_of(asked), []).append(asked)
    answers = {answer.node: answer for answer in done.decision.rounds[0].answers}
    nodes = {"reason": "reason", "simulate": "simulate", "revise": "ground", "reflect": "reflect"}
    assert len(done.decision.rounds) == 1
    for task, requests in by_task.items():
        assert [one.repairing for one in requests] in ([False], [False, True]), (done.case.id, task)
        answer = answers[nodes[task]]  # type: ignore[index]
        fell_back = answer.reasoner == "evidence"
        assert fell_back == bool(answer.why), (done.case.id, task)
        if len(requests) == 2 and fell_back:
            assert "not even after being shown its errors" in answer.why, (done.case.id, task)
    assert done.decision.slate.items, done.case.id


def own_words(decision: Decision) -> Iterator[str]:
    """Every text of a decision that a model may have written, and what the loop said about it."""
    for one in decision.rounds:
        yield one.reading.intent.need
        for label in one.reading.labels:
            yield from (label.why, label.intent_before.need, label.intent_after.need)
        for path in one.paths:
            yield from (path.why, *(spec.text for spec in path.specs()))
        for candidate in one.candidates:
            yield from (candidate.reason, candidate.spec.text)
        yield from (signal.detail for signal in one.signals)
        yield from (correction.detail for correction in one.reflection.corrections)
        yield from one.reflection.lessons
        yield from (answer.why for answer in one.answers)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def runs(text: str, length: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)}


@every_case
def test_it_leaks_no_prompt(done: Done, hostile: HostileShop) -> None:
    spoken = {run for asked in done.asked for run in runs(skeleton(messages(asked.body)[0][1]), 14)}
    canary = runs(CANARY, 5)
    kept = [*own_words(done.decision), told(done), json.dumps(summary(done.decision))]
    for asked in done.asked:  # what the model wrote must not come back as data of a later question either
        kept += ["\n".join(lines) for _, content in messages(asked.body) for lines in fences(content).values()]
    for text in kept:
        assert not runs(text, 5) & canary, (done.case.id, text[:300])
        assert not runs(text, 14) & spoken, (done.case.id, text[:300])
    if done.case.prompt:
        answer = done.decision.rounds[0].answers[0]
        assert answer.reasoner == "evidence" and answer.why, done.case.id


@every_case
def test_it_forces_no_item_into_the_slate(done: Done, hostile: HostileShop) -> None:
    slate = [item.item for item in done.decision.slate.items]
    alone = [item.item for item in done.decision.slate_without_reasoning.items]
    assert len(set(slate)) == len(slate) == len(alone) == 10
    candidates = [c for one in done.decision.rounds for c in one.candidates if c.item is not None]
    absent = {"OLD-1", "X-404"}
    assert not absent & {*slate, *(c.item for c in candidates)}, "what does not exist or is sold out stays out"
    new = [item for item in slate if item not in alone]
    assert len(new) <= NEWCOMERS, f"a captured model costs {len(new)} places"
    assert not set(new) & set(slate[: half(len(slate))]), "what only reasoning brought in stands in the lower half"
    if done.case.item in new:  # it was found by its own title, as any spec could find it
        assert done.case.item in {c.item for c in candidates}


def test_a_captured_model_moves_slates_no_more_than_an_honest_one(hostile: HostileShop) -> None:
    demanded = [done for done in hostile.done.values() if done.honest is not None]
    captured = honest = 0
    for done in demanded:
        alone = {item.item for item in done.decision.slate_without_reasoning.items}
        captured += len(alone - {item.item for item in done.decision.slate.items})
        honest += len(alone - {item.item for item in done.honest.slate.items}) if done.honest else 0
    assert len(demanded) >= 25
    assert captured <= honest + len(demanded) / 4, (captured, honest)


@every_case
def test_the_memory_returns_it_exactly(done: Done, hostile: HostileShop) -> None:
    with open_memory(hostile.folder / ".rolegen" / "memory.sqlite") as memory:
        assert memory.get(done.decision.decision) == done.decision, done.case.id
        assert memory.find_latest(done.user, done.decision.run) == done.decision.decision, done.case.id
    assert len(done.decision.model_dump_json()) < 400_000, (
        f"{done.case.id}: one record holds no 100 kB text many times over"
    )


def test_so_does_postgresql(hostile: HostileShop, postgres_url: str) -> None:
    with open_memory(postgres_url, upgrade=True) as memory:
        for done in hostile.done.values():
            memory.record(done.decision)
            assert memory.get(done.decision.decision) == done.decision, done.case.id
            assert memory.find_latest(done.user) == done.decision.decision, done.case.id


def told(done: Done) -> str:
    """The decision as ``rolegen explain`` tells it."""
    screen = io.StringIO()
    Console(file=screen, width=160, highlight=False).print(story(done.decision, None, {}))
    return screen.getvalue()


@every_case
def test_people_read_it_undisturbed(done: Done, hostile: HostileShop) -> None:
    text = told(done)
    joiners = {"\u200c", "\u200d"}  # which emoji and some scripts need
    assert not disturbing(text) - joiners - set("<>`"), done.case.id
    assert len(text) < 30_000 and text.count("customer ") >= 1, done.case.id


@every_case
def test_agents_read_it_quoted(done: Done, hostile: HostileShop) -> None:
    answer: dict[str, Any] = summary(done.decision)
    texts = [str(answer["dormant_because"]), *(str(row["title"]) + str(row["category"]) for row in answer["slate"])]
    assert not [text for text in texts if disturbing(text) or "\n" in text or len(text) > 200], done.case.id


@pytest.mark.parametrize("case", [case for case in CASES if case.where == "tool"], ids=lambda case: case.id)
def test_an_agent_that_passes_a_hostile_user_gets_a_short_plain_error(case: Case, hostile: HostileShop) -> None:
    with RoleGen.open(hostile.folder) as shop:
        call = {"name": "awaken_user", "args": {"user": case.text}, "id": "1", "type": "tool_call"}
        message = shop.as_tool(AT).invoke(call)
    assert message.status == "error" and case.refused in message.text, case.id
    assert len(message.text) < 600 and not disturbing(message.text) - set("<>`"), case.id


@pytest.mark.parametrize("case", [case for case in CASES if case.where == "prompt"], ids=lambda case: case.id)
def test_a_hostile_prompt_file_is_refused(case: Case, tmp_path: Any) -> None:
    file = tmp_path / "repair" / "7.md"
    file.parent.mkdir()
    head = "---\nname: repair\nversion: 7\nvariables: [answer, problems]\noutput: null\nnote: hostile\n---\n"
    file.write_text(head + case.text, "utf-8")
    with pytest.raises(PromptError, match=case.refused):
        PromptPack.load(tmp_path).get("repair").render(answer="x", problems="y")


USERS = [case for case in DECIDED if case.where == "user"]


@pytest.mark.parametrize("case", USERS, ids=lambda case: case.id)
def test_the_command_line_explains_a_user_of_any_name(case: Case, hostile: HostileShop, line: Line) -> None:
    user = hostile.done[case.id].user
    done = line("explain", "--project", str(hostile.folder), "--", user)
    assert done.returncode == 0, (case.id, done.stderr)
    assert not disturbing(done.stdout) - set("<>`"), case.id
    plain = line("explain", "--project", str(hostile.folder), "--json", "--", user)
    assert json.loads(plain.stdout)["user"] == user, case.id


def test_the_list_of_users_is_undisturbed(hostile: HostileShop, line: Line) -> None:
    done = line("dormant", "--at", "2011-09-01", "--limit", "0", "--project", str(hostile.folder))
    assert done.returncode == 0 and not disturbing(done.stdout) - set("<>`")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def test_the_page_of_all_cases_is_only_a_page(browser: Browser, hostile: HostileShop) -> None:
    """The report of all of them in a real browser: nothing runs, nothing leaves, nothing breaks out of its place."""
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
