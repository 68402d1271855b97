"""No leak over the outer loop: what is planted after a time never shows in what is learnt, asked or decided before it.

``test_facade`` plants events and compares trainings; here outcomes, decisions, lessons, reflections and proposals of the
future are planted into the memory, and events into the log, around two rounds of deciding and learning.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rolegen_agent.facade import RoleGen
from rolegen_agent.memory import Memory
from rolegen_agent.preferences import export_preferences
from rolegen_agent.reasoning.proposals import SEASON
from rolegen_errors import FutureError
from rolegen_graphs.words import Claim, Decision, Lesson, LessonEffect, Outcome, Reflection
from tests.support.scripted_llm import ScriptedLlm, answer
from tests.support.shop import AT, LOG, users_at

MARKER = "ZEBRAMARKER"
DECIDED, LEARNT, LATER = (datetime(2011, month, day, tzinfo=UTC) for month, day in ((9, 1), (10, 1), (10, 15)))
"""decisions, learning from their outcomes once the horizon of 30 days has passed, and the decisions that lessons serve"""
USERS, DECIDED_LATER = 60, 12
SETTINGS: dict[str, dict[str, object]] = {
    "slate": {"horizon_days": 30},
    "lessons": {"support": 4, "false_rate": 0.5},
    "reasoner": {"lessons_withheld": 0.0, "lesson_tokens": 2000},
}


def asked(server: ScriptedLlm) -> list[str]:
    return sorted(one.prompt for one in server.chats)


def with_llm(server: ScriptedLlm) -> dict[str, dict[str, object]]:
    more: dict[str, dict[str, object]] = {"llm": {"model": "scripted", "base_url": server.url}}
    return {**SETTINGS, **more, "reasoner": {**SETTINGS["reasoner"], "kind": "llm"}}


def think(body: dict[str, Any]) -> str:
    """As scripted; of the table of outcomes it proposes the first row."""
    if body["response_format"]["json_schema"]["name"] == "learn":
        lesson = {"number": 1, "why": "it stands first", "text": "Lead with what stands first.", "direction": "lead"}
        return json.dumps({"lessons": [lesson]})
    return json.dumps(answer(body))


def decide(folder: Path, users: list[str]) -> None:
    """Decisions with outcomes: who was led with something of the season came back, so that there is something to learn."""
    with RoleGen.open(folder, overrides=SETTINGS) as shop:
        shop.awaken(users, DECIDED)
        for number, user in enumerate(users):
            decision = shop.trace(user)
            kinds = {path.path: path.kind for path in decision.rounds[-1].paths}
            back = any(kinds.get(one.path) == SEASON.name for one in decision.slate.items if one.path is not None)
            back = back if number % 5 else not back
            shop.memory.record_outcome(
                Outcome(
                    decision=decision.decision,
                    user=user,
                    ordered_at=DECIDED + timedelta(days=9) if back else None,
                    items=(decision.slate.items[0].item,) if back else (),
                )
            )


def plant(memory: Memory, users: list[str]) -> None:
    """Of the time of learning and after: decisions, reflections, outcomes and lessons, all with a marker."""
    claim = Claim(subject="category", value=MARKER, direction="lead")
    effect = LessonEffect(change=0.5, low=0.4, high=0.6, led=99, others=99, rate_led=0.9, rate_others=0.1, e_value=1e9)
    old = {user: memory.get(memory.find_latest(user) or "") for user in users}
    for at in (LEARNT, LATER, LATER + timedelta(days=3)):
        # Who is decided on later may know of the time of learning: that is their past.
        some = users[DECIDED_LATER:] if at == LEARNT else users
        planted = [marked(old[user], at) for user in some]
        for decision in planted:
            memory.record(decision)
        when = at + timedelta(days=1)
        memory.record_outcomes(
            Outcome(decision=one.decision, user=one.user, ordered_at=when, items=(MARKER,)) for one in planted
        )
    for at in (LATER, LATER + timedelta(days=3)):
        for scope, key in (("all", ""), ("user", users[0])):
            lesson = Lesson.model_validate(
                {"lesson": f"{MARKER}{scope}", "scope": scope, "scope_key": key, "text": MARKER, "learnt_at": at}
            )
            memory.record_lesson(lesson.model_copy(update={"claim": claim, "effect": effect}))


def marked(decision: Decision, at: datetime) -> Decision:
    """The same user decided on at another time, with the marker wherever a text can stand."""
    from rolegen_agent.memory import decision_id

    seen = decision.observation
    trajectory = seen.trajectory.model_copy(update={"at": at, "dormant_because": MARKER})
    last = decision.rounds[-1].model_copy(
        update={"number": 1, "reflection": Reflection(lessons=(f"lead with {MARKER}",))}
    )
    items = tuple(one.model_copy(update={"title": MARKER, "category": MARKER}) for one in decision.slate.items)
    return decision.model_copy(
        update={
            "run": MARKER,
            "at": at,
            "decision": decision_id(MARKER, decision.user, at),
            "observation": seen.model_copy(update={"trajectory": trajectory, "past": (), "lessons": ()}),
            "rounds": (last,),
            "slate": decision.slate.model_copy(update={"items": items}),
        }
    )


def sell(folder: Path, users: list[str]) -> None:
    """Into the log, from the later decision on: a marked item that these users buy."""
    log = pl.read_parquet(folder / LOG)
    kinds = log.schema
    rows = log.head(len(users)).with_columns(
        StockCode=pl.lit("99901"),
        Description=pl.lit(MARKER),
        InvoiceDate=pl.lit(datetime(2011, 10, 15, 1), kinds["InvoiceDate"]),  # midnight UTC, in London
        InvoiceNo=pl.Series([f"{700_000 + n}" for n in range(len(users))], dtype=kinds["InvoiceNo"]),
        CustomerID=pl.Series([int(user) for user in users]).cast(kinds["CustomerID"]),
    )
    pl.concat([log, rows]).write_parquet(folder / LOG)


def reflect_and_decide(folder: Path, users: list[str]) -> tuple[list[Lesson], list[object], list[str]]:
    """Lessons learnt, later decisions with them, and every prompt; what names runs, rows and versions is left out."""
    with ScriptedLlm(answers=think) as server:
        with RoleGen.open(folder, overrides=with_llm(server)) as shop:
            report = shop.reflect(LEARNT)
            assert report.decisions == USERS and not report.silent
            lessons = [one for one in shop.memory.lessons(LATER) if MARKER not in one.lesson]
        with RoleGen.open(folder, overrides=SETTINGS) as shop:
            told = [plain(shop.decide(user, LATER)) for user in users]
        with RoleGen.open(folder, overrides=with_llm(server)) as shop:
            told += [plain(shop.decide(user, LATER)) for user in users[:2]]
        return sorted(lessons, key=lambda one: one.lesson), told, asked(server)


def plain(decision: Decision) -> object:
    """Without names of runs, and ids of events by their order: an ingestion of more rows may give others."""
    events = {event.event: place for place, event in enumerate(decision.observation.trajectory.events)}

    def renumbered(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: renumbered(one, name) for name, one in value.items() if name not in ("decision", "run")}
        if isinstance(value, list):
            return [renumbered(one, key) for one in value]
        return events.get(value, value) if key in ("event", "evidence", "replaces") else value

    return renumbered(decision.model_dump(mode="json"))


@pytest.mark.slow
def test_nothing_planted_later_reaches_lessons_prompts_or_decisions(project: Path, tmp_path: Path) -> None:
    users = list(users_at(project, USERS))
    with RoleGen.open(project, overrides=SETTINGS) as shop:
        shop.ingest()
    decide(project, users)
    planted = Path(shutil.copytree(project, tmp_path / "planted"))
    sell(planted, users[2:])  # an ingestion may number the rows of users after these anew
    with RoleGen.open(planted, overrides=SETTINGS) as shop:
        shop.ingest()
        plant(shop.memory, users[:30])
        assert MARKER in pl.read_parquet(shop.project.items)["title"].str.join("\n").item()

    clean, marked_ = (reflect_and_decide(folder, users[:DECIDED_LATER]) for folder in (project, planted))
    assert clean[0] == marked_[0] and any(one.status == "active" for one in clean[0])
    assert clean[1] == marked_[1]
    assert "learnt_at" in json.dumps(clean[1]), "later decisions were told lessons"
    assert clean[2] == marked_[2] and any("What decisions led with" in prompt for prompt in clean[2])
    assert MARKER not in json.dumps([clean[2], marked_[1], [one.model_dump_json() for one in marked_[0]]])

    with RoleGen.open(planted, overrides=SETTINGS) as shop:
        assert not [one for one in shop.memory.verify() if "lesson" in one.check]
        files = tmp_path / "dpo.jsonl", tmp_path / "sft.jsonl"
        export_preferences(shop.memory, dpo=files[0], sft=files[1], at=LEARNT, evidence=True)
        assert files[1].read_text() and MARKER not in "".join(file.read_text() for file in files)
        # And it can be seen when its time has come.
        later = shop.memory.lessons_for(users[0], "any", LATER + timedelta(microseconds=1))
        assert MARKER in "".join(one.text for one in later)
        seen = shop.trace(users[0]).observation
        with pytest.raises(FutureError):
            future = later[-1].model_copy(update={"learnt_at": LATER})
            decision = shop.trace(users[0]).model_copy(
                update={"observation": seen.model_copy(update={"lessons": (future,)})}
            )
            shop.memory.record(decision.model_copy(update={"at": LATER}))


def test_the_date_of_the_shop_is_that_of_the_decisions() -> None:
    assert f"{DECIDED:%Y-%m-%d}" == AT
