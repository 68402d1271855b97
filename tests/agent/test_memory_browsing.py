"""Lists and figures for pages, on both databases: the right lines, each once, however they are filtered and paged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from rolegen_agent.memory import Memory
from rolegen_agent.memory.browsing import SORTS, Digest, Filters, Sort, lists
from rolegen_errors import InputError
from rolegen_graphs.words import Outcome
from tests.support.decisions import AT, make_call, make_decision

pytest_plugins = ["tests.support.postgres"]
DAY = timedelta(days=1)
HOSTILE = "100%_'; DROP TABLE digests; --"


@pytest.fixture
def filled(memory: Memory) -> Memory:
    for number in range(12):
        run = "demo" if number % 3 else "other"
        decision = make_decision(HOSTILE if number == 5 else str(number % 9), AT + (number % 4) * DAY, run, seed=number)
        if number % 2:
            memory.record_call(make_call(decision.decision, cost_usd=number / 8, latency_s=float(20 - number)))
        memory.record(decision)
        if number % 4 == 1:
            ordered = decision.at + DAY if number % 8 == 1 else None
            memory.record_outcome(
                Outcome(decision=decision.decision, user=decision.user, ordered_at=ordered, value=2.0)
            )
    return memory


def all_of(memory: Memory, wanted: Filters, sort: Sort = "recorded", limit: int = 5) -> list[Digest]:
    """Page by page to the end."""
    page = memory.browse(wanted, sort=sort, limit=limit)
    found = list(page.lines)
    while page.next is not None:
        page = memory.browse(wanted, sort=sort, limit=limit, after=page.next)
        found += page.lines
    return found


BY: dict[Sort, Callable[[Digest], object]] = {
    "recorded": lambda line: (line.recorded_at, line.decision),
    "time": lambda line: (line.at, line.decision),
    "cost": lambda line: (line.cost_usd, line.decision),
    "seconds": lambda line: (line.seconds, line.decision),
}


def test_pages_hold_every_decision_once_in_order(filled: Memory) -> None:
    for sort in SORTS:
        found = all_of(filled, Filters(), sort)
        assert len(found) == len({line.decision for line in found}) == 12
        assert found == sorted(found, key=BY[sort], reverse=True), sort  # type: ignore[arg-type]
    costs = [line.cost_usd for line in filled.browse(Filters(), sort="cost", limit=3).lines]
    assert costs == [11 / 8, 9 / 8, 7 / 8]


def test_each_filter_keeps_what_it_names(filled: Memory) -> None:
    every = all_of(filled, Filters(), limit=100)
    one = next(line for line in every if line.roles and line.calls)
    cases: list[tuple[Filters, Callable[[Digest], bool]]] = [
        (Filters(run="demo"), lambda line: line.run == "demo"),
        (Filters(user=HOSTILE), lambda line: line.user == HOSTILE),
        (Filters(role=one.roles[0]), lambda line: one.roles[0] in line.roles),
        (Filters(prompt="reason@1"), lambda line: line.calls > 0),
        (Filters(outcome="ordered"), lambda line: line.outcome == "ordered"),
        (Filters(outcome="not_ordered", run="demo"), lambda line: line.outcome == "not_ordered" and line.run == "demo"),
        (Filters(since=AT + DAY, until=AT + 2 * DAY), lambda line: line.at == AT + DAY),
        (Filters(reasoner="llm"), lambda line: False),
        (Filters(lesson="L1"), lambda line: True),
        (Filters(lesson="L2"), lambda line: False),
        (Filters(text=one.top.upper()), lambda line: True),
        (Filters(text=one.decision[:10]), lambda line: line.decision == one.decision),
        (Filters(text="%"), lambda line: False),
        (Filters(text=HOSTILE), lambda line: False),
    ]
    for wanted, expected in cases:
        found = all_of(filled, wanted)
        if wanted.text == one.top.upper():
            assert one in found and len(found) < 12
        else:
            assert found == [line for line in every if expected(line)], wanted


def test_a_rare_search_stops_says_so_and_goes_on(filled: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LOOKED_AT", 3)
    oldest = all_of(filled, Filters(), limit=100)[-1]
    wanted = Filters(text=oldest.decision)
    page = filled.browse(wanted)
    assert page.lines == () and page.looked_at == 3 and page.next is not None
    assert all_of(filled, wanted) == [oldest]
    assert filled.browse(Filters()).looked_at is None, "without such a filter nothing is tried"


@pytest.mark.parametrize("after", ["", "x", "2011-01-01~a", "nan~a", "2011-01-01T00:00:00+00:00", "'; --~"])
def test_a_cut_address_is_refused(filled: Memory, after: str) -> None:
    with pytest.raises(InputError, match="address was cut"):
        filled.browse(Filters(), after=after)


def test_figures_are_sums_of_the_lines(filled: Memory) -> None:
    for wanted in (Filters(), Filters(run="other"), Filters(since=AT + DAY), Filters(cohort="nobody")):
        lines, figures = all_of(filled, wanted), filled.figures(wanted)
        if wanted.since is not None:  # figures know days, not hours
            lines = [line for line in all_of(filled, Filters()) if line.at.date() >= wanted.since.date()]
        assert sum(one.decisions for one in figures) == len(lines)
        assert sum(one.awakened for one in figures) == sum(line.outcome == "ordered" for line in lines)
        assert sum(one.cost_usd for one in figures) == pytest.approx(sum(line.cost_usd for line in lines))
    assert filled.run_sizes() == {"demo": 8, "other": 4}
    (use,) = filled.prompt_uses()
    assert (use.prompt, use.decisions, use.calls) == ("reason", 6, 6)
    assert filled.choices()["prompt"] == ["reason@1"]


def test_two_runs_meet_in_the_users_of_both(memory: Memory) -> None:
    for run in ("a", "b"):
        for user in ("1", "2", run):
            memory.record(make_decision(user, run=run))
    pairs = memory.pairs("a", "b")
    assert sorted(pair.first.user for pair in pairs) == ["1", "2"]
    assert all((pair.first.run, pair.second.run) == ("a", "b") for pair in pairs)


def test_the_version_changes_with_what_pages_show(memory: Memory) -> None:
    seen = [memory.version()]
    decision = make_decision("1")
    memory.begin(decision.run, decision.user, decision.at)
    seen.append(memory.version())
    assert memory.under_way() == 1
    memory.record(decision)
    seen.append(memory.version())
    memory.record_outcome(Outcome(decision=decision.decision, user="1", ordered_at=None))
    seen.append(memory.version())
    memory.record_call(make_call(decision.decision))
    seen.append(memory.version())
    assert len(set(seen)) == len(seen) and memory.under_way() == 0
