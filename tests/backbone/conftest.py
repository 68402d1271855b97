"""Small hand-made shops, tiny models, and one training that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
import torch

from rolegen_backbone.artefact import Sizes, TrainedBackbone
from rolegen_backbone.events import DAY, EventLog, moment
from rolegen_backbone.examples import NO_HINT, Collator, Decision, Hint
from rolegen_backbone.features import Features, PoolSize
from rolegen_backbone.model import Backbone, BackboneConfig
from rolegen_backbone.text_encoder import unit_rows
from rolegen_backbone.tokenizer import SemanticIds
from rolegen_backbone.training import TrainConfig
from rolegen_backbone.trie import Trie

TODAY = 15_000
"""day of the decision in hand-made logs, in days since the epoch"""
NOON = DAY // 2
CUT = 15_400
"""day of the cut of the planted shop"""
USERS, ITEMS = 40, 24
SIZES = Sizes(width=16, layers=1, history=24, levels=2, codebook=6)
CONFIG = TrainConfig(
    seed=3,
    epochs=3,
    batch=32,
    learning_rate=3e-2,
    horizon_days=30,
    dormant_days=30,
    history_days=500,
    validation_days=60,
    max_spells=600,
    refit=True,
)
ROLES = 3


class Row(NamedTuple):
    """One event of a hand-made log."""

    user: str
    item: str
    day: int
    behaviour: str = "order"
    quantity: float = 1.0
    price: float = 2.0
    second: int = NOON


def frame_of(rows: Iterable[Row]) -> pl.DataFrame:
    """Canonical events."""
    rows = list(rows)
    return pl.DataFrame(
        {
            "event": range(len(rows)),
            "user": [r.user for r in rows],
            "item": [r.item for r in rows],
            "time": [moment(r.day * DAY + r.second) for r in rows],
            "behaviour": [r.behaviour for r in rows],
            "quantity": [float(r.quantity) for r in rows],
            "price": [float(r.price) for r in rows],
        },
        schema_overrides={
            "user": pl.String,
            "item": pl.String,
            "behaviour": pl.String,
            "time": pl.Datetime("us", "UTC"),
        },
    )


def log_of(rows: Iterable[Row], items: Sequence[str]) -> EventLog:
    """An event log over a fixed catalogue."""
    return EventLog.from_frame(frame_of(rows), np.array(items))


def at_day(day: int, hour: int = 0) -> datetime:
    """A moment in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day, hours=hour)


def shop_rows(seed: int = 0, *, users: int = USERS, items: int = ITEMS, views: bool = False) -> list[Row]:
    """Each user comes back every 25 to 50 days for the one item of his own, and takes some other item now and then."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        day = CUT - 430 + int(random.integers(40))
        while day < CUT:
            bought = {user * 7 % items} | ({int(random.integers(items))} if random.random() < 0.4 else set())
            for item in sorted(bought):
                if views:
                    rows.append(Row(f"u{user:02d}", f"i{item:02d}", day, "view", second=NOON - 60))
                rows.append(Row(f"u{user:02d}", f"i{item:02d}", day, quantity=1 + item % 3, price=1.0 + item))
            day += int(random.integers(25, 50))
    return rows


def catalogue(items: int = ITEMS) -> pl.DataFrame:
    """The planted shop's items: titles share words, some have no category and some no price."""
    colour, thing = ("red", "blue", "green"), ("mug", "lamp", "clock", "bag")
    return pl.DataFrame(
        {
            "item": [f"i{k:02d}" for k in range(items)],
            "title": [f"{colour[k % 3]} {thing[k % 4]} no {k}" for k in range(items)],
            "category": [None if k % 5 == 0 else thing[k % 4] for k in range(items)],
            "price": [None if k % 7 == 6 else 1.0 + k for k in range(items)],
        },
        schema_overrides={"price": pl.Float64, "category": pl.String},
    )


def item_ids(items: int = ITEMS) -> list[str]:
    return catalogue(items)["item"].to_list()


def silent(_stage: str, _done: int, _total: int) -> None:
    """No progress shown."""


def no_hints(decisions: Sequence[tuple[int, int]]) -> list[Hint]:
    """A reasoner that never has anything to say."""
    return [NO_HINT] * len(decisions)


def own_item_hints(decisions: Sequence[tuple[int, int]]) -> list[Hint]:
    """A reasoner that names the item of the user's own, and one more."""
    return [hint([user * 7 % ITEMS, (user + 1) % ITEMS], role=user % ROLES) for user, _ in decisions]


def hint(items: Sequence[int], *, role: int = 0, score: float = 0.5) -> Hint:
    """Candidates of one role and score."""
    return Hint(np.array(items, np.int64), np.full(len(items), role, np.int64), np.full(len(items), score, np.float32))


def fit(
    folder: Path,
    *,
    config: TrainConfig = CONFIG,
    hints: object = own_item_hints,
    progress: object = silent,
    rows: list[Row] | None = None,
) -> TrainedBackbone:
    """Train the tiny model on the planted shop."""
    return TrainedBackbone.fit(
        catalogue(),
        log_of(shop_rows() if rows is None else rows, item_ids()),
        as_of=at_day(CUT),
        sizes=SIZES,
        config=config,
        roles=ROLES,
        folder=folder,
        hints=hints,  # type: ignore[arg-type]
        progress=progress,  # type: ignore[arg-type]
    )


class Toy(NamedTuple):
    """An untrained model with loud random weights: every identity must hold for any weights."""

    model: Backbone
    features: Features
    collate: Collator

    def decide(self, user: int, hinted: Sequence[int] = (), day: int = CUT) -> Decision:
        at = day * DAY
        extra = np.array(hinted, np.int64) if hinted else None
        return Decision(user, at, self.features.pool(user, at, extra), hint(hinted) if hinted else NO_HINT)

    def read(self, decision: Decision, *back: int) -> Decision:
        """The decision with roles for the events so many places before its end, those that matter most first."""
        rows = self.collate.log.rows(decision.user, decision.at)
        event = self.collate.log.event[rows][::-1][list(back)]
        role = np.array(back, np.int64) % ROLES
        return replace(decision, hint=replace(decision.hint, event=event, event_role=role))


def toy_model(
    seed: int = 0,
    *,
    size: PoolSize | None = None,
    decoder_layers: int = 2,
    use_decoder: bool = True,
    use_dense: bool = False,
    own_codes: bool = False,
) -> Toy:
    """A model over the planted shop, without any training."""
    log = log_of(shop_rows(), item_ids())
    random = np.random.default_rng(seed)
    content = random.normal(size=(ITEMS, 8)).astype(np.float32)
    ids = SemanticIds.fit(content, levels=2, codebook=4, seed=seed)
    config = BackboneConfig(
        items=ITEMS,
        content=8,
        sizes=ids.sizes,
        roles=ROLES,
        width=16,
        history=24,
        decoder_layers=decoder_layers,
        use_decoder=use_decoder,
        use_dense=use_dense,
        own_codes=own_codes,
    )
    torch.manual_seed(seed)
    model = Backbone(config, torch.from_numpy(content), torch.from_numpy(ids.codes), Trie(ids.codes, ids.sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    price = catalogue()["price"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    text = unit_rows(random.normal(size=(ITEMS, 4)))
    return Toy(model.eval(), Features(log, price, text, size), Collator(log, config.history))


@pytest.fixture(scope="session")
def toy() -> Toy:
    """Pools smaller than the catalogue, so that the decoder has items of its own."""
    return toy_model(size=PoolSize(own=4, popular=5, season=3, near=2))


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where :func:`trained` was saved."""
    folder = tmp_path_factory.mktemp("backbone")
    fit(folder)
    return folder


@pytest.fixture(scope="session")
def trained(trained_folder: Path) -> TrainedBackbone:
    """The tiny model trained on the planted shop."""
    return TrainedBackbone.load(trained_folder, log_of(shop_rows(), item_ids()))
