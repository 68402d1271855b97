"""``rolegen bench costs``: what the plan for many users is computed from: bytes, processor seconds and transactions of single things.

================================  ==================================================================================
``store.bytes_per_event.log``     of ``events.parquet``, Online Retail II whole; ``bytes_per_item`` of ``items.parquet``
``store.rows_per_s.log``          input rows read and checked, a second of processor time
``evidence.events_per_s.rows``    events read into rows of users, a second of processor time; ``bytes_per_event`` in memory
``evidence.events_per_s.tables``  the same from these rows to all tables
``decision.cpu_s.plain``          of one decision by the evidence reasoner with the backbone, on real customers
``decision.cpu_s.llm``            what one with a scripted LLM takes without a backbone: prompts, requests, checkpoints, memory
``decision.bytes.…``              of PostgreSQL, and ``log_bytes`` of its log, ``commits`` that it counted
``decision.calls.llm``            of the LLM, and ``tokens``
``decision.decisions.…``          that were made
``database.commits_per_s.eight``  small writing transactions by eight clients (``pgbench -N``)
================================  ==================================================================================

Processor seconds are those of one core, whatever else runs; how long things take by the clock is for ``rolegen bench scale``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from sqlalchemy import URL, make_url

from rolegen_agent import RoleGen
from rolegen_agent.artefacts import known_items
from rolegen_agent.evidence.compute import update_evidence
from rolegen_agent.evidence.ledger import read_ledger
from rolegen_agent.evidence.options import EvidenceOptions
from rolegen_agent.ingest import bundled_log
from rolegen_agent.memory import open_memory
from rolegen_agent.project import write_project_file
from rolegen_errors import ProjectError

from ..load.benchmark import databases
from ..load.cluster import postgres_programs
from ..load.processes import run_in_fork
from ..load.throughput import Ask, LimitedLlm, measured
from ..results import Result, commit, machine
from .curve import Point, counters, database_size, measure

AT = datetime(2011, 9, 1, tzinfo=UTC)
ONE_IN, QUICK_ONE_IN = 10, 60
"""of the log's customers, every so many-th is decided on"""
TRAINING = {"epochs": 1, "max_returns": 800, "max_hints": 40, "max_read": 40, "max_spells": 500}
"""enough for a backbone of the usual size: what a decision costs does not depend on how well it was trained"""
ASKED, QUICK_ASKED = 1_000, 20
TIMED, QUICK_TIMED = 150, 10
"""decisions with a scripted LLM: for bytes and counts, and for processor time"""
BENCH_S = 10
Progress = Callable[[str, int, int], None]


def run_costs(*, quick: bool, progress: Progress) -> Result:
    """Measure everything.

    Raises:
        ProjectError: there is no PostgreSQL, or no ``pgbench``.
    """
    started, figures = time.perf_counter(), dict[str, float]()
    one_in, asked, timed = (QUICK_ONE_IN, QUICK_ASKED, QUICK_TIMED) if quick else (ONE_IN, ASKED, TIMED)
    parts: list[tuple[str, Callable[[], dict[str, float]]]] = [
        ("store and evidence", lambda: _log(one_in if quick else 1)),
        ("decisions", lambda: _plain(one_in)),
        ("decisions with an LLM", lambda: _asked(asked, timed)),
        ("transactions", lambda: _transactions(1 if quick else BENCH_S)),
    ]
    for done, (name, part) in enumerate(parts):
        progress(f"costs: {name}", done, len(parts))
        figures |= part()
    progress("costs", len(parts), len(parts))
    return Result(
        name="costs",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures,
    )


def _log(one_in: int) -> dict[str, float]:
    with TemporaryDirectory() as folder, _shop(Path(folder), one_in) as shop:
        begun = time.process_time()
        report = shop.ingest()
        ingest_s = time.process_time() - begun
        events, items = pl.read_parquet(shop.project.events), known_items(shop.project, AT)
        sizes = shop.project.events.stat().st_size / events.height, shop.project.items.stat().st_size / report.items
    past = events.filter(pl.col("time") < AT)
    options = EvidenceOptions()
    begun = time.process_time()
    ledger = read_ledger(past, items, at=AT, options=options).ledger
    rows_s = time.process_time() - begun
    begun = time.process_time()
    update_evidence(past, items, at=AT, options=options, earlier=ledger)
    tables_s = time.process_time() - begun
    return {
        "store.bytes_per_event.log": sizes[0],
        "store.bytes_per_item.log": sizes[1],
        "store.rows_per_s.log": report.rows / ingest_s,
        "evidence.events_per_s.rows": past.height / rows_s,
        "evidence.events_per_s.tables": past.height / tables_s,
        "evidence.bytes_per_event.rows": sum(frame.estimated_size() for frame in ledger.rows.values()) / past.height,
    }


def _plain(one_in: int) -> dict[str, float]:
    with TemporaryDirectory() as folder, databases() as found:
        memory = _postgres(found)
        with _shop(Path(folder), one_in, memory) as shop:
            shop.ingest()
            shop.train(AT)
            users = shop.dormant(AT)["user"].sort().to_list()
            shop.awaken(users[:2], AT)  # opens and counts what all decisions share
            size, before = database_size(memory), counters(memory)
            begun = time.process_time()
            decided = shop.awaken(users, AT).decided
            cpu_s = time.process_time() - begun
        time.sleep(1.1)  # the server tells its counters once a second
        after = counters(memory)
        return {
            "decision.cpu_s.plain": cpu_s / decided,
            "decision.bytes.plain": (database_size(memory) - size) / decided,
            "decision.log_bytes.plain": (after["wal_bytes"] - before["wal_bytes"]) / decided,
            "decision.commits.plain": (after["commits"] - before["commits"]) / decided,
            "decision.decisions.plain": float(decided),
        }


def _asked(decisions: int, timed: int) -> dict[str, float]:
    with TemporaryDirectory() as folder, databases() as found:
        point = Point("processes", 1, decisions)
        seen = measure(point, _postgres(found), Path(folder) / "legs.json", lambda done, total: None)
    with LimitedLlm(0.0, 4).server as server:
        alone = run_in_fork(measured, Ask(server.url, timed, 4, checkpoints=True))
    return {
        "decision.cpu_s.llm": alone["cpu_s"] / alone["decided"],
        **{f"decision.{name}.llm": seen[f"{name}_per_decision"] for name in ("calls", "tokens", "bytes", "commits")},
        "decision.log_bytes.llm": seen["wal_bytes_per_decision"],
        "decision.decisions.llm": float(decisions),
    }


def _transactions(seconds: int) -> dict[str, float]:
    folder = postgres_programs()
    program = shutil.which("pgbench") or (str(folder / "pgbench") if folder and (folder / "pgbench").exists() else None)
    if program is None:
        raise ProjectError(
            "pgbench is not installed", fix="install PostgreSQL's programs (Debian: apt install postgresql)"
        )
    with databases() as found:
        url = make_url(_postgres(found))
        # libpq knows no driver's name, and everybody can read a command's arguments.
        plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
        database = plain.render_as_string()
        environment = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
        _told([program, "-i", "-q", "-s", "10", database], environment)
        said = _told([program, "-N", "-c", "8", "-T", str(seconds), database], environment)
    rate = re.search(r"tps = ([\d.]+)", said)
    if rate is None:
        raise ProjectError(f"pgbench told no rate: {said[-300:]}", fix="run it by hand")
    return {"database.commits_per_s.eight": float(rate[1])}


def _told(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise ProjectError(f"pgbench failed: {done.stderr.strip()[-300:]}", fix="run it by hand")
    return done.stdout


def _postgres(found: dict[str, tuple[str, str]]) -> str:
    if "postgresql" not in found:
        raise ProjectError(
            "costs are those of PostgreSQL, whose server is not installed here",
            fix="install it (Debian: apt install postgresql), or set ROLEGEN_BENCH_POSTGRES=postgresql://…",
        )
    return found["postgresql"][0]


def _shop(folder: Path, one_in: int, memory: str | None = None) -> RoleGen:
    """The bundled log, or some of its customers."""
    if one_in > 1:
        some = pl.col("CustomerID").cast(pl.Int64) % one_in == 0
        pl.read_parquet(bundled_log()).filter(some).write_parquet(folder / "some.parquet")
    write_project_file(folder, preset="online_retail_ii", events="some.parquet" if one_in > 1 else None, currency="GBP")
    kept: dict[str, dict[str, object]] = {"backbone": dict(TRAINING)}
    if memory is not None:
        with open_memory(memory, upgrade=True):
            kept["memory"] = {"url": memory}
    return RoleGen.open(folder, overrides=kept)
