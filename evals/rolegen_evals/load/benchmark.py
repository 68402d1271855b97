"""``rolegen bench load`` and ``rolegen bench durability``: see ``writers``, ``throughput`` and ``sweep`` for what is done.

==================================  =====================================================================================
``load.decisions_per_s.DATABASE``   decisions with a scripted LLM that answers at once, by 4 processes on SQLite, 8 on PostgreSQL
``load.write_p99_ms.DATABASE``      of single writes, from the wish to write to the commit, waiting for others included
``load.missing``, ``doubled``, ``unfinished``  users without a decision, with a second one, and begun ones that nobody ended: none
``load.differences.DATABASE``       what ``rolegen memory verify`` finds afterwards: nothing
``throughput.share_of_endpoint``    requests a second over what an endpoint of fixed latency and room can answer, ramps included
``cpu_ms_per_decision.PART.loop``   processor time without LLM and backbone: graph, nodes and memory; and with checkpoints
``cpu_ms_per_decision.llm.batch``   with them, and with prompts, requests and answers of the LLM
``subgraph.overhead_ms.subgraph``   a decision as a node of a parent graph, minus its nodes called by hand (``overhead``)
``sweep.kills.DATABASE``            processes killed at random points of batches, each time resumed by the same call
``sweep.differing_rows.DATABASE``   rows of the memory that an undisturbed run would not have, or has besides: none
``sweep.repeated_finished``         answers that were in the memory at a kill and were asked for again: none
``sweep.repeated``                  requests that were under way at a kill and had to be put again
==================================  =====================================================================================

PostgreSQL is a server of the benchmark's own, or the one that ``ROLEGEN_BENCH_POSTGRES`` names; without either its figures are
left out.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import create_engine, make_url, text

from ..results import Result, commit, machine
from .cluster import own_cluster, postgres_programs
from .overhead import subgraph_cost
from .sweep import Job, sweep
from .throughput import loop_cost, throughput
from .writers import load

SERVER = "ROLEGEN_BENCH_POSTGRES"
WRITERS = {"sqlite": 4, "postgresql": 8}
DECISIONS, KILLS = 10_000, 100
"""as the figures are stated; ``--quick`` takes less, for the shape only"""
Progress = Callable[[str, int, int], None]


def run_load(*, quick: bool, progress: Progress) -> Result:
    """Many writers, an endpoint with a limit, and what the loop itself costs."""
    started, figures = time.perf_counter(), dict[str, float]()
    with databases() as found:
        parts = len(found) + 2
        progress("cost of the loop", 0, parts)
        figures |= loop_cost(users=10 if quick else 300)
        figures |= subgraph_cost(users=20 if quick else 500)
        progress("throughput", 1, parts)
        figures |= throughput(users=8, delay_s=0.1, limit=2) if quick else throughput(users=480, delay_s=0.5, limit=8)
        for number, (name, (memory, checkpoints)) in enumerate(found.items()):
            progress(f"load on {name}", number + 2, parts)
            figures |= load(name, memory, checkpoints, writers=WRITERS[name], users=24 if quick else DECISIONS)
        progress("load", parts, parts)
    return _result("load", figures, started)


def run_durability(*, quick: bool, progress: Progress) -> Result:
    """Kill -9 again and again, on each database."""
    started, figures = time.perf_counter(), dict[str, float]()
    kills, users = (8, 16) if quick else (KILLS, 40)
    with databases() as found:
        for name, (memory, checkpoints) in found.items():
            job = Job(memory=memory, checkpoints=checkpoints, endpoint="", run="sweep", first=0, users=users)
            seen = sweep(
                job,
                kills=kills,
                delay_s=0.02,
                seed=1,
                progress=lambda done, total, name=name: progress(f"kills on {name}", done, total),  # type: ignore[misc]
            )
            figures |= {f"sweep.{metric}.{name}": float(value) for metric, value in asdict(seen).items()}
    return _result("durability", figures, started)


@contextmanager
def databases() -> Iterator[dict[str, tuple[str, str]]]:
    """Addresses of an empty memory and its checkpoints by kind of database; they are gone at the end."""
    with TemporaryDirectory(prefix="rolegen-load-") as folder:
        files = {"sqlite": (f"sqlite:///{Path(folder) / 'memory.db'}", str(Path(folder) / "checkpoints.db"))}
        if os.environ.get(SERVER):
            with _database_on(os.environ[SERVER]) as url:
                yield {**files, "postgresql": (url, url)}
        elif postgres_programs() is not None:
            with own_cluster() as cluster:
                url = cluster.create("load")
                yield {**files, "postgresql": (url, url)}
        else:
            yield files


@contextmanager
def _database_on(server: str) -> Iterator[str]:
    address = make_url(server).set(drivername="postgresql+psycopg")
    admin, name = create_engine(address, isolation_level="AUTOCOMMIT"), f"rolegen_bench_{uuid.uuid4().hex[:12]}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield address.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def _result(name: str, figures: dict[str, float], started: float) -> Result:
    return Result(
        name=name,
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures,
    )
