"""Ingestion of good input: what ends in the store, whatever the format, the layout or the order of the rows."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from rolegen_agent.ingest import IngestReport, bundled_log, ingest
from rolegen_agent.ingest.layouts import LAYOUTS
from rolegen_agent.ingest.rows import BEHAVIOURS
from rolegen_agent.ingest.spool import Spool, place
from rolegen_agent.project import Project, open_project, write_project_file

HEADING = "user,item,time,behaviour,quantity,price,session,title\n"
LOG = HEADING + (
    "bob,i2,2024-03-02T10:00:00Z,order,2,5.00,s2,\n"
    "ann,i1,2024-03-01 09:00:00+01:00,view,,,s1,\n"
    "bob,i1,2024-03-01T08:00:00Z,cart,1,4.00,s2, First title \n"
    "ann,i1,2024-03-01T09:30:00Z,order,3,4.50,s1,Second title\n"
    "ann,i2,2024-03-01T09:30:00Z,order,1,6.00,s1,Other\n"
    "ann,i1,2024-03-09 09:30:00 UTC,refund,1,4.50,s1,\n"
)


def make(folder: Path, **data: Any) -> Project:
    write_project_file(folder, force=True, **{key: data.pop(key) for key in list(data) if key in _WRITABLE})
    return open_project(folder, overrides={"data": data})


_WRITABLE = {"preset", "events", "catalogue", "columns", "behaviours", "timezone"}


def run(folder: Path, text: str, **data: Any) -> tuple[IngestReport, pl.DataFrame, pl.DataFrame]:
    (folder / "log.csv").write_text(text, "utf-8")
    project = make(folder, events="log.csv", **data)
    return ingest(project), pl.read_parquet(project.events), pl.read_parquet(project.items)


def test_the_store_has_the_promised_columns_order_and_values(tmp_path: Path) -> None:
    report, events, items = run(tmp_path, LOG)
    assert dict(events.schema) == (
        {
            "event": pl.Int64,
            "user": pl.String,
            "item": pl.String,
            "time": pl.Datetime("us", "UTC"),
            "behaviour": pl.String,
            "quantity": pl.Float32,
            "price": pl.Float32,
            "session": pl.String,
            "propensity": pl.Float32,
        }
    )
    assert events.select("user", "item", "behaviour", "quantity").rows() == [
        ("ann", "i1", "view", 1.0),  # an empty quantity is one
        ("ann", "i1", "order", 3.0),
        ("ann", "i2", "order", 1.0),  # same time: as in the file
        ("ann", "i1", "refund", 1.0),
        ("bob", "i1", "cart", 1.0),
        ("bob", "i2", "order", 2.0),
    ]
    assert events["time"][0] == datetime(2024, 3, 1, 8, tzinfo=UTC)
    assert items.columns == ["item", "title", "category", "price", "available", "first_seen"]
    assert items.rows() == [
        ("i1", "First title", None, 4.5, True, datetime(2024, 3, 1, 8, tzinfo=UTC)),
        ("i2", "Other", None, 5.5, True, datetime(2024, 3, 1, 9, 30, tzinfo=UTC)),
    ]
    assert (report.rows, report.kept, report.users, report.items) == (6, 6, 2, 2)
    assert report.events == {"expose": 0, "view": 1, "cart": 1, "order": 3, "refund": 1}
    assert (report.first, report.last) == (events["time"].min(), events["time"].max())


def test_the_report_is_stored(tmp_path: Path) -> None:
    report, _, _ = run(tmp_path, LOG)
    stored = json.loads((tmp_path / ".rolegen" / "ingest.json").read_text("utf-8"))
    assert IngestReport.model_validate(stored) == report
    assert stored["settings"]["events"] == "log.csv"
    assert [file["file"] for file in stored["files"]] == ["log.csv"]


def test_a_later_title_category_or_price_does_not_reach_the_item(tmp_path: Path) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [
        (0, "view", 99, "", ""),
        (10, "order", 4, "", "c1"),
        (39.9, "order", 6, "t1", "c2"),
        (40, "order", 50, "t2", ""),
    ]
    text = "user,item,time,behaviour,price,title,category\n" + "".join(
        f"u,i,{(start + timedelta(days=day)).isoformat()},{behaviour},{price},{title},{category}\n"
        for day, behaviour, price, title, category in reversed(rows)
    )
    _, _, items = run(tmp_path, text)
    # The median of the orders of day 10 to 40: not the price of the view, not that of day 40.
    assert items.select("title", "category", "price").rows() == [("t1", "c1", 5.0)]


def test_an_item_that_never_sold_takes_the_price_it_was_shown_at(tmp_path: Path) -> None:
    text = "user,item,time,behaviour,price\nu,i,2024-01-01,view,3\nu,i,2024-01-02,view,5\nu,i,2024-03-02,view,50\n"
    assert run(tmp_path, text, timezone="UTC")[2]["price"].to_list() == [4.0]


@pytest.mark.parametrize(
    "kind", ["csv.gz", "parquet", "semicolon", "bom", "crlf", "latin-1", "latin-1.gz", "two files"]
)
def test_every_format_gives_the_same_store(tmp_path: Path, kind: str) -> None:
    text = LOG.replace("Other", "Café")
    _, events, items = run(tmp_path, text)
    folder = tmp_path / "other"
    folder.mkdir()
    encoding, names = "utf-8", ["log.csv"]
    if kind == "csv.gz":
        names = ["log.csv.gz"]
        (folder / names[0]).write_bytes(gzip.compress(text.encode()))
    elif kind == "parquet":
        names = ["log.parquet"]
        pl.read_csv(text.encode()).write_parquet(folder / names[0])
    elif kind.startswith("latin-1"):
        encoding, names = "latin-1", ["log.csv.gz" if kind.endswith("gz") else "log.csv"]
        raw = text.encode("latin-1")
        (folder / names[0]).write_bytes(gzip.compress(raw) if kind.endswith("gz") else raw)
    elif kind == "two files":
        names = ["*.csv"]
        lines = text.splitlines(keepends=True)
        (folder / "a.csv").write_text("".join(lines[:3]), "utf-8")
        (folder / "b.csv").write_text("".join(lines[:1] + lines[3:]), "utf-8")
    else:
        changed = {"semicolon": text.replace(",", ";"), "bom": "\ufeff" + text, "crlf": text.replace("\n", "\r\n")}[
            kind
        ]
        (folder / "log.csv").write_bytes(changed.encode("utf-8"))
    project = make(folder, events=names, encoding=encoding)
    report = ingest(project)
    assert pl.read_parquet(project.events).equals(events)
    assert pl.read_parquet(project.items).equals(items)
    assert sum(file.rows for file in report.files) == report.rows == 6


def test_own_columns_behaviours_clock_and_constant_behaviour(tmp_path: Path) -> None:
    text = "uid;sku;when;what\n7;A;01.07.2024 12:00;bought\n7;A;31.12.2024 12:00;hovered\n"
    columns = {"user": "uid", "item": "sku", "time": "when", "behaviour": "what"}
    report, events, _ = run(
        tmp_path,
        text,
        columns=columns,
        behaviours={"bought": "order", "hovered": "drop"},
        timezone="Europe/Berlin",
        time_format="%d.%m.%Y %H:%M",
    )
    assert events.select("user", "time", "behaviour").rows() == [("7", datetime(2024, 7, 1, 10, tzinfo=UTC), "order")]
    assert report.dropped == {"left out by [data] behaviours": 1}
    _, events, _ = run(tmp_path, "user,item,time\nu,i,2024-07-01T00:00:00Z\n", behaviour="order")
    assert events["behaviour"].to_list() == ["order"]


@pytest.mark.parametrize(
    ("name", "days"),
    [
        ("Europe/London", [datetime(2011, 3, 27), datetime(2011, 10, 30)]),
        ("America/St_Johns", [datetime(2010, 3, 14), datetime(2010, 11, 6)]),  # changed its clocks at 00:01
        ("Australia/Lord_Howe", [datetime(2020, 4, 5), datetime(2020, 10, 4)]),  # by half an hour
    ],
)
def test_local_times_follow_the_clock_changes(tmp_path: Path, name: str, days: list[datetime]) -> None:
    """Against zoneinfo, every minute around the changes; of a repeated hour it is the first pass."""
    zone = ZoneInfo(name)
    moments = [day + timedelta(minutes=step) for day in days for step in range(2 * 1440)]
    expected = {moment: moment.replace(tzinfo=zone).astimezone(UTC) for moment in moments}
    kept = {moment for moment in moments if expected[moment].astimezone(zone).replace(tzinfo=None) == moment}
    assert 0 < len(moments) - len(kept) <= 60  # those that the clock skipped
    text = "user,item,time,behaviour\n" + "".join(f"u,i{n},{moment},view\n" for n, moment in enumerate(moments))
    report, events, _ = run(tmp_path, text, timezone=name, on_bad_rows="quarantine")
    found = dict(events.select("item", "time").iter_rows())
    assert found == {f"i{n}": expected[moment] for n, moment in enumerate(moments) if moment in kept}
    assert list(report.quarantined.values()) == [len(moments) - len(kept)]


def test_parquet_types_are_read_as_they_are(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user": [12.0, 13.0],
            "item": [5, 6],
            "time": pl.Series([datetime(2024, 7, 1), datetime(2024, 7, 2)]).dt.replace_time_zone("America/New_York"),
            "behaviour": pl.Series(["view", "order"], dtype=pl.Categorical),
            "quantity": [1, 2],
            "propensity": [0.5, None],
        }
    )
    frame.write_parquet(tmp_path / "log.parquet")
    project = make(tmp_path, events="log.parquet")
    ingest(project)
    assert pl.read_parquet(project.events).select("user", "item", "time", "quantity", "propensity").rows() == [
        ("12", "5", datetime(2024, 7, 1, 4, tzinfo=UTC), 1.0, 0.5),
        ("13", "6", datetime(2024, 7, 2, 4, tzinfo=UTC), 2.0, None),
    ]


def test_a_catalogue_adds_cold_items_and_wins_over_the_log(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "sku,title,category,price,available\ni1,Cup,kitchen,9.5,no\ni2,,,,\ni3,Jug,,,yes\n"
    )
    _, _, items = run(tmp_path, LOG, catalogue="items.csv", catalogue_columns={"item": "sku"})
    seen = datetime(2024, 3, 1, 9, 30, tzinfo=UTC)
    assert items.rows() == [
        ("i1", "Cup", "kitchen", 9.5, False, datetime(2024, 3, 1, 8, tzinfo=UTC)),
        ("i2", "Other", None, 5.5, True, seen),
        ("i3", "Jug", None, None, True, None),
    ]


@pytest.mark.parametrize(
    "heading",
    [
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
        "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country",
    ],
)
@pytest.mark.parametrize("date", ["2010-07-01 12:00:00", "7/1/2010 12:00"])
def test_online_retail_ii(tmp_path: Path, heading: str, date: str) -> None:
    lines = [
        f"1,85123A,HEART,6,{date},2.55,17850.0,UK",
        f"1,85123A,HEART,6,{date},2.55,17850.0,UK",
        f"C2,85123A,HEART,-2,{date},2.55,17850.0,UK",
        f"3,POST,POSTAGE,1,{date},18,17850.0,UK",
        f"4,15056BL,UMBRELLA,1,{date},5.95,,UK",
        f"5,15056BL,UMBRELLA,-10,{date},5.95,17850.0,UK",
        f"6,15056BL,UMBRELLA,1,{date},0,17850.0,UK",
    ]
    report, events, items = run(tmp_path, "\n".join([heading, *lines]) + "\n", preset="online_retail_ii")
    noon = datetime(2010, 7, 1, 11, tzinfo=UTC)  # London is an hour ahead in summer
    assert events.select("user", "item", "time", "behaviour", "quantity", "session").rows() == [
        ("17850", "85123A", noon, "order", 6.0, "1"),
        ("17850", "85123A", noon, "refund", 2.0, "C2"),
    ]
    assert items.select("item", "title").rows() == [("85123A", "HEART")]
    assert report.dropped == {
        "duplicate event": 1, "not an item": 1, "no user": 1, "stock adjustment": 1, "no price": 1
    }  # fmt: skip
    assert not report.quarantined


def test_rees46(tmp_path: Path) -> None:
    text = (
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        "2019-10-01 00:00:00 UTC,view,44,2103,,shiseido,35.79,5,s\n"
        "2019-10-01 00:00:01 UTC,cart,45,2104,appliances.kitchen,aqua,33.20,5,s\n"
        "2019-10-01 00:00:02 UTC,remove_from_cart,45,2104,appliances.kitchen,aqua,33.20,5,s\n"
        "2019-10-01 00:00:03 UTC,purchase,46,2104,appliances.kitchen,,1.00,5,s\n"
    )
    report, events, items = run(tmp_path, text, preset="rees46")
    assert events["behaviour"].to_list() == ["view", "cart", "order"]
    assert items.select("title", "category").rows() == [
        ("shiseido", None),
        ("aqua appliances.kitchen", "appliances.kitchen"),
        ("appliances.kitchen", "appliances.kitchen"),
    ]
    assert report.dropped == {"left out by [data] behaviours": 1}


def test_retailrocket(tmp_path: Path) -> None:
    text = (
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n1433221332999,257597,addtocart,355908,\n"
        "1433221333001,257597,transaction,355908,4000\n"
    )
    _, events, _ = run(tmp_path, text, preset="retailrocket")
    assert events["behaviour"].to_list() == ["view", "cart", "order"]
    assert events["time"][0] == datetime(2015, 6, 2, 5, 2, 12, 117000, tzinfo=UTC)
    assert events["session"].to_list() == [None, None, "4000"]


def test_a_preset_column_can_be_replaced(tmp_path: Path) -> None:
    text = "timestamp,who,event,itemid,transactionid\n1433221332117,ann,view,1,\n"
    _, events, _ = run(tmp_path, text, preset="retailrocket", columns={"user": "who"})
    assert events["user"].to_list() == ["ann"]


def test_layouts_speak_the_words_of_the_loop() -> None:
    for layout in LAYOUTS.values():
        assert set(layout.behaviours.values()) <= {*BEHAVIOURS, "drop"}


def test_the_bundled_log_ships_with_its_attribution_and_is_what_it_says(tmp_path: Path) -> None:
    log = bundled_log()
    attribution = (log.parent / "ATTRIBUTION.md").read_text("utf-8")
    assert "10.24432/C5CG6D" in attribution and "CC BY 4.0" in attribution
    assert log.stat().st_size <= 6_000_000
    calls: list[tuple[str, int, int]] = []
    project = make(tmp_path, preset="online_retail_ii")
    report = ingest(project, progress=lambda *call: calls.append(call))
    assert (report.rows, report.kept, report.users, report.items) == (1_044_847, 794_161, 5_875, 4_633)
    assert report.dropped == {"no user": 235_287, "not an item": 3_672, "no price": 60, "duplicate event": 11_667}
    assert report.events["refund"] == 17_586
    assert ("read", 1_044_847, 1_044_847) in calls and calls[-1][0] == "sort"
    events = pl.read_parquet(project.events)
    assert events["event"].n_unique() == events.height and (events["event"] >= 0).all()
    assert events.select(pl.struct("user", "time").is_sorted()).item()
    again = pl.read_parquet(project.events), pl.read_parquet(project.items)
    ingest(project)
    assert pl.read_parquet(project.events).equals(again[0]) and pl.read_parquet(project.items).equals(again[1])


@pytest.mark.parametrize("range_rows", [1, 7, 10_000])
def test_ranges_from_disk_equal_one_sort_in_memory(tmp_path: Path, range_rows: int) -> None:
    count = 200
    kept = pl.DataFrame(
        {
            "row": pl.int_range(count, eager=True),
            "user": [f"u{n * 7 % 23}" for n in range(count)],
            "item": [f"i{n % 11}" for n in range(count)],
            "time": pl.Series([datetime(2024, 1, 1) + timedelta(hours=n * 13 % 29) for n in range(count)]),
            "behaviour": pl.Series(["view"] * count, dtype=pl.Enum(BEHAVIOURS)),
            "quantity": pl.Series([1.0] * count, dtype=pl.Float32),
            "price": pl.Series([1.0] * count, dtype=pl.Float32),
            "session": [None if n % 3 else f"s{n % 5}" for n in range(count)],
            "propensity": pl.Series([None] * count, dtype=pl.Float32),
        }
    ).with_columns(pl.col("time").dt.cast_time_unit("us").dt.replace_time_zone("UTC"))
    spool = Spool(tmp_path, range_rows=range_rows)
    for start in range(0, count, 9):
        spool.add(kept.slice(start, 9).with_columns(place(0).alias("place")))
    ranges = [(spool.decode(part.events), part.duplicates) for part in spool.sorted_ranges()]
    said = ["user", "item", "time", "behaviour", "quantity", "price", "session", "propensity"]
    expected = kept.with_columns(pl.col("behaviour").cast(pl.String)).unique(said, keep="first", maintain_order=True)
    found = pl.concat(events for events, _ in ranges)
    assert found.select(said).equals(expected.sort("user", "time", "row").select(said))
    assert sum(len(repeated) for _, repeated in ranges) == count - expected.height
    assert sum(events["user"].n_unique() for events, _ in ranges) == 23  # no user is split


def test_an_interrupted_ingestion_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    _, events, _ = run(tmp_path, LOG)
    project = open_project(tmp_path)
    before = {path.name: path.read_bytes() for path in project.store.iterdir()}
    (tmp_path / "log.csv").write_text(LOG.replace("ann", "zoe"), "utf-8")

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "sort":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(project, progress=interrupt)
    assert {path.name: path.read_bytes() for path in project.store.iterdir()} == before
    ingest(project)
    assert set(pl.read_parquet(project.events)["user"]) == {"bob", "zoe"}
    assert sorted(path.name for path in project.store.iterdir()) == sorted(before)
    assert set(events["user"]) == {"ann", "bob"}
