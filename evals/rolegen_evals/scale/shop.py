"""The made-up shop of ``rolegen_evals.load.shop`` as workers open it: by a process of a pool, or by an actor of Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Event

from rolegen_agent.batch import AwakenReport, awaken, under_way
from rolegen_agent.memory import Memory, open_memory

from ..load.shop import ScriptedShop, open_shop

CONCURRENCY = 4
"""requests of one worker at a time"""


@dataclass(frozen=True)
class ScriptedOpening:
    """How a worker opens the shop."""

    memory: str
    endpoint: str
    run: str

    def open(self) -> OpenedShop:
        """The shop on a memory and a client of its own."""
        memory = open_memory(self.memory)
        return OpenedShop(
            self.memory, memory, open_shop(memory, self.run, endpoint=self.endpoint, concurrency=CONCURRENCY)
        )


@dataclass(frozen=True)
class OpenedShop:
    """What a worker works with."""

    checkpoints: str
    memory: Memory
    shop: ScriptedShop

    def awaken(
        self,
        users: Sequence[str],
        at: datetime,
        *,
        progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
        stop: Event | None = None,
    ) -> AwakenReport:
        """Decide on ``users``."""
        return awaken(
            self.shop,
            self.memory,
            users,
            at,
            workers=under_way(CONCURRENCY),
            checkpoints=self.checkpoints,
            progress=lambda done, total: progress("awaken", done, total),
            stop=stop,
        )


@dataclass(frozen=True)
class Share:
    """The users of one process."""

    opening: ScriptedOpening
    users: tuple[str, ...]
    at: datetime


def decide_share(share: Share) -> int:
    """Decide on them, in a process of their own; returns how many decisions were made."""
    opened = share.opening.open()
    try:
        return opened.awaken(share.users, share.at).decided
    finally:
        opened.memory.close()
