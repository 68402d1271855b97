"""Counted features against numbers worked out by hand, and the proof that none of them knows the future."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import log as ln

import numpy as np
import pytest

from rolegen_backbone.events import DAY
from rolegen_backbone.features import POOL_FEATURES, USER_FEATURES, Clock, Features, Pool, PoolSize
from rolegen_backbone.text_encoder import fit_text, unit_rows

from .conftest import CUT, ITEMS, TODAY, Row, item_ids, log_of, shop_rows

ITEM_IDS = ["a", "b", "c", "d", "e", "f"]
PRICE = np.array([1.0, 2.0, 4.0, 8.0, np.nan, 4.0], np.float32)
ROWS = [
    Row("u", "a", TODAY - 100, quantity=2),
    Row("u", "a", TODAY - 100, quantity=4, second=10),  # a second line of the same order day
    Row("u", "a", TODAY - 40, quantity=3),
    Row("u", "b", TODAY - 40),
    Row("u", "c", TODAY - 10),
    Row("u", "c", TODAY - 5, "refund"),
    Row("u", "f", TODAY - 364 + 20),
    Row("v", "a", TODAY - 3),
    Row("v", "d", TODAY - 20),
    Row("v", "e", TODAY - 364 + 10),
]


TEXT = unit_rows(
    np.array([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1], [1.0, 1.0], [0.0, 0.0], [-1.0, 0.2]], np.float32)
)  # c is a variant of a, e has no title


def make(rows: list[Row], size: PoolSize | None = None) -> Features:
    return Features(log_of(rows, ITEM_IDS), PRICE, TEXT, size)


def of(pool: Pool, item: str, name: str) -> float:
    """One feature of one item of a pool."""
    (row,) = np.flatnonzero(pool.item == ITEM_IDS.index(item))
    return float(pool.feature[row, POOL_FEATURES.index(name)])


def fading(*days_ago: int) -> float:
    """Purchases at half their weight after 180 days."""
    return sum(0.5 ** (days / 180) for days in days_ago)


ALL_FADING = fading(100, 40) + fading(40) + fading(10) + fading(344)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return make(ROWS).pool(0, TODAY * DAY, np.arange(len(ITEM_IDS)))  # with items that nothing else brings in


@pytest.mark.parametrize(
    ("item", "name", "value"),
    [
        # share = (count + 1/2) / (sum of counts + 6 / 2), against an even share of 1/6
        ("a", "popularity_7d", ln(1.5 / 4 * 6)),
        ("b", "popularity_7d", ln(0.5 / 4 * 6)),
        ("a", "popularity_28d", ln(1.5 / 6 * 6)),  # a 3 days ago, c 10, d 20
        ("b", "popularity_28d", ln(0.5 / 6 * 6)),
        ("a", "popularity_91d", ln(2.5 / 8 * 6)),  # and a, b 40 days ago
        ("a", "popularity_364d", ln(3.5 / 11 * 6)),  # order lines of one day count once; f, e are 344, 354 days old
        ("a", "trend_7d_to_28d", ln(1.5 / 4 * 6) - ln(1.5 / 6 * 6)),
        # one year ago, the coming 30 days: e on day 10, f on day 20
        ("e", "season_0d_to_30d", ln(1.5 / 5 * 6)),
        ("a", "season_0d_to_30d", ln(0.5 / 5 * 6)),
        ("e", "season_30d_to_90d", 0.0),
        ("a", "days_since_any_sale", ln(1 + 3)),
        ("e", "days_since_any_sale", ln(1 + 354)),
        ("a", "item_age", ln(1 + 100)),
        ("a", "owned", 1.0),
        ("d", "owned", 0.0),
        ("a", "times_bought", ln(2)),
        ("b", "times_bought", 0.0),
        ("a", "share_of_baskets", 2 / 4),
        ("a", "days_since_bought", ln(1 + 40) / 3),
        ("a", "days_since_first_bought", ln(1 + 100) / 3),
        ("d", "days_since_bought", 0.0),  # another user's
        ("a", "due", ln((40 + 1) / (60 + 1))),
        ("b", "due", 0.0),
        ("a", "due_missing", 0.0),
        ("b", "due_missing", 1.0),
        ("c", "in_last_basket", 1.0),
        ("a", "in_last_basket", 0.0),
        ("f", "in_first_basket", 1.0),
        ("a", "in_first_basket", 0.0),
        ("c", "refunded", 1.0),
        ("a", "refunded", 0.0),
        ("a", "units_per_order", ln(1 + 9 / 2) / 2),
        ("f", "bought_same_season_last_year", 1.0),
        ("a", "bought_same_season_last_year", 0.0),
        ("f", "bought_these_weeks_last_year", 1.0),
        ("a", "bought_these_weeks_last_year", 0.0),
        ("a", "times_fading_60d", ln(0.5 ** (100 / 60) + 0.5 ** (40 / 60) + 1e-3)),
        ("a", "times_fading_180d", ln(fading(100, 40) + 1e-3)),
        ("f", "times_fading_180d", ln(fading(344) + 1e-3)),
        ("a", "times_in_180d", 2.0),
        ("f", "times_in_180d", 0.0),
        ("f", "times_in_365d", 1.0),
        ("b", "in_last_two_baskets", 1.0),
        ("f", "in_last_two_baskets", 0.0),
        ("a", "rank_by_fading_times", 0.0),
        ("b", "rank_by_fading_times", ln(1 + 2)),  # after a, twice, and c, lately
        # what was counted on day 14,980, 20 days ago: u's a, a, b, f and v's e, but neither c nor d
        ("a", "bought_again", (1 + 3) / (1 + 20)),
        ("b", "bought_again", 3 / (1 + 20)),
        ("c", "bought_again", 3 / 20),
        ("a", "buyers", ln(2)),
        ("d", "buyers", 0.0),
        ("d", "price", ln(8)),
        ("e", "price", ln(4)),
        # a and b once shared a basket, of two and one that held them: 1 / sqrt(7 * 6)
        ("b", "near_history", ln(fading(100, 40) / ALL_FADING / 42**0.5 + 1e-4)),
        ("a", "near_history", ln(fading(40) / ALL_FADING / 42**0.5 + 1e-4)),
        ("b", "near_last_basket", ln(1e-4)),
        ("b", "shared_buyers", ln((fading(100, 40) + fading(344)) / ALL_FADING / 6 + 1e-4)),
        # the same as c by its title, which is in the last basket; an item is not compared with itself
        ("a", "text_nearest", 0.9 / 0.82**0.5),
        ("a", "text_to_last_basket", 0.9 / 0.82**0.5),
        ("c", "text_to_last_basket", 0.0),
        ("a", "alike_bought", ln(1 + 1)),
        ("c", "alike_bought", ln(1 + 2)),
        ("d", "alike_bought", 0.0),
        ("d", "text_nearest", 1 / 0.82**0.5 / 2**0.5),
        ("b", "text_to_history", (0.1 / 0.82**0.5 * fading(10) + 0.2 / 1.04**0.5 * fading(344)) / ALL_FADING),
        ("e", "text_to_history", 0.0),
        ("e", "text_nearest", 0.0),
    ],
)
def test_pool_features_by_hand(pool: Pool, item: str, name: str, value: float) -> None:
    assert of(pool, item, name) == pytest.approx(value, abs=1e-5)


def test_price_is_told_against_what_the_user_usually_pays(pool: Pool) -> None:
    # Order lines a, a, a, b, c, f: mean log price (0 + 0 + 0 + ln 2 + ln 4 + ln 4) / 6.
    usual = 5 * ln(2) / 6
    assert of(pool, "d", "price_to_usual") == pytest.approx(ln(8) - usual, abs=1e-5)
    assert of(pool, "e", "price_to_usual") == pytest.approx(ln(4) - usual, abs=1e-5)  # no price: the median, 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("baskets", ln(4)),
        ("distinct_items", ln(4) / 3),
        ("items_per_basket", ln(5 / 4) / 3),
        ("repeat_share", 1 / 4),
        ("days_since_last", ln(1 + 10) / 3),
        ("days_since_first", ln(1 + 344) / 3),
        ("mean_gap", ln(1 + (244 + 60 + 30) / 3) / 3),
        ("overdue", ln((10 + 1) / (334 / 3 + 1))),
        ("refund_share", 1 / 7),
        ("value", ln(1 + 2 * (2 + 4 + 3 + 1 + 1 + 1))),
    ],
)
def test_user_features_by_hand(pool: Pool, name: str, value: float) -> None:
    assert float(pool.user[USER_FEATURES.index(name)]) == pytest.approx(value, abs=1e-5)


def test_what_happened_on_the_decision_day_or_later_changes_nothing() -> None:
    random = np.random.default_rng(5)
    future = [
        Row(user, str(random.choice(ITEM_IDS)), TODAY + int(random.integers(400)), str(behaviour), 50.0, 9.0, second)
        for user in ("u", "v", "v")
        for behaviour in ("order", "refund", "view", "order")
        for second in (0, 1, int(random.integers(DAY)))
    ]
    # Items that are only ever sold later, on the day itself, at its first second.
    future += [Row("v", "b", TODAY, second=0), Row("u", "d", TODAY, second=0), Row("w", "e", TODAY)]
    for hour in (0, 9, 23):
        at = TODAY * DAY + hour * 3600
        before, after = make(ROWS).pool(0, at), make(ROWS + future).pool(0, at)
        assert after.item.tolist() == before.item.tolist()
        assert np.array_equal(after.feature, before.feature)
        assert np.array_equal(after.user, before.user)


def test_the_day_after_they_are_seen() -> None:
    later = [*ROWS, Row("u", "d", TODAY)]
    before, after = make(ROWS).pool(0, (TODAY + 1) * DAY), make(later).pool(0, (TODAY + 1) * DAY)
    assert of(before, "d", "owned") == 0.0
    assert of(after, "d", "owned") == 1.0


def test_no_decision_of_a_longer_log_differs_from_the_log_cut_at_that_day() -> None:
    rows = shop_rows(views=True)
    price = np.linspace(1, 9, ITEMS).astype(np.float32)
    text = unit_rows(np.random.default_rng(1).normal(size=(ITEMS, 4)))
    full = Features(log_of(rows, item_ids()), price, text, PoolSize(4, 6, 6))
    for user, day in ((0, CUT - 200), (7, CUT - 100), (23, CUT - 31)):
        known = [row for row in rows if row.day < day]
        cut = Features(log_of(known, item_ids()), price, text, PoolSize(4, 6, 6))
        assert full.log.users.tolist() == cut.log.users.tolist()
        seen, honest = full.pool(user, day * DAY), cut.pool(user, day * DAY)
        assert seen.item.tolist() == honest.item.tolist()
        assert np.array_equal(seen.feature, honest.feature)
        assert np.array_equal(seen.user, honest.user)


def test_the_same_thing_in_another_colour_is_known_by_its_title() -> None:
    titles = ["christmas mug red", "christmas mug green", "garden hose", "brass door knob", "wool scarf", "oak tray"]
    text = fit_text(None, titles, width=6, seed=0).encode(titles)
    features = Features(log_of([Row("u", "a", TODAY - 30)], ITEM_IDS), PRICE, unit_rows(text))
    pool = features.pool(0, TODAY * DAY, np.arange(len(ITEM_IDS)))
    others = [of(pool, item, "text_to_history") for item in "cdef"]
    assert of(pool, "b", "text_to_history") > max(others) + 0.2
    assert of(pool, "b", "text_nearest") > max(of(pool, item, "text_nearest") for item in "cdef") + 0.2


def test_what_is_bought_in_steady_and_in_fading_habit_differs() -> None:
    """Three purchases each: the ones of last month count, those of last year hardly do."""
    rows = [Row("u", item, TODAY - ago - 10 * k) for item, ago in (("a", 300), ("b", 10)) for k in range(3)]
    pool = make(rows).pool(0, TODAY * DAY)
    for name in ("times_fading_60d", "times_fading_180d", "times_in_180d"):
        assert of(pool, "b", name) > of(pool, "a", name) + 1, name
    assert of(pool, "b", "times_bought") == of(pool, "a", "times_bought")
    assert of(pool, "b", "rank_by_fading_times") < of(pool, "a", "rank_by_fading_times")


def test_a_pool_has_each_item_once_own_ones_first_and_all_candidates() -> None:
    features = make(ROWS, PoolSize(own=2, popular=2, season=1))
    own = sorted(ITEM_IDS.index(i) for i in "abcf")
    pool = features.pool(0, TODAY * DAY, np.array([3, 3, 0, 4, 5]))
    assert len(set(pool.item.tolist())) == len(pool.item)
    assert {3, 0, 4, 5} <= set(pool.item.tolist())
    assert set(pool.item[:2].tolist()) == {0, 2}  # most often bought first, then the most recent
    assert set(pool.item.tolist()) <= {*own, 3, 4}


def test_an_own_item_is_known_as_such_wherever_it_came_into_the_pool() -> None:
    """Beyond the cap on own items, a candidate or bestseller that the user bought is still his own."""
    wide, narrow = make(ROWS), make(ROWS, PoolSize(own=1, popular=6, season=0))
    extra = np.arange(len(ITEM_IDS))
    expected, found = wide.pool(0, TODAY * DAY, extra), narrow.pool(0, TODAY * DAY, extra)
    for item in ITEM_IDS:
        for name in ("owned", "times_bought", "days_since_bought", "in_last_basket"):
            assert of(found, item, name) == pytest.approx(of(expected, item, name)), (item, name)


def test_a_user_without_orders_has_a_pool_of_bestsellers() -> None:
    pool = make([*ROWS, Row("w", "f", TODAY - 1, "view")], PoolSize(4, 2, 0)).pool(2, TODAY * DAY)
    assert pool.item.tolist() == [0, 2]
    assert np.isfinite(pool.feature).all()
    assert np.isfinite(pool.user).all()


def test_numbers_stay_finite_for_a_shop_without_prices() -> None:
    features = Features(log_of(ROWS, ITEM_IDS), np.full(len(ITEM_IDS), np.nan, np.float32), TEXT)
    pool = features.pool(0, TODAY * DAY)
    assert np.isfinite(pool.feature).all()
    assert np.isfinite(pool.user).all()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-7)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_threads_that_look_at_different_days_do_not_disturb_each_other() -> None:
    clock = Clock(make(ROWS).log, keep=1)
    expected = [Clock(make(ROWS).log).at(TODAY - k)[0] for k in range(2)]

    def look(start: int) -> bool:
        days = [(k + start) // 3 % 2 for k in range(3000)]
        return all(np.array_equal(clock.at(TODAY - k)[0], expected[k]) for k in days)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(look, range(4)))


def test_many_pools_are_those_of_each_and_count_the_market_once_for_each_month(monkeypatch: pytest.MonkeyPatch) -> None:
    features, counted = make(ROWS), list[int]()
    count = features.neighbours._count
    monkeypatch.setattr(features.neighbours, "_count", lambda day: counted.append(day) or count(day))
    days = [TODAY - 28 * month for month in range(12)]
    asked = [(0, day * DAY, np.array([k % 6]) if k % 2 else None) for k, day in enumerate([*days, *days, *days])]
    found = features.pools(asked)
    assert len(counted) == 12
    for ask, pool in zip(asked, found, strict=True):
        alone = make(ROWS).pool(*ask)
        assert (pool.item == alone.item).all() and (pool.feature == alone.feature).all()
        assert (pool.user == alone.user).all() and pool.extra == alone.extra
