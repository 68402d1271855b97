"""From remembered decisions to what the backbone learns trust in reasoners from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rolegen_backbone.events import DAY, EventLog, seconds
from rolegen_backbone.fine_tuning import Reasoned

from ..backbone_tool import make_hint

if TYPE_CHECKING:
    from rolegen_graphs.words import RoleLabel

    from ..memory.records import Experience

MIXED = "mixed"
"""reasoner of decisions in which one stood in for another: nobody's candidates"""


class Learnable(NamedTuple):
    """What can be learnt from, by reasoner, and how many decisions were left out for which reason."""

    by_reasoner: dict[str, list[Reasoned]]
    left_out: dict[str, int]


def learnable(found: Sequence[Experience], log: EventLog) -> Learnable:
    """Decisions that were followed by an order, latest first.

    A decision without an order says nothing about *which* item to trust and is left out, counted; so is one without candidates,
    of a mixed reasoner, or of what the log does not know. Labels whose event the log knows as another item's are dropped.
    """
    index = {item: row for row, item in enumerate(log.items.tolist())}
    kept: dict[str, list[Reasoned]] = {}
    left_out: Counter[str] = Counter()
    for one in reversed(found):
        ordered = [index[item] for item in one.outcome.items if item in index]
        user = log.user_index(one.user)
        if not ordered:
            left_out["no order"] += 1
        elif one.reasoner == MIXED:
            left_out["mixed reasoner"] += 1
        elif user is None:
            left_out["unknown user"] += 1
        else:
            at = seconds(one.at) // DAY * DAY
            hint = make_hint(one.candidates, index, _known(one.labels, log, user, at))
            if not len(hint.item):
                left_out["no candidate"] += 1
            else:
                kept.setdefault(one.reasoner, []).append(Reasoned(user, at, hint, np.array(ordered, np.int64)))
    return Learnable(kept, dict(left_out))


def _known(labels: Sequence[RoleLabel], log: EventLog, user: int, at: int) -> list[RoleLabel]:
    """Labels whose event is still what it was: ids of an older ingestion may name other rows."""
    rows = log.rows(user, at)
    item_of = dict(zip(log.event[rows].tolist(), log.items[log.item[rows]].tolist(), strict=True))
    return [label for label in labels if item_of.get(label.event) == label.item]
