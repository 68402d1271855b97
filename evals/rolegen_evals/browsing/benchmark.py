"""``rolegen bench pages``: every trace page over real HTTP, on 1,000,000 decisions in PostgreSQL and 100,000 in SQLite.

===============================  ====================================================================================
``PAGE.p50_ms.DATABASE``         milliseconds from a request to the last byte of its answer, half of the visits below
``PAGE.p95_ms.DATABASE``         the same, 95 of 100 below
``PAGE.cpu_ms.DATABASE``         median of what the server's process worked, without PostgreSQL's; tells more on a busy machine
``all.worst_p50_ms.DATABASE``    the slowest page's median
``all.decisions.DATABASE``       how many decisions there were
``all.gigabytes.DATABASE``       what the database takes on the disk
===============================  ====================================================================================

One visitor, one request at a time, the server in a process of its own. Databases are generated (``copies.py`` says what) once and
kept in the work folder; PostgreSQL is a server of the benchmark's own there, or a database of its own on the server that
``ROLEGEN_BENCH_POSTGRES`` names. Without either its figures are left out.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from rolegen_agent.memory import open_memory
from rolegen_agent.memory.database import connect, parse_url

from ..load.benchmark import SERVER
from ..load.cluster import kept_cluster, postgres_programs
from ..results import Result, commit, machine
from .copies import make_copies
from .originals import make_originals
from .visits import addresses, percentile, served, visit

DECISIONS = {"postgresql": 1_000_000, "sqlite": 100_000}
QUICK = {"postgresql": 2_000, "sqlite": 2_000}
VISITS, QUICK_VISITS = 60, 4
_SETTINGS = (
    "shared_buffers=512MB",
    "max_wal_size=8GB",
    "fsync=off",
    "default_toast_compression=lz4",
    "maintenance_work_mem=256MB",
)
Progress = Callable[[str, int, int], None]


def bench_pages(*, work: Path, quick: bool, progress: Progress) -> Result:
    """Generate what is missing, then visit all pages on each database."""
    started, figures = time.perf_counter(), dict[str, float]()
    sizes = QUICK if quick else DECISIONS
    work.mkdir(parents=True, exist_ok=True)
    with _databases(work, sizes) as found:
        for name, url in found.items():
            figures |= _on(name, url, sizes[name], QUICK_VISITS if quick else VISITS, progress)
    return Result(
        name="pages",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures,
    )


def _on(name: str, url: str, decisions: int, visits: int, progress: Progress) -> dict[str, float]:
    with open_memory(url, upgrade=True) as memory:
        make_originals(memory)
    engine = connect(parse_url(url))
    make_copies(engine, decisions, lambda done, total: progress(f"generate {name}", done, total))
    pages = addresses(engine, decisions, visits)
    with engine.connect() as connection:
        size = "pg_database_size(current_database())"
        if name == "sqlite":
            size = "page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        taken = connection.execute(text(f"SELECT {size}")).scalar_one()
    engine.dispose()
    with served(url) as server:
        seen = visit(server, pages, lambda done, total: progress(f"visit {name}", done, total))
    figures = {}
    for page, visits_ in seen.items():
        times = [one.wall for one in visits_]
        figures[f"{page}.p50_ms.{name}"] = round(percentile(times, 0.5), 1)
        figures[f"{page}.p95_ms.{name}"] = round(percentile(times, 0.95), 1)
        worked = percentile([one.worked for one in visits_], 0.5)
        if math.isfinite(worked):
            figures[f"{page}.cpu_ms.{name}"] = round(worked, 1)
    figures[f"all.worst_p50_ms.{name}"] = max(value for key, value in figures.items() if ".p50_ms." in key)
    figures[f"all.decisions.{name}"] = float(decisions)
    figures[f"all.gigabytes.{name}"] = round(float(taken) / 1e9, 2)
    return figures


@contextmanager
def _databases(work: Path, sizes: dict[str, int]) -> Iterator[dict[str, str]]:
    file = work.resolve() / f"pages-{sizes['sqlite']}.sqlite"
    found = {"sqlite": f"sqlite:///{file}"}
    with ExitStack() as stack:
        server = os.environ.get(SERVER)
        if server is None and postgres_programs() is not None:
            server = stack.enter_context(kept_cluster(work / "postgres", *_SETTINGS)).url()
        if server is not None:
            found["postgresql"] = _database(server, f"rolegen_bench_pages_{sizes['postgresql']}")
        yield found


def _database(server: str, name: str) -> str:
    """The address of a database of that name, made if it is not there."""
    address = make_url(server).set(drivername="postgresql+psycopg")
    admin = create_engine(address, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        known = connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}).scalar()
        if known is None:
            connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return address.set(database=name).render_as_string(hide_password=False)
