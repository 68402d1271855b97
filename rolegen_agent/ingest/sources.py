"""Finding and opening input files: CSV, gzipped CSV and Parquet, read lazily and in batches.

A file is trusted for what its first bytes say, not for its name; every failure of the reader becomes an ``InputError``
that names the file.
"""

from __future__ import annotations

import codecs
import gzip
import shutil
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from rolegen_errors import InputError

from .bundled import bundled_log

ROW = "__row"
BATCH_ROWS = 500_000
_PARQUET, _GZIP, _ZIP = b"PAR1", b"\x1f\x8b", b"PK\x03\x04"
_HEAD_BYTES = 1 << 16
_KINDS: dict[str, Literal["csv", "gzip", "parquet"]] = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".gz": "gzip", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One input file. ``rows`` is what its reader will yield: an exact count, an estimate, or 0 when unknown."""

    path: Path
    name: str
    """path as the messages show it, relative to the project folder where possible"""
    columns: tuple[str, ...]
    rows: int
    first_row: int
    """number of the first data row: 2 under a CSV heading (quoted line breaks do not count), 1 in Parquet"""
    frame: pl.LazyFrame
    separator: str = ","

    def batches(self, size: int = BATCH_ROWS) -> Iterator[pl.DataFrame]:
        """Frames of ``size`` rows in file order: ``__row`` (Int64, as in the file), then the source columns."""
        try:
            yield from self.frame.collect_batches(maintain_order=True, chunk_size=size)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise self._unreadable(error) from error

    def rows_at(self, numbers: Sequence[int]) -> pl.DataFrame:
        """The rows with these numbers, as ``batches`` yields them."""
        wanted = pl.Series(numbers, dtype=pl.Int64)
        return self.frame.filter(pl.col(ROW).is_in(wanted.implode())).collect(engine="streaming")

    def _unreadable(self, error: Exception) -> InputError:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "utf-8" in text:
            return InputError(
                "the text is not UTF-8",
                where=self.name,
                fix='say how it is written in [data] encoding, often "latin-1" or "cp1252"',
            )
        if "more fields" in text:
            return InputError(
                f"rows have more fields than the {len(self.columns)} of the heading",
                where=f"{self.name}{_long_rows(self)}",
                fix=f"put texts that contain '{self.separator}' in double quotes",
            )
        return InputError(f"the file cannot be read: {text}", where=self.name, fix="check that it is complete")


def find_files(root: Path, patterns: str | Sequence[str]) -> list[Path]:
    """The files of a path, a glob or a list of them, relative to ``root``; a file named twice is read once.

    Raises ``InputError`` when a pattern finds nothing or a folder.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = Path(pattern).expanduser()
        if (root / path).exists():
            paths = [root / path]
        elif path.is_absolute():
            paths = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        else:
            paths = sorted(root.glob(pattern))
        if not paths:
            raise InputError("no such file", where=str(root / path), fix="correct the path in rolegen.toml")
        found |= dict.fromkeys(path.resolve() for path in paths)
    return list(found)


def open_source(path: Path, root: Path, scratch: Path, encoding: str = "utf-8") -> Source:
    """Look at a file's head and make it ready to be read; nothing but the head is read yet.

    Raises ``InputError`` when the file is a folder, is empty or is not what its name says.
    """
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    if path == bundled_log():
        name = f"{path.name} (bundled)"
    if path.is_dir():
        raise InputError("this is a folder, not a file", where=name, fix=f'name its files, such as "{name}/*.csv"')
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError("unknown kind of file", where=name, fix="use .csv, .csv.gz or .parquet")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"the file cannot be opened: {error.strerror}", where=name) from error
    _check_kind(name, kind, head)
    if kind == "parquet":
        return _open_parquet(path, name)
    if kind == "gzip":
        head = _gunzip_head(path, name)
        _check_kind(name, "csv", head)
    if codecs.lookup(_known(encoding)).name != "utf-8":
        path = _transcode(path, name, scratch, kind, encoding)
        head, kind = path.read_bytes()[:_HEAD_BYTES], "csv"
    return _open_csv(path, name, head, compressed=kind == "gzip")


def _check_kind(name: str, kind: str, head: bytes) -> None:
    really = "a Parquet file" if head[:4] == _PARQUET else "a gzip file" if head[:2] == _GZIP else "text"
    if head[:4] == _ZIP:
        really = "a zip or Excel file"
    elif really == "text" and b"\0" in head:
        really = "UTF-16 text" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "a binary file"
    expected = {"csv": "text", "gzip": "a gzip file", "parquet": "a Parquet file"}[kind]
    if not head:
        raise InputError("the file is empty", where=name, fix="check the export that wrote it")
    if really == "UTF-16 text" and kind == "csv":
        raise InputError("the text is UTF-16", where=name, fix="save it as UTF-8")
    if really != expected:
        fix = "rename it to what it is, or export it again"
        raise InputError(f"by its name this is {expected}, but it is {really}", where=name, fix=fix)


def _open_parquet(path: Path, name: str) -> Source:
    try:
        frame = pl.scan_parquet(path, glob=False)
        columns = tuple(frame.collect_schema().names())
        rows = int(frame.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"not a readable Parquet file: {first}", where=name, fix="export it again") from error
    return Source(path, name, columns, rows, 1, _numbered(frame, 1))


def _open_csv(path: Path, name: str, head: bytes, *, compressed: bool) -> Source:
    heading = head.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace")
    separator = max(",;\t|", key=heading.count)
    frame = pl.scan_csv(
        path, separator=separator, infer_schema=False, glob=False
    )  # all text: raw values stay as they are
    try:
        columns = tuple(frame.collect_schema().names())
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"not a readable CSV file: {first}", where=name, fix="check its first line") from error
    lines = head.count(b"\n")
    estimate = 0 if compressed or not lines else int(path.stat().st_size / (len(head) / lines))
    return Source(path, name, columns, estimate, 2, _numbered(frame, 2), separator)


def _numbered(frame: pl.LazyFrame, first: int) -> pl.LazyFrame:
    return frame.with_row_index(ROW, offset=first).with_columns(pl.col(ROW).cast(pl.Int64))


def _gunzip_head(path: Path, name: str) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"not a readable gzip file: {error}", where=name, fix="compress it again") from error


def _known(encoding: str) -> str:
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise InputError(f"unknown encoding '{encoding}'", where="[data] encoding", fix="such as latin-1") from error
    return encoding


def _transcode(path: Path, name: str, scratch: Path, kind: str, encoding: str) -> Path:
    """A UTF-8 copy in ``scratch``: the reader knows no other encoding."""
    copy = scratch / f"{abs(hash(path)):x}.csv"
    try:
        with (
            gzip.open(path, "rt", encoding=encoding, newline="")
            if kind == "gzip"
            else path.open("r", encoding=encoding, newline="") as source,
            copy.open("w", encoding="utf-8", newline="") as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"the text is not {encoding}: {error}", where=name, fix="correct [data] encoding") from error
    return copy


def _long_rows(source: Source) -> str:
    """Up to five numbers of rows with too many fields, for the message; only run once the reader has failed."""
    lines = pl.scan_csv(
        source.path, separator="\x1f", quote_char=None, has_header=False, infer_schema=False, new_columns=["line"]
    ).with_row_index("number", offset=1)
    fields = pl.col("line").str.replace_all(r'"[^"]*"', "").str.count_matches(source.separator, literal=True) + 1
    numbers = lines.filter(fields > len(source.columns)).head(5).select("number").collect().to_series().to_list()
    return f", rows {', '.join(map(str, numbers))}" if numbers else ""
