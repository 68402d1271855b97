"""Outcome files: CSV, JSON lines or Parquet, one report a row. A row that cannot be read is a row with a problem, and the next one is read.

In CSV a list is a JSON array (``["22423", "85123A"]``) or ids with ``;`` between them, and an empty cell says nothing.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rolegen_errors import InputError
from rolegen_graphs.reports import SHAPE, OutcomeReport

from .recording import Row

COLUMNS = tuple(OutcomeReport.model_fields)
LISTS = ("items", "refunded_items", "engaged")
LINE_BYTES = 1_000_000
"""a longer line is no report"""
LONGEST_ROW = "the row is longer than a report can be"


def read_reports(file: Path) -> Iterator[Row]:
    """The rows of an outcome file, in order.

    Raises:
        InputError: there is no such file, it is of no known kind, or its columns are not those of a report.
    """
    kinds = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    if file.suffix.lower() not in kinds:
        raise InputError(
            f"{file.suffix or 'a file without ending'} is no kind of outcome file",
            where=str(file),
            fix=f"give one that ends in {', '.join(kinds)}",
        )
    if not file.is_file():
        raise InputError("there is no such file", where=str(file), fix="check the path")
    return kinds[file.suffix.lower()](file)


def _csv(file: Path) -> Iterator[Row]:
    # Each line is read by itself: a quote that is never closed must cost its own row, not all that follow.
    lines = _lines(file)
    header: list[str] = []
    rows = 0
    for _, line in lines:
        header = [name.strip() for name in _cells(line or b"")]
        break
    _check_columns(header, file)
    for _, line in lines:
        rows += 1
        if line is None:
            yield Row(str(file), rows, None, LONGEST_ROW)
            continue
        try:
            cells = _cells(line)
            if len(cells) != len(header):
                yield Row(str(file), rows, None, f"{len(cells)} cells under {len(header)} columns")
                continue
            given = {name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()}
            read = {name: _list(cell) if name in LISTS else cell for name, cell in given.items()}
        except csv.Error as error:
            yield Row(str(file), rows, None, f"no CSV: {error}")
        except (ValueError, RecursionError):
            yield Row(str(file), rows, None, "a list is no JSON array")
        else:
            yield Row(str(file), rows, read)


def _cells(line: bytes) -> list[str]:
    # Bytes that are no UTF-8 must cost their own row only.
    text = line.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape").rstrip("\r\n")
    return next(csv.reader([text], strict=True), [])


def _lines(file: Path) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a file that hold anything, numbered from 1; None for one that is too long."""
    with file.open("rb") as stream:
        number = 0
        while line := stream.readline(LINE_BYTES):
            number += 1
            if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                while (more := stream.readline(LINE_BYTES)) and not more.endswith(b"\n"):
                    pass
                yield number, None
            elif line.strip():
                yield number, line


def _list(cell: str) -> object:
    if cell.lstrip().startswith("["):
        return json.loads(cell)
    return [part.strip() for part in cell.split(";") if part.strip()]


def _json_lines(file: Path) -> Iterator[Row]:
    for number, line in _lines(file):
        if line is None:
            yield Row(str(file), number, None, LONGEST_ROW)
            continue
        try:
            given = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Row(str(file), number, None, f"no JSON: {str(error)[:100]}")
            continue
        if isinstance(given, Mapping):
            yield Row(str(file), number, {name: value for name, value in given.items() if value is not None})
        else:
            yield Row(str(file), number, None, "no JSON object")


def _parquet(file: Path) -> Iterator[Row]:
    import polars as pl

    try:
        table = pl.scan_parquet(file)
        names, rows = table.collect_schema().names(), table.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"the file is no Parquet: {str(error)[:200]}", where=str(file)) from error
    _check_columns(names, file)
    for low in range(0, rows, 10_000):
        for number, row in enumerate(table.slice(low, 10_000).collect().iter_rows(named=True), start=low + 1):
            yield Row(str(file), number, {name: value for name, value in row.items() if value is not None})


def _check_columns(names: list[str], file: Path) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    twice = len(set(names)) != len(names)
    if unknown or twice or "user" not in names:
        told = f"unknown columns {', '.join(name[:40] for name in unknown[:5])}" if unknown else "no column user"
        raise InputError(
            f"these are not the columns of an outcome file: {'a column stands twice' if twice else told}",
            where=str(file),
            fix=f"{SHAPE}; leave other columns out",
        )
