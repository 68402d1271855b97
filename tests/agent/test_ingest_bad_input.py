"""Bad input: the error names file, column and rows; in quarantine mode no row is lost."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolegen_agent.ingest import IngestReport, ingest
from rolegen_agent.project import Project, open_project, write_project_file
from rolegen_errors import InputError, ProjectError

HEADING = "user,item,time,behaviour,quantity,price,propensity\n"
GOOD = "u1,i1,2024-01-01T00:00:00Z,view,1,2.5,0.5\n"
BAD = {
    ",i1,2024-01-01T00:00:00Z,view,1,2.5,": ("user", "user is missing"),
    "u2, ,2024-01-01T00:00:00Z,view,1,2.5,": ("item", "item is missing"),
    "u3,i1,,view,1,2.5,": ("time", "time is missing"),
    "u4,i1,yesterday,view,1,2.5,": ("time", "time cannot be read"),
    "u5,i1,2024-01-01 00:00:00,view,1,2.5,": ("time", "time has no time zone"),
    "u6,i1,2024-01-01T00:00:00Z,,1,2.5,": ("behaviour", "behaviour is missing"),
    "u7,i1,2024-01-01T00:00:00Z,=cmd(),1,2.5,": ("behaviour", "unknown behaviour"),
    "u8,i1,2024-01-01T00:00:00Z,view,two,2.5,": ("quantity", "quantity is not a number"),
    "u9,i1,2024-01-01T00:00:00Z,view,-1,2.5,": ("quantity", "quantity is negative"),
    "u10,i1,2024-01-01T00:00:00Z,view,0,2.5,": ("quantity", "quantity is zero"),
    "u11,i1,2024-01-01T00:00:00Z,view,nan,2.5,": ("quantity", "quantity is not a number"),
    "u12,i1,2024-01-01T00:00:00Z,view,1,free,": ("price", "price is not a number"),
    "u13,i1,2024-01-01T00:00:00Z,view,1,-2.5,": ("price", "price is negative"),
    "u14,i1,2024-01-01T00:00:00Z,view,1,2.5,1.5": ("propensity", "propensity is not in (0, 1]"),
    "u15,i9,2024-01-01T00:00:00Z,view,1,2.5,": ("item", "item is not in the catalogue"),
}


def make(folder: Path, *, events: str | list[str] | None = "log.csv", **data: Any) -> Project:
    write_project_file(folder, force=True)
    return open_project(folder, overrides={"data": {"events": events, **data}})


def failure(project: Project) -> str:
    with pytest.raises(InputError) as caught:
        ingest(project)
    assert not project.events.exists() and not project.ingest_report.exists()
    assert list(project.store.iterdir()) == []
    return str(caught.value)


@pytest.fixture
def with_catalogue(tmp_path: Path) -> Path:
    (tmp_path / "items.csv").write_text("item,title\ni1,One\ni2,Two\n")
    return tmp_path


@pytest.mark.parametrize(("line", "column", "reason"), [(line, *told) for line, told in BAD.items()])
def test_each_kind_of_bad_row_stops_with_file_column_and_row(
    with_catalogue: Path, line: str, column: str, reason: str
) -> None:
    (with_catalogue / "log.csv").write_text(HEADING + GOOD + line + "\n" + GOOD.replace("u1", "u0"))
    told = failure(make(with_catalogue, catalogue="items.csv"))
    value = dict(zip(HEADING.strip().split(","), line.split(","), strict=True))[column]
    assert reason in told and f"log.csv, column {column}, rows 3 (" in told and value.strip() in told, told
    assert "quarantine" in told


def test_at_most_five_rows_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    lines = (
        [GOOD] * 0
        + [f"u{n},i1,2024-01-01T00:00:00Z,buy,1,1,\n" for n in range(8)]
        + ["u,,2024-01-01T00:00:00Z,view,1,1,\n"]
    )
    (tmp_path / "log.csv").write_text(HEADING + "".join(lines))
    told = failure(make(tmp_path))
    assert "rows 2 ('buy'), 3 ('buy'), 4 ('buy'), 5 ('buy'), 6 ('buy') and 3 more so far" in told
    assert "1 rows that are bad for another reason" in told


def quarantined(project: Project) -> list[dict[str, str]]:
    with project.quarantine.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_quarantine_keeps_every_bad_row_with_its_reason_and_the_rest_goes_on(with_catalogue: Path) -> None:
    lines = [
        GOOD,
        *(f"{line}\n" for line in BAD),
        GOOD.replace("i1", "i2"),
        GOOD,
        ",,,,,,\n",
        GOOD.replace("view", "hover"),
    ]
    (with_catalogue / "log.csv").write_text(HEADING + "".join(lines))
    project = make(with_catalogue, catalogue="items.csv", on_bad_rows="quarantine", behaviours={"hover": "drop"})
    report = ingest(project)
    assert report.rows == len(lines)
    assert report.kept == pl.read_parquet(project.events).height == 2
    assert report.dropped == {"blank row": 1, "left out by [data] behaviours": 1}
    rows = quarantined(project)
    assert sum(report.quarantined.values()) == len(rows) == len(BAD) + 1
    assert report.rows == report.kept + sum(report.dropped.values()) + sum(report.quarantined.values())
    names = HEADING.strip().split(",")
    for number, (row, (line, (column, reason))) in enumerate(zip(rows, BAD.items(), strict=False), start=3):
        assert (row["file"], row["row"], row["column"], row["reason"]) == ("log.csv", str(number), column, reason)
        raw = {name: value or None for name, value in zip(names, line.split(","), strict=True)}
        assert json.loads(row["raw"]) == raw
    assert (rows[-1]["row"], rows[-1]["reason"]) == ("19", "duplicate event")
    # A later clean run takes the quarantine file away.
    (with_catalogue / "log.csv").write_text(HEADING + GOOD)
    assert ingest(project).quarantine is None
    assert not project.quarantine.exists()


_VALUES = st.tuples(
    st.sampled_from(["a", "b", "", " c "]),
    st.sampled_from(["i1", "i2", "", "i9"]),
    st.sampled_from(["2024-01-01T00:00:00Z", "2024-01-01 00:00", "2024-06-01 10:00:00+02:00", "x", ""]),
    st.sampled_from(["view", "order", "refund", "hover", "buy", ""]),
    st.sampled_from(["", "1", "2.5", "-1", "0", "inf", "1e99", "q"]),
    st.sampled_from(["", "1", "-1", "p"]),
    st.sampled_from(["", "0.5", "0", "2"]),
)


@settings(max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(_VALUES, min_size=1, max_size=12), duplicates=st.sampled_from(["error", "drop"]))
def test_rows_read_are_rows_kept_dropped_or_quarantined(
    with_catalogue: Path, rows: list[tuple[str, ...]], duplicates: str
) -> None:
    (with_catalogue / "log.csv").write_text(HEADING + GOOD + "".join(",".join(row) + "\n" for row in rows))
    project = make(
        with_catalogue,
        catalogue="items.csv",
        on_bad_rows="quarantine",
        behaviours={"hover": "drop"},
        duplicates=duplicates,
    )
    report = ingest(project)
    assert report.rows == len(rows) + 1
    assert report.kept == pl.read_parquet(project.events).height
    bad = sum(report.quarantined.values())
    assert bad == (len(quarantined(project)) if bad else 0)
    assert report.rows == report.kept + sum(report.dropped.values()) + bad


def test_a_report_that_loses_a_row_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="accounted"):
        IngestReport.model_validate_json(
            '{"rows": 3, "kept": 1, "dropped": {"a": 1}, "files": [], "users": 1, "items": 1, "events": {},'
            ' "first": "2024-01-01T00:00:00Z", "last": "2024-01-01T00:00:00Z", "seconds": 0, "settings": {}}'
        )


def test_duplicates_stop_are_dropped_or_go_to_quarantine(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADING + GOOD + GOOD)
    (tmp_path / "b.csv").write_text(HEADING + GOOD.replace("u1", "u2") + GOOD)
    told = failure(make(tmp_path, events=["a.csv", "b.csv"]))
    assert "more than once" in told and "a.csv, rows 3" in told and 'duplicates = "drop"' in told
    report = ingest(make(tmp_path, events=["a.csv", "b.csv"], duplicates="drop"))
    assert [file.dropped for file in report.files] == [{"duplicate event": 1}] * 2 and report.kept == 2
    project = make(tmp_path, events=["a.csv", "b.csv"], on_bad_rows="quarantine")
    ingest(project)
    assert [(row["file"], row["row"]) for row in quarantined(project)] == [("a.csv", "3"), ("b.csv", "3")]


def test_a_missing_column_lists_those_present_and_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("User_Id,item,time,behaviour\n1,2,2024-01-01T00:00:00Z,view\n")
    told = failure(make(tmp_path))
    assert "no column 'user' for user; did you mean 'User_Id'" in told
    assert "log.csv, columns present: User_Id, item, time, behaviour" in told
    told = failure(make(tmp_path, columns={"user": "User_Id", "price": "cost"}))
    assert "no column 'cost' for price" in told


def test_an_hour_that_the_clock_skipped_is_bad(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time,behaviour\nu,i,2011-03-27 01:30:00,view\n")
    told = failure(make(tmp_path, timezone="Europe/London"))
    assert "does not exist" in told and "2011-03-27 01:30:00" in told


def test_naive_parquet_times_and_bare_numbers_are_bad(tmp_path: Path) -> None:
    rows = pl.DataFrame({"user": ["u"], "item": ["i"], "behaviour": ["view"], "stamp": [1433221332117]})
    rows.with_columns(time=pl.col("stamp").cast(pl.Datetime("ms"))).write_parquet(tmp_path / "naive.parquet")
    rows.with_columns(time="stamp").write_parquet(tmp_path / "bare.parquet")
    assert "no time zone" in failure(make(tmp_path, events="naive.parquet"))
    assert "time_format" in failure(make(tmp_path, events="bare.parquet"))
    nested = rows.with_columns(time=pl.lit("2024-01-01T00:00:00Z"), user=pl.lit(["u"]))
    nested.write_parquet(tmp_path / "nested.parquet")
    assert "nested.parquet, column user" in failure(make(tmp_path, events="nested.parquet"))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("log.csv", b"", "the file is empty"),
        ("log.csv", HEADING.encode(), "no rows"),
        ("log.parquet", HEADING.encode(), "but it is text"),
        ("log.csv.gz", (HEADING + GOOD).encode(), "but it is text"),
        ("log.csv", gzip.compress((HEADING + GOOD).encode(), mtime=0), "but it is a gzip file"),
        ("log.csv", b"PAR1" + bytes(90), "but it is a Parquet file"),
        ("log.parquet", b"PAR1" + bytes(90), "not a readable Parquet file"),
        ("log.csv", b"PK\x03\x04" + bytes(90), "zip or Excel"),
        ("log.csv", bytes(range(256)), "binary"),
        ("log.csv", (HEADING + GOOD).encode("utf-16"), "UTF-16"),
        ("log.csv", HEADING.encode() + "é".encode("latin-1") + GOOD.encode(), "encoding"),
        ("log.csv.gz", gzip.compress((HEADING + GOOD * 9000).encode(), mtime=0)[:-12], "log.csv.gz"),
        ("log.csv.gz", gzip.compress(bytes(range(256)), mtime=0), "binary"),
        ("log.csv.gz", b"\x1f\x8b" + bytes(30), "gzip"),
        ("log.csv", (HEADING + GOOD + GOOD.strip() + ",x,y\n").encode(), "rows 3"),
        ("log.csv", (HEADING + 'u,"i1,2024').encode(), "log.csv"),
        ("log.xlsx", b"x", "unknown kind"),
    ],
)
def test_a_file_that_is_not_what_it_must_be(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    message = failure(make(tmp_path, events=name))
    assert told in message and name in message, message


def test_paths_that_lead_to_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    assert "folder, not a file" in failure(make(tmp_path, events="folder.csv"))
    assert "no such file" in failure(make(tmp_path, events="*.nothing"))
    with pytest.raises(ProjectError, match="names no event log"):
        ingest(make(tmp_path, events=None))


def test_a_log_without_any_event_of_a_user(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEADING + GOOD.replace("view", "hover"))
    told = failure(make(tmp_path, behaviours={"hover": "drop"}))
    assert "no row of the event log is an event" in told and "1 left out by" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("item,title\ni1,a\ni1,b\n", "listed more than once (2 rows)"),
        ("item,title\n,a\n", "rows 2 (None)"),
        ("item,price\ni1,-1\n", "column price, rows 2 ('-1')"),
        ("item,available\ni1,perhaps\n", "column available, rows 2 ('perhaps')"),
        ("Item,title\ni1,a\n", "did you mean 'Item'"),
        ("item,title\n", "no item"),
    ],
)
def test_a_bad_catalogue(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "log.csv").write_text(HEADING + GOOD)
    (tmp_path / "items.csv").write_text(text)
    message = failure(make(tmp_path, catalogue="items.csv"))
    assert told in message and "items.csv" in message, message
