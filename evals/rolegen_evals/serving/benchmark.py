"""``rolegen bench serve``: ``rolegen serve`` in a process of its own, asked by another one on the same machine.

==============================  =======================================================================================
``serve.p50_ms``, ``p99_ms``    with people as dormant ones are (``load.MIXES``), at 200 requests a second: from the time at which a request was
                                to be sent to its answer; systems:
                                ``rolegen`` is all of them, the others by source of the slate, and ``events`` those that told some
``serve.errors.rolegen``        requests that were not answered with 200
``serve.per_s.rolegen``         requests answered a second
``serve.cpu_ms.rolegen``        processor time of the server for each request
``serve.share.SOURCE``          of slates that came from there
``serve.share.late``            of slates that were to be ranked, and were answered from memory since that took too long
``busy.*``                      the same with people of whom half are to be ranked again
``highest.per_s.rolegen``       the highest rate of a ladder whose p99 stayed within 20 ms without an error
``rate_N.p99_ms.rolegen``       p99 of each rung
``start.seconds.rolegen``       from the command to the first answer
==============================  =======================================================================================

A catalogue of 5,000 items, 6,000 users, 2,000 of them with a decision; ``load.py`` says who asks. Server and client share the machine's cores.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

from rolegen_errors import ProjectError

from ..browsing.visits import Server, percentile
from ..results import Result, commit, machine
from .load import MIXES, Taken, Visitors, drive
from .shop import AT, QUICK, Prepared, Size, prepare

RATE = 200.0
SECONDS = 40.0
WARM_S = 5.0
"""at the beginning of each rate, not counted"""
RUNG_S = 12.0
LADDER = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1_000.0)
WITHIN_MS = 20.0
CLOCK = AT + timedelta(hours=10)
Progress = Callable[[str, int, int], None]


def bench_serve(*, work: Path, quick: bool, progress: Progress) -> Result:
    """Prepare the shop where it is not there yet, serve it, and load it."""
    began = time.perf_counter()
    shop = fresh(prepare(work / ("quick" if quick else "shop"), QUICK if quick else Size(), progress))
    visitors = Visitors(shop.decided, shop.others, shop.items, CLOCK)
    figures: dict[str, float] = {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client, served(shop) as (server, base, start_s):

        def load(mix: str, rate: float, seconds: float, seed: int) -> list[Taken]:
            return client.submit(drive, base, visitors, mix=mix, rate=rate, seconds=seconds, seed=seed).result()

        figures["start.seconds.rolegen"] = round(start_s, 1)
        rate, seconds = (20.0, 2.0) if quick else (RATE, SECONDS)
        for number, mix in enumerate(MIXES):
            progress("load", number, len(MIXES))
            load(mix, rate / 2, 1.0 if quick else WARM_S, seed=1)
            worked = server.worked_ms()
            taken = load(mix, rate, seconds, seed=2)
            figures |= figures_of(mix, taken, seconds, server.worked_ms() - worked)
        progress("load", len(MIXES), len(MIXES))
        if not quick:
            figures |= ladder(load, progress)
    return Result(
        name="serve",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - began, 1),
        figures=figures,
    )


def fresh(shop: Prepared) -> Prepared:
    """A copy of which no server was told anything yet."""
    folder = shop.folder.with_name(f"{shop.folder.name}-served")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(shop.folder, folder)
    return replace(shop, folder=folder)


def ladder(load: Callable[[str, float, float, int], list[Taken]], progress: Progress) -> dict[str, float]:
    """Rates one above the other, until one is too much."""
    figures, best = dict[str, float](), 0.0
    for number, rate in enumerate(LADDER):
        progress("rates", number, len(LADDER))
        taken = [one for one in load("serve", rate, WARM_S / 2 + RUNG_S, 10 + number) if one.due >= WARM_S / 2]
        slowest = percentile([one.ms for one in taken], 0.99)
        figures[f"rate_{rate:.0f}.p99_ms.rolegen"] = round(slowest, 1)
        if slowest > WITHIN_MS or any(one.status != 200 for one in taken):
            break
        best = rate
    progress("rates", len(LADDER), len(LADDER))
    return figures | {"highest.per_s.rolegen": best}


def figures_of(mix: str, taken: Sequence[Taken], seconds: float, worked_ms: float) -> dict[str, float]:
    """What one load tells."""
    figures: dict[str, float] = {}
    groups = {"rolegen": list(taken)}
    for one in taken:
        groups.setdefault(one.source or one.kind, []).append(one)
    for name, some in groups.items():
        times = [one.ms for one in some]
        figures[f"{mix}.p50_ms.{name}"] = round(percentile(times, 0.5), 2)
        figures[f"{mix}.p99_ms.{name}"] = round(percentile(times, 0.99), 2)
    slates = [one for one in taken if one.source]
    for name in groups:
        if any(one.source == name for one in slates):
            figures[f"{mix}.share.{name}"] = round(sum(one.source == name for one in slates) / len(slates), 3)
    if slates:
        figures[f"{mix}.share.late"] = round(sum(one.late for one in slates) / len(slates), 4)
    figures[f"{mix}.errors.rolegen"] = float(sum(one.status != 200 for one in taken))
    figures[f"{mix}.per_s.rolegen"] = round(sum(one.status == 200 for one in taken) / seconds, 1)
    if math.isfinite(worked_ms):
        figures[f"{mix}.cpu_ms.rolegen"] = round(worked_ms / len(taken), 2)
    return figures


@contextmanager
def served(shop: Prepared) -> Iterator[tuple[Server, str, float]]:
    """``rolegen serve`` over the shop in a process of its own, its address, and the seconds until it could answer.

    Raises:
        ProjectError: it ends before it serves.
    """
    began = time.perf_counter()
    command = [sys.executable, "-c", "from rolegen_agent.cli import main; main()", "serve"]
    arguments = ["--project", str(shop.folder), "--at", CLOCK.isoformat(), "--port", "0"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("serving http"):
                raise ProjectError("the server did not begin to serve", fix="look at what it wrote to stderr")
            base = line.removeprefix("serving ").strip()
            yield Server(int(base.rpartition(":")[2]), process.pid), base, time.perf_counter() - began
        finally:
            process.terminate()
