"""A process that was started by another one ends with it."""

from __future__ import annotations

import os
from multiprocessing import parent_process
from threading import Thread


def end_with_parent() -> None:
    """Let this process end when the one that started it is gone; a pool's worker would wait for work for ever. What it was
    deciding is decided again: a decision is recorded whole or not at all."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, name="end-with-parent", daemon=True).start()
