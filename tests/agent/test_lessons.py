"""Lessons on real SQLite and PostgreSQL: born from outcomes, judged by outcomes, and never by their own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from rolegen_agent.lessons import LearningReport, learn
from rolegen_agent.lessons.statistics import discoveries, judge
from rolegen_agent.memory import Memory, open_memory
from rolegen_agent.memory.lessons import Evidence, KnownOutcome
from rolegen_agent.memory.models import Base
from rolegen_errors import FutureError, InputError, ReasonerError
from rolegen_graphs.words import CallSite, Claim, Decision, ItemSpec, Lesson, Outcome, Role, Slate, SlateItem
from rolegen_graphs.words import Path as Walk
from tests.support.decisions import make_decision

pytest_plugins = ["tests.support.postgres"]

START = datetime(2011, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HORIZON = 90 * DAY
KINDS: dict[str, Role] = {"season": "trigger", "rebuy": "replenishment"}


def led_with(user: str, at: datetime, kind: str, *, cohort: str = "lapsed", run: str = "r") -> Decision:
    """A small decision whose slate leads with one kind of path."""
    base = make_decision(user, at, run, rounds=1, events=1)
    one = base.rounds[0]
    spec = ItemSpec(role=KINDS[kind], category="bags", text="bag")
    path = Walk(path=0, operation="insert", intervention=spec, kind=kind)
    effect = one.effects[0].model_copy(update={"probability_without": 0.2, "path": 0})
    item = SlateItem(rank=1, item="I1", title="bag", category=f"{kind} things", score=1.0, role=KINDS[kind], path=0)
    slate = Slate(items=(item,), entropy=1.0)
    seen = base.observation
    small = {
        "paths": (path,),
        "candidates": (),
        "effects": (effect,),
        "choices": (),
        "slate": slate,
        "reading": one.reading.model_copy(update={"labels": ()}),
    }
    trajectory = seen.trajectory.model_copy(update={"cohort": cohort})
    return base.model_copy(
        update={
            "rounds": (one.model_copy(update=small),),
            "slate": slate,
            "observation": seen.model_copy(update={"trajectory": trajectory, "lessons": (), "past": ()}),
        }
    )


def outcome_of(decision: Decision, ordered: bool, *, final: bool = True) -> Outcome:
    when = decision.at + 5 * DAY if ordered else None
    items = ("I1",) if ordered else ()
    return Outcome(decision=decision.decision, user=decision.user, ordered_at=when, items=items, final=final)


def happened(memory: Memory, decision: Decision, ordered: bool, *, final: bool = True) -> None:
    memory.record(decision)
    memory.record_outcome(outcome_of(decision, ordered, final=final))


def month(memory: Memory, at: datetime, rates: dict[str, float], *, users: int = 60, cohort: str = "lapsed") -> None:
    """Decisions on ``users`` customers for each kind, of whom the given share orders."""
    outcomes = []
    for kind, rate in rates.items():
        for number in range(users):
            decision = led_with(f"{kind}{number}", at, kind, cohort=cohort)
            memory.record(decision)
            outcomes.append(outcome_of(decision, number < rate * users))
    memory.record_outcomes(outcomes)


def taught(memory: Memory, at: datetime, cohort: str = "lapsed") -> set[tuple[str, str, str]]:
    """What a decision at ``at`` would be told."""
    claims = [one.claim for one in memory.lessons_for("anybody", cohort, at)]
    return {(one.subject, one.value, one.direction) for one in claims if one is not None}


# --- born, confirmed, contradicted, expired


def differences(memory: Memory) -> tuple[str, ...]:
    """What ``rolegen memory verify`` says of lessons."""
    found = (one for one in memory.verify() if one.check.startswith("lesson"))
    return tuple(f"{one.key}: {one.what}" for one in found)


def test_a_lesson_is_born_from_outcomes_and_serves_only_later_decisions(memory: Memory) -> None:
    month(memory, START, {"season": 0.6, "rebuy": 0.1})
    before, known = learn(memory, START + 89 * DAY), START + HORIZON
    assert (before.decisions, before.born) == (0, []) and before.left_out == {"horizon still open": 120}
    report = learn(memory, known)
    # The kind of path, its role and its category are the same decisions here: one lesson, not three.
    assert len(report.born) == 2 and report.decisions == 120 and report.evidence == 2 * 120
    assert taught(memory, known) == set(), "not at the very time"
    later = known + timedelta(microseconds=1)
    assert taught(memory, later) == {("path", "season", "lead"), ("path", "rebuy", "avoid")}
    [lesson] = [
        one for one in memory.lessons_for("anybody", "lapsed", later) if one.claim and one.claim.direction == "lead"
    ]
    assert lesson.effect is not None and lesson.effect.low > 0.2
    assert (lesson.effect.rate_led, lesson.effect.rate_others) == (0.6, 0.1)
    assert (lesson.evidence_for, lesson.evidence_against) == (36 + 54, 24 + 6)
    assert "60.0% of 60 decisions" in lesson.text and differences(memory) == ()


def test_learning_twice_is_learning_once(memory: Memory, memory_url: str) -> None:
    month(memory, START, {"season": 0.6, "rebuy": 0.1})
    at = START + HORIZON
    first = learn(memory, at)
    once = rows(memory_url)
    assert learn(memory, at) == first
    assert rows(memory_url) == once


def rows(url: str) -> list[list[str]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = [
            sorted(str(row) for row in connection.execute(Base.metadata.tables[name].select()))
            for name in ("lessons", "lesson_evidence")
        ]
    engine.dispose()
    return found


def test_new_evidence_is_a_new_version_and_contradiction_retires(memory: Memory) -> None:
    month(memory, START, {"season": 0.6, "rebuy": 0.1})
    first = START + HORIZON
    learn(memory, first)
    between = memory.lessons_for("u", "lapsed", first + DAY)

    second = first + 100 * DAY
    month(memory, first + DAY, {"season": 0.5, "rebuy": 0.1})
    report = learn(memory, second)
    assert len(report.confirmed) == 2 and not report.retired
    assert memory.lessons_for("u", "lapsed", first + DAY) == between, (
        "an earlier decision keeps seeing the earlier version"
    )
    confirmed = {one.lesson: one for one in memory.lessons_for("u", "lapsed", second + DAY)}
    for old in between:
        new = confirmed[old.lesson]
        assert new.evidence_for + new.evidence_against == 240 and new.expires_at == second + 365 * DAY

    third = second + 100 * DAY
    month(memory, second + DAY, {"season": 0.02, "rebuy": 0.6}, users=120)
    report = learn(memory, third)
    assert set(report.retired) == set(confirmed)
    assert not {one.lesson for one in memory.lessons_for("u", "lapsed", third + DAY)} & set(confirmed)
    assert {one.status for one in memory.lesson_versions(next(iter(confirmed)))} == {"active", "retired"}
    assert {one.lesson for one in memory.lessons_for("u", "lapsed", second + DAY)} == set(confirmed)
    assert differences(memory) == ()

    # What was retired stays so while no new outcome speaks for it.
    assert not learn(memory, third + DAY).born


def test_what_came_after_its_birth_retires_a_lesson_even_where_all_outcomes_still_speak_for_it(memory: Memory) -> None:
    month(memory, START, {"season": 0.6, "rebuy": 0.1})
    born = learn(memory, START + HORIZON).born
    month(memory, START + HORIZON + DAY, {"season": 0.05, "rebuy": 0.35})
    report = learn(memory, START + 2 * HORIZON + DAY)
    assert set(report.retired) == set(born)
    last = [memory.lesson_versions(key)[-1] for key in born]
    assert all(one.effect and one.claim and (one.effect.change > 0) == (one.claim.direction == "avoid") for one in last)


def test_a_lesson_that_nothing_renews_runs_out(memory: Memory) -> None:
    month(memory, START, {"season": 0.6, "rebuy": 0.1})
    at = START + HORIZON
    born = learn(memory, at, days=30).born
    assert taught(memory, at + 29 * DAY) and not taught(memory, at + 30 * DAY)
    later = learn(memory, at + 40 * DAY, days=30)
    assert born and not later.born
    assert not taught(memory, at + 41 * DAY), "the outcomes that it has used up do not bring it back"


def test_an_outcome_that_changes_later_changes_later_versions_only(memory: Memory) -> None:
    month(memory, START, {"season": 0.6, "rebuy": 0.1})
    first = START + HORIZON
    learn(memory, first)
    refunded = led_with("season0", START, "season")
    memory.record_outcome(Outcome(decision=refunded.decision, user="season0", ordered_at=None))
    report = learn(memory, first + DAY)
    assert report.evidence == 2, "one decision, two lessons"
    for key in report.confirmed:
        old, new = memory.lesson_versions(key)
        assert (new.evidence_for, new.evidence_against) == (old.evidence_for - 1, old.evidence_against + 1)
    assert differences(memory) == ()


def test_only_one_of_several_runs_on_one_user_and_time_counts(memory: Memory) -> None:
    for run in ("a", "b"):
        happened(memory, led_with("u", START, "season", run=run), True)
    happened(memory, led_with("v", START, "season"), True, final=False)
    report = learn(memory, START + HORIZON)
    assert report.decisions == 1
    assert report.left_out == {"another run decided on the same user and time": 1, "no final outcome": 1}


def test_small_groups_and_naive_times_are_refused(memory: Memory) -> None:
    month(memory, START, {"season": 1.0, "rebuy": 0.0}, users=15)
    assert learn(memory, START + HORIZON).tested == 0
    with pytest.raises(InputError, match="no time zone"):
        learn(memory, datetime(2011, 5, 1))


# --- never by its own outcome


def lesson_at(at: datetime, key: str = "l") -> Lesson:
    claim = Claim(subject="path", value="season", direction="lead")
    return Lesson(lesson=key, scope="all", scope_key="", text="t", learnt_at=at, claim=claim)


def test_an_outcome_cannot_speak_before_it_is_known(memory: Memory) -> None:
    decision = led_with("u", START, "season")
    happened(memory, decision, True)
    told = Evidence(decision=decision.decision, led=True, ordered=True, supports=True)
    with pytest.raises(FutureError, match="was about to speak for a lesson"):
        memory.record_learning([(lesson_at(START + 50 * DAY), [told])])
    provisional = led_with("v", START, "season")
    happened(memory, provisional, False, final=False)
    with pytest.raises(FutureError, match="has no final outcome"):
        memory.record_learning(
            [(lesson_at(START + HORIZON), [told.model_copy(update={"decision": provisional.decision})])]
        )
    assert memory.lessons() == (), "nothing of it is stored"


def test_the_database_itself_refuses_evidence_from_the_future(memory: Memory, memory_url: str) -> None:
    decision = led_with("u", START, "season")
    happened(memory, decision, True)
    memory.record_learning([(lesson_at(START + DAY), [])])
    engine = create_engine(memory_url)
    row = {"d": decision.decision, "n": START + DAY, "t": START, "k": START + HORIZON, "y": True}
    if engine.dialect.name == "sqlite":  # as the column type writes times
        row |= {name: row[name].strftime("%Y-%m-%d %H:%M:%S.%f") for name in "ntk"}  # type: ignore[union-attr]
    with pytest.raises(Exception, match="ck_lesson_evidence_past"), engine.begin() as connection:
        connection.execute(text("INSERT INTO lesson_evidence VALUES ('l', :d, :n, :y, :y, :y, :t, :k)"), row)
    engine.dispose()


def test_a_decision_is_not_recorded_with_a_lesson_of_its_own_outcome(memory: Memory, memory_url: str) -> None:
    """Such a lesson would have to be older than itself: the clock of the database is turned back to make one."""
    decision = led_with("u", START, "season")
    happened(memory, decision, True)
    told = Evidence(decision=decision.decision, led=True, ordered=True, supports=True)
    memory.record_learning([(lesson_at(START + HORIZON), [told])])
    engine = create_engine(memory_url)
    early = START - DAY
    when = early.strftime("%Y-%m-%d %H:%M:%S.%f") if engine.dialect.name == "sqlite" else early
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM lessons"))
    memory.record_learning([(lesson_at(early), [])])
    values = {"d": decision.decision, "n": when, "y": True}
    with engine.begin() as connection:  # an order of times that the check allows, but that of no decision
        past = [(START - x * DAY) for x in (3, 2)]
        old = [one.strftime("%Y-%m-%d %H:%M:%S.%f") if engine.dialect.name == "sqlite" else one for one in past]
        connection.execute(
            text("INSERT INTO lesson_evidence VALUES ('l', :d, :n, :y, :y, :y, :t, :k)"),
            values | {"t": old[0], "k": old[1]},
        )
    engine.dispose()
    shown = decision.observation.model_copy(update={"lessons": (lesson_at(early),)})
    with pytest.raises(FutureError, match="the outcome of the very decision"):
        memory.record(decision.model_copy(update={"observation": shown}))
    assert any("spoke before its outcome" in told for told in differences(memory))


@given(seed=st.integers(0, 2**32), looks=st.lists(st.integers(0, 400), min_size=1, max_size=5, unique=True))
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_whatever_happens_when_no_decision_sees_a_lesson_of_its_own_outcome(
    tmp_path_factory: pytest.TempPathFactory, seed: int, looks: list[int]
) -> None:
    """Decisions and looks at any times, in any order: what a decision is told knows neither it nor what comes after."""
    rng = random.Random(seed)
    with open_memory(tmp_path_factory.mktemp("m") / "m.db", horizon_days=rng.choice([1, 30, 90])) as memory:
        decided: dict[str, tuple[datetime, datetime]] = {}
        events: list[tuple[int, str]] = [(look, "learn") for look in looks]
        events += [(rng.randrange(400), "decide") for _ in range(40)]
        rng.shuffle(events)  # learning may even be late: of an earlier time than what is there already
        for number, (day, what) in enumerate(events):
            at = START + day * DAY
            if what == "learn":
                learn(memory, at, support=2, false_rate=0.9)
                continue
            kind = rng.choice(["season", "rebuy"])
            decision = led_with(f"u{rng.randrange(40)}", at, kind, run=f"r{number}")
            lessons = memory.lessons_for(decision.user, "lapsed", at)
            decision = decision.model_copy(
                update={"observation": decision.observation.model_copy(update={"lessons": lessons})}
            )
            end = at + timedelta(days=memory.horizon_days)
            decided[decision.decision] = (at, end)
            for lesson in lessons:
                assert lesson.learnt_at < at
                for key in memory.lesson_evidence(lesson.lesson, lesson.learnt_at + timedelta(microseconds=1)):
                    assert key != decision.decision
                    assert decided[key][1] <= lesson.learnt_at, "its outcome was known when the lesson was learnt"
            memory.record(decision)
            ordered = rng.random() < (0.9 if kind == "season" else 0.1)
            when = at + 0.5 * DAY if ordered else None
            memory.record_outcome(Outcome(decision=decision.decision, user=decision.user, ordered_at=when))
        learn(memory, START + 500 * DAY, support=2, false_rate=0.9)
        assert differences(memory) == ()


def test_erasing_a_user_takes_their_evidence_and_the_counts_follow(memory: Memory) -> None:
    month(memory, START, {"season": 0.6, "rebuy": 0.1})
    at = START + HORIZON
    learn(memory, at)
    assert memory.erase("season0")["lesson_evidence"] == 2
    for lesson in memory.lessons():
        assert lesson.evidence_for + lesson.evidence_against == 119
    assert differences(memory) == ()


def test_differences_are_told(memory: Memory, memory_url: str) -> None:
    month(memory, START, {"season": 0.6, "rebuy": 0.1})
    [first, _] = learn(memory, START + HORIZON).born
    engine = create_engine(memory_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE lessons SET evidence_for = 7 WHERE lesson = :one"), {"one": first})
    [told] = differences(memory)
    assert first in told and "7 for" in told and "its evidence says 90 and 30" in told
    with engine.begin() as connection:
        connection.execute(text("UPDATE lessons SET evidence_for = 90 WHERE lesson = :one"), {"one": first})
        one = connection.execute(text("SELECT min(decision) FROM lesson_evidence WHERE supports")).scalar_one()
        turned = text("UPDATE lesson_evidence SET ordered = NOT ordered WHERE lesson = :one AND decision = :key")
        connection.execute(turned, {"one": first, "key": one})
    [told] = differences(memory)
    assert f"{first} {one}" in told and "it counts for the lesson, what it notes speaks against it" in told
    engine.dispose()


# --- what an LLM proposes


class Proposer:
    """Claims what it is told to claim about the row that names a value, and keeps what it was shown."""

    name = "llm:scripted"

    def __init__(self, *answers: tuple[str, bool, str], fails: bool = False) -> None:
        self.answers, self.fails = answers, fails
        self.rows: Sequence[tuple[str, str]] = ()
        self.proposed: Sequence[tuple[str, int]] = ()

    def learn(
        self, rows: Sequence[tuple[str, str]], proposed: Sequence[tuple[str, int]], *, site: CallSite
    ) -> Sequence[tuple[int, bool, str]]:
        self.rows, self.proposed = rows, proposed
        if self.fails:
            raise ReasonerError("no idea")
        return [
            (place, lead, told)
            for value, lead, told in self.answers
            for place, (what, _) in enumerate(rows)
            if f"'{value}'" in what
        ]


def test_only_later_outcomes_make_a_proposal_a_lesson(memory: Memory) -> None:
    month(memory, START, {"season": 0.32, "rebuy": 0.2})  # a difference that proves nothing
    first = START + HORIZON
    proposer = Proposer(("season", True, "Lead with the season, it returns."))
    report = learn(memory, first, proposer=proposer)
    assert report.born == [] and len(report.proposed) == 1 and not taught(memory, first + DAY)
    assert proposer.proposed == (("offer cheaper bags", 120),), "what reflection proposed, counted"
    assert not any("season0" in "".join(row) for row in proposer.rows), "counts only, nobody in particular"

    month(memory, first - 10 * DAY, {"season": 0.7, "rebuy": 0.1})  # decided before it was proposed: known too late
    second = first + 90 * DAY
    assert learn(memory, second, false_rate=1e-12).born == [], "these outcomes may not speak for it"
    [waiting] = [one for one in memory.lessons() if one.status == "proposed"]
    assert waiting.evidence_for + waiting.evidence_against == 0

    month(memory, second, {"season": 0.7, "rebuy": 0.1})
    third = second + HORIZON
    learn(memory, third, proposer=Proposer())
    [lesson] = [one for one in memory.lessons() if one.lesson == waiting.lesson]
    assert lesson.status == "active" and lesson.text == "Lead with the season, it returns."
    assert differences(memory) == ()


def test_a_silent_llm_leaves_it_to_the_statistics_and_it_is_said(memory: Memory) -> None:
    month(memory, START, {"season": 0.6, "rebuy": 0.1})
    report = learn(memory, START + HORIZON, proposer=Proposer(fails=True))
    assert report.silent == "no idea" and len(report.born) == 2


# --- statistics


def judged(
    number: int, led: Sequence[str], ordered: bool, *, cohort: str = "c", forecast: float | None = 0.2, user: str = ""
) -> KnownOutcome:
    at = START + (number % 3) * 30 * DAY
    return KnownOutcome(
        decision=f"d{number}",
        user=user or f"u{number}",
        at=at,
        known_at=at + HORIZON,
        cohort=cohort,
        forecast=forecast,
        ordered=ordered,
        led=frozenset(("path", one) for one in led),
    )


def world(seed: int, *, effect: float) -> list[KnownOutcome]:
    """Users who differ in how they buy and in what they are led with; ``effect`` of being led with ``v0`` on an order."""
    rng = random.Random(seed)
    found = []
    for user in range(250):
        taste, luck = [rng.gauss(-1, 1) for _ in range(8)], rng.gauss(0, 0.08)
        for _ in range(6):
            led = [f"v{i}" for i in range(8) if rng.random() < (0.5 if taste[i] > -1 else 0.15)]
            chance = min(0.95, max(0.02, 0.15 + luck + effect * ("v0" in led)))
            one = judged(len(found), led, rng.random() < chance, cohort=f"c{user % 3}", forecast=0.15, user=f"u{user}")
            found.append(one)
    return found


def test_without_effects_lessons_are_rare_and_a_real_effect_is_found() -> None:
    false = [discoveries(judge(world(seed, effect=0.0), support=20), 0.1) for seed in range(12)]
    assert sum(bool(some) for some in false) <= 1
    found = [discoveries(judge(world(seed, effect=0.15), support=20), 0.1) for seed in range(4)]
    assert all(("all", "path", "v0") in {(one.scope[0], one.subject, one.value) for one in some} for some in found)
    assert all(one.value == "v0" and one.effect.low > 0 for some in found for one in some)


def test_a_difference_that_the_forecast_explains_is_none() -> None:
    """Who is led with a rebuy buys more anyway: the recommender knew, and so it is no merit of the rebuy."""
    rng = random.Random(1)
    some = []
    for number in range(1200):
        sure = rng.random() < 0.5
        led = ["rebuy"] if rng.random() < (0.8 if sure else 0.2) else []
        chance = 0.5 if sure else 0.1
        some.append(judged(number, led, rng.random() < chance, forecast=chance))
    [one] = [one for one in judge(some, support=20) if one.scope[0] == "all"]
    assert one.effect.rate_led - one.effect.rate_others > 0.2
    assert one.effect.low < 0 < one.effect.high and one.effect.e_value < 1


def test_many_decisions_on_few_users_prove_less() -> None:
    few = [judged(n, ["a"] if n % 60 < 30 else [], n % 60 < 9, user=f"u{n % 60}") for n in range(600)]
    many = [judged(n, ["a"] if n % 60 < 30 else [], n % 60 < 9) for n in range(600)]
    [alone], [apart] = ([one for one in judge(x, support=20) if one.scope[0] == "all"] for x in (few, many))
    assert alone.effect.rate_led == apart.effect.rate_led == 0.3
    assert alone.effect.high - alone.effect.low > 2 * (apart.effect.high - apart.effect.low)
    assert alone.effect.e_value < apart.effect.e_value


def test_a_report_adds_up(memory: Memory) -> None:
    report = learn(memory, START)
    assert report == LearningReport(at=START, decisions=0, left_out={}, tested=0)
