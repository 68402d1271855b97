"""What was shown, one exposure a row in the columns of an event log, so that a shop's own log can carry the propensities back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from rolegen_errors import InputError

if TYPE_CHECKING:
    from ..memory import Memory

SCHEMA: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "user": pl.String,
    "item": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "behaviour": pl.String,
    "quantity": pl.Float64,
    "session": pl.String,
    "propensity": pl.Float64,
    "rank": pl.Int64,
    "drawn_from": pl.Int64,
    "run": pl.String,
}


def exposures(memory: Memory, *, run: str | None = None) -> pl.DataFrame:
    """One row for each item of each slate, in the order of decision time, user and rank.

    ``time`` is that of the decision and ``session`` its id; ``propensity`` is the probability of the item at its place given those above,
    null where nothing was drawn.
    """
    rows = [
        (row.user_id, row.item, row.at, "expose", 1.0, row.decision, row.propensity, row.rank, row.drawn_from, row.run)
        for row in memory.shown(run)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def write_shown(memory: Memory, file: Path, *, run: str | None = None) -> int:
    """Write :func:`exposures` as CSV, JSON lines or Parquet, by the file's ending; returns how many rows."""
    kind = file.suffix.lower()
    writers: Mapping[str, Callable[[pl.DataFrame, Path], object]] = {
        ".csv": pl.DataFrame.write_csv,
        ".jsonl": pl.DataFrame.write_ndjson,
        ".ndjson": pl.DataFrame.write_ndjson,
        ".parquet": pl.DataFrame.write_parquet,
    }
    if kind not in writers:
        raise InputError(
            f"{kind or 'a file without ending'} is no kind of file to write",
            where=str(file),
            fix=f"give one that ends in {', '.join(writers)}",
        )
    table = exposures(memory, run=run)
    draft = file.with_name(f".{file.name}.draft")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        writers[kind](table, draft)
        draft.replace(file)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise InputError(f"the file cannot be written: {error}", where=str(file), fix="choose another place") from error
    return table.height
