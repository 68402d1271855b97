"""What an observation shows of a user, and that it shows nothing from the future."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from rolegen_agent.observer import LogObserver, cohort_of, typical_spend
from rolegen_errors import FutureError, InputError
from rolegen_graphs.words import Lesson, PastDecision

START = datetime(2024, 1, 1, 12, tzinfo=UTC)
AT = START + timedelta(days=200)
ITEMS = pl.DataFrame(
    {
        "item": ["cup", "pot", "tea"],
        "title": ["A cup", "A pot", "Some tea"],
        "category": ["china", "china", "food"],
        "price": [2.0, 9.0, 4.0],
    }
)


def log(*rows: tuple[str, str, float, str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "event": range(len(rows)),
            "user": [row[0] for row in rows],
            "item": [row[1] for row in rows],
            "time": [START + timedelta(days=row[2]) for row in rows],
            "behaviour": [row[3] for row in rows],
            "quantity": [1.0] * len(rows),
            "price": [2.5 if row[1] == "cup" else None for row in rows],
            "session": [None] * len(rows),
        },
        schema_overrides={"time": pl.Datetime("us", "UTC"), "price": pl.Float32, "session": pl.String},
    )


EVENTS = log(
    ("anna", "cup", 0, "order"),
    ("anna", "pot", 0, "order"),
    ("anna", "tea", 50, "order"),
    ("anna", "tea", 51, "refund"),
    ("bert", "tea", 100, "view"),
    ("anna", "cup", 200, "order"),
    ("anna", "pot", 260, "order"),
    ("anna", "ghost", 3, "order"),
)


class Memory:
    """A memory that answers what it was given, to see whether the observer checks it."""

    def __init__(self, *, lessons: Sequence[Lesson] = (), past: Sequence[PastDecision] = ()) -> None:
        self.lessons, self.past, self.asked = lessons, past, ""

    def lessons_for(self, user: str, cohort: str, at: datetime) -> Sequence[Lesson]:
        self.asked = cohort
        return self.lessons

    def past_decisions(self, user: str, at: datetime) -> Sequence[PastDecision]:
        return self.past


def test_only_events_strictly_before_the_decision_are_seen() -> None:
    observer = LogObserver(EVENTS, ITEMS)
    seen = observer.observe("anna", AT).trajectory
    assert [(event.event, event.item, event.behaviour) for event in seen.events] == [
        (0, "cup", "order"),
        (1, "pot", "order"),
        (2, "tea", "order"),
        (3, "tea", "refund"),
    ], "the order at the very moment of the decision is the future"
    assert seen.total_events == 4 and seen.orders == 2
    assert seen.days_since_last == pytest.approx(150.0), "a refund is no visit"
    assert seen.events[0].title == "A cup" and seen.events[0].price == 2.5 and seen.events[1].price is None
    assert seen.events[0].at == START
    assert seen.cohort == "lapsed/2-3 orders/90-180 days"
    assert observer.unknown_items == 1
    later = observer.observe("anna", AT + timedelta(microseconds=1)).trajectory
    assert later.events[-1].event == 5


def test_the_future_of_the_log_changes_nothing() -> None:
    known = EVENTS.filter(pl.col("time") < AT)
    assert LogObserver(known, ITEMS).observe("anna", AT) == LogObserver(EVENTS, ITEMS).observe("anna", AT)


def test_unknown_users_get_a_way_out() -> None:
    observer = LogObserver(EVENTS, ITEMS)
    with pytest.raises(InputError, match="'carl' is not in the log") as found:
        observer.observe("carl", AT)
    assert "rolegen dormant" in str(found.value)
    with pytest.raises(InputError, match="'bert' has no event before that time"):
        observer.observe("bert", START)
    with pytest.raises(InputError, match="timezone"):
        observer.observe("anna", AT.replace(tzinfo=None))


def test_a_long_history_keeps_what_tells_most() -> None:
    items = pl.DataFrame(
        {
            "item": [f"i{n:03d}" for n in range(100)],
            "title": ["t"] * 100,
            "category": ["c"] * 100,
            "price": [1.0] * 100,
        }
    )
    rows = [("u", "i000", 1.0, "order"), ("u", "i001", 1.0, "order")]
    rows += [("u", f"i{n:03d}", float(n), "order") for n in range(2, 100)]
    rows += [("u", "i005", 10.5, "order"), ("u", "i005", 20.5, "order")]
    rows.sort(key=lambda row: row[2])
    observer = LogObserver(log(*rows), items, max_events=20, telling=frozenset({"i042"}))
    seen = observer.observe("u", AT).trajectory
    shown = [event.item for event in seen.events]
    assert len(shown) == 20 and seen.total_events == 102
    assert shown[-10:] == [f"i{n:03d}" for n in range(90, 100)], "the newest half"
    assert shown.count("i005") == 3, "what was bought again"
    assert {"i000", "i001", "i042"} <= set(shown), "the first order, and items that the evidence knows"
    assert [event.at for event in seen.events] == sorted(event.at for event in seen.events)
    assert sum(fold.events for fold in seen.folded) == 102 - 20, "the others are folded, not lost"
    whole = LogObserver(log(*rows), items, max_events=500).observe("u", AT).trajectory
    assert whole.total_events == len(whole.events) == 102 and whole.folded == ()


def test_what_was_done_comes_before_what_was_only_shown() -> None:
    rows = []
    for day in range(30):  # four showings a visit, of which the pot's is answered by a look
        rows += [("u", item, day, "expose") for item in ("cup", "tea", "pot", "cup")]
        rows += [("u", "pot", day + 0.01, "view")]
    rows += [("u", "tea", 31.0, "view")]
    seen = LogObserver(log(*rows), ITEMS, max_events=20).observe("u", AT).trajectory
    kinds = Counter(event.behaviour for event in seen.events)
    assert kinds == {"view": 10, "expose": 10}, "and one of them had room when no further pair had"
    asked = [(event.item, event.at) for event in seen.events if event.behaviour == "expose"]
    looks = [(event.item, event.at) for event in seen.events if event.behaviour == "view"]
    for item, when in looks:
        shown = any(what == item and timedelta(0) < when - at < timedelta(hours=1) for what, at in asked)
        assert shown == (item == "pot"), "a look keeps the showing that asked for it, and no other look gets one"
    assert sum(fold.events for fold in seen.folded) == len(rows) - 20
    assert sum(n for fold in seen.folded for kind, _, n in fold.counts if kind == "expose") == 110, (
        "folds still count them"
    )
    few = LogObserver(log(*rows), ITEMS, max_events=80).observe("u", AT).trajectory
    assert Counter(event.behaviour for event in few.events) == {"view": 31, "expose": 49}, (
        "room left goes to the newest"
    )


def test_what_is_not_listed_is_folded_by_category_between_what_is() -> None:
    items = pl.DataFrame({"item": ["a", "b"], "title": ["t", "t"], "category": ["x", "y"], "price": [1.0, 1.0]})
    rows = [("u", "ab"[n % 2], n / 4, "view" if n % 3 else "order") for n in range(40)]
    events = log(*rows).with_columns(session=pl.Series([f"s{n // 5}" for n in range(40)]))
    seen = LogObserver(events, items, max_events=8).observe("u", AT).trajectory
    assert [event.session for event in seen.events][-4:] == ["s7"] * 4
    listed = {event.event for event in seen.events}
    folded = [row for row in range(40) if row not in listed]
    assert [fold.events for fold in seen.folded] and sum(fold.events for fold in seen.folded) == len(folded) == 32
    for fold in seen.folded:
        inside = [n for n in folded if fold.first <= START + timedelta(days=n / 4) <= fold.last]
        expected = Counter((rows[n][3], "xy"[n % 2]) for n in inside)
        assert {(what, where): number for what, where, number in fold.counts} == expected
        assert fold.visits == len({n // 5 for n in inside})
        assert not any(fold.first <= event.at <= fold.last for event in seen.events)
    daily = LogObserver(log(*rows), items, max_events=8).observe("u", AT).trajectory
    assert [event.session for event in daily.events] == [None] * 8
    assert daily.folded[0].visits == len(
        {
            (START + timedelta(days=n / 4)).date()
            for n in folded
            if START + timedelta(days=n / 4) <= daily.folded[0].last
        }
    )


def test_memory_and_dormancy_reason_are_asked_for() -> None:
    lesson = Lesson(lesson="l1", scope="all", scope_key="", text="lead with tea", learnt_at=AT - timedelta(days=1))
    past = PastDecision(decision="d1", at=AT - timedelta(days=30), items=("cup",), ordered=False)
    memory = Memory(lessons=[lesson], past=[past])
    observer = LogObserver(EVENTS, ITEMS, memory=memory, dormant={"anna": "silent since February"})
    seen = observer.observe("anna", AT)
    assert seen.lessons == (lesson,) and seen.past == (past,)
    assert memory.asked == seen.trajectory.cohort
    assert seen.trajectory.dormant_because == "silent since February"
    assert "last seen 100 days before" in observer.observe("bert", AT).trajectory.dormant_because
    asked = LogObserver(EVENTS, ITEMS, dormant=lambda user, at: f"{user} at {at.date()}")
    assert asked.observe("anna", AT).trajectory.dormant_because == "anna at 2024-07-19"


def test_what_was_learnt_later_is_refused() -> None:
    lesson = Lesson(lesson="l1", scope="all", scope_key="", text="from the future", learnt_at=AT)
    with pytest.raises(FutureError, match="lesson l1"):
        LogObserver(EVENTS, ITEMS, memory=Memory(lessons=[lesson])).observe("anna", AT)
    past = PastDecision(decision="d1", at=AT, items=(), ordered=None)
    with pytest.raises(FutureError, match="decision d1"):
        LogObserver(EVENTS, ITEMS, memory=Memory(past=[past])).observe("anna", AT)


@pytest.mark.parametrize(
    ("orders", "days", "cohort"),
    [
        (0, 12, "browser/no order/0-30 days"),
        (1, 90, "lapsed/1 order/90-180 days"),
        (4, 400, "lapsed/4+ orders/365+ days"),
    ],
)
def test_cohorts_read_as_words(orders: int, days: float, cohort: str) -> None:
    assert cohort_of(orders, days) == cohort


def test_the_value_of_a_user_is_what_they_kept_beside_the_median_customer() -> None:
    spent = [("small", 1), ("middle", 2), ("large", 8)]
    rows = [(user, "cup", float(n), "order") for user, count in spent for n in range(count)]
    events = log(*rows, ("middle", "cup", 5, "refund"), ("middle", "cup", 6, "order"), ("looker", "cup", 7, "view"))
    typical = typical_spend(events)
    assert typical == pytest.approx(2 * 2.5), "who never bought is no customer, and what went back was not bought"
    observer = LogObserver(events, ITEMS, typical_spend=typical)
    values = {user: observer.observe(user, AT).trajectory.value for user in ("small", "middle", "large", "looker")}
    assert values == {"small": 0.5, "middle": 1.0, "large": 4.0, "looker": None}
    before = observer.observe("large", START + timedelta(days=3)).trajectory.value
    assert before == pytest.approx(1.5), "only what was spent before the decision"


def test_without_prices_the_value_is_unknown() -> None:
    unpriced = log(("anna", "tea", 0, "order"))
    assert typical_spend(unpriced) is None
    assert LogObserver(unpriced, ITEMS, typical_spend=None).observe("anna", AT).trajectory.value is None
    assert LogObserver(unpriced, ITEMS, typical_spend=5.0).observe("anna", AT).trajectory.value is None
