"""Outcomes from files and programs, on SQLite and PostgreSQL: what is good is kept, what is not is set aside with its reason."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import create_engine, update

from rolegen_agent.feedback import FeedbackReport, attribute_orders, read_reports, record_rows, retry_letters
from rolegen_agent.feedback.recording import Row, row_of
from rolegen_agent.memory import Memory
from rolegen_agent.memory.models import OutcomeRow
from rolegen_agent.memory.verification.of_feedback import wrong_credits, wrong_outcomes, wrong_propensities
from rolegen_errors import InputError
from rolegen_graphs.exploration import drawn
from rolegen_graphs.ports import Recommender
from rolegen_graphs.words import Attribution, Outcome
from tests.agent.test_memory import all_rows
from tests.support.decisions import AT, make_decision, make_slate
from tests.support.ports import Ranker

pytest_plugins = ["tests.support.postgres"]

DAY = timedelta(days=1)
NOW = AT + 200 * DAY


def report(memory: Memory, *rows: dict[str, Any] | None, source: str = "test") -> FeedbackReport:
    made = [Row(source, number, row, "" if row is not None else "no JSON") for number, row in enumerate(rows, 1)]
    found = record_rows(memory, made, source, now=NOW)
    assert found.rows == found.recorded + found.unchanged + found.late + found.dead == len(rows)
    return found


@pytest.fixture
def ann(memory: Memory) -> str:
    """A decision on ann at AT, in the memory."""
    decision = make_decision("ann", rounds=1)
    memory.record(decision)
    return decision.decision


def order(days: float = 5, **more: Any) -> dict[str, Any]:
    return {"user": "ann", "ordered_at": (AT + days * DAY).isoformat(), "items": ["cup"], "value": 4.5, **more}


def test_good_rows_are_recorded_whatever_stands_beside_them(memory: Memory, ann: str) -> None:
    found = report(
        memory,
        {"user": "ann", "decision": "unknown"},
        {"user": "bob", "decision": ann},
        order(90),
        {"user": "ann", "decision": ann, "ordered_at": "tomorrow"},
        None,
        {"user": "ann"},
        {"user": "nobody", "ordered_at": AT.isoformat()},
        order(),
    )
    assert (found.recorded, found.dead) == (1, 7)
    assert memory.find_outcome(ann) == Outcome(
        decision=ann, user="ann", ordered_at=AT + 5 * DAY, items=("cup",), value=4.5
    )
    reasons = {letter.row: letter.reason for letter in memory.dead_letters()}
    assert "not in memory" in reasons[1] and "another user" in reasons[2]
    assert "no decision whose horizon holds" in reasons[3] and "ordered_at" in reasons[4] and "no JSON" in reasons[5]
    assert "neither" in reasons[6] and "no decision on this user" in reasons[7]
    with pytest.raises(InputError, match="7 of 8 reports") as caught:
        found.raise_for_dead()
    assert "dead-letters" in str(caught.value)


def test_the_same_file_twice_changes_nothing(memory: Memory, memory_url: str, ann: str) -> None:
    rows = (order(), {"user": "ann", "decision": "unknown"}, order(7, decision=ann))
    report(memory, *rows)
    once = all_rows(memory_url)
    again = report(memory, *rows)
    assert (again.unchanged, again.late, again.dead) == (1, 1, 1)  # of two on one decision the later one holds, again
    later = all_rows(memory_url)
    assert [row[:5] for row in later.pop("dead_letters")] == [row[:5] for row in once.pop("dead_letters")]
    assert later == once
    assert [letter.tries for letter in memory.dead_letters()] == [2]


def test_a_refund_after_the_order_takes_it_and_its_credit_away(memory: Memory, ann: str) -> None:
    report(memory, order())
    credit = Attribution(decision=ann, path=None, step=None, item=None, credit=1.0, effect=0.1)
    memory.record_attributions({ann: [credit]})
    assert report(memory, order()).unchanged == 1 and memory.attributions(decision=ann) == (credit,)
    assert report(memory, order(refunded_at=(AT + 9 * DAY).isoformat())).recorded == 1
    outcome = memory.find_outcome(ann)
    assert outcome is not None and (outcome.ordered_at, outcome.items, outcome.value) == (None, (), 0.0)
    assert memory.attributions(decision=ann) == ()
    assert report(memory, order()).late == 1  # the order again, after its refund
    assert memory.find_outcome(ann) == outcome


def test_a_refund_of_the_future_does_not_reach_an_earlier_decision(memory: Memory, ann: str) -> None:
    report(memory, order(refunded_at=(AT + 95 * DAY).isoformat()))
    assert [one.ordered for one in memory.past_decisions("ann", AT + 92 * DAY)] == [None]
    assert [one.ordered for one in memory.past_decisions("ann", AT + 99 * DAY)] == [False]


def test_a_refund_of_the_future_teaches_nothing_earlier(memory: Memory, ann: str) -> None:
    report(memory, order(refunded_at=(AT + 95 * DAY).isoformat()))
    for days, known in ((92, False), (99, True)):
        then = AT + days * DAY
        decisions, left_out = memory.known_outcomes(then)
        assert [one.ordered for one in decisions] == [False] * known
        assert left_out == ({} if known else {"refunded later": 1})
        assert [one.decision for one in memory.experiences(then)] == [ann] * known
        assert [one.bought for one in memory.endings(then)] == [False if known else None]


def test_credit_for_an_order_that_is_refunded_meanwhile_is_not_kept(memory: Memory, ann: str) -> None:
    report(memory, order())

    def meanwhile(_: datetime) -> Recommender:
        report(memory, order(refunded_at=(AT + 9 * DAY).isoformat()))
        return Ranker()

    found = attribute_orders(memory, meanwhile)
    assert (found.orders, found.attributed, found.changed) == (1, 0, 1)
    assert memory.attributions() == ()


def test_provisional_becomes_final_and_a_late_order_counts(memory: Memory, ann: str) -> None:
    assert report(memory, {"user": "ann", "decision": ann, "known_at": (AT + DAY).isoformat()}).recorded == 1
    assert (memory.find_outcome(ann) or Outcome(decision="", user="", ordered_at=None)).final is False
    assert report(memory, {"user": "ann", "decision": ann, "known_at": (AT + 90 * DAY).isoformat()}).recorded == 1
    assert report(memory, {"user": "ann", "decision": ann, "known_at": (AT + 50 * DAY).isoformat()}).late == 1
    found = memory.find_outcome(ann)
    assert found is not None and found.final and found.ordered_at is None
    assert report(memory, order(80)).recorded == 1
    assert (memory.find_outcome(ann) or found).ordered_at == AT + 80 * DAY


def test_an_order_without_a_decision_goes_to_the_latest_that_holds_it(memory: Memory, ann: str) -> None:
    later, twin = (make_decision("ann", AT + 30 * DAY, run, rounds=1) for run in ("demo", "other"))
    for one in (later, twin):
        memory.record(one)
    report(memory, order(40))
    assert memory.find_outcome(ann) is None
    assert memory.find_outcome(later.decision) is not None and memory.find_outcome(twin.decision) is not None
    report(memory, order(10))
    assert (memory.find_outcome(ann) or Outcome(decision="", user="", ordered_at=None)).ordered_at == AT + 10 * DAY


def test_dead_letters_are_tried_again_and_leave_when_they_succeed(memory: Memory) -> None:
    decision = make_decision("ann", rounds=1)
    report(memory, order(decision=decision.decision), {"user": "ann", "nonsense": 1}, source="mine.jsonl")
    assert retry_letters(memory).dead == 1
    memory.record(decision)
    found = retry_letters(memory)
    assert (found.rows, found.recorded) == (1, 1)
    assert memory.find_outcome(decision.decision) is not None
    [left] = memory.dead_letters()
    assert not left.complete and left.row == 2  # it held what no report has: there is nothing to try again
    memory.drop_dead_letter(left.letter)
    assert memory.count_dead_letters() == 0
    with pytest.raises(InputError, match="no dead letter"):
        memory.drop_dead_letter(left.letter)


def test_dead_letters_keep_neither_secrets_nor_floods(memory: Memory) -> None:
    report(
        memory,
        {"user": "ann", "decision": "x", "api_key": "sesame"},
        {"user": "u" * 5000, "decision": "x"},
        {"user": "bob", "decision": "x", "ordered_at": AT.isoformat(), "items": ["i" * 900] * 5000},
        {"user": {"deep": ["sesame"]}, "decision": "x"},
        {"user": "c\x00\udfff", "decision": "'; DROP TABLE outcomes; --"},
    )
    letters = memory.dead_letters()
    assert len(letters) == 5
    assert "sesame" not in "".join(letter.model_dump_json() for letter in letters[:4])
    assert max(len(letter.payload) for letter in letters) <= 4000
    assert [letter.complete for letter in letters] == [False, False, False, False, True]
    assert letters[4].user == "c\x00\udfff"
    assert all(json.loads(letter.payload) is not None for letter in letters)


def test_erasing_a_person_takes_their_letters_along(memory: Memory, memory_url: str, ann: str) -> None:
    report(
        memory,
        {"user": "ann", "decision": "unknown"},
        {"user": "bob", "decision": ann},
        {"user": ["ann"], "decision": "unknown"},
        {"user": "cid", "decision": "unknown"},
        order(),
    )
    memory.record_attributions({ann: [Attribution(decision=ann, path=1, step=0, item="cup", credit=1.0, effect=0.1)]})
    deleted = memory.erase("ann")
    assert (deleted["dead_letters"], deleted["attributions"], deleted["outcomes"]) == (3, 1, 1)
    assert [letter.user for letter in memory.dead_letters()] == ["cid"]
    assert not [
        rows for rows in all_rows(memory_url).values() if any('"ann"' in str(row) or ann in row for row in rows)
    ]


def test_whoever_writes_last_what_was_known_latest_holds(memory: Memory, ann: str) -> None:
    """Eight writers at once, each with a state of its own and a row that is no report."""

    def write(day: int) -> int:
        row = {"user": "ann", "decision": ann, "known_at": (AT + day * DAY).isoformat()}
        more = {"ordered_at": (AT + DAY).isoformat(), "value": float(day)}
        return report(memory, {**row, **more}, {"user": "ann", "decision": "unknown"}).dead

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, [3, 8, 1, 6, 2, 7, 4, 5])) == 8
    found = memory.find_outcome(ann)
    assert found is not None and found.value == 8.0
    assert [letter.tries for letter in memory.dead_letters()] == [8]


# --- files


def test_the_three_kinds_of_file_say_the_same(memory: Memory, ann: str, tmp_path: Path) -> None:
    when, later = (AT + 5 * DAY).isoformat(), (AT + 6 * DAY).isoformat()
    rows = [
        {"user": "ann", "decision": ann, "ordered_at": when, "items": ["cup", "a;b"], "value": 4.5, "known_at": later},
        {"user": "ann", "decision": "unknown", "ordered_at": None, "items": None, "value": None, "known_at": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame([{**row, "items": json.dumps(row["items"]) if row["items"] else None} for row in rows]).write_csv(
        tmp_path / "a.csv"
    )
    seen = []
    for kind in ("jsonl", "parquet", "csv"):
        file = tmp_path / f"a.{kind}"
        found = record_rows(memory, read_reports(file), str(file), now=NOW)
        assert (found.rows, found.dead) == (2, 1)
        seen.append(memory.find_outcome(ann))
    assert seen[0] is not None and seen[0].items == ("cup", "a;b") and seen[0] == seen[1] == seen[2]
    (tmp_path / "b.csv").write_text(f"user,ordered_at,items\nann,{when},cup; mug\n")
    [row] = read_reports(tmp_path / "b.csv")
    assert row.given == {"user": "ann", "ordered_at": when, "items": ["cup", "mug"]}


def test_one_bad_row_of_a_file_is_one_bad_row(memory: Memory, ann: str, tmp_path: Path) -> None:
    good = json.dumps({"user": "ann", "decision": ann}).encode()
    lines = [b"{", b"[1]", b'{"user": "\xff"}', b"[" * 5000, b'{"user": "' + b"x" * 1_100_000 + b'"}', b"", good]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    found = record_rows(memory, read_reports(tmp_path / "a.jsonl"), "a", now=NOW)
    assert (found.recorded, found.dead) == (1, 5)
    cells = ["user,decision,items", '"ann', f"ann,{ann}", "ann,x,[", f"b\udcff,{ann},cup", f"ann,{ann},", ""]
    (tmp_path / "a.csv").write_bytes("\n".join(cells).encode("utf-8", "surrogateescape"))
    found = record_rows(memory, read_reports(tmp_path / "a.csv"), "a", now=NOW)
    assert (found.rows, found.unchanged, found.dead) == (5, 1, 4)
    assert report(memory, {"user": "ann", "decision": ann}).unchanged == 1
    with pytest.raises(InputError, match="a list is no report"):
        record_rows(memory, [row_of(1, ["ann"], "program")], "program").raise_for_dead()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "", "no kind of outcome file"),
        ("none.csv", None, "no such file"),
        ("a.csv", "user,who\n", "unknown columns who"),
        ("a.csv", "decision\n", "no column user"),
        ("a.csv", "user,user\n", "twice"),
        ("a.parquet", "no", "no Parquet"),
    ],
)
def test_a_file_that_is_none_is_refused_whole(tmp_path: Path, name: str, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=told):
        list(read_reports(tmp_path / name))


# --- what can be derived again


def test_checks_find_what_was_tampered_with(memory: Memory, memory_url: str, ann: str) -> None:
    base, longer = make_slate(1, 6), make_slate(2, 18)
    slate = drawn(base, base, longer, temperature=1.0, key="k")
    good = make_decision("bob", rounds=1).model_copy(update={"slate": slate})
    memory.record(good)
    assert memory.get(good.decision).slate == slate
    report(memory, order())
    memory.record_attributions({ann: [Attribution(decision=ann, path=1, step=0, item="cup", credit=1.0, effect=0.1)]})
    engine = create_engine(memory_url)
    with engine.connect() as connection:
        assert not [*wrong_propensities(slate), *wrong_credits(connection), *wrong_outcomes(connection)]
    assert not [*wrong_propensities(memory.get(good.decision).slate), *wrong_propensities(base)]
    wrong = slate.items[2].model_copy(update={"propensity": (slate.items[2].propensity or 0) / 2})
    [told] = wrong_propensities(slate.model_copy(update={"items": (*slate.items[:2], wrong, *slate.items[3:])}))
    assert "place 3" in told
    assert list(wrong_propensities(slate.model_copy(update={"draw": None})))
    memory.record_attributions({ann: [Attribution(decision=ann, path=1, step=0, item="cup", credit=0.7, effect=0.1)]})
    with engine.begin() as connection:
        [(table, key, what)] = wrong_credits(connection)
        assert (table, key) == ("attributions", ann) and "0.7" in what
        connection.execute(update(OutcomeRow).values(ordered_at=AT - DAY))
        assert [(table, key) for table, key, _ in wrong_outcomes(connection)] == [("outcomes", ann)]
        connection.execute(update(OutcomeRow).values(ordered_at=None))
        assert ["no order" in what for _, _, what in (*wrong_credits(connection), *wrong_outcomes(connection))] == [
            True
        ] * 2
    engine.dispose()
