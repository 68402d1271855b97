"""One at a time for equal keys: who comes later waits, and then finds what the first one left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock

Claim = Callable[[str], AbstractContextManager[bool]]
"""holds a key for a block against other programs too; False if it is held by somebody else"""
_LOOK_AGAIN_S = 0.05


class Turns:
    """A lock for each key, kept only as long as somebody holds it or waits for it.

    ``claim`` makes the other programs on the same memory wait too.
    """

    def __init__(self, claim: Claim | None = None) -> None:
        self._guard = Lock()
        self._claim = claim
        self._locks: dict[str, tuple[Lock, int]] = {}

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        """Hold ``key``."""
        with self._guard:
            lock, users = self._locks.get(key, (Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                if self._claim is None:
                    yield
                    return
                while True:
                    with self._claim(key) as mine:
                        if mine:
                            yield
                            return
                    time.sleep(_LOOK_AGAIN_S)
        finally:
            with self._guard:
                lock, users = self._locks[key]
                if users == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = lock, users - 1
