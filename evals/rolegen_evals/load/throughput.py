"""What share of an endpoint's possible throughput a batch reaches, and what the loop itself costs the processor.

The endpoint answers each request after a fixed time and so many at once, and lets the others queue; it can thus answer
``limit / delay`` requests a second. The batch runs in a process of its own, or both would share one interpreter.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rolegen_agent.batch import awaken, under_way
from rolegen_agent.memory import open_memory

from ..endpoint import CHAT, Asked, Endpoint, Heard, Reply, completion, models
from .processes import run_in_fork
from .shop import AT, mind, open_shop, user_name


class LimitedLlm:
    """A scripted LLM with a fixed time for an answer, and room for ``limit`` of them at once."""

    def __init__(self, delay_s: float, limit: int) -> None:
        self._delay_s, self._room = delay_s, threading.BoundedSemaphore(limit)
        self._lock = threading.Lock()
        self.answered: list[float] = []
        """when each answer went out (monotonic clock, which processes share)"""
        self.server = Endpoint(self._respond)

    def _respond(self, heard: Heard) -> Reply:
        if heard.path != CHAT:
            return Reply(models("scripted"))
        with self._room:
            end = time.monotonic() + self._delay_s
            text = json.dumps(mind(Asked.of(heard.body)))  # within the time that the answer takes
            self.server.over.wait(max(0.0, end - time.monotonic()))
        with self._lock:
            self.answered.append(time.monotonic())
        return Reply(completion(heard, text))


@dataclass(frozen=True)
class Ask:
    """One measured batch."""

    endpoint: str | None
    users: int
    concurrency: int
    checkpoints: bool
    first: int = 0


def measured(ask: Ask) -> dict[str, float]:
    """Run the batch in this process; wall clock and processor seconds of it, its imports and opening left out."""
    with TemporaryDirectory() as folder, open_memory(Path(folder) / "memory.db") as memory:
        shop = open_shop(memory, "throughput", endpoint=ask.endpoint, concurrency=ask.concurrency)
        users = [user_name(ask.first + number) for number in range(ask.users)]
        warm = [user_name(10**6 + number) for number in range(4)]
        options: dict[str, Any] = {
            "workers": under_way(ask.concurrency) if ask.endpoint else 1,
            "checkpoints": Path(folder) / "checkpoints.db" if ask.checkpoints else None,
        }
        awaken(shop, memory, warm, AT, **options)
        wall, cpu = time.monotonic(), time.process_time()
        report = awaken(shop, memory, users, AT, **options)
        return {
            "began": wall,
            "wall_s": time.monotonic() - wall,
            "cpu_s": time.process_time() - cpu,
            "decided": float(report.decided),
        }


def throughput(*, users: int, delay_s: float, limit: int) -> dict[str, float]:
    """Figures of a batch whose concurrency is the endpoint's limit.

    ``batch`` counts from the batch's start to its end, with the ramps at both; ``saturated`` from 10 to 80 % of that time,
    when everybody has something to ask.
    """
    llm = LimitedLlm(delay_s, limit)
    with llm.server as server:
        found = run_in_fork(measured, Ask(server.url, users, limit, checkpoints=True))
    began, seconds = found["began"], found["wall_s"]
    possible = limit / delay_s

    def rate(start: float, end: float) -> float:
        low, high = began + start * seconds, began + end * seconds
        return sum(low < when <= high for when in llm.answered) / (high - low)

    return {
        "throughput.share_of_endpoint.batch": rate(0, 1) / possible,
        "throughput.share_of_endpoint.saturated": rate(0.1, 0.8) / possible,
        "throughput.requests_per_s.batch": rate(0, 1),
        "throughput.requests_per_s.saturated": rate(0.1, 0.8),
        "throughput.requests_per_s.endpoint": possible,
        "throughput.requests_at_once.batch": float(server.most_in_flight),
        "cpu_ms_per_decision.llm.batch": 1000 * found["cpu_s"] / found["decided"],
    }


def loop_cost(*, users: int) -> dict[str, float]:
    """Processor milliseconds of a decision without LLM and backbone: graph, nodes, memory; and with checkpoints."""
    figures = {}
    for name, checkpoints in (("plain", False), ("checkpoints", True)):
        found = run_in_fork(measured, Ask(None, users, 1, checkpoints=checkpoints))
        figures[f"cpu_ms_per_decision.{name}.loop"] = 1000 * found["cpu_s"] / found["decided"]
    return figures
