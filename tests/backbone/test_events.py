"""What a decision may see of the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rolegen_backbone.events import BEHAVIOURS, DAY, ORDER, Baskets, EventLog, moment, seconds
from rolegen_errors import InputError

from .conftest import TODAY, Row, at_day, frame_of, log_of


def test_a_trajectory_is_in_time_order_and_ends_strictly_before_the_decision() -> None:
    log = log_of(
        [Row("b", "x", 30), Row("b", "y", 10), Row("a", "x", 20), Row("b", "y", 20, second=0), Row("b", "x", 20)],
        ["x", "y"],
    )
    b = log.user_index("b")
    assert b == 1
    assert log.time[log.rows(b, 40 * DAY)].tolist() == [10 * DAY + DAY // 2, 20 * DAY, 20 * DAY + DAY // 2, 30.5 * DAY]
    assert log.event[log.rows(b, 20 * DAY)].tolist() == [1]  # the event at the very second is not before it
    assert log.event[log.rows(b, 20 * DAY + 1)].tolist() == [1, 3]
    assert log.event[log.rows(b, 0)].tolist() == []
    assert log.event[log.rows(0, 40 * DAY)].tolist() == [2]  # never a neighbour's rows


def test_users_are_sorted_as_strings_and_found_by_id() -> None:
    ids = ["10", "9", "Zoe", "anna", "émile", "用户"]
    log = log_of([Row(user, "x", 10 + k) for k, user in enumerate(ids[::-1])], ["x"])
    assert log.users.tolist() == sorted(ids)
    for user in ids:
        index = log.user_index(user)
        assert index is not None
        assert log.users[index] == user
        assert log.user[log.rows(index, 100 * DAY)].tolist() == [index]
    assert [log.user_index(stranger) for stranger in ("", "1", "100", "zzz", "用户们")] == [None] * 5


def test_an_item_that_the_catalogue_lacks_is_named() -> None:
    with pytest.raises(InputError, match=r"catalogue lacks items.*'ghost'") as caught:
        log_of([Row("a", "x", 1), Row("a", "ghost", 2)], ["x"])
    assert "fix:" in str(caught.value)


def test_times_of_any_zone_are_the_same_instants() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert seconds(datetime(2011, 3, 1, 8, tzinfo=tokyo)) == seconds(datetime(2011, 2, 28, 23, tzinfo=UTC))
    assert moment(seconds(at_day(TODAY, 7))) == at_day(TODAY, 7)
    with pytest.raises(InputError, match="no time zone"):
        seconds(datetime(2011, 3, 1))
    rows = [Row("a", "x", TODAY), Row("a", "y", TODAY + 1, second=3 * 3600)]
    here = frame_of(rows)
    there = here.with_columns(pl.col("time").dt.convert_time_zone("America/New_York"))
    logs = [EventLog.from_frame(frame, np.array(["x", "y"])) for frame in (here, there)]
    assert logs[0].time.tolist() == logs[1].time.tolist() == [TODAY * DAY + DAY // 2, (TODAY + 1) * DAY + 3 * 3600]
    assert Baskets.of(logs[1]).day.tolist() == [
        TODAY,
        TODAY + 1,
    ]  # UTC days, though the second is still the first there


def test_reading_a_file_stops_before_the_cut_and_at_unknown_items(tmp_path: Path) -> None:
    rows = [Row("a", "x", 10), Row("a", "new", 11), Row("b", "x", 12, second=0), Row("b", "y", 11, second=DAY - 1)]
    frame_of(rows).write_parquet(tmp_path / "events.parquet")
    log = EventLog.read(tmp_path / "events.parquet", np.array(["x", "y"]), until=at_day(12))
    assert sorted(log.event.tolist()) == [0, 3]


def test_unknown_prices_stay_unknown_and_behaviours_keep_their_order() -> None:
    frame = frame_of([Row("a", "x", k, behaviour) for k, behaviour in enumerate(BEHAVIOURS)])
    frame = frame.with_columns(price=pl.when(pl.col("event") == 1).then(None).otherwise("price"))
    log = EventLog.from_frame(frame, np.array(["x"]))
    assert log.behaviour.tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(log.price).tolist() == [False, True, False, False, False]
    assert BEHAVIOURS[ORDER] == "order"


def test_orders_of_one_day_are_one_basket() -> None:
    log = log_of(
        [
            Row("a", "y", 10, second=100),
            Row("a", "x", 10, second=80_000),
            Row("a", "y", 10, second=50_000),  # the same item twice
            Row("a", "z", 10, "view"),
            Row("a", "x", 10, "refund"),  # a refund takes nothing back: the basket cannot know its future
            Row("b", "x", 11, second=0),
            Row("a", "z", 12, second=0),
            Row("a", "z", 11, second=DAY - 1),
        ],
        ["x", "y", "z"],
    )
    baskets = Baskets.of(log)
    assert len(baskets) == 4
    assert baskets.user.tolist() == [0, 0, 0, 1]
    assert baskets.day.tolist() == [10, 11, 12, 11]
    assert baskets.previous.tolist() == [-1, 10, 11, -1]
    assert [baskets.items_of(b).tolist() for b in range(4)] == [[0, 1], [2], [2], [0]]


def test_a_log_without_orders_has_no_baskets() -> None:
    baskets = Baskets.of(log_of([Row("a", "x", 10, "view")], ["x"]))
    assert len(baskets) == 0
    assert baskets.start.tolist() == [0]


def test_a_basket_refunded_whole_is_no_net_order() -> None:
    """Line by line: a refund counts against the latest earlier order of the item, and only within the days asked for."""
    rows = [
        ("u", "a", 10, "order", 2.0),
        ("u", "b", 10, "order", 1.0),
        ("u", "a", 12, "refund", 2.0),  # b is kept, so day 10 stands
        ("u", "a", 20, "order", 3.0),
        ("u", "a", 22, "refund", 3.0),  # the whole of day 20 came back
        ("u", "a", 30, "order", 3.0),
        ("u", "a", 31, "refund", 1.0),  # two of three are kept
        ("u", "a", 40, "order", 1.0),
        ("u", "a", 90, "refund", 1.0),  # too late to be looked at
    ]
    frame = pl.DataFrame(
        [
            {"event": n, "user": u, "item": i, "time": datetime.fromtimestamp(day * DAY, UTC), "behaviour": b,
             "quantity": q, "price": 1.0}
            for n, (u, i, day, b, q) in enumerate(rows)
        ]
    )  # fmt: skip
    log = EventLog.from_frame(frame, np.array(["a", "b"]))
    assert Baskets.of(log).kept(log, within_days=30).tolist() == [True, False, True, True]
