"""Decisions that see what was told after the log was read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.events import BEHAVIOURS, DAY
from rolegen_backbone.examples import NO_HINT
from rolegen_backbone.features import ITEM_FEATURES, OWN_FEATURES
from rolegen_backbone.since import Told
from rolegen_errors import FutureError, InputError

from .conftest import CUT, ITEMS, USERS, Row, at_day, hint, item_ids, log_of, shop_rows

EVERYTHING = np.ones(ITEMS, bool)
WHO = [f"u{user:02d}" for user in range(0, USERS, 3)]
OWN = slice(len(ITEM_FEATURES), len(ITEM_FEATURES) + len(OWN_FEATURES))


def told(user: str, rows: Sequence[Row] = ()) -> Told:
    """What the rows say, as a server tells it."""
    return Told(
        user=user,
        item=np.array([int(row.item[1:]) for row in rows], np.int64),
        time=np.array([row.day * DAY + row.second for row in rows], np.int64),
        behaviour=np.array([BEHAVIOURS.index(row.behaviour) for row in rows], np.int64),
        quantity=np.array([row.quantity for row in rows], np.float32),
        price=np.array([row.price for row in rows], np.float32),
    )


def test_where_nothing_is_told_the_answer_is_that_of_the_log(trained: TrainedBackbone) -> None:
    hints = [hint([2, 9]) if number % 2 else NO_HINT for number in range(len(WHO))]
    view, since = trained.decisions_since([told(user) for user in WHO], hints, at_day(CUT, 13))
    plain = [trained.decision(user, at_day(CUT, 13), one) for user, one in zip(WHO, hints, strict=True)]
    a, b = view.rank(since, EVERYTHING, size=8), trained.rank(plain, EVERYTHING, size=8)
    assert torch.equal(a.item_BN, b.item_BN)
    assert torch.equal(a.log_probability_BN, b.log_probability_BN)
    narrow = view.rank(since, EVERYTHING, size=8, diversity=0.4)
    assert torch.equal(narrow.item_BN, trained.rank(plain, EVERYTHING, size=8, diversity=0.4).item_BN)


def test_what_is_told_is_read_as_if_it_stood_in_the_log(trained: TrainedBackbone, trained_folder: Path) -> None:
    rows = [
        Row(user, f"i{(int(user[1:]) * 5 + 3) % ITEMS:02d}", CUT + day, quantity=2.0, price=3.0, second=second)
        for user in WHO
        for day, second in ((0, 60), (0, DAY - 1), (1, 30))
    ]
    knows = TrainedBackbone.load(trained_folder, log_of([*shop_rows(), *rows], item_ids()))
    view, since = trained.decisions_since(
        [told(user, [row for row in rows if row.user == user]) for user in WHO], [NO_HINT] * len(WHO), at_day(CUT)
    )
    truth = [knows.decision(user, at_day(CUT + 2), NO_HINT) for user in WHO]
    ours, theirs = view.collate.batch(since), knows.collate.batch(truth)
    for name in ("item_BT", "behaviour_BT", "event_BTX", "event_mask_BT", "user_BU"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    for mine, other in zip(since, truth, strict=True):
        known = dict(zip(other.pool.item.tolist(), other.pool.feature[:, OWN], strict=True))
        for item, feature in zip(mine.pool.item.tolist(), mine.pool.feature[:, OWN], strict=True):
            if item in known:
                assert np.array_equal(feature, known[item])
    # The market stays that of the day on which the log was read: nobody told what all others did.
    before = trained.decision(WHO[0], at_day(CUT), NO_HINT)
    shared = np.intersect1d(before.pool.item, since[0].pool.item)
    rows_of = [{item: row for row, item in enumerate(one.pool.item.tolist())} for one in (before, since[0])]
    for item in shared.tolist():
        assert np.array_equal(
            before.pool.feature[rows_of[0][item], : OWN.start], since[0].pool.feature[rows_of[1][item], : OWN.start]
        )


def test_with_candidates_and_without_is_the_same_whether_asked_together_or_apart(trained: TrainedBackbone) -> None:
    for user in WHO[:4]:
        news = told(user, [Row(user, "i03", CUT)])
        _, both = trained.decisions_since([news, news], [hint([2, 9, 20]), NO_HINT], at_day(CUT))
        _, alone = trained.decisions_since([news], [NO_HINT], at_day(CUT))
        assert np.array_equal(both[1].pool.item, alone[0].pool.item)
        assert np.array_equal(both[1].pool.feature, alone[0].pool.feature)
        assert both[1].pool.extra == 0


def test_a_taste_that_was_told_changes_the_slate(trained: TrainedBackbone) -> None:
    """Somebody who orders another item again and again is offered it."""
    user, item = WHO[0], (int(WHO[0][1:]) * 7 + 11) % ITEMS
    rows = [Row(user, f"i{item:02d}", CUT + day) for day in (0, 30, 60, 90)]
    told_of, plain = told(user, rows), told(user)
    view, decisions = trained.decisions_since([told_of, plain], [NO_HINT, NO_HINT], at_day(CUT))
    found = view.rank(decisions, EVERYTHING, size=ITEMS)
    place = [row.index(item) for row in found.item_BN.tolist()]
    assert place[0] < place[1]


def test_one_user_may_be_asked_about_twice_and_strangers_too(trained: TrainedBackbone) -> None:
    twice = [told("nobody", [Row("nobody", f"i{item:02d}", CUT)]) for item in (3, 8)]
    view, decisions = trained.decisions_since([*twice, told(WHO[0])], [NO_HINT] * 3, at_day(CUT))
    assert [decision.at // DAY - CUT for decision in decisions] == [1, 1, 0]
    together = view.rank(decisions, EVERYTHING, size=5).item_BN
    for row, one in enumerate([*twice, told(WHO[0])]):
        alone, single = trained.decisions_since([one], [NO_HINT], at_day(CUT))
        assert alone.rank(single, EVERYTHING, size=5).item_BN[0].tolist() == together[row].tolist()
    with pytest.raises(InputError, match="no event"):
        trained.decisions_since([told("nobody")], [NO_HINT], at_day(CUT))
    with pytest.raises(FutureError):
        trained.decisions_since([told(WHO[0])], [NO_HINT], at_day(CUT - 1))


def test_what_the_log_holds_from_the_day_on_is_not_seen(trained: TrainedBackbone, trained_folder: Path) -> None:
    later = [Row(user, "i01", CUT + day, second=0) for user in WHO for day in (5, 6)]
    knows = TrainedBackbone.load(trained_folder, log_of([*shop_rows(), *later], item_ids()))
    news = [told(user, [Row(user, "i02", CUT + 5, second=60)]) for user in WHO]
    slates = []
    for side in (trained, knows):
        view, decisions = side.decisions_since(news, [NO_HINT] * len(WHO), at_day(CUT + 5))
        slates.append(view.rank(decisions, EVERYTHING, size=8))
    assert torch.equal(slates[0].item_BN, slates[1].item_BN)
    assert torch.equal(slates[0].log_probability_BN, slates[1].log_probability_BN)
