"""Items that appear after the training: a trained backbone over a larger catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from rolegen_backbone.artefact import TrainedBackbone, _spread
from rolegen_backbone.events import EventLog
from rolegen_backbone.examples import NO_HINT
from rolegen_errors import FutureError, InputError

from .conftest import CUT, ITEMS, USERS, Row, at_day, catalogue, hint, item_ids, log_of, shop_rows

NEW = {"a00": "red mug no 0", "i05b": "blue mug no 5", "z99": "teal kettle"}
"""Items that sort before, between and behind those of the planted shop."""
WHO = [f"u{user:02d}" for user in range(0, USERS, 5)]
AT = CUT + 40


def larger(new: dict[str, str] = NEW) -> pl.DataFrame:
    added = pl.DataFrame(
        {"item": list(new), "title": list(new.values()), "category": [None] * len(new), "price": [3.0] * len(new)},
        schema_overrides={"category": pl.String, "item": pl.String, "title": pl.String},
    )
    return pl.concat([catalogue(), added], how="vertical_relaxed").sort("item")


def sales(item: str, *, users: int = USERS) -> list[Row]:
    """Everybody buys the new item after the cut, with the item of the user's own."""
    return [
        row
        for user in range(users)
        for row in (
            Row(f"u{user:02d}", item, CUT + 5 + user % 20),
            Row(f"u{user:02d}", f"i{user * 7 % ITEMS:02d}", CUT + 5 + user % 20),
        )
    ]


def log_over(items: pl.DataFrame, rows: list[Row]) -> EventLog:
    return log_of(rows, items["item"].to_list())


@pytest.fixture(scope="module")
def extended(trained: TrainedBackbone) -> TrainedBackbone:
    """The planted shop with three more items, one of which sells."""
    return trained.extend(larger(), log_over(larger(), [*shop_rows(), *sales("i05b")]))


def test_a_new_item_can_be_recommended(extended: TrainedBackbone) -> None:
    place = extended.items["item"].to_list().index("i05b")
    everything = np.ones(ITEMS + 3, bool)
    decisions = [extended.decision(user, at_day(AT), NO_HINT) for user in WHO]
    found = extended.rank(decisions, everything, size=10)
    assert (found.item_BN == place).any()  # the whole shop buys it
    # Also one that never sold, which only the decoder can name.
    unsold = extended.items["item"].to_list().index("z99")
    alone = extended.rank(decisions, np.arange(ITEMS + 3) == unsold, size=1)
    assert (alone.item_BN == unsold).all()
    assert torch.isfinite(alone.log_probability_BN).all()
    # And as what reasoning brought in, or in a rollout.
    hinted = extended.decision(WHO[0], at_day(AT), hint([unsold]))
    assert unsold in extended.rank([hinted], everything, size=ITEMS + 3).item_BN[0].tolist()
    assert 0 <= extended.roll(hinted, [[unsold]])[0].with_ <= 1


def test_old_items_keep_their_ids_rows_and_embeddings(trained: TrainedBackbone, extended: TrainedBackbone) -> None:
    names = extended.items["item"].to_list()
    assert names == sorted([*item_ids(), *NEW])
    where = [names.index(item) for item in item_ids()]
    assert np.array_equal(extended.space.ids.codes[where], trained.space.ids.codes)
    assert np.array_equal(extended.space.content[where], trained.space.content)
    assert extended.items[where].equals(trained.items)
    assert len(np.unique(extended.space.ids.codes, axis=0)) == ITEMS + 3
    assert extended.model.config.sizes == trained.model.config.sizes
    assert torch.equal(extended.model.content[0], trained.model.content[0])  # "some item" of the training


def test_a_new_item_lies_beside_the_one_that_it_resembles(trained: TrainedBackbone) -> None:
    """A title and a price that the shop has already, but no baskets."""
    twin = trained.items.row(0, named=True)
    items = larger({"a00": twin["title"]}).with_columns(
        price=pl.when(pl.col("item") == "a00").then(twin["price"]).otherwise("price")
    )
    grown = trained.extend(items, log_over(items, shop_rows()))
    text = slice(0, grown.space.encoder.width)
    content = grown.space.content[:, text]
    content = content / np.linalg.norm(content, axis=1, keepdims=True)
    assert int((content[1:] @ content[0]).argmax()) == 0
    assert not grown.space.encoder.behaviour_of(grown.space.content)[0].any()


def test_old_items_keep_their_probabilities_while_nothing_new_is_available(trained: TrainedBackbone) -> None:
    """Up to the share that the decoder keeps for the new ones, and features that count the items of the catalogue."""
    items = larger()
    grown = trained.extend(items, log_over(items, shop_rows()))
    names = items["item"].to_list()
    where = np.array([names.index(item) for item in item_ids()])
    old = np.isin(np.arange(ITEMS + 3), where)
    for user in WHO:
        before, after = (side.decision(user, at_day(AT), NO_HINT) for side in (trained, grown))
        assert np.array_equal(where[before.pool.item], after.pool.item)
        a = trained.rank([before], np.ones(ITEMS, bool), size=ITEMS)
        b = grown.rank([after], old, size=ITEMS)
        was, now = np.zeros(ITEMS + 3), np.zeros(ITEMS + 3)
        was[where[a.item_BN[0]]], now[b.item_BN[0]] = a.log_probability_BN[0].exp(), b.log_probability_BN[0].exp()
        assert np.abs(was - now).sum() / 2 < 0.05
        certain = (was[:, None] > 2 * was) & (was[:, None] > 0.02)
        assert (now[:, None] > now)[certain].all()
        first, second = trained.roll(before, [[3]])[0], grown.roll(after, [[int(where[3])]])[0]
        assert first.change == pytest.approx(second.change, abs=0.01)


def test_the_extended_backbone_comes_back_from_disk(extended: TrainedBackbone, tmp_path: Path) -> None:
    extended.save(tmp_path)
    again = TrainedBackbone.load(tmp_path, extended.log)
    everything = np.ones(ITEMS + 3, bool)
    for hinted in (NO_HINT, hint([0, 7])):
        a, b = (
            side.rank([side.decision(user, at_day(AT), hinted) for user in WHO], everything, size=6)
            for side in (extended, again)
        )
        assert torch.equal(a.item_BN, b.item_BN)
        assert torch.equal(a.log_probability_BN, b.log_probability_BN)
    assert torch.equal(again.model.content, extended.model.content)
    # Once more, from disk: as if all had come at once.
    items = larger({**NEW, "i07b": "green bag"})
    more = again.extend(items, log_over(items, shop_rows()))
    assert more.items["item"].to_list() == items["item"].to_list()
    assert np.array_equal(more.space.some_item, extended.space.some_item)


def test_baskets_of_new_items_count_up_to_the_day_that_is_named_and_no_further(trained: TrainedBackbone) -> None:
    items = larger()
    rows = [*shop_rows(), *sales("i05b")]
    place = items["item"].to_list().index("i05b")
    contents = {}
    for name, until, more in (
        ("early", CUT + 12, []),
        ("early, with a future", CUT + 12, [Row("u01", "i05b", CUT + 12), Row("u01", "i04", CUT + 12)]),
        ("late", CUT + 30, []),
    ):
        grown = trained.extend(items, log_over(items, [*rows, *more]), until=at_day(until))
        contents[name] = grown.space.encoder.behaviour_of(grown.space.content)[place]
        assert grown.as_of == at_day(until)
        with pytest.raises(FutureError):
            grown.decision("u00", at_day(until - 1), NO_HINT)
    assert np.array_equal(contents["early"], contents["early, with a future"])
    assert 0 < np.linalg.norm(contents["early"]) < np.linalg.norm(contents["late"]) < 1


def test_what_does_not_fit_is_refused(trained: TrainedBackbone) -> None:
    items = larger()
    log = log_over(items, shop_rows())
    with pytest.raises(InputError, match="the log was read over other items"):
        trained.extend(items, trained.log)
    with pytest.raises(InputError, match=r"lacks items of the training, for instance \['i03'\]"):
        fewer = items.filter(pl.col("item") != "i03")
        trained.extend(fewer, log_over(fewer, [row for row in shop_rows() if row.item != "i03"]))
    with pytest.raises(InputError, match="not sorted"):
        backwards = items.reverse()
        trained.extend(backwards, log_over(backwards, shop_rows()))
    with pytest.raises(InputError, match="lacks the columns"):
        trained.extend(items.drop("price"), log)


def test_weights_with_a_row_for_each_item_take_their_rows_along() -> None:
    source = np.array([-1, 0, 1, -1, 2])
    old = {
        "ids": torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, 4.0], [5.0, 9.0]]),
        "bias": torch.tensor([1.0, 2.0, 6.0]),
        "w": torch.eye(3),
    }
    wanted = {"ids": torch.zeros(6, 2), "bias": torch.zeros(5), "w": torch.zeros(3, 3)}
    new = _spread(old, wanted, source)
    assert new["ids"].tolist() == [[9.0, 9.0], [3.0, 5.0], [1.0, 2.0], [3.0, 4.0], [3.0, 5.0], [5.0, 9.0]]
    assert new["bias"].tolist() == [3.0, 1.0, 2.0, 3.0, 6.0]
    assert new["w"].equal(torch.eye(3))
