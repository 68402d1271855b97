"""``rolegen bench scale``: decisions a second by workers and their number, with a scripted LLM over HTTP on loopback.

=========================================  ============================================================================
``scale.decisions_per_s.WORKERS.N``        N decisions by WORKERS processes, or by Ray's actors (``ray2``), from the first to the last
``scale.start_s.WORKERS.N``                from the command to its first decision: the start of processes or of a cluster
``scale.bytes_per_decision.WORKERS.N``     what the database takes on the disk, indexes included
``scale.wal_bytes_per_decision.…``         what the server wrote to its log
``scale.commits_per_decision.…``           transactions of all kinds
``scale.calls_per_decision``, ``tokens``   of the scripted LLM; a token is four bytes there
``scale.missing.WORKERS.N``                users without a decision: none
=========================================  ============================================================================

PostgreSQL is a server of the benchmark's own in the work folder, or a database of its own on the one that
``ROLEGEN_BENCH_POSTGRES`` names. LLM and database share the machine with the workers: on two cores a second worker
cannot double the rate. ``--without ray``, ``--without 100000`` and the like leave points out.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import create_engine, make_url, text

from rolegen_errors import InputError, ProjectError

from ..load.benchmark import SERVER
from ..load.cluster import kept_cluster, postgres_programs
from ..results import Result, commit, machine
from .curve import Kind, Point, measure

DECISIONS, QUICK = (1_000, 10_000, 100_000), (20,)
WORKERS = (1, 2)
KINDS: tuple[Kind, ...] = ("processes", "ray")
Progress = Callable[[str, int, int], None]


def run_scale(*, work: Path, quick: bool, without: tuple[str, ...], progress: Progress) -> Result:
    """The whole curve; points that were measured at this commit stand.

    Raises:
        ProjectError: there is no PostgreSQL.
        InputError: ``without`` names what is no part of the curve.
    """
    started, figures, here = time.perf_counter(), dict[str, float](), commit()
    sizes = QUICK if quick else DECISIONS
    possible = {*KINDS, *map(str, sizes)}
    unknown = sorted(set(without) - possible)
    if unknown:
        raise InputError(
            f"--without {unknown[0]} is no part of the curve", fix=f"choose from {', '.join(sorted(possible))}"
        )
    points = [
        Point(kind, workers, decisions)
        for decisions in sizes
        for kind in KINDS
        for workers in WORKERS
        if not {kind, str(decisions)} & set(without)
    ]
    if find_spec("ray") is None:
        points = [point for point in points if point.kind != "ray"]
    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        server = os.environ.get(SERVER)
        if server is None and postgres_programs() is not None:
            server = stack.enter_context(kept_cluster(work / "postgres", "max_connections=200")).url()
        if server is None:
            raise ProjectError(
                "the curve needs PostgreSQL",
                fix=f"install its server (Debian: apt install postgresql), or set {SERVER}=postgresql://…",
            )
        for point in points:
            kept = work / "points" / f"{point.name}-{here.rstrip('+')}.json"
            if not kept.exists() or here.endswith("+"):
                figures_of = _measured(point, server, work, progress)
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(figures_of), "utf-8")
            figures |= {
                f"scale.{name}.{point.name}": value for name, value in json.loads(kept.read_text("utf-8")).items()
            }
    return Result(
        name="scale",
        commit=here,
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures={name: round(value, 3) for name, value in figures.items()},
    )


def _measured(point: Point, server: str, work: Path, progress: Progress) -> dict[str, float]:
    """One point, on a database that is dropped when it is done."""
    # The same folder is the same benchmark: a database that a stopped one left is gone on with.
    mark = hashlib.sha256(f"{work.resolve()} {commit()}".encode()).hexdigest()[:8]
    name = f"rolegen_bench_scale_{mark}_{point.name.replace('.', '_')}"
    address, legs = make_url(server).set(drivername="postgresql+psycopg"), work / "legs" / f"{name}.json"
    admin = create_engine(address, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        known = connection.execute(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}).scalar()
        if known is None or not legs.exists():
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            connection.execute(text(f"CREATE DATABASE {name}"))
            legs.unlink(missing_ok=True)
    found = measure(
        point,
        address.set(database=name).render_as_string(hide_password=False),
        legs,
        lambda done, total: progress(f"{point.kind} {point.workers} x {point.decisions:,}", done, total),
    )
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()
    legs.unlink()
    return found
