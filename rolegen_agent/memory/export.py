"""The whole memory as files for other programs: Parquet or JSON lines, one folder for each table, in one state of the database.

An export is written aside and moved into place when it is whole, so that a folder that is there is complete. Nothing of
it is secret in itself: no key ever reaches the memory; but it holds people's histories, and deleting it is yours.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import BigInteger, Boolean, Column, Connection, Table, Text, cast, func, select

from rolegen_errors import InputError

from .columns import Document, Real, SafeText, UtcTime
from .models import Base
from .schema import REVISIONS
from .store import Store, now

Format = Literal["parquet", "jsonl"]
_PART_ROWS = 50_000
_TYPES: tuple[tuple[type[Any], str], ...] = (
    (SafeText, "text"),
    (BigInteger, "integer"),
    (Real, "real"),
    (UtcTime, "time"),
    (Document, "json"),
    (Boolean, "boolean"),
)
_MEANING = {
    "text": "text; in Parquet a NUL, a lone surrogate or a DLE stands as DLE and four hexadecimal digits",
    "integer": "64-bit integer",
    "real": "double",
    "time": "instant in UTC, to the microsecond",
    "json": "JSON: nested in JSON lines, as text in Parquet",
    "boolean": "true or false",
}


class ExportStore(Store):
    """The part of the memory that writes itself out."""

    def export(
        self,
        folder: Path,
        format: Format,
        *,
        progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    ) -> dict[str, int]:
        """Write all tables below ``folder``, which must not exist or be empty; returns rows by table.

        Each table is a folder of parts ``part-00000.parquet`` (or ``.jsonl``) in the order of its key; a table without rows has
        none. ``schema.json`` describes tables, columns and keys.

        Args:
            progress: called with table, rows done and rows in all.
        """
        if format not in ("parquet", "jsonl"):
            raise InputError(f"the format {format!r} is not known", fix="choose parquet or jsonl")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError("the folder of the export is not empty", where=str(folder), fix="name a new folder")
        scratch = folder.with_name(f".{folder.name}.part")
        try:
            shutil.rmtree(scratch, ignore_errors=True)  # of an export that was killed
            scratch.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"the export cannot be written: {error.strerror}", where=str(folder)) from error
        try:
            counts = self._write_tables(scratch, format, progress)
            about = {"schema": REVISIONS[-1], "format": format, "exported_at": now().isoformat(), "rows": counts}
            described = {
                **about,
                "types": _MEANING,
                "tables": [describe(table) for table in Base.metadata.sorted_tables],
            }
            (scratch / "schema.json").write_text(json.dumps(described, indent=2) + "\n", "utf-8")
            if folder.exists():
                folder.rmdir()
            scratch.rename(folder)
        except OSError as error:
            raise InputError(f"the export cannot be written: {error.strerror}", where=str(folder)) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # after a failure; a whole one has another name by then
        return counts

    def _write_tables(self, folder: Path, format: Format, progress: Callable[[str, int, int], None]) -> dict[str, int]:
        write = _write_parquet if format == "parquet" else _write_jsonl
        counts = {}
        with self._read() as connection:  # one state of the database, whoever writes meanwhile
            for table in Base.metadata.sorted_tables:
                total = connection.execute(select(func.count()).select_from(table)).scalar_one()
                done = 0
                for number, rows in enumerate(_parts(connection, table, raw=format == "parquet")):
                    file = folder / table.name / f"part-{number:05}.{format}"
                    file.parent.mkdir(exist_ok=True)
                    write(file, table, rows)
                    done += len(rows)
                    progress(table.name, done, total)
                counts[table.name] = done
        return counts


def describe(table: Table) -> dict[str, Any]:
    """What a reader must know of a table: its columns with types, its key, and what it hangs below."""
    parents = {
        column: element.target_fullname
        for constraint in table.foreign_key_constraints
        for column, element in zip(constraint.column_keys, constraint.elements, strict=True)
    }
    return {
        "name": table.name,
        "key": [column.name for column in table.primary_key.columns],
        "columns": [
            {
                "name": column.name,
                "type": kind(column),
                "nullable": bool(column.nullable),
                **({"references": parents[column.name]} if column.name in parents else {}),
            }
            for column in table.columns
        ],
    }


def kind(column: Column[Any]) -> str:
    """One of the six types of an export."""
    return next(name for type_, name in _TYPES if isinstance(column.type, type_))


def _parts(connection: Connection, table: Table, *, raw: bool) -> Iterator[Sequence[Sequence[Any]]]:
    """Rows in the order of the key, some ten thousand at a time; JSON as stored, and with ``raw`` text too."""
    plain = ("json", "text") if raw else ("json",)
    wanted = [cast(column, Text) if kind(column) in plain else column for column in table.columns]
    query = select(*wanted).order_by(*table.primary_key.columns).execution_options(yield_per=_PART_ROWS)
    yield from connection.execute(query).partitions()


def _write_parquet(file: Path, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    import polars as pl

    types = {
        "text": pl.String(),
        "integer": pl.Int64(),
        "real": pl.Float64(),
        "time": pl.Datetime("us", "UTC"),
        "json": pl.String(),
        "boolean": pl.Boolean(),
    }
    schema = {column.name: types[kind(column)] for column in table.columns}
    pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row").write_parquet(file)


def _write_jsonl(file: Path, table: Table, rows: Sequence[Sequence[Any]]) -> None:
    names = [(column.name, kind(column)) for column in table.columns]
    with file.open("w", encoding="ascii", newline="\n") as target:
        for row in rows:
            fields = {name: _plain(value, what) for (name, what), value in zip(names, row, strict=True)}
            target.write(json.dumps(fields) + "\n")


def _plain(value: Any, what: str) -> Any:
    if value is None:
        return None
    if what == "json":
        return json.loads(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)  # as the memory writes it: JSON has no infinity
    return value
