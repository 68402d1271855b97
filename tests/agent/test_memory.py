"""The loop memory on real SQLite and real PostgreSQL: nothing lost, nothing doubled, nothing from the future."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from rolegen_agent.memory import Memory, decision_id, open_memory
from rolegen_agent.memory.calls import OUTSTANDING
from rolegen_agent.memory.models import Base
from rolegen_errors import FutureError, InputError, MemoryStoreError
from rolegen_graphs.ports import CallLog
from rolegen_graphs.ports import Memory as MemoryPort
from rolegen_graphs.words import Decision, Lesson, Outcome, Slate, Statistic
from tests.support.decisions import AT, make_call, make_decision, make_slate

pytest_plugins = ["tests.support.postgres"]

DAY = timedelta(days=1)


def all_rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, but for the wall-clock times of writing and the note that something was removed."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            table.name: sorted(
                (
                    tuple(
                        str(value) for name, value in row.items() if name not in ("recorded_at", "begun_at", "created")
                    )
                    for row in connection.execute(table.select()).mappings()
                ),
            )
            for table in Base.metadata.sorted_tables
            if table.name != "removals"
        }
    engine.dispose()
    return found


# --- decisions


def test_a_decision_comes_back_exactly(memory: Memory) -> None:
    decision = make_decision()
    memory.record(decision)
    assert memory.get(decision.decision) == decision
    assert memory.get(decision.decision).at.tzinfo is UTC


def test_memory_is_both_ports_of_the_loop(memory: Memory) -> None:
    port: MemoryPort = memory
    log: CallLog = memory
    decision = make_decision()
    port.record(decision)
    log.record_call(make_call(decision.decision))
    assert log.find_call("h1") == make_call(decision.decision)


def test_recording_again_equals_recording_once(memory: Memory, memory_url: str) -> None:
    decision = make_decision()
    memory.record(decision)
    once = all_rows(memory_url)
    memory.record(decision)
    assert all_rows(memory_url) == once


def test_a_changed_recording_replaces_all_of_the_old_one(memory: Memory) -> None:
    memory.record(make_decision(seed=1, rounds=3))
    memory.record_slate(make_decision().decision, "popularity", make_slate(9))
    memory.record_outcome(Outcome(decision=make_decision().decision, user="17850", ordered_at=AT + DAY))
    second = make_decision(seed=2, rounds=1)
    memory.record(second)
    assert memory.get(second.decision) == second
    assert memory.slate(second.decision, "popularity") == make_slate(9)
    assert set(memory.outcomes("demo")) == {second.decision}


@pytest.mark.parametrize("empty", [(), (Slate(items=(), entropy=0.0),)])
def test_a_decision_without_rounds_or_items_comes_back(memory: Memory, empty: tuple[Slate, ...]) -> None:
    decision = make_decision(rounds=0, events=0)
    if empty:
        decision = decision.model_copy(update={"slate": empty[0], "slate_without_reasoning": empty[0]})
    memory.record(decision)
    assert memory.get(decision.decision) == decision


HOSTILE = st.text(max_size=40) | st.sampled_from(
    [
        "\x00",
        "\x10",
        "a\x10\x00b\x100000",
        "\ud800",
        "\udfff\x00",
        "'; DROP TABLE decisions; --",
        "\\u0000",
        "%s :x ?",
        "💥",
    ]
)


@given(title=HOSTILE, why=HOSTILE, user=HOSTILE, number=st.floats(allow_nan=False), zone=st.integers(-14, 14))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_text_and_extreme_numbers_come_back(
    memory: Memory, title: str, why: str, user: str, number: float, zone: int
) -> None:
    base = make_decision(user=user, at=AT.astimezone(timezone(timedelta(hours=zone))), rounds=1, events=2)
    first = base.rounds[0]
    label = first.reading.labels[0].model_copy(
        update={"why": why, "statistic": Statistic(name=title, value=number, low=-math.inf, high=math.inf, support=1)}
    )
    item = base.slate.items[0].model_copy(update={"title": title, "score": number, "parts": {"decoder": number}})
    decision = base.model_copy(
        update={
            "slate": Slate(items=(item,), entropy=number),
            "rounds": (first.model_copy(update={"reading": first.reading.model_copy(update={"labels": (label,)})}),),
        }
    )
    memory.record(decision)
    assert memory.get(decision.decision) == decision
    assert (user, AT) in memory.finished("demo")


def test_not_a_number_is_refused_with_a_reason(memory: Memory) -> None:
    decision = make_decision()
    decision = decision.model_copy(update={"slate": Slate(items=(), entropy=math.nan)})
    with pytest.raises(InputError, match="NaN"):
        memory.record(decision)
    assert memory.finished("demo") == set()


def test_a_failed_recording_leaves_nothing_behind(memory: Memory, memory_url: str) -> None:
    good = make_decision()
    broken = good.model_copy(update={"slate_without_reasoning": Slate(items=(), entropy=math.nan)})
    with pytest.raises(InputError):
        memory.record(broken)
    assert not any(all_rows(memory_url).values())


def test_naive_times_are_refused(memory: Memory) -> None:
    with pytest.raises(InputError, match="time zone"):
        decision_id("demo", "1", datetime(2011, 1, 1))
    decision = make_decision()
    with pytest.raises(InputError, match="time zone"):
        memory.record(decision.model_copy(update={"at": decision.at.replace(tzinfo=None)}))
    with pytest.raises(InputError, match="time zone"):
        memory.past_decisions("1", datetime(2011, 1, 1))


def test_ids_keep_their_parts_apart_and_name_instants() -> None:
    assert decision_id("a", "bc", AT) != decision_id("ab", "c", AT)
    assert decision_id('a", "b', "c", AT) != decision_id("a", 'b", "c', AT)
    assert decision_id("a", "b", AT) == decision_id("a", "b", AT.astimezone(timezone(timedelta(hours=5))))
    assert decision_id("a", "b", AT) != decision_id("a", "b", AT + timedelta(microseconds=1))
    assert len(decision_id("a", "\ud800", AT)) == 32


@pytest.mark.parametrize("what", ["event", "lesson", "past"])
def test_a_decision_that_saw_its_future_is_refused(memory: Memory, what: str) -> None:
    decision = make_decision()
    seen = decision.observation
    if what == "event":
        late = seen.trajectory.events[-1].model_copy(update={"at": AT})
        seen = seen.model_copy(update={"trajectory": seen.trajectory.model_copy(update={"events": (late,)})})
    elif what == "lesson":
        seen = seen.model_copy(update={"lessons": (seen.lessons[0].model_copy(update={"learnt_at": AT}),)})
    else:
        seen = seen.model_copy(update={"past": (seen.past[0].model_copy(update={"at": AT}),)})
    with pytest.raises(FutureError, match="not before the decision"):
        memory.record(decision.model_copy(update={"observation": seen}))


def test_one_key_under_two_ids_is_refused(memory: Memory) -> None:
    decision = make_decision()
    memory.record(decision)
    with pytest.raises(InputError, match="do not belong together"):
        memory.record(decision.model_copy(update={"decision": "another"}))
    with pytest.raises(InputError, match="do not belong together"):
        memory.record(decision.model_copy(update={"run": "another"}))


def test_an_unknown_decision_is_named(memory: Memory) -> None:
    with pytest.raises(InputError, match="no decision 'nothing'"):
        memory.get("nothing")


def test_finished_tells_a_resumed_run_what_to_skip(memory: Memory) -> None:
    memory.record(make_decision("1"))
    memory.record(make_decision("2"))
    memory.record(make_decision("3", run="other"))
    assert memory.finished("demo") == {("1", AT), ("2", AT)}
    assert memory.finished("nothing") == set()


def test_lists_are_filtered_and_paged(memory: Memory) -> None:
    made = [make_decision(str(user), AT + user * DAY, seed=user) for user in range(6)]
    for decision in made:
        memory.record(decision)
    listed = memory.decisions(run="demo")
    assert [row.user for row in listed] == ["5", "4", "3", "2", "1", "0"]
    assert [row.user for row in memory.decisions(limit=2, offset=1)] == ["4", "3"]
    assert [row.decision for row in memory.decisions(user="3")] == [made[3].decision]
    assert memory.decisions(run="other") == ()
    assert listed[0].horizon_end == listed[0].at + 90 * DAY

    def with_item(decision: Decision, item: str) -> bool:
        grounded = {candidate.item for each in decision.rounds for candidate in each.candidates}
        return item in {shown.item for shown in decision.slate.items} | grounded

    item = made[2].slate.items[0].item
    expected = {decision.decision for decision in made if with_item(decision, item)}
    assert {row.decision for row in memory.decisions(item=item)} == expected
    for role in ("gateway", "bridge"):
        labelled = {
            decision.decision
            for decision in made
            if any(label.role == role for each in decision.rounds for label in each.reading.labels)
        }
        assert {row.decision for row in memory.decisions(role=role)} == labelled
    assert len(memory.decisions(fate="rejected")) == 6


def test_latest_decision_of_a_user(memory: Memory) -> None:
    assert memory.find_latest("1") is None
    early, late = make_decision("1"), make_decision("1", AT + DAY, run="second")
    memory.record(late)
    memory.record(early)
    assert memory.find_latest("1") == late.decision
    assert memory.find_latest("1", run="demo") == early.decision


# --- what earlier decisions and lessons may tell a later one


def test_past_decisions_tell_only_what_was_known_before(memory: Memory) -> None:
    first = make_decision("1")
    memory.record(first)
    memory.record_outcome(Outcome(decision=first.decision, user="1", ordered_at=AT + 10 * DAY, items=("I1",)))

    def known(at: datetime) -> list[bool | None]:
        return [past.ordered for past in memory.past_decisions("1", at)]

    assert known(AT) == []  # strictly before
    assert known(AT + timedelta(microseconds=1)) == [None]
    assert known(AT + 10 * DAY) == [None]  # the order happens now: not before
    assert known(AT + 10 * DAY + timedelta(microseconds=1)) == [True]
    assert memory.past_decisions("2", AT + 99 * DAY) == ()


def test_no_order_is_a_fact_only_after_the_horizon(memory: Memory) -> None:
    first = make_decision("1")
    memory.record(first)
    later = AT + 90 * DAY
    [past] = memory.past_decisions("1", later)
    assert past.ordered is None  # no outcome was reported
    memory.record_outcome(Outcome(decision=first.decision, user="1", ordered_at=None, final=False))
    assert memory.past_decisions("1", later)[0].ordered is None
    memory.record_outcome(Outcome(decision=first.decision, user="1", ordered_at=None, final=True))
    assert memory.past_decisions("1", later - timedelta(microseconds=1))[0].ordered is None
    assert memory.past_decisions("1", later)[0].ordered is False
    assert memory.past_decisions("1", later)[0].items == tuple(item.item for item in first.slate.items)


def test_past_decisions_can_be_kept_to_one_run(memory: Memory) -> None:
    memory.record(make_decision("1", run="demo"))
    memory.record(make_decision("1", run="other"))
    assert len(memory.past_decisions("1", AT + DAY)) == 2
    assert len(memory.past_decisions("1", AT + DAY, run="demo")) == 1


def test_lessons_by_scope_time_and_expiry(memory: Memory) -> None:
    def teach(
        lesson: str, scope: str, key: str, learnt: datetime, expires: datetime | None = None, yes: int = 0
    ) -> None:
        memory.record_lesson(
            Lesson.model_validate(
                {
                    "lesson": lesson,
                    "scope": scope,
                    "scope_key": key,
                    "text": f"{lesson} {yes}",
                    "learnt_at": learnt,
                    "expires_at": expires,
                    "evidence_for": yes,
                }
            )
        )

    teach("everyone", "all", "", AT - 3 * DAY)
    teach("mine", "user", "1", AT - 2 * DAY)
    teach("lapsed", "cohort", "lapsed", AT - DAY)
    teach("theirs", "user", "2", AT - DAY)
    teach("same-name-other-scope", "cohort", "1", AT - DAY)
    teach("now", "all", "", AT)
    teach("expired", "all", "", AT - 9 * DAY, AT)
    teach("still good", "all", "", AT - 9 * DAY, AT + timedelta(microseconds=1))

    def names(at: datetime) -> list[str]:
        return [lesson.lesson for lesson in memory.lessons_for("1", "lapsed", at)]

    assert names(AT) == ["still good", "everyone", "mine", "lapsed"]
    # New evidence, learnt later, must not reach the earlier decision: neither its counts nor a retirement.
    before = memory.lessons_for("1", "lapsed", AT)
    teach("mine", "user", "1", AT + DAY, yes=5)
    teach("lapsed", "cohort", "lapsed", AT + DAY, AT + DAY)
    assert memory.lessons_for("1", "lapsed", AT) == before
    after = {lesson.lesson: lesson for lesson in memory.lessons_for("1", "lapsed", AT + 2 * DAY)}
    assert after["mine"].evidence_for == 5
    assert "lapsed" not in after
    teach("mine", "user", "1", AT + DAY, yes=5)  # once more: nothing doubles
    assert [name for name in names(AT + 2 * DAY) if name == "mine"] == ["mine"]


# --- slates and outcomes


def test_slates_of_all_policies_by_decision(memory: Memory) -> None:
    made = [make_decision(str(user)) for user in range(3)]
    for decision in made:
        memory.record(decision)
    bulk = [(decision.decision, "popularity", make_slate(number)) for number, decision in enumerate(made)]
    assert memory.record_slates(bulk) == 3
    assert memory.record_slates(bulk) == 3
    assert memory.slates("demo", "popularity") == {
        decision: [item.item for item in slate.items] for decision, _, slate in bulk
    }
    assert memory.slates("demo", "rolegen")[made[0].decision] == [item.item for item in made[0].slate.items]
    assert memory.slate(made[1].decision, "backbone") == made[1].slate_without_reasoning
    assert memory.policies("demo") == ("backbone", "popularity", "rolegen")
    memory.record_slate(made[0].decision, "popularity", Slate(items=()))
    assert memory.slates("demo", "popularity")[made[0].decision] == []
    with pytest.raises(InputError, match="no slate of policy 'frequency'"):
        memory.slate(made[0].decision, "frequency")


def test_slates_that_belong_elsewhere_are_refused(memory: Memory) -> None:
    decision = make_decision()
    memory.record(decision)
    with pytest.raises(InputError, match="part of the decision"):
        memory.record_slate(decision.decision, "rolegen", make_slate(1))
    with pytest.raises(InputError, match="1 of 2 decisions are not in memory"):
        memory.record_slates([(decision.decision, "popularity", make_slate(1)), ("x", "popularity", make_slate(1))])
    assert memory.slates("demo", "popularity") == {}


def test_outcomes_replace_but_never_regress(memory: Memory) -> None:
    decision = make_decision("1")
    memory.record(decision)
    open_ = Outcome(decision=decision.decision, user="1", ordered_at=None, final=False)
    bought = Outcome(decision=decision.decision, user="1", ordered_at=AT + DAY, items=("I1", "I2"), value=12.5)
    assert memory.record_outcomes([open_]) == 1
    assert memory.record_outcomes([bought]) == 1
    assert memory.record_outcomes([bought]) == 1
    assert memory.record_outcomes([open_]) == 0  # a late provisional report
    assert memory.outcomes("demo") == {decision.decision: bought}
    refunded = Outcome(decision=decision.decision, user="1", ordered_at=None)
    memory.record_outcome(refunded)
    assert memory.outcomes("demo") == {decision.decision: refunded}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decision": "unknown"}, "not in memory"),
        ({"user": "2"}, "of user '2'"),
        ({"ordered_at": AT - DAY}, "outside the horizon"),
        ({"ordered_at": AT + 90 * DAY}, "outside the horizon"),
        ({"ordered_at": datetime(2011, 6, 2)}, "time zone"),
    ],
)
def test_outcomes_that_cannot_be_are_refused(memory: Memory, change: dict[str, Any], message: str) -> None:
    decision = make_decision("1")
    memory.record(decision)
    good = Outcome(decision=decision.decision, user="1", ordered_at=AT + DAY)
    with pytest.raises(InputError, match=message):
        memory.record_outcome(good.model_copy(update=change))
    assert memory.outcomes("demo") == {}


# --- calls, prompts, artefacts


def test_only_answered_calls_are_found(memory: Memory) -> None:
    failed = make_call("d1", error="timeout")
    memory.record_call(failed)
    assert memory.find_call("h1") is None
    answered = make_call("d1")
    memory.record_call(answered)
    assert memory.find_call("h1") == answered
    assert memory.calls(decision="d1") == (answered,)
    # Neither a later failure nor the cached replay of a resumed run may hide what was paid.
    memory.record_call(failed)
    memory.record_call(make_call("d1", cached=True, cost_usd=None))
    assert memory.calls() == (answered,)
    other = make_call("d2", cached=True, at=AT + DAY, raw='{"later": 1}')
    memory.record_call(other)
    assert memory.find_call("h1") == other


def test_usage_counts_unfinished_decisions_and_unknown_prices(memory: Memory) -> None:
    finished = make_decision("1")
    memory.record(finished)
    killed = memory.begin("demo", "2", AT)
    memory.record_call(make_call(finished.decision))
    memory.record_call(make_call(finished.decision, request_hash="h2", cost_usd=None))
    memory.record_call(make_call(finished.decision, request_hash="h3", cached=True, cost_usd=0.25))
    memory.record_call(make_call(killed, request_hash="h4", error="refused", cost_usd=None, input_tokens=0))
    memory.record_call(make_call(killed, request_hash="h5", cost_usd=0.5))
    memory.record_call(make_call("elsewhere", request_hash="h6"))
    usage = memory.usage("demo")
    assert (usage.calls, usage.cached, usage.failed, usage.unpriced) == (5, 1, 1, 1)
    assert (usage.input_tokens, usage.output_tokens, usage.cost_usd) == (300, 80, 0.75)
    assert memory.usage().calls == 6
    assert memory.usage("nothing").calls == 0
    assert len(memory.calls(run="demo")) == 5
    assert memory.unattributed_calls() == 1


def test_calls_of_a_nearline_batch_are_found_with_their_run_and_counted_apart(memory: Memory) -> None:
    begun = memory.begin("demo", "1", AT)
    assert memory.find_request("h1") is None
    memory.record_call(make_call("elsewhere", error="refused", at=AT + DAY))
    memory.record_call(waiting := make_call(begun, error=OUTSTANDING))
    assert memory.find_request("h1") == (waiting, "demo"), "before one that failed later"
    assert memory.find_call("h1") is None, "it answers nobody yet"
    usage = memory.usage("demo")
    assert (usage.outstanding, usage.calls, usage.failed, usage.input_tokens, usage.cost_usd) == (1, 0, 0, 0, 0.0)
    memory.record_call(answered := make_call(begun, raw='{"x": 1}'))
    assert memory.find_request("h1") == (answered, "demo") and memory.find_call("h1") == answered
    assert memory.usage("demo").outstanding == 0
    memory.record(make_decision("1"))
    assert memory.find_request("h1") == (answered, "demo"), "recorded decisions name the run too"


def test_what_earlier_decisions_asked_is_told_as_if_nothing_had_been_known(memory: Memory) -> None:
    first, second, other = make_decision("1"), make_decision("2"), make_decision("1", run="other")
    for decision in (first, second, other):
        memory.record(decision)
    memory.record_call(make_call(first.decision))
    memory.record_call(make_call(first.decision, request_hash="h2", prompt_hash="old"))
    memory.record_call(make_call(first.decision, request_hash="h3", model="another"))
    # A question of the same run that was answered by the one before, and one that another run had paid.
    memory.record_call(make_call(second.decision, cached=True, input_tokens=0, output_tokens=0))
    memory.record_call(make_call(second.decision, request_hash="h4"))
    memory.record_call(make_call(other.decision, cached=True, input_tokens=0, output_tokens=0))
    memory.record_call(make_call(memory.begin("demo", "3", AT), request_hash="h5"))
    found = {calls[0].site.decision: calls for calls in memory.calls_of_finished("m", {"abc"}, limit=10)}
    hashes = {decision: [call.request_hash for call in calls] for decision, calls in found.items()}
    assert hashes == {first.decision: ["h1"], second.decision: ["h4"], other.decision: ["h1"]}
    assert all((call.input_tokens, call.output_tokens) == (100, 20) for calls in found.values() for call in calls)
    assert len(memory.calls_of_finished("m", {"abc"}, limit=1)) == 1
    assert memory.calls_of_finished("m", set(), limit=10) == ()


def test_begun_decisions_are_counted_until_they_are_recorded(memory: Memory) -> None:
    decision = make_decision("1")
    assert memory.begin("demo", "1", AT) == decision.decision
    memory.begin("demo", "1", AT)
    [run] = memory.runs()
    assert (run.decisions, run.begun) == (0, 1)
    memory.record(decision)
    memory.record_outcome(Outcome(decision=decision.decision, user="1", ordered_at=AT + DAY))
    [run] = memory.runs()
    assert (run.decisions, run.begun, run.users, run.outcomes, run.ordered) == (1, 0, 1, 1, 1)
    assert (run.first_at, run.last_at) == (AT, AT)


def test_prompts_and_artefacts_stay_readable(memory: Memory) -> None:
    for _ in range(2):
        memory.record_prompt("reason", "1", "abc", "You read logs.\x00")
        memory.record_artefact("index", AT, "f1", Path("a/index"), {"items": 3, "nested": {"k": [1, None]}})
    memory.record_prompt("reason", "1", "abd", "edited without a new version")
    found = memory.find_prompt("reason", "1", "abc")
    assert found is not None and found.text == "You read logs.\x00"
    assert memory.find_prompt("reason", "2", "abc") is None
    [artefact] = memory.artefacts("index")
    assert (artefact.as_of, artefact.path, artefact.manifest) == (
        AT,
        "a/index",
        {"items": 3, "nested": {"k": [1, None]}},
    )
    assert memory.artefacts("model") == ()


# --- erasure


def test_an_erased_user_leaves_no_trace_and_others_stay(memory: Memory, memory_url: str) -> None:
    kept = make_decision("kept")
    memory.record(kept)
    memory.record_call(make_call(kept.decision))
    memory.record_outcome(Outcome(decision=kept.decision, user="kept", ordered_at=None))
    before = all_rows(memory_url)
    gone = make_decision("person-of-interest")
    memory.record(gone)
    memory.record_slate(gone.decision, "popularity", make_slate(1))
    memory.record_outcome(Outcome(decision=gone.decision, user="person-of-interest", ordered_at=None))
    memory.record_call(make_call(gone.decision, messages="person-of-interest bought"))
    unfinished = memory.begin("demo", "person-of-interest", AT + DAY)
    memory.record_call(make_call(unfinished, messages="person-of-interest again"))
    memory.record_lesson(
        Lesson(lesson="l", scope="user", scope_key="person-of-interest", text="person-of-interest", learnt_at=AT)
    )
    deleted = memory.erase("person-of-interest")
    assert deleted["decisions"] == 1 and deleted["llm_calls"] == 2 and deleted["lessons"] == 1
    assert deleted["begun"] == 1 and deleted["slates"] == 3 and deleted["slate_items"] == 30
    assert deleted["candidates"] == 30 and deleted["outcomes"] == 1
    assert all_rows(memory_url) == before
    assert sum(memory.erase("person-of-interest").values()) == 0
    if memory_url.startswith("sqlite"):
        path = Path(memory_url.removeprefix("sqlite:///"))
        for file in path.parent.glob(f"{path.name}*"):
            assert b"person-of-interest" not in file.read_bytes()


# --- many writers


def test_eight_threads_record_at_once(memory: Memory) -> None:
    made = [make_decision(str(user), rounds=1) for user in range(48)]
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for decision in made[number::8]:
            memory.record(decision)
            memory.record(made[0])  # one that all of them write
            memory.record_call(make_call(decision.decision))
            assert memory.get(decision.decision) == decision

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result()
    assert len(memory.finished("demo")) == 48
    assert memory.usage("demo").calls == 48
    assert memory.get(made[0].decision) == made[0]


WRITER = """
import sys
from rolegen_agent.memory import open_memory
from tests.support.decisions import make_decision
url, number = sys.argv[1], int(sys.argv[2])
sys.stdin.readline()
with open_memory(url, upgrade=True) as memory:
    for user in [*range(number * 8, number * 8 + 8), 0]:
        memory.record(make_decision(str(user), rounds=1))
"""


def test_four_processes_open_and_record_at_once(memory_url: str, tmp_path: Path) -> None:
    url = memory_url
    if url.startswith("sqlite"):  # a file that none of them has made yet
        url = f"sqlite:///{tmp_path / 'new.db'}"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(number)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    with open_memory(url) as memory:
        assert memory.finished("demo") == {(str(user), AT) for user in range(32)}
        assert memory.get(decision_id("demo", "0", AT)) == make_decision("0", rounds=1)


def test_another_program_holding_the_file_is_waited_for(tmp_path: Path) -> None:
    with open_memory(tmp_path / "memory.db") as memory:
        blocker = sqlite3.connect(tmp_path / "memory.db", isolation_level=None, check_same_thread=False)
        blocker.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, lambda: blocker.execute("COMMIT"))
        timer.start()
        memory.record(make_decision())
        timer.join()
        blocker.close()
        assert len(memory.finished("demo")) == 1


def test_a_huge_number_is_an_error_of_ours(memory: Memory) -> None:
    decision = make_decision()
    label = decision.rounds[0].reading.labels[0].model_copy(update={"event": 2**70})
    first = decision.rounds[0]
    changed = first.model_copy(update={"reading": first.reading.model_copy(update={"labels": (label,)})})
    with pytest.raises(MemoryStoreError):
        memory.record(decision.model_copy(update={"rounds": (changed,)}))
