"""What *showing* an item brings, beside how probable it is that the user orders it next.

The backbone says what comes next; somebody who will rebuy the kettle anyway is not moved by seeing it. Where exposures are logged,
the evidence holds the effect of showing each item on P(net order within its horizon) given the intent state (doubly robust,
shrunk: ``evidence/effects.py``). Slates are then ordered by

    log p(item) + weight * effect(item, states of the user towards the item while the slate stands)

(``outlook.py``: a need goes on after the decision), with one ``weight`` (nats per unit of probability) that `rolegen improve` learns off-policy from exposures which the effects
have not seen (``improve/weighing.py``). It is 0 in a project that was never improved, and in a log without exposures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_errors import FutureError

from .evidence import Evidence, EvidenceOptions
from .evidence.states import ELSEWHERE, HERE, NONE, STATES, stages
from .evidence.store import EFFECTS
from .outlook import Context, Outlook

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
FILE = "showing.json"
"""of an artefact folder; a training that was never improved has none"""
NOWHERE = -1
"""category of no need"""
ENGAGED = ("view", "cart", "order")


@dataclass(frozen=True)
class Needs:
    """The intent state of users as the log before ``until`` shows it."""

    until: datetime
    active: timedelta
    last: Mapping[str, tuple[int, int, datetime]]
    """by user: category code, stage, and time of the last engagement; refunds undo nothing here"""

    @classmethod
    def of(cls, events: pl.DataFrame, items: pl.DataFrame, until: datetime, options: EvidenceOptions) -> Needs:
        """From the events strictly before ``until``; category codes are places among the sorted categories of ``items``."""
        known = items.select("item", category=pl.col("category").rank("dense").cast(pl.Int64) - 1).with_row_index(
            "code"
        )
        engaged = (
            events.filter(pl.col("time") < until, pl.col("behaviour").is_in(ENGAGED))
            .join(known, on="item", how="inner", maintain_order="left")
            .sort("user", "time", maintain_order=True)
            .select("user", "category", "time", item="code", kind="behaviour")
        )
        last = stages(engaged, options).group_by("user", maintain_order=True).last()
        rows = last.select("user", "category", "stage", "time").iter_rows()
        return cls(
            until,
            timedelta(days=options.active_days),
            {user: (category, stage, time) for user, category, stage, time in rows},
        )

    def of_user(self, user: str, at: datetime) -> tuple[int, int]:
        """Category and stage of the need at ``at``; :data:`NOWHERE` and ``NONE`` where there is none.

        Raises:
            FutureError: ``at`` lies before what was read.
        """
        if at < self.until:
            raise FutureError(
                f"the states know of events up to {self.until.isoformat()}, not only up to {at.isoformat()}"
            )
        category, stage, time = self.last.get(user, (NOWHERE, NONE, at))
        return (NOWHERE, NONE) if at - time > self.active else (category, stage)


def effect_table(evidence: Evidence, items: pl.DataFrame) -> Floats:
    """(I, len(STATES)) effect of showing each item on P(net order); 0 where the log does not tell or was not told what was shown."""
    index = pl.DataFrame({"item": items["item"], "row": np.arange(items.height)})
    told = (
        evidence.tables[EFFECTS]
        .filter(pl.col("outcome") == "order", pl.col("kind") == "dr")
        .join(index, on="item", how="inner")
        .with_columns(column=pl.col("state").replace_strict({name: n for n, name in enumerate(STATES)}, default=None))
        .drop_nulls("column")
    )
    table = np.zeros((items.height, len(STATES)))
    table[told["row"].to_numpy(), told["column"].cast(pl.Int64).to_numpy()] = told["value"].to_numpy()
    return table


@dataclass(frozen=True)
class Showing:
    """The effects of showing, ready for decisions: see the module's text."""

    weight: float
    table: Floats
    """(I, len(STATES))"""
    category: Ints
    """(I,) of each item, coded as in ``needs``"""
    needs: Needs
    ahead: Mapping[Context, Mapping[Context, float]]
    """shares of the contexts in which a slate is shown, by context at the decision"""
    _known: dict[Context, Floats] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        weight: float,
        evidence: Evidence,
        events: pl.DataFrame,
        items: pl.DataFrame,
        until: datetime,
        outlook: Outlook,
    ) -> Showing:
        """Effects of ``evidence`` over ``items``, states from the events before ``until``."""
        category = (items["category"].rank("dense").cast(pl.Int64) - 1).to_numpy()
        return cls(
            weight,
            effect_table(evidence, items),
            category,
            Needs.of(events, items, until, evidence.options),
            outlook.ahead(items["category"].unique().sort().to_list()),
        )

    def bonus(self, user: str, at: datetime) -> Floats:
        """(I,) nats for each item."""
        found: Floats = self.weight * self.change(user, at)
        return found

    def change(self, user: str, at: datetime) -> Floats:
        """(I,) change of P(net order) by showing each item, over the states in which the user will meet the slate."""
        context = self.needs.of_user(user, at)
        known = self._known.get(context)
        if known is None:
            known = sum(
                (share * self.effect(*later) for later, share in contexts_of(self.ahead, context).items()),
                start=np.zeros(len(self.category)),
            )
            self._known[context] = known
        return known

    def effect(self, need: int, stage: int) -> Floats:
        """(I,) effect of showing each item to a user with this need."""
        elsewhere = (self.category != need) & (stage in HERE)
        found: Floats = np.where(elsewhere, self.table[:, ELSEWHERE], self.table[:, stage])
        return found


def contexts_of(ahead: Mapping[Context, Mapping[Context, float]], context: Context) -> Mapping[Context, float]:
    """Shares of the contexts ahead; a context of which nothing is known stays what it is."""
    return ahead.get(context, {context: 1.0})


def read_weight(folder: Path) -> float:
    """The weight of an artefact folder; 0 where it was never improved."""
    file = folder / FILE
    return float(json.loads(file.read_text("utf-8"))["weight"]) if file.exists() else 0.0


def write_weight(folder: Path, weight: float) -> None:
    """Keep the weight in an artefact folder."""
    (folder / FILE).write_text(json.dumps({"weight": weight}) + "\n", "utf-8")
