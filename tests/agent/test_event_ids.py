"""Ids of events depend on the events alone: not on the rows around them, the machine or the versions of libraries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rolegen_agent import RoleGen
from rolegen_agent.ingest import ingest
from rolegen_agent.ingest.event_ids import EventIds
from rolegen_agent.project import open_project, write_project_file
from rolegen_errors import ProjectError

Row = tuple[str, str, str, str, str, str, str]
HEADING = "user,item,time,behaviour,quantity,price,session\n"
ROWS: list[Row] = [
    ("ann", "i1", "2024-03-01T09:00:00Z", "view", "", "", "s1"),
    ("ann", "i2", "2024-03-01T09:00:00Z", "order", "2", "4.5", "s1"),
    ("bob", "i1", "2024-03-02T09:00:00Z", "order", "1", "4.5", ""),
    ("žofie 💥", "i2", "2024-03-03T09:00:00.000001Z", "refund", "2", "0", ""),
]


def ids(folder: Path, rows: Sequence[Row]) -> dict[tuple[str, str, str], int]:
    folder.mkdir(exist_ok=True)
    (folder / "log.csv").write_text(HEADING + "".join(",".join(row) + "\n" for row in rows), "utf-8")
    write_project_file(folder, events="log.csv", force=True)
    project = open_project(folder)
    ingest(project)
    events = pl.read_parquet(project.events)
    assert events["event"].n_unique() == events.height
    keys = zip(*(events[name].to_list() for name in ("user", "item", "behaviour")), strict=True)
    return dict(zip(keys, events["event"].to_list(), strict=True))


def test_ids_are_what_they_were_on_every_machine(tmp_path: Path) -> None:
    assert ids(tmp_path, ROWS) == {
        ("ann", "i1", "view"): 100309587178865204,
        ("ann", "i2", "order"): 209176128105641261,
        ("bob", "i1", "order"): 9122342757539088864,
        ("žofie 💥", "i2", "refund"): 2996114997715044252,
    }


def test_a_longer_log_in_another_order_keeps_the_ids(tmp_path: Path) -> None:
    before = ids(tmp_path / "short", ROWS)
    more: list[Row] = [
        ("aaron", "i0", "2024-01-01T09:00:00Z", "order", "1", "1", "s0"),
        ("ann", "i0", "2024-02-01T09:00:00Z", "view", "1", "1", "s9"),
        *reversed(ROWS),
        ("ann", "i1", "2025-02-01T09:00:00Z", "order", "1", "1", "s1"),
    ]
    assert before.items() <= ids(tmp_path / "long", more).items()


@pytest.mark.parametrize(
    ("column", "value"),
    [(0, "bea"), (1, "i9"), (2, "2024-03-01T09:00:00.000001Z"), (3, "cart"), (4, "3"), (5, "4.51"), (5, ""), (6, "")],
)
def test_each_part_of_an_event_shapes_its_id(tmp_path: Path, column: int, value: str) -> None:
    changed = tuple(value if place == column else text for place, text in enumerate(ROWS[1]))
    assert set(ids(tmp_path / "a", [ROWS[1]]).values()).isdisjoint(ids(tmp_path / "b", [changed]).values())


def frame(events: Sequence[tuple[int, int, int]]) -> pl.DataFrame:
    """(user, item, second), as the spool holds events."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "user": pl.Series([user for user, _, _ in events], dtype=pl.UInt32),
            "item": pl.Series([item for _, item, _ in events], dtype=pl.UInt32),
            "time": pl.Series([start + timedelta(seconds=at) for _, _, at in events], dtype=pl.Datetime("us", "UTC")),
            "behaviour": pl.Series([3] * len(events), dtype=pl.UInt8),
            "quantity": pl.Series([1.0] * len(events), dtype=pl.Float32),
            "price": pl.Series([None] * len(events), dtype=pl.Float32),
            "session": pl.Series([None] * len(events), dtype=pl.UInt32),
        }
    )


def test_collisions_within_a_user_are_resolved_and_never_move_what_came_before() -> None:
    names = pl.Series([str(number) for number in range(50)])
    events = [(user, at % 7, at) for user in range(4) for at in range(200)]  # 800 events, and 1024 ids of ten bits
    events += [(4, 1, 5)] * 20  # equal in all
    few = EventIds(names, names, pl.Series([], dtype=pl.String), bits=10)
    made = few.of(frame(events))
    assert made.min() >= 0 and made.max() < 2**10
    by_user = pl.DataFrame({"user": [user for user, _, _ in events], "id": made})
    assert by_user.is_unique().all(), "one user's ids are all different"
    assert by_user["id"].n_unique() < by_user.height, "so few bits do collide"
    earlier = [event for event in events if event[2] < 120]
    kept = [place for place, event in enumerate(events) if event[2] < 120]
    assert np.array_equal(few.of(frame(earlier)), made[kept])


@pytest.mark.parametrize(("format", "advice"), [(None, "run `rolegen ingest` again"), (3, "upgrade rolegen-agent")])
def test_a_store_of_another_format_is_refused_with_the_way_out(tmp_path: Path, format: int | None, advice: str) -> None:
    ids(tmp_path, ROWS)
    with RoleGen.open(tmp_path) as shop:
        assert shop.dormant("2025-01-01").height
        report = json.loads(shop.project.ingest_report.read_text("utf-8"))
        del report["format"]  # as stores were that numbered events by row
        changed = report if format is None else {**report, "format": format}
        shop.project.ingest_report.write_text(json.dumps(changed), "utf-8")
        with pytest.raises(ProjectError, match=advice):
            shop.dormant("2025-01-01")
