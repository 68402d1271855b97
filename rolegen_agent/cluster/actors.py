"""A pool of Ray Data's actors that make decisions: each opens its shop once, and takes a chunk of users at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from threading import Event
from typing import Any, Protocol

from rolegen_errors import ProjectError, RoleGenError

from ..batch import AwakenReport
from ..turns import take_short_turns
from .connection import Told, gist, plain
from .desk import Desk, reporting

CPU = 0.5
"""of which an actor books one half, so that the actors of a dead node find room on the others"""


class Awakens(Protocol):
    """What an actor works with; :class:`rolegen_agent.facade.RoleGen` is one."""

    def awaken(
        self,
        users: Sequence[str],
        at: datetime,
        *,
        progress: Callable[[str, int, int], None],
        stop: Event | None,
    ) -> AwakenReport:
        """Decide on ``users``; what the memory holds already is not done again."""
        ...


class Opening(Protocol):
    """How an actor gets it. It is sent to other processes, so it holds plain values."""

    def open(self) -> Awakens:
        """Called once in each actor."""
        ...


def decide_in_actors(
    opening: Opening, users: Sequence[str], at: datetime, desk: Desk, *, size: int, actors: int
) -> Iterator[AwakenReport | Told]:
    """What became of each chunk of at most ``size`` users, as soon as it is done: a report, or an error as plain values.

    Ray must have been joined. When the desk says stop, what is under way is finished, and the other chunks come back as left.

    Raises:
        ProjectError: the cluster cannot go on.
    """
    import pyarrow
    import ray
    from ray.exceptions import RayError

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the command draws its own
    size = max(1, min(size, -(-len(users) // (2 * actors))))  # of few users everybody gets some
    # One block is one chunk is one call of an actor.
    chunks = [pyarrow.table({"user": list(users[low : low + size])}) for low in range(0, len(users), size)]
    made = ray.data.from_arrow(chunks).map_batches(
        Decider,
        batch_size=None,
        fn_constructor_args=(ray.put(opening), at, desk),
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(chunks)), max_tasks_in_flight_per_actor=2),
        num_cpus=CPU,
        scheduling_strategy="SPREAD",
        max_restarts=-1,
        max_task_retries=-1,
    )
    try:
        for row in made.iter_rows():
            told = json.loads(row["report"])
            yield told["error"] if "error" in told else AwakenReport(**told)
    except RayError as error:
        raise ProjectError(
            f"the cluster gave up: {gist(error)}",
            fix="install the same rolegen-agent with its extra ray on every node; what was decided is kept, and the same command goes on",
        ) from error


class Decider:
    """One worker: a shop that stays open, and a chunk of users at a time."""

    def __init__(self, opening: Any, at: datetime, desk: Desk) -> None:
        import ray

        take_short_turns()
        self._opening: Opening = ray.get(opening)
        self._at, self._desk = at, desk
        self._shop: Awakens | None = None

    def __call__(self, chunk: dict[str, Any]) -> dict[str, list[str]]:
        """One row: the report on these users as JSON, or the error; an exception would stop what others have under way."""
        users = [str(user) for user in chunk["user"]]
        try:
            with reporting(self._desk, users[0], "awaken", len(users)) as (say, stop):
                if self._shop is None:
                    self._shop = self._opening.open()
                report = self._shop.awaken(users, self._at, progress=lambda _, done, total: say(done), stop=stop)
            told = asdict(report)
        except RoleGenError as error:
            told = {"error": plain(error)}
        return {"report": [json.dumps(told)]}
