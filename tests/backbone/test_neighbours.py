"""What goes with what, and what is bought again: by hand, and never from the future."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import sqrt

import numpy as np
import pytest

from rolegen_backbone import neighbours
from rolegen_backbone.neighbours import SHRINK, STEP, USUAL, Neighbours, near_to

from .conftest import Row, log_of

DAY0 = 500 * STEP
"""a day of counting"""
ITEMS = ["a", "b", "c", "d", "e"]


def counted(rows: list[Row]) -> Neighbours:
    return Neighbours(log_of(rows, ITEMS))


def basket(user: str, day: int, items: str) -> list[Row]:
    return [Row(user, item, day) for item in items]


def same(one: neighbours.Links, other: neighbours.Links) -> bool:
    return (
        np.array_equal(one.by_basket.toarray(), other.by_basket.toarray())
        and np.array_equal(one.by_user.toarray(), other.by_user.toarray())
        and np.array_equal(one.again, other.again)
        and np.array_equal(one.buyers, other.buyers)
    )


TOGETHER = [
    *(row for k in range(4) for row in basket(f"u{k}", DAY0 - 50 - k, "ab")),
    *basket("u0", DAY0 - 30, "ac"),
    *basket("u1", DAY0 - 20, "d"),
    *basket("u2", DAY0 - 10, "d"),
]


def test_what_was_bought_together_is_nearest() -> None:
    links = counted(TOGETHER).at(DAY0)
    a, b, c, d, e = range(5)
    near = links.by_basket.toarray()
    assert near[a].argmax() == b and near[b].argmax() == a
    assert near[a, b] == pytest.approx(4 / sqrt((5 + SHRINK) * (4 + SHRINK)))
    assert near[a, c] == pytest.approx(1 / sqrt((5 + SHRINK) * (1 + SHRINK)))
    assert (near == near.T).all() and (np.diag(near) == 0).all() and (near[e] == 0).all()
    # d never shared a basket with a, only buyers.
    assert near[a, d] == 0
    assert links.by_user.toarray()[a, d] == pytest.approx(2 / sqrt((4 + SHRINK) * (2 + SHRINK)))


def test_what_is_bought_a_second_time_says_so() -> None:
    rows = [
        *(row for k in range(6) for day in (60, 30) for row in basket(f"u{k}", DAY0 - day, "a")),
        *(row for k in range(6) for row in basket(f"u{k}", DAY0 - 40, "b")),
        Row("u0", "b", DAY0 - 40, second=99),  # a second line of the same day is no second time
    ]
    links = counted(rows).at(DAY0)
    share, worth = USUAL
    assert links.again[0] == pytest.approx((6 + share * worth) / (6 + worth))
    assert links.again[1] == pytest.approx(share * worth / (6 + worth))
    assert links.again[4] == pytest.approx(share)  # nobody knows
    assert links.again[0] > links.again[4] > links.again[1]
    assert links.buyers[[0, 1, 4]].tolist() == pytest.approx([np.log(7), np.log(7), 0.0])


@pytest.mark.parametrize("day", [DAY0, DAY0 + 1, DAY0 + STEP - 1])
def test_nothing_at_or_after_the_day_of_counting_is_counted(day: int) -> None:
    future = [row for user in ("u0", "u7") for later in (0, 1, STEP, 90) for row in basket(user, DAY0 + later, "acde")]
    known = counted(TOGETHER).at(day)
    assert known.day == DAY0 <= day
    assert same(counted([*TOGETHER, *future]).at(day), known)
    assert not same(counted([*TOGETHER, *basket("u0", DAY0 - 1, "de")]).at(day), known)
    # From the next day of counting on they are known.
    assert not same(counted([*TOGETHER, *future]).at(DAY0 + STEP), known)


def test_the_order_in_which_days_are_asked_for_does_not_matter() -> None:
    rows = [row for k in range(12) for row in basket(f"u{k % 5}", DAY0 + 20 * k, "abcde"[k % 3 : k % 3 + 2])]
    log, days = log_of(rows, ITEMS), [DAY0 + STEP * k for k in range(9)]
    expected = [Neighbours(log).at(day) for day in days]
    forgetful = Neighbours(log, keep=1)

    def look(start: int) -> bool:
        order = np.random.default_rng(start).permutation(np.repeat(np.arange(len(days)), 20))
        return all(same(forgetful.at(days[k]), expected[k]) for k in order)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(look, range(4)))


def test_a_wholesaler_links_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*TOGETHER, *(row for k in range(9) for row in basket("w", DAY0 - 90 - k, "bcde"))]
    assert counted(rows).at(DAY0).by_basket.toarray()[1].argmax() == 4
    monkeypatch.setattr(neighbours, "LARGEST", 3)
    links = counted(rows).at(DAY0)
    assert links.by_basket.toarray()[1].argmax() == 0 and links.by_user[[4]].sum() == 0
    assert links.again[4] > USUAL[0]  # but a second purchase is one


def test_the_strongest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "KEPT", 1)
    near = counted(TOGETHER).at(DAY0).by_basket.toarray()
    assert near[0].nonzero()[0].tolist() == [1] and near[2].nonzero()[0].tolist() == [0]


def test_nearness_to_several_items_is_their_weighted_mean() -> None:
    near = counted(TOGETHER).at(DAY0).by_basket
    items, weight = np.array([1, 2]), np.array([3.0, 1.0], np.float32)
    expected = 0.75 * near.toarray()[1] + 0.25 * near.toarray()[2]
    plain, many, none = near_to(near, items, weight, 10 * weight, 0 * weight)
    assert plain == pytest.approx(expected)
    assert many == pytest.approx(expected)  # who buys much is not nearer to everything
    assert (none == 0).all()
    assert (near_to(near, items[:0], weight[:0])[0] == 0).all()


def test_a_log_without_any_order_links_nothing() -> None:
    for rows in ([], [Row("u", "a", DAY0 - 9, "view")]):
        links = counted(rows).at(DAY0)
        assert links.by_basket.shape == (5, 5) and links.by_basket.nnz == 0
        assert links.again.tolist() == pytest.approx([USUAL[0]] * 5)
