"""What users did after the log was read: their trajectories in the log, followed by events that were told since.

An :class:`~.events.EventLog` is read once for a day. Online, a user looks at something now and is to be answered now, so a
small log of just the users that are asked about is put together: their rows, followed by what was told. The market (sales
of all users, what goes with what) stays that of the day, since nobody tells what all others did meanwhile.

The model decides by whole days: it has learnt from decisions that saw everything before a midnight and nothing of the day
itself. A decision that is to see events of today therefore stands at the coming midnight; the market that it reads is still
that of the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .events import DAY, EventLog, Floats, Ints

NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Told:
    """N events of one user that the log does not hold, in order of time."""

    user: str
    item: Ints
    """(N,) positions in the log's items"""
    time: Ints
    """(N,) Unix seconds"""
    behaviour: Ints
    """(N,) positions in ``events.BEHAVIOURS``"""
    quantity: Floats
    price: Floats
    """(N,) per unit, NaN where unknown"""

    @classmethod
    def nothing(cls, user: str) -> Told:
        """Nothing was told of the user."""
        none = np.zeros(0, np.float32)
        return cls(user, NOTHING, NOTHING, NOTHING, none, none)

    def __len__(self) -> int:
        return len(self.item)


def midnight_after(second: int) -> int:
    """The first midnight (UTC) at which everything strictly before ``second`` lies on an earlier day.

    >>> midnight_after(0), midnight_after(1), midnight_after(DAY), midnight_after(DAY + 1) == 2 * DAY
    (0, 86400, 86400, True)
    """
    return -(-second // DAY) * DAY


def followed(log: EventLog, told: Sequence[Told], before: int) -> EventLog:
    """The rows of ``log`` strictly before ``before`` of each user in ``told``, followed by what was told.

    The user of ``told[n]`` is user ``n`` of the new log, named by that number, so that one user may be asked about twice with
    other events. Users whom the log does not know are in it too. Told events have negative ids: no label points at them.

    Args:
        before: Unix second from which on the log's own rows are left out.
    """
    columns: list[list[npt.NDArray[Any]]] = [[] for _ in range(6)]
    start, total = [0], 0
    for one in told:
        index = log.user_index(one.user)
        rows = log.rows(index, before) if index is not None else slice(0, 0)
        parts: tuple[tuple[npt.NDArray[Any], npt.NDArray[Any]], ...] = (
            (log.item[rows], one.item),
            (log.time[rows], one.time),
            (log.behaviour[rows], one.behaviour),
            (log.quantity[rows], one.quantity),
            (log.price[rows], one.price),
            (log.event[rows], -1 - np.arange(len(one))),
        )
        for column, (known, new) in zip(columns, parts, strict=True):
            column += [known, new]
        total += rows.stop - rows.start + len(one)
        start.append(total)
    item, time, behaviour, quantity, price, event = (np.concatenate(column) for column in columns)
    return EventLog(
        users=np.array([f"{n:08}" for n in range(len(told))], dtype=str),
        items=log.items,
        user=np.repeat(np.arange(len(told)), np.diff(start)),
        item=item,
        time=time,
        behaviour=behaviour,
        quantity=quantity,
        price=price,
        event=event,
        start=np.array(start),
    )
