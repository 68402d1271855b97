"""What a report means, and which of two holds, whatever order they come in."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from rolegen_errors import InputError
from rolegen_graphs.reports import net_outcome, parse_report, supersedes
from rolegen_graphs.words import Outcome
from tests.support.decisions import AT

DAY = timedelta(days=1)
END = AT + 90 * DAY


def net(now: float = 200, **given: Any) -> Outcome:
    report = parse_report({"user": "ann", "decision": "d", **given})
    return net_outcome(report, "d", AT, END, AT + now * DAY)


ORDER = {"ordered_at": AT + 5 * DAY, "items": ["cup", "mug"], "value": 9.5}


def test_a_refund_leaves_no_net_order_and_a_part_of_one_the_rest() -> None:
    whole = net(**ORDER, refunded_at=AT + 9 * DAY)
    assert (whole.ordered_at, whole.items, whole.value) == (None, (), 0.0)
    assert whole.refunded_at == whole.known_at == AT + 9 * DAY and not whole.final
    late = net(**ORDER, refunded_at=AT + 95 * DAY)
    assert late.ordered_at is None and late.final
    part = net(**{**ORDER, "value": 4.0}, refunded_at=AT + 9 * DAY, refunded_items=["cup"])
    assert (part.ordered_at, part.items, part.value, part.refunded_at) == (AT + 5 * DAY, ("mug",), 4.0, None)
    both = net(**ORDER, refunded_at=AT + 9 * DAY, refunded_items=["mug", "cup"])
    assert both.ordered_at is None


def test_no_order_is_final_once_the_horizon_has_ended() -> None:
    assert [net(now=days).final for days in (89.9, 90)] == [False, True]
    assert not net(known_at=AT + 89 * DAY).final and net(known_at=END).final
    assert net(**ORDER, now=6).final
    with pytest.raises(InputError, match="before the horizon ends"):
        net(final=True, known_at=AT + DAY)


@pytest.mark.parametrize("days", [-0.01, 90])
def test_an_order_outside_the_horizon_is_none_of_the_decision(days: float) -> None:
    with pytest.raises(InputError, match="outside the horizon"):
        net(ordered_at=AT + days * DAY)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"ordered_at": "2011-06-05 10:00"}, "ordered_at: Input should have timezone info"),
        ({"ordered_at": "soon"}, "ordered_at"),
        ({"items": ["cup"]}, "without ordered_at"),
        ({**ORDER, "value": float("nan")}, "value"),
        ({**ORDER, "value": -1}, "value"),
        ({**ORDER, "refunded_items": ["cup"]}, "without refunded_at"),
        ({**ORDER, "refunded_at": AT}, "before ordered_at"),
        ({**ORDER, "refunded_at": AT + 9 * DAY, "refunded_items": ["pan"]}, "not in items"),
        ({"user": ""}, "user"),
        ({"user": "u" * 1001}, "user"),
        ({"secret": "sesame"}, "secret: Extra inputs"),
    ],
)
def test_what_is_no_report_is_refused_without_repeating_it(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        net(**given)
    assert "sesame" not in str(caught.value) and len(str(caught.value)) < 900


def test_with_times_the_order_of_arrival_does_not_matter() -> None:
    reports = [
        net(known_at=AT + 3 * DAY),
        net(**ORDER, known_at=AT + 6 * DAY),
        net(**ORDER, refunded_at=AT + 20 * DAY),
        net(known_at=END),
        net(ordered_at=AT + 80 * DAY, items=["pan"], known_at=END + DAY),
    ]
    for count in range(1, len(reports) + 1):
        for order in permutations(reports[:count]):
            held = order[0]
            for new in order[1:]:
                held = new if supersedes(new, held) else held
            assert held == reports[count - 1]


def test_without_times_facts_hold_against_silence() -> None:
    order, refund = net(**ORDER), net(**ORDER, refunded_at=AT + 9 * DAY)
    assert supersedes(refund, order) and not supersedes(order, refund)  # whichever comes first
    nothing_yet, nothing, seen_nothing = net(now=1), net(), net(known_at=END)
    assert supersedes(order, nothing_yet) and not supersedes(nothing_yet, order)
    assert supersedes(order, nothing)  # it came late
    assert not supersedes(seen_nothing, order)  # a log without it does not undo what a shop reported
    again = net(ordered_at=AT + 30 * DAY, items=["pan"])
    assert supersedes(again, refund)  # another order, after that one was given back
