"""Open-loop load: requests arrive when they arrive, whatever the server does.

Arrivals are a Poisson process, and a latency counts from the time at which its request was to be sent. A server that stalls
is therefore charged for everybody who came meanwhile (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from rolegen_errors import MissingExtraError, ProjectError

MIXES = {
    "serve": {"remembered": 0.75, "moved": 0.08, "undecided": 0.05, "unknown": 0.07, "events": 0.05},
    "busy": {"remembered": 0.5, "moved": 0.2, "undecided": 0.1, "unknown": 0.1, "events": 0.1},
}
"""share of requests: users with a decision; such users with one to three events in the request; known users without a decision;
strangers; events to be kept, of users with a decision, who are ranked again from then on. ``serve`` is what dormant people are like,
most of whom have just come in; of ``busy`` people half of the slates have to be ranked"""
TIMEOUT_S = 10.0


class Taken(NamedTuple):
    """One request and how it ended."""

    kind: str
    due: float
    """seconds after the first one"""
    ms: float
    status: int
    """of HTTP; 0 where the connection failed"""
    source: str
    """of the slate; empty where there is none"""
    late: bool = False
    """it stands in for a slate that was not ranked in time"""


@dataclass(frozen=True)
class Visitors:
    """Who asks, and about what; plain values, since they go to another process."""

    decided: Sequence[str]
    others: Sequence[str]
    items: Sequence[str]
    now: datetime
    """of the server's clock, roughly"""


def drive(base: str, visitors: Visitors, *, mix: str, rate: float, seconds: float, seed: int) -> list[Taken]:
    """Send for ``seconds`` at ``rate`` a second on average, and wait for all answers.

    Args:
        mix: one of :data:`MIXES`.

    Raises:
        MissingExtraError: aiohttp is not installed.
    """
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise MissingExtraError("aiohttp", "bench") from None
    gc.disable()  # a pause of ours must not look like one of the server
    return asyncio.run(_drive(base, visitors, MIXES[mix], rate, seconds, random.Random(seed)))


async def _drive(
    base: str, visitors: Visitors, mix: Mapping[str, float], rate: float, seconds: float, luck: random.Random
) -> list[Taken]:
    import aiohttp

    taken: list[Taken] = []
    due = 0.0
    requests: list[tuple[float, str, str, bytes]] = []
    while (due := due + luck.expovariate(rate)) < seconds:
        requests.append((due, *_request(visitors, mix, luck, len(requests))))
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        start = time.perf_counter() + 0.1

        async def send(due: float, kind: str, path: str, body: bytes) -> None:
            status, source, late = 0, "", False
            try:
                async with session.post(path, data=body, headers={"content-type": "application/json"}) as answer:
                    told = await answer.read()
                    status = answer.status
                    if status == 200 and kind != "events":
                        found = json.loads(told)
                        source, late = str(found["source"]), bool(found["late"])
            except (aiohttp.ClientError, TimeoutError):
                status = 0
            taken.append(Taken(kind, due, 1000 * (time.perf_counter() - start - due), status, source, late))

        async with asyncio.TaskGroup() as under_way:
            for due, kind, path, body in requests:
                wait = start + due - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                under_way.create_task(send(due, kind, path, body))
    if not taken:
        raise ProjectError("no request was sent", fix="raise the rate or the seconds")
    return taken


def _request(visitors: Visitors, mix: Mapping[str, float], luck: random.Random, number: int) -> tuple[str, str, bytes]:
    kind = luck.choices(list(mix), list(mix.values()))[0]
    if kind == "events":
        row = {
            "user": luck.choice(visitors.decided),
            "item": luck.choice(visitors.items),
            "behaviour": luck.choice(("view", "view", "cart")),
            "time": (visitors.now + timedelta(milliseconds=number)).isoformat(),
        }
        return kind, "/events", json.dumps({"events": [row]}).encode()
    body: dict[str, object] = {}
    if kind == "unknown":
        body["user"] = f"stranger {luck.randrange(10**9)}"
    else:
        body["user"] = luck.choice(visitors.others if kind == "undecided" else visitors.decided)
    if kind == "moved":
        body["events"] = [
            {"item": luck.choice(visitors.items), "behaviour": luck.choice(("view", "view", "cart"))}
            for _ in range(luck.randint(1, 3))
        ]
    return kind, "/slate", json.dumps(body).encode()
