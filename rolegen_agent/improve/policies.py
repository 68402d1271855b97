"""Slates of an artefact folder for users at one time, without an LLM: what updates are compared by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from ..backbone_tool import BackboneRecommender
from ..grounding.stock import Stock
from ..outlook import Context
from ..showing import Needs, Showing, contexts_of
from ..value.exposures import Policy

if TYPE_CHECKING:
    import numpy.typing as npt

    from rolegen_backbone.artefact import TrainedBackbone
    from rolegen_graphs.words import Candidate, RoleLabel, Slate

    from ..evidence import Market
    from ..settings import Settings


class Shelf:
    """The one thing that a recommender asks of a catalogue here: what is in stock."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    def in_stock(self, at: datetime) -> npt.NDArray[np.bool_]:
        return self._stock.at(at).in_stock


class Slates:
    """Makes slates with one backbone and one weight of showing."""

    def __init__(self, backbone: TrainedBackbone, market: Market, settings: Settings, showing: Showing | None) -> None:
        self._size = settings.slate.size
        self._recommender = BackboneRecommender(
            backbone,
            Shelf(Stock(backbone.items, market, settings.data.stock_days)),
            diversity=settings.slate.diversity,
            showing=showing,
        )
        self._index = {item: row for row, item in enumerate(backbone.items["item"].to_list())}

    def make(
        self,
        users: Sequence[str],
        at: datetime,
        reasoned: Mapping[str, tuple[Sequence[Candidate], Sequence[RoleLabel]]] | None = None,
    ) -> list[list[str]]:
        """Item ids for each user, best first; with candidates where ``reasoned`` has some."""
        self._recommender.prepare(users, at, self._size)
        found = []
        for user in users:
            candidates, labels = (reasoned or {}).get(user, ((), ()))
            slate: Slate = self._recommender.slate(user, at, candidates, self._size, labels)
            found.append([item.item for item in slate.items])
        return found

    def policy(
        self,
        slates: Sequence[Sequence[str]],
        users: Sequence[str],
        at: datetime,
        needs: Needs,
        ahead: Mapping[Context, Mapping[Context, float]],
    ) -> Policy:
        """What these slates show, by the context in which they are met."""
        contexts = [contexts_of(ahead, needs.of_user(user, at)) for user in users]
        return Policy.of([[self._index[item] for item in slate] for slate in slates], contexts, len(self._index))
