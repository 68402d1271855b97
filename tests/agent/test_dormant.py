"""Who is dormant, why, and that the future plays no part in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from rolegen_agent.dormant import COLUMNS, RULES, dormant_users
from rolegen_agent.ingest import ingest
from rolegen_agent.project import DormancySettings, open_project, parse_date, write_project_file
from rolegen_errors import ProjectError

AT = datetime(2024, 6, 1, tzinfo=UTC)


def log(*rows: tuple[str, float, str]) -> pl.DataFrame:
    """Events from (user, days before AT, behaviour)."""
    return pl.DataFrame(
        {
            "user": [user for user, _, _ in rows],
            "time": pl.Series([AT - timedelta(days=days) for _, days, _ in rows], dtype=pl.Datetime("us", "UTC")),
            "behaviour": [behaviour for _, _, behaviour in rows],
            "session": [None] * len(rows),
        }
    )


def test_lapsed_buyers() -> None:
    events = log(
        ("lapsed", 200, "order"),
        ("lapsed", 200, "order"),  # two lines of one basket
        ("lapsed", 100, "order"),
        ("lapsed", 5, "view"),
        ("lapsed", 3, "refund"),
        ("edge", 90, "order"),
        ("recent", 200, "order"),
        ("recent", 89.9, "order"),
        ("never", 200, "view"),
        ("came back", 200, "order"),
        ("came back", -1, "order"),
        ("now", 200, "order"),
        ("now", 0, "order"),  # at the decision time itself: not yet known
        ("future", -3, "order"),
    )
    found = dormant_users(events, AT)
    assert tuple(found.columns) == COLUMNS
    assert found["user"].to_list() == ["came back", "edge", "lapsed", "now"]
    lapsed = found.filter(pl.col("user") == "lapsed").row(0, named=True)
    assert lapsed["reason"] == "lapsed buyer: last order 2024-02-22, 100 days before; 2 orders in all"
    assert (lapsed["orders"], lapsed["views"], lapsed["active_days"], lapsed["days"]) == (2, 1, 4, 100)
    assert lapsed["last_order"] == AT - timedelta(days=100)
    assert found.filter(pl.col("user") == "edge")["reason"][0].endswith("; 1 order in all")
    wider = dormant_users(events.lazy(), AT, DormancySettings(days=100))
    assert wider["user"].to_list() == ["came back", "lapsed", "now"]


def test_engaged_non_buyers() -> None:
    def views(user: str, *days: float) -> Iterator[tuple[str, float, str]]:
        return ((user, day, "view") for day in days)

    events = log(
        *views("engaged", 1, 2, 2.1, 3),
        ("engaged", 300, "order"),
        *views("few days", 1, 1.1, 1.2, 1.3),
        *views("few views", 1, 2, 3),
        *views("too old", 40, 41, 42, 43),
        *views("bought", 1, 2, 3, 4),
        ("bought", 1, "order"),
        *views("tomorrow", -1, -2, -3, -4),
    )
    rule = DormancySettings(rule="engaged_non_buyer", window_days=30, min_active_days=3, min_views=4, max_orders=0)
    found = dormant_users(events, AT, rule)
    assert found["user"].to_list() == ["engaged"]
    row = found.row(0, named=True)
    assert row["reason"] == "engaged non-buyer: 3 active days and 4 views in 30 days, no order"
    assert (row["orders"], row["days"]) == (0, 300)
    found = dormant_users(events, AT, rule.model_copy(update={"max_orders": 1}))
    assert found["user"].to_list() == ["bought", "engaged"]
    assert found["reason"][0].endswith("only 1 order")


def test_a_future_event_changes_nothing() -> None:
    past = log(("a", 100, "order"), ("b", 95, "order"), ("c", 10, "order"))
    future = log(("a", -1, "order"), ("b", 0, "view"), ("d", -50, "order"))
    for name in RULES:
        rule = DormancySettings(rule=name, min_active_days=1, min_views=0, max_orders=9)
        assert dormant_users(pl.concat([past, future]), AT, rule).equals(dormant_users(past, AT, rule))


def test_an_own_rule_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, "everybody", lambda past, at, settings: RULES["lapsed_buyer"](past, at, settings))
    events = log(("a", 100, "order"))
    assert dormant_users(events, AT, DormancySettings(rule="everybody")).height == 1
    with pytest.raises(ProjectError, match="lapsed_buyer or engaged_non_buyer"):
        dormant_users(events, AT, DormancySettings(rule="sleepy"))
    with pytest.raises(ProjectError, match="time zone"):
        dormant_users(events, datetime(2024, 6, 1))


def test_the_real_log_has_the_lapsed_buyers_that_it_is_known_for(tmp_path: Path) -> None:
    write_project_file(tmp_path, preset="online_retail_ii")
    project = open_project(tmp_path)
    ingest(project)
    found = dormant_users(pl.scan_parquet(project.events), parse_date("2011-09-01"))
    assert found.height == 3305
    assert found["days"].min() >= 90  # type: ignore[operator]
    assert found["user"].is_sorted()
