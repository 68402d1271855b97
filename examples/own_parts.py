"""Parts of your own behind the loop's ports: here a recommender on `implicit`, and a catalogue that is a table of a database.

    pip install implicit
    python examples/own_parts.py shop 2011-09-01 sqlite:///goods.sqlite 12350

``own`` is given the parts that the project would use, and what was learnt; it returns those to use, with as many of them
replaced as you like. To use it with the command line too, name it in ``rolegen.toml``:

    [parts]
    own = "own_parts:own"     # module:function of something importable, or an entry point of the group rolegen.parts
    version = "1"             # change it when the parts decide otherwise than before

``rolegen_graphs.conformance`` holds such parts against the rules of their ports; do that in your tests.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl
from implicit.nearest_neighbours import CosineRecommender  # type: ignore[import-untyped]
from scipy.sparse import csr_matrix
from sqlalchemy import Engine, create_engine, text

from rolegen_agent import RoleGen
from rolegen_agent.artefacts import Artefacts
from rolegen_graphs import Parts
from rolegen_graphs.ports import NO_CHANGES, Recommender
from rolegen_graphs.words import Candidate, Effect, ItemSpec, Observation, RoleLabel, Slate, SlateItem


class Neighbours:
    """Slates from items that are bought by the same users; what a path would bring is still estimated by ``effects``."""

    def __init__(self, learnt: Artefacts, effects: Recommender) -> None:
        orders = learnt.events.filter(pl.col("behaviour") == "order")  # they end before the decision
        self._users = {user: row for row, user in enumerate(sorted(set(orders["user"])))}
        self._items = learnt.items.sort("item").select("item", "title", "category").rows()
        self._codes = {item: code for code, (item, _, _) in enumerate(self._items)}
        cells = [self._users[user] for user in orders["user"]], [self._codes[item] for item in orders["item"]]
        shape = len(self._users), len(self._items)
        self._bought = csr_matrix(([1.0] * len(orders), cells), shape=shape)
        self._model = CosineRecommender(K=50)
        self._model.fit(self._bought, show_progress=False)
        self._effects = effects

    def rollout(
        self,
        user: str,
        at: datetime,
        paths: Sequence[tuple[int, Sequence[str]]],
        changes: Mapping[int, tuple[int, str | None]] = NO_CHANGES,
    ) -> tuple[Effect, ...]:
        return self._effects.rollout(user, at, paths, changes)

    def slate(
        self, user: str, at: datetime, candidates: Sequence[Candidate], size: int, labels: Sequence[RoleLabel] = ()
    ) -> Slate:
        row = self._bought[self._users[user]] if user in self._users else csr_matrix((1, len(self._items)))
        codes, scores = self._model.recommend(0, row, N=size, filter_already_liked_items=False)
        found = {int(code): float(score) for code, score in zip(codes, scores, strict=True) if code >= 0}
        reasons = {self._codes[one.item]: one for one in reversed(candidates) if one.item in self._codes}
        # What the loop reasoned about goes before the last places; how many newcomers stay is the loop's business.
        kept = list(found)[: max(size - len(reasons), size // 2)]
        chosen = list(dict.fromkeys([*kept, *reasons, *found, *range(len(self._items))]))[:size]
        return Slate(items=tuple(self._place(rank, code, found, reasons) for rank, code in enumerate(chosen, start=1)))

    def _place(self, rank: int, code: int, found: Mapping[int, float], reasons: Mapping[int, Candidate]) -> SlateItem:
        (item, title, category), reason = self._items[code], reasons.get(code)
        role, path = (reason.role, reason.path) if reason else (None, None)
        score = found.get(code, 0.0)
        return SlateItem(rank=rank, item=item, title=title, category=category, score=score, role=role, path=path)


class TableCatalogue:
    """Wishes against ``goods(item, title, category, price, stock)``: the cheapest in stock whose title has a word of the wish."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ground(self, specs: Sequence[tuple[int, int, ItemSpec]], seen: Observation) -> tuple[Candidate, ...]:
        return tuple(self._meet(path, step, spec) for path, step, spec in specs)

    def _meet(self, path: int, step: int, spec: ItemSpec) -> Candidate:
        asked = {"category": spec.category, "low": spec.price_low, "high": spec.price_high}
        query = text(
            "SELECT item, title FROM goods WHERE stock > 0 AND (:category IS NULL OR category = :category)"
            " AND (:low IS NULL OR price >= :low) AND (:high IS NULL OR price <= :high)"
            " AND lower(title) LIKE :word ESCAPE '!' ORDER BY price, item LIMIT 1"
        )
        # Texts of a model are values of a statement, never part of it.
        words = [word.translate({ord(c): f"!{c}" for c in "!%_"}) for word in spec.text.lower().split()] or [""]
        with self._engine.connect() as connection:
            rows = (connection.execute(query, {**asked, "word": f"%{word}%"}).first() for word in words[:8])
            found = next((row for row in rows if row is not None), None)
        if found is None:
            told = "nothing in stock has a word of the wish, its category and its price"
            return Candidate(path=path, step=step, role=spec.role, spec=spec, fate="rejected", reason=told)
        return Candidate(
            path=path,
            step=step,
            role=spec.role,
            spec=spec,
            fate="accepted",
            reason="a word of the title",
            item=found.item,
            title=found.title,
            score=0.5,
        )


def own(parts: Parts, learnt: Artefacts) -> Parts:
    """For ``[parts] own``: the recommender alone."""
    return replace(parts, recommender=Neighbours(learnt, parts.recommender))


def main(folder: str, at: str, goods: str, user: str) -> None:
    """One decision with both parts."""
    table = TableCatalogue(create_engine(goods))
    with RoleGen.open(folder, parts=lambda parts, learnt: replace(own(parts, learnt), catalogue=table)) as shop:
        for item in shop.decide(user, at).slate.items:
            sys.stdout.write(f"{item.rank:>2} {item.title} ({item.role or 'by neighbours'})\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
