"""Ingest on a Ray cluster: files, and slices of Parquet files, are read and checked by tasks; the store is the same.

Batches come back in the order of the input, and what follows (numbering, sorting by user, items) is done where the command
runs, in bounded memory, as always. A text file is one task: where its rows begin is known only to who has read what is before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from rolegen_errors import ProjectError, RoleGenError

from ..facade import Progress, RoleGen
from ..ingest import ingest
from ..ingest.layouts import layout_of
from ..ingest.report import IngestReport
from ..ingest.rows import RowReader
from ..ingest.run import Batch, Reading, read_batch
from ..ingest.sources import BATCH_ROWS, Source, open_source
from ..settings import DataSettings
from .connection import Nodes, again, connected, gist, plain, unshared

SLICE_ROWS = 4 * BATCH_ROWS
"""of a Parquet file that one task reads"""
WAITING = 3
"""batches that a task makes before anybody has taken the first"""


def ingest_on_ray(shop: RoleGen, *, address: str, progress: Progress) -> IngestReport:
    """As :meth:`RoleGen.ingest`, with the reading by tasks on the nodes of the cluster at ``address``, see :func:`connected`.

    Raises:
        InputError: what an ingestion raises.
        ProjectError: the nodes do not see the project's files.
    """
    with connected(address) as nodes:
        return ingest(shop.project, progress=progress, reading=_reading(shop.project.settings.data, nodes))


@dataclass(frozen=True)
class _Slice:
    """What one task reads."""

    path: Path
    name: str
    """as messages show it"""
    offset: int
    rows: int | None
    """None: to the end"""


def _reading(data: DataSettings, nodes: Nodes) -> Reading:
    def read(sources: Sequence[tuple[Source, RowReader]]) -> Iterator[Iterator[Batch]]:
        import ray

        known = next((reader.catalogue for _, reader in sources), None)
        settings, catalogue = ray.put(data), ray.put(known)
        task = ray.remote(_batches).options(
            num_cpus=1,
            num_returns="streaming",
            max_retries=-1,
            scheduling_strategy="SPREAD",
            _generator_backpressure_num_objects=WAITING,
        )
        slices = iter([(place, one) for place, (source, _) in enumerate(sources) for one in _slices(source)])
        running: deque[tuple[int, Any]] = deque()

        def fill() -> None:
            """As many tasks as the cluster has room for; the first ones are wanted first."""
            while len(running) < max(nodes.cpus, 1):
                following = next(slices, None)
                if following is None:
                    return
                running.append((following[0], task.remote(following[1], settings, catalogue)))

        def of(place: int) -> Iterator[Batch]:
            fill()
            while running and running[0][0] == place:
                yield from _received(running[0][1])
                running.popleft()
                fill()

        return (of(place) for place in range(len(sources)))

    return read


def _slices(source: Source) -> list[_Slice]:
    """In the order of the file."""
    if source.path.suffix.lower() not in (".parquet", ".pq"):
        return [_Slice(source.path, source.name, 0, None)]
    return [
        _Slice(source.path, source.name, offset, SLICE_ROWS) for offset in range(0, max(source.rows, 1), SLICE_ROWS)
    ]


def _received(refs: Any) -> Iterator[Batch]:
    """The batches of one task, as they come."""
    import ray
    from ray.exceptions import RayError

    try:
        for ref in refs:
            told = ray.get(ref)
            if isinstance(told, dict):
                raise again(told)
            yield told
    except RayError as error:
        raise ProjectError(
            f"the cluster gave up: {gist(error)}",
            fix="install the same rolegen-agent with its extra ray on every node, and give the same command again",
        ) from error


def _batches(wanted: _Slice, data: DataSettings, catalogue: pl.Series | None) -> Iterator[Any]:
    """Read and check one slice; an error comes as plain values."""
    try:
        if not wanted.path.is_file():
            raise unshared(wanted.path)
        with TemporaryDirectory() as scratch:  # nothing is written: what needs another encoding was transcoded before
            source = replace(open_source(wanted.path, wanted.path.parent, Path(scratch)), name=wanted.name)
            reader = RowReader(source, layout_of(data), catalogue)
            if wanted.rows is not None:
                source = replace(source, frame=source.frame.slice(wanted.offset, wanted.rows))
            for raw in source.batches():
                yield read_batch(reader, raw)
    except RoleGenError as error:
        yield plain(error)
