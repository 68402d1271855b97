"""How many requests are under way at a time, and who is next: the decision that has come furthest.

First come, first served would take all decisions forward together, and a run that stops at a limit would have many of them
half done and few finished.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Condition
from typing import get_args

from rolegen_graphs.parts import Node
from rolegen_graphs.words import CallSite

_PLACE = {node: place for place, node in enumerate(get_args(Node))}


class Slots:
    """``number`` places; safe for use from several threads."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._changed = Condition()
        self._waiting: list[tuple[int, int, int]] = []
        self._arrivals = count()

    @contextmanager
    def taken(self, site: CallSite) -> Iterator[None]:
        """Hold a place for the block."""
        ticket = (-site.round, -_PLACE.get(site.node, 0), next(self._arrivals))
        with self._changed:
            heapq.heappush(self._waiting, ticket)
            try:
                self._changed.wait_for(lambda: self._free and self._waiting[0] == ticket)
                self._free -= 1
            finally:  # also where Ctrl-C ends the waiting
                self._waiting.remove(ticket)
                heapq.heapify(self._waiting)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()
