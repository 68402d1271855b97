"""What is served on one day: the promoted artefacts with the log before its midnight, and what is in stock."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import torch

from rolegen_backbone.events import BEHAVIOURS, Ints, seconds
from rolegen_backbone.since import Told
from rolegen_errors import ProjectError
from rolegen_graphs.words import Slate, SlateItem

from ..artefacts import Artefacts, latest, load
from ..backbone_tool import Asked, BackboneRecommender
from ..grounding.stock import Stock
from ..memory import ToldEvent
from ..project import Project
from ..showing import FILE as SHOWING

WATCHED = ("backbone/backbone.json", "evidence/manifest.json", SHOWING)
"""files of an artefact folder that change with whatever is promoted"""


_SERIAL = itertools.count()


def midnight(at: datetime) -> datetime:
    """The last midnight in UTC: the log is read up to there, and a day is served as one."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def state_of(project: Project, at: datetime) -> tuple[object, ...]:
    """What a :class:`Day` at ``at`` is made from; it changes when there is something new to serve.

    Raises:
        ProjectError: nothing is trained for ``at``, or no log is ingested.
    """
    project.require_store()
    folder, _ = latest(project, at)
    files = [folder / name for name in WATCHED] + [project.events, project.items]
    stamps = ((file.stat().st_mtime_ns, file.stat().st_size) if file.exists() else None for file in files)
    return (at, str(folder), *stamps)


@dataclass(frozen=True)
class Seen:
    """A user's told events as the model can see them."""

    told: Told
    unseen: int
    """of items that the catalogue does not know, or behaviours that the model has not learnt"""


class Day:
    """Everything that answers a request but what is known of its user. Used by several threads, changed by none."""

    def __init__(self, project: Project, found: Artefacts, *, beam: int) -> None:
        settings = project.settings
        self.serial = next(_SERIAL)
        """of no other day, so that what was ranked on one is not taken for another's"""
        self.at, self.as_of, self.fingerprint = found.at, found.as_of, found.fingerprint
        self._backbone, self._showing = found.backbone, found.showing
        self._beam, self._diversity = beam, settings.slate.diversity
        shelf = Stock(found.items.sort("item"), found.market, settings.data.stock_days).at(found.at)
        if not shelf.in_stock.any():
            raise ProjectError(
                f"no item is available at {found.at.isoformat()}",
                fix="raise [data] stock_days, or look at the catalogue's `available`",
            )
        self._in_stock, self._best_sellers = shelf.in_stock, shelf.best_sellers
        items = found.items.sort("item")
        self._ids: list[str] = items["item"].to_list()
        self._titles: list[str] = items["title"].to_list()
        self._categories: list[str] = items["category"].to_list()
        self.index = {item: row for row, item in enumerate(self._ids)}
        last = found.events["time"].max()
        self.covered: datetime = last if isinstance(last, datetime) else found.at - timedelta(microseconds=1)
        """time of the last event that was read: up to there the log counts, and not what was told"""
        log = found.backbone.log
        self._learnt = frozenset(np.unique(log.behaviour[log.time < seconds(found.as_of)]).tolist())
        self._recommenders: dict[str, BackboneRecommender] = {
            reasoner: self._recommender(reasoner) for reasoner in ("", *found.backbone.trust)
        }

    @classmethod
    def open(cls, project: Project, at: datetime, *, beam: int) -> Day:
        """Load what is promoted for ``at``, a midnight, and answer once, so that the first request finds all counted.

        Raises:
            ProjectError: nothing is trained for ``at``, or nothing is in stock.
        """
        day = cls(project, load(project, at), beam=beam)
        if users := day._backbone.log.users[:1].tolist():
            day.slates("", [Asked(told=Told.nothing(str(users[0])))], project.settings.slate.size)
        return day

    def in_stock(self, at: datetime) -> npt.NDArray[np.bool_]:
        """(items,) what can be bought on this day, as far as the log tells."""
        return self._in_stock

    def can_show(self, item: str) -> bool:
        """Whether an item is known and in stock."""
        row = self.index.get(item)
        return row is not None and bool(self._in_stock[row])

    def knows(self, user: str) -> bool:
        """Whether the log has an event of the user."""
        return self._rows(user) is not None

    def moved_since(self, user: str, at: datetime) -> bool:
        """Whether the log has an event of the user at or after ``at``."""
        rows = self._rows(user)
        return rows is not None and int(self._backbone.log.time[rows.stop - 1]) >= seconds(at)

    def variant(self, reasoner: str | None) -> str:
        """Which of the recommenders ranks the candidates of a reasoner: one trusts them as far as they have earned it."""
        return reasoner if reasoner is not None and reasoner in self._recommenders else ""

    def slates(self, variant: str, asked: Sequence[Asked], size: int) -> list[Slate]:
        """One batch of slates; users need an event in the log or among the told ones."""
        with torch.inference_mode():
            return self._recommenders[variant].slates_since(asked, self.at, size)

    def popular(self, size: int, without: Collection[str]) -> Slate:
        """What sells best and is in stock."""
        chosen = (row for row in self._best_sellers.tolist() if self._ids[row] not in without)
        picked = [row for row, _ in zip(chosen, range(size), strict=False)]
        return Slate(
            items=tuple(
                SlateItem(
                    rank=rank, item=self._ids[row], title=self._titles[row], category=self._categories[row], score=0.0
                )
                for rank, row in enumerate(picked, start=1)
            )
        )

    def rows_of(self, items: Collection[str]) -> Ints:
        """Positions of those items that the catalogue knows."""
        return np.array(sorted(self.index[item] for item in items if item in self.index), np.int64)

    def seen(self, user: str, events: Sequence[ToldEvent]) -> Seen:
        """Told events, in order of time, as the model reads them.

        What the log covers is left out, for it would count twice. The others are left out and counted where the model cannot
        understand them: a behaviour that it never saw in training has an embedding that means nothing.
        """
        later = [one for one in events if one.at > self.covered]
        known = [one for one in later if one.item in self.index and BEHAVIOURS.index(one.behaviour) in self._learnt]
        told = Told(
            user=user,
            item=np.array([self.index[one.item] for one in known], np.int64),
            time=np.array([seconds(one.at) for one in known], np.int64),
            behaviour=np.array([BEHAVIOURS.index(one.behaviour) for one in known], np.int64),
            quantity=np.array([one.quantity for one in known], np.float32),
            price=np.array([np.nan if one.price is None else one.price for one in known], np.float32),
        )
        return Seen(told, len(later) - len(known))

    def _rows(self, user: str) -> slice | None:
        log = self._backbone.log
        index = log.user_index(user)
        if index is None:
            return None
        rows = log.rows(index, seconds(self.at))
        return rows if rows.stop > rows.start else None

    def _recommender(self, reasoner: str) -> BackboneRecommender:
        backbone = self._backbone.trusting(reasoner) if reasoner else self._backbone
        return BackboneRecommender(backbone, self, beam=self._beam, diversity=self._diversity, showing=self._showing)
