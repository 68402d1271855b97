"""Bad rows: either the error that stops the ingestion, or the quarantine file that keeps them for repair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from rolegen_errors import InputError

from .rows import Reason, RowReader
from .sources import ROW, Source

_SHOWN = 5
_QUARANTINE_FIX = 'or go on without them: [data] on_bad_rows = "quarantine" (rolegen ingest --on-bad-rows quarantine)'


def bad_rows_error(source: Source, reader: RowReader, raw: pl.DataFrame, codes: pl.Series) -> InputError:
    """The error for the first kind of bad row in a batch; ``codes`` has one code per row of ``raw``."""
    bad = pl.Series([number for number, reason in enumerate(reader.reasons, 1) if reason.bad], dtype=pl.UInt8)
    marked = raw.with_columns(codes.alias("__code")).filter(pl.col("__code").is_in(bad.implode()))
    reason = reader.reasons[marked["__code"][0] - 1]
    rows = marked.filter(pl.col("__code") == marked["__code"][0])
    column = reader.heading(reason.column) if reason.column else ""
    shown = rows.head(_SHOWN).select(ROW, *(name for name in raw.columns if name == column)).rows()
    values = ", ".join(f"{row[0]} ({row[1]!r:.80})" if len(row) > 1 else str(row[0]) for row in shown)
    more = f" and {rows.height - _SHOWN} more so far" if rows.height > _SHOWN else ""
    others = marked.height - rows.height
    return InputError(
        reason.text + (f" (and {others} rows that are bad for another reason)" if others else ""),
        where=f"{source.name}, column {column}, rows {values}{more}",
        fix=f"{reason.fix or 'correct these rows'}; {_QUARANTINE_FIX}",
    )


def duplicates_error(source: Source, rows: Sequence[int], total: int) -> InputError:
    """The error for events that stand in the log more than once."""
    more = f" and {total - _SHOWN} more" if total > _SHOWN else ""
    return InputError(
        f"{total} events stand in the log more than once",
        where=f"{source.name}, rows {', '.join(str(row) for row in rows[:_SHOWN])}{more}",
        fix=f'if they are copies: [data] duplicates = "drop"; {_QUARANTINE_FIX}',
    )


class Quarantine:
    """Collects bad rows as CSV: file, row (as in the file), column, reason, raw (the source row as a JSON object)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0

    def add(self, source: Source, reader: RowReader, raw: pl.DataFrame, codes: pl.Series) -> None:
        """Append the rows of ``raw``; ``codes`` has the code of each."""
        self._append(source, raw, [reader.reasons[code - 1] for code in codes.to_list()], reader)

    def add_all(self, source: Source, reader: RowReader, raw: pl.DataFrame, reason: Reason) -> None:
        """Append the rows of ``raw``, all for the same reason."""
        self._append(source, raw, [reason] * raw.height, reader)

    def _append(self, source: Source, raw: pl.DataFrame, reasons: Sequence[Reason], reader: RowReader) -> None:
        if raw.is_empty():
            return
        names = [name for name in raw.columns if name != ROW]
        columns = [reader.heading(reason.column) if reason.column else "" for reason in reasons]
        frame = raw.select(
            pl.lit(source.name).alias("file"),
            pl.col(ROW).alias("row"),
            pl.Series("column", columns, dtype=pl.String),
            pl.Series("reason", [reason.text for reason in reasons], dtype=pl.String),
            pl.struct(names).struct.json_encode().alias("raw"),
        )
        with self.path.open("ab") as file:
            frame.write_csv(file, include_header=self.rows == 0)
        self.rows += raw.height
