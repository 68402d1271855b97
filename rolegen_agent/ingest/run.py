"""One ingestion: source files in, the canonical store out, every row accounted for."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl

from rolegen_errors import InputError, ProjectError

from ..project import STORE_FORMAT, Project
from ..settings import DataSettings
from .bad_rows import Quarantine, bad_rows_error, duplicates_error
from .bundled import bundled_log
from .catalogue import read_catalogue
from .items import ItemFacts, early_prices, item_table
from .layouts import Layout, layout_of
from .report import FileReport, IngestReport
from .rows import BEHAVIOURS, DUPLICATE, Reason, RowReader
from .sources import Source, find_files, open_source
from .spool import Sorted, Spool, place, split_place

Progress = Callable[[str, int, int], None]
"""Called with stage ("read" or "sort"), rows done, and rows in all: an estimate while reading, 0 when unknown."""

_ROW_GROUP = 250_000
_STALE_SECONDS = 86_400
_WORKERS = 2


@dataclass(frozen=True)
class Batch:
    """Rows of one source as they were read."""

    rows: pl.DataFrame
    """canonical, see :meth:`RowReader.read`"""
    bad: pl.DataFrame
    """the source rows of those that are bad, as they stand in the file"""


Reading = Callable[[Sequence[tuple[Source, RowReader]]], Iterator[Iterator[Batch]]]
"""from the sources to their batches, source by source and in the order of the file"""


@dataclass
class _Input:
    """One source with what has become of its rows so far."""

    source: Source
    reader: RowReader
    rows: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)

    def report(self) -> FileReport:
        return FileReport(
            file=self.source.name,
            rows=self.rows,
            kept=self.kept,
            dropped=dict(self.dropped),
            quarantined=dict(self.quarantined),
        )


def ingest(project: Project, *, progress: Progress | None = None, reading: Reading | None = None) -> IngestReport:
    """Read the event log (and catalogue) of ``project`` into its store, replacing what was there.

    Writes ``events.parquet`` (event, user, item, time, behaviour, quantity, price, session, propensity; by user, time
    and input order; ``event`` depends on the event alone, see ``event_ids.py``), ``items.parquet`` (item, title, category, price, available, first_seen; by item),
    ``ingest.json`` and, if rows are bad and may be, ``quarantine.csv``. All are written aside and moved into place at
    the end, so an ingestion that fails or is interrupted leaves the store as it was.

    ``reading`` reads and checks the sources, by itself or with others; None is this process. The store is the same.

    Raises ``InputError`` naming file, column and rows for input that is not what it must be.
    """
    started = time.monotonic()
    project.store.mkdir(parents=True, exist_ok=True)
    for leftover in project.store.glob("ingest-*"):  # of an ingestion that was killed
        if leftover.is_dir() and time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=project.store, ignore_cleanup_errors=True) as folder:
        tell = progress or (lambda stage, done, total: None)
        return _Ingestion(project, Path(folder), tell, reading or read_here).run(started)


class _Ingestion:
    def __init__(self, project: Project, scratch: Path, progress: Progress, reading: Reading) -> None:
        self.project, self.scratch, self.progress, self.reading = project, scratch, progress, reading
        self.data: DataSettings = project.settings.data
        self.layout: Layout = layout_of(self.data)
        self.keep_going = self.data.on_bad_rows == "quarantine"
        self.quarantine = Quarantine(scratch / "quarantine.csv")
        self.spool = Spool(scratch)
        self.facts = ItemFacts()

    def run(self, started: float) -> IngestReport:
        catalogue = None
        if self.data.catalogue:
            catalogue = read_catalogue(self.data.catalogue, self.data, self.project.root, self.scratch)
        inputs = self._open(catalogue)
        expected = sum(entry.source.rows for entry in inputs) if all(entry.source.rows for entry in inputs) else 0
        read = self.reading([(entry.source, entry.reader) for entry in inputs])
        for number, (entry, batches) in enumerate(zip(inputs, read, strict=True)):
            self._read(number, entry, batches, inputs, expected)
        self._refuse_empty(inputs)
        summary, prices = self._write_events(inputs)
        items = item_table(self.spool.items.texts(), self.facts, prices, catalogue)
        items.write_parquet(self.scratch / "items.parquet", compression="zstd")
        files = [entry.report() for entry in inputs]
        report = IngestReport(
            rows=sum(file.rows for file in files),
            kept=sum(file.kept for file in files),
            dropped=dict(sum((Counter(file.dropped) for file in files), Counter[str]())),
            quarantined=dict(sum((Counter(file.quarantined) for file in files), Counter[str]())),
            files=files,
            users=summary.users,
            items=items.height,
            events={name: summary.events[name] for name in BEHAVIOURS},
            first=summary.first,
            last=summary.last,
            seconds=round(time.monotonic() - started, 3),
            quarantine=str(self.project.quarantine) if self.quarantine.rows else None,
            settings=self.data.model_dump(mode="json"),
            format=STORE_FORMAT,
        )
        self._publish(report)
        return report

    def _open(self, catalogue: pl.DataFrame | None) -> list[_Input]:
        if self.data.events:
            paths = find_files(self.project.root, self.data.events)
        elif self.data.preset == "online_retail_ii":
            paths = [bundled_log()]
        else:
            raise ProjectError(
                "the project names no event log",
                where=f"{self.project.file}, [data] events",
                fix="write there the path of your log, or the preset online_retail_ii for the bundled one",
            )
        sources = [open_source(path, self.project.root, self.scratch, self.data.encoding) for path in paths]
        known = None if catalogue is None else catalogue["item"]
        return [_Input(source, RowReader(source, self.layout, known)) for source in sources]

    def _read(self, number: int, entry: _Input, batches: Iterator[Batch], inputs: list[_Input], expected: int) -> None:
        """Read one source to its end, into the spool, the item facts and the quarantine."""
        source, reader = entry.source, entry.reader
        for batch in batches:
            rows = batch.rows
            entry.rows += rows.height
            for code, count in rows["code"].value_counts().iter_rows():
                if code:
                    reason = reader.reasons[code - 1]
                    (entry.quarantined if reason.bad else entry.dropped)[reason.text] += count
            if batch.bad.height:
                codes = rows["code"].filter(rows["code"].is_in(reader.bad_codes))
                if not self.keep_going:
                    raise bad_rows_error(source, reader, batch.bad, codes)
                self.quarantine.add(source, reader, batch.bad, codes)
            kept = rows.filter(rows["code"] == 0).with_columns(place(number).alias("place"))
            entry.kept += kept.height
            self.facts.add(kept, self.spool.add(kept))
            done = sum(other.rows for other in inputs)
            self.progress("read", done, max(expected, done) if expected else 0)

    def _refuse_empty(self, inputs: list[_Input]) -> None:
        if any(entry.kept for entry in inputs):
            return
        rows = sum(entry.rows for entry in inputs)
        reasons: Counter[str] = sum((entry.dropped + entry.quarantined for entry in inputs), Counter())
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        raise InputError(
            f"no row of the event log is an event of a user ({told})" if rows else "the event log has no rows",
            where=", ".join(entry.source.name for entry in inputs),
            fix="check [data] columns and behaviours" if rows else "check the export that wrote it",
        )

    def _write_events(self, inputs: list[_Input]) -> tuple[_Summary, list[pl.DataFrame]]:
        """Write the events range by range; what the log says about early prices comes back."""
        summary = _Summary()
        prices: list[pl.DataFrame] = []
        parts: list[Path] = []
        first = self.facts.first()
        ids = self.spool.event_ids()
        for chunk in self.spool.sorted_ranges():
            self._count_duplicates(chunk, inputs)
            prices.append(early_prices(chunk.events, first))
            summary.add(chunk.events)
            events = self.spool.decode(chunk.events.drop("place"))
            events = events.select(
                pl.Series("event", ids.of(chunk.events)),
                *("user", "item", "time", "behaviour", "quantity", "price", "session", "propensity"),
            )
            parts.append(self.scratch / f"part-{len(parts)}.parquet")
            events.write_parquet(parts[-1], compression="zstd", compression_level=1, row_group_size=_ROW_GROUP)
            self.progress("sort", summary.rows, self.spool.rows)
        target = self.scratch / "events.parquet"
        if len(parts) == 1:
            parts[0].replace(target)
        else:
            pl.scan_parquet(parts).sink_parquet(
                target, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP, maintain_order=True
            )
        return summary, prices

    def _count_duplicates(self, chunk: Sorted, inputs: list[_Input]) -> None:
        """Repeated events are dropped, quarantined or an error, as the project says."""
        if chunk.duplicates.is_empty():
            return
        for (number,), places in split_place(chunk.duplicates).group_by("file", maintain_order=True):
            entry, rows = inputs[int(str(number))], places["row"].to_list()
            if self.layout.duplicates == "drop":
                entry.dropped[DUPLICATE] += len(rows)
            elif self.keep_going:
                entry.quarantined[DUPLICATE] += len(rows)
                self.quarantine.add_all(entry.source, entry.reader, entry.source.rows_at(rows), Reason(DUPLICATE))
            else:
                raise duplicates_error(entry.source, rows, len(rows))
            entry.kept -= len(rows)

    def _publish(self, report: IngestReport) -> None:
        """Move the new store into place. The report goes first and comes last: without it the store does not count,
        so that a kill between two moves cannot leave a mixture that looks whole."""
        draft = self.scratch / "ingest.json"
        draft.write_text(report.model_dump_json(indent=2) + "\n", "utf-8")
        self.project.ingest_report.unlink(missing_ok=True)
        (self.scratch / "events.parquet").replace(self.project.events)
        (self.scratch / "items.parquet").replace(self.project.items)
        self.project.quarantine.unlink(missing_ok=True)
        if self.quarantine.rows:
            self.quarantine.path.replace(self.project.quarantine)
        draft.replace(self.project.ingest_report)


def read_batch(reader: RowReader, raw: pl.DataFrame) -> Batch:
    """What a reader makes of some rows of its source."""
    rows = reader.read(raw)
    return Batch(rows, raw.filter(rows["code"].is_in(reader.bad_codes)))


def read_here(sources: Sequence[tuple[Source, RowReader]]) -> Iterator[Iterator[Batch]]:
    """Read by threads of this process."""
    return (_in_order(source.batches(), partial(read_batch, reader)) for source, reader in sources)


def _in_order(batches: Iterator[pl.DataFrame], read: Callable[[pl.DataFrame], Batch]) -> Iterator[Batch]:
    """What ``read`` makes of each batch, in order, while a few more are worked on by other threads."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        running: deque[Future[Batch]] = deque()
        try:
            for batch in batches:
                running.append(pool.submit(read, batch))
                if len(running) > _WORKERS:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Summary:
    """Figures of the events as they are written."""

    def __init__(self) -> None:
        self.rows = self.users = 0
        self.events: Counter[str] = Counter()
        self.first = self.last = datetime.min

    def add(self, events: pl.DataFrame) -> None:
        """Take in the next range of events in numbers; no user is in two ranges."""
        first, last = events.select(pl.col("time").min().alias("first"), pl.col("time").max().alias("last")).row(0)
        self.first = min(self.first, first) if self.rows else first
        self.last = max(self.last, last) if self.rows else last
        self.rows += events.height
        self.users += events["user"].n_unique()
        self.events.update({BEHAVIOURS[code]: count for code, count in events["behaviour"].value_counts().iter_rows()})
