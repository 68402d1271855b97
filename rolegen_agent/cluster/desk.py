"""Where workers and the command that started them leave each other word: how far they are, and whether to stop.

An actor of Ray, on the node of the command: if that node dies, so does the command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from .connection import Nodes, Told

Word = tuple[str, int, int]
"""stage, done, total"""
LOOK_S = 0.3
"""between two looks at the desk"""


class _Desk:
    """The actor: word of each piece of work, by its name, and the wish to stop."""

    def __init__(self) -> None:
        self._done: dict[str, Word] = {}
        self._stop = False
        self._error: Told | None = None

    def tell(self, name: str, stage: str, done: int, total: int) -> bool:
        """Note how far a piece is; whoever does it again starts over. Returns whether to stop."""
        self._done[name] = stage, done, total
        return self._stop

    def look(self) -> dict[str, Word]:
        """The last word of each piece."""
        return self._done

    def stop(self) -> None:
        """Ask everybody to stop after what is under way."""
        self._stop = True

    def fail(self, error: Told) -> None:
        """Note an error; the first one stays."""
        self._error = self._error or error

    def error(self) -> Told | None:
        """The first error."""
        return self._error


class Desk:
    """A handle to the actor; workers get it as an argument."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    @classmethod
    def on(cls, nodes: Nodes) -> Desk:
        """A new one on the node of the command."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(node_id=nodes.here, soft=False)
        return cls(ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=here).remote())

    def tell(self, name: str, stage: str, done: int, total: int) -> bool:
        """From a worker: how far the piece of work ``name`` is; returns whether to stop."""
        import ray

        return bool(ray.get(self._actor.tell.remote(name, stage, done, total)))

    def fail(self, error: Told) -> None:
        """From a worker: why the work cannot be done."""
        import ray

        ray.get(self._actor.fail.remote(error))

    def error(self) -> Told | None:
        """What a worker said first."""
        import ray

        found: Told | None = ray.get(self._actor.error.remote())
        return found

    @contextmanager
    def watched(self, look: Callable[[dict[str, Word]], None], stop: Event) -> Iterator[None]:
        """In the command: ``look`` gets the last word of each piece now and then, and ``stop`` is passed on when it is set."""
        import ray
        from ray.exceptions import RayError

        over = Event()

        def watch() -> None:
            asked = False
            with suppress(RayError):  # the cluster is gone: the block itself says so
                while not over.wait(LOOK_S):
                    if stop.is_set() and not asked:
                        ray.get(self._actor.stop.remote())
                        asked = True
                    look(ray.get(self._actor.look.remote()))

        watcher = Thread(target=watch, name="desk", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            ray.kill(self._actor)


@contextmanager
def reporting(desk: Desk, name: str, stage: str, total: int) -> Iterator[tuple[Callable[[int], None], Event]]:
    """In a worker: a function to say how far it is, and an event that is set when it is to stop."""
    over, stop, done = Event(), Event(), [0]

    def report() -> None:
        while not over.wait(LOOK_S):
            if desk.tell(name, stage, done[0], total):
                stop.set()

    def say(so_far: int) -> None:
        done[0] = so_far

    if desk.tell(name, stage, 0, total):
        stop.set()
    reporter = Thread(target=report, name="to-the-desk", daemon=True)
    reporter.start()
    try:
        yield say, stop
    finally:
        over.set()
        reporter.join()
        desk.tell(name, stage, done[0], total)
