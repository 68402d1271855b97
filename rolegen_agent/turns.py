"""How long a thread may compute while others wait for Python's lock, in processes that are ours alone."""

from __future__ import annotations

import sys

SWITCH_S = 0.001
"""Python's own is five times as long: an answer that has arrived waits for so long wherever its thread gives the lock away, in each
statement of the memory and each packet of a connection, and the endpoint waits for the next question meanwhile"""


def take_short_turns() -> None:
    """Let the threads of this process take turns after :data:`SWITCH_S`. For programs of ours: in others it is theirs to decide."""
    sys.setswitchinterval(SWITCH_S)
