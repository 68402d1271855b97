"""Decisions in several processes: without an LLM the loop is bound by Python, which threads cannot share.

Each worker opens the project for itself and writes to the same memory. A worker ignores Ctrl-C: the caller stops handing
out work, and what is under way is finished and kept. A worker ends when its caller is killed, and a killed worker ends the
caller with an error; the same command then goes on.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from rolegen_errors import ProjectError
from rolegen_graphs import decision_id

from .facade import Progress, RoleGen
from .parenthood import end_with_parent
from .project import moment
from .turns import take_short_turns

if TYPE_CHECKING:
    from .batch import AwakenReport

CHUNK = 64
"""users handed to a worker at a time"""

_shop: RoleGen | None = None
"""the worker's own project; None in the caller"""


def awaken_in_processes(
    shop: RoleGen,
    users: Sequence[str],
    at: datetime | str,
    *,
    progress: Progress,
    stop: Event,
    processes: int | None = None,
    llm_budget: str | None = None,
    spans: bool = False,
) -> AwakenReport:
    """As :meth:`RoleGen.awaken`, on all cores where that helps: many users and no LLM to wait for.

    Call it from a program whose main module may be imported again (``if __name__ == "__main__":``), since workers are
    spawned. ``processes`` None takes one for each core, at most four. ``spans``: the workers export spans as the
    ``OTEL_*`` variables ask, which is theirs to say since they are processes of this function's own.
    """
    if llm_budget is not None:
        return shop.awaken(users, at, llm_budget=llm_budget, progress=progress, stop=stop)
    started, when = time.perf_counter(), moment(at)
    assembly, wanted = shop.assembly(when), list(dict.fromkeys(users))
    keys = {decision_id(assembly.settings.run, user, when): user for user in wanted}
    recorded = shop.memory.recorded(keys)
    todo = [user for key, user in keys.items() if key not in recorded]
    count, decided = processes or min(os.cpu_count() or 1, 4), 0
    if assembly.client is None and count > 1 and len(todo) >= 2 * CHUNK and shop.spreads:
        earlier = len(wanted) - len(todo)

        def told(done: int) -> None:
            progress("awaken", earlier + done, len(wanted))

        decided = _spread(shop, todo, when, count, told, stop, spans=spans)
    report = shop.awaken(wanted, when, progress=progress, stop=stop)
    return replace(
        report,
        earlier=report.earlier - decided,
        decided=report.decided + decided,
        seconds=time.perf_counter() - started,
    )


def _spread(
    shop: RoleGen,
    users: Sequence[str],
    at: datetime,
    processes: int,
    progress: Callable[[int], None],
    stop: Event,
    *,
    spans: bool,
) -> int:
    """Decisions made. The first error of a worker is raised after what is under way has ended."""
    chunks = iter([users[low : low + CHUNK] for low in range(0, len(users), CHUNK)])
    done = 0
    error: BaseException | None = None
    under_way: set[Future[int]] = set()
    # Spawned, not forked: a fork would copy locks of torch's and the database's threads in whatever state they are.
    start = (shop.project.root, shop.overrides, spans)
    with ProcessPoolExecutor(processes, get_context("spawn"), _open, start) as pool:
        while True:
            while error is None and not stop.is_set() and len(under_way) < processes + 1:
                chunk = next(chunks, None)
                if chunk is None:
                    break
                try:
                    under_way.add(pool.submit(_decide, chunk, at))
                except BrokenExecutor as broken:
                    error = broken
            if not under_way:
                break
            ready, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ready:
                error = error or future.exception()
                if future.exception() is None:
                    done += future.result()
                    progress(done)
    if isinstance(error, BrokenExecutor):
        raise ProjectError(
            "a worker process ended without a word: killed, or out of memory",
            fix="what was decided is kept; give the same command again, and it goes on",
        ) from error
    if error is not None:
        raise error
    return done


def _open(root: Path, overrides: Mapping[str, Mapping[str, object]] | None, spans: bool) -> None:
    global _shop
    end_with_parent()
    take_short_turns()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shop = RoleGen.open(root, overrides=overrides)
    if spans:
        from .telemetry.export import exported_spans

        exporting = exported_spans(_shop.project)
        exporting.__enter__()
        # A worker ends when it gets no more work; what runs at its very end is registered here.
        Finalize(None, exporting.__exit__, args=(None, None, None), exitpriority=1)


def _decide(users: Sequence[str], at: datetime) -> int:
    if _shop is None:
        raise RuntimeError("the worker was not opened")
    return _shop.awaken(users, at).decided
