"""Visits to the trace pages over real HTTP: which addresses, and how long each took."""

from __future__ import annotations

import random
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sqlalchemy import Engine, func, select

from rolegen_agent.memory.models import DigestRow, RoleLabelRow
from rolegen_errors import ProjectError

from .copies import COHORTS, run_of, user_of

ROLES = ("target", "comparison", "trigger", "complement")
START_S = 120.0


def addresses(engine: Engine, decisions: int, each: int) -> dict[str, list[str]]:
    """By page, ``each`` addresses: other users, filters and places in the list each time."""
    luck = random.Random(7)
    numbers = [luck.randrange(decisions) for _ in range(each)]
    runs = [run_of(number)[1] for number in numbers]
    days = [run_of(number)[2] for number in numbers]
    deep = _places(engine, each, luck)
    detailed = _detailed(engine, each)
    asked = _detailed(engine, each, calls=True)
    return {
        "overview": ["/"] * each,
        "overview_deep": [_list(after=place) for place in deep],
        "overview_sort": [_list(sort=luck.choice(("time", "cost", "seconds"))) for _ in numbers],
        "overview_run": [_list(run=run) for run in runs],
        "overview_cohort": [_list(cohort=luck.choice(COHORTS)) for _ in numbers],
        "overview_role": [_list(role=luck.choice(ROLES)) for _ in numbers],
        "overview_outcome": [_list(outcome=luck.choice(("ordered", "open", "not_ordered"))) for _ in numbers],
        "overview_dates": [_list(since=f"{day:%Y-%m-%d}", until=f"{day:%Y-%m-%d}") for day in days],
        "overview_text": [_list(text=f"article {luck.randrange(12)}-{luck.randrange(240):03}") for _ in numbers],
        "overview_text_nowhere": [_list(text=f"nothing like {number}") for number in numbers],
        "overview_text_deep": [
            _list(text=f"article {luck.randrange(12)}-{luck.randrange(240):03}", after=place) for place in deep
        ],
        "user": [f"/users?{urlencode({'id': user_of(number)})}" for number in numbers],
        "decision": [f"/decisions/{key}" for key in detailed],
        "decision_llm": [f"/decisions/{key}" for key in asked],
        "compare_decisions": [f"/compare?{urlencode({'a': a, 'b': b})}" for a, b in zip(detailed, asked, strict=False)],
        "compare_runs": [f"/compare?{urlencode({'a': a, 'b': b})}" for a, b in zip(runs, reversed(runs), strict=True)],
        "lessons": ["/lessons"] * each,
        "prompts": ["/prompts"] * each,
        "prompt": [f"/prompts?name={quote(name)}" for name in ("reason", "simulate")] * (each // 2),
        "live": ["/live"] * each,
    }


def _list(**filters: str) -> str:
    return f"/?{urlencode(filters)}"


def _places(engine: Engine, each: int, luck: random.Random) -> list[str]:
    """Cursors from all over the list, in the order in which decisions were recorded."""
    by: Any = DigestRow.recorded_at
    with engine.connect() as connection:
        first, last = connection.execute(select(func.min(by), func.max(by))).one()
        moments = [first + (last - first) * luck.random() for _ in range(each)]
        query = select(by, DigestRow.decision).order_by(by.desc(), DigestRow.decision.desc()).limit(1)
        found = [connection.execute(query.where(by < moment)).one() for moment in moments]
    return [f"{moment.isoformat()}~{key}" for moment, key in found]


def _detailed(engine: Engine, each: int, *, calls: bool = False) -> list[str]:
    """Decisions of which everything is there, all over the table."""
    keys: list[str] = []
    with engine.connect() as connection:
        for start in range(256):
            query = select(DigestRow.decision).where(
                DigestRow.decision >= f"{start * 251 % 256:02x}", DigestRow.run != ""
            )
            query = query.where(DigestRow.calls > 0 if calls else DigestRow.calls == 0)
            label: Any = RoleLabelRow
            query = query.where(select(label.decision).where(label.decision == DigestRow.decision).exists())
            keys += connection.execute(query.order_by(DigestRow.decision).limit(1)).scalars()
            if len(keys) == each:
                break
    return keys


class Visit(NamedTuple):
    """What one request took, in milliseconds."""

    wall: float
    """from the request to the last byte of the answer"""
    worked: float
    """what the server's process worked for it; a database server's own work is not in it. NaN where the system does not tell"""


def visit(server: Server, pages: dict[str, list[str]], progress: Callable[[int, int], None]) -> dict[str, list[Visit]]:
    """The visits of each page in their order.

    Pages take turns, so that none profits from what the one before has just read; each is asked for once beforehand.

    Raises:
        ProjectError: a page is not answered with 200.
    """
    connection = HTTPConnection("127.0.0.1", server.port, timeout=600)
    found: dict[str, list[Visit]] = {name: [] for name in pages}
    turns = max(map(len, pages.values()))
    for turn in range(-1, turns):
        for name, paths in pages.items():
            if turn >= len(paths) or not paths:
                continue
            worked, began = server.worked_ms(), time.perf_counter()
            connection.request("GET", paths[max(turn, 0)])
            answer = connection.getresponse()
            body = answer.read()
            taken = 1000 * (time.perf_counter() - began)
            if answer.status != 200:
                raise ProjectError(
                    f"{paths[max(turn, 0)]} was answered with {answer.status}: {body[:200]!r}", fix="mend the page"
                )
            if turn >= 0:
                found[name].append(Visit(taken, server.worked_ms() - worked))
        progress(turn + 1, turns)
    connection.close()
    return found


class Server(NamedTuple):
    """A process that serves the pages."""

    port: int
    process: int

    def worked_ms(self) -> float:
        """Processor time of all its threads so far."""
        try:
            tasks = list(Path(f"/proc/{self.process}/task").iterdir())
            return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6
        except OSError:
            return float("nan")


@contextmanager
def served(url: str) -> Iterator[Server]:
    """A process of its own that serves the pages of a memory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = get_context("spawn").Process(target=_serve, args=(url, port), daemon=True)
    process.start()
    try:
        end = time.monotonic() + START_S
        while not _answers(port):
            if not process.is_alive() or time.monotonic() > end:
                raise ProjectError("the pages' server does not answer", fix="look at what it wrote to stderr")
            time.sleep(0.05)
        yield Server(port, process.pid or 0)
    finally:
        process.terminate()
        process.join()


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _serve(url: str, port: int) -> None:
    try:
        import uvicorn
    except ModuleNotFoundError:
        sys.exit("uvicorn is not installed: pip install 'rolegen-agent[server]'")
    from rolegen_agent.memory import open_memory
    from rolegen_agent.pages import create_app

    with open_memory(url) as memory:
        uvicorn.run(create_app(memory), host="127.0.0.1", port=port, log_level="error")


def percentile(taken: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the visits lie, without interpolation."""
    ordered = sorted(taken)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
