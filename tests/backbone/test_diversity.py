"""Re-ranked slates keep their first place and what is true of each item, and vary in the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.decoding import Decoded
from rolegen_backbone.diversity import RAREST, diversified, rarity
from rolegen_backbone.examples import NO_HINT
from rolegen_backbone.model import PARTS

from .conftest import CUT, ITEMS, USERS, at_day, catalogue, hint

EVERYTHING = np.ones(ITEMS, bool)
OWN, MARKET = PARTS.index("own"), PARTS.index("market")
WHO = [f"u{user:02d}" for user in range(0, USERS, 2)]


def decoded(own: list[float], market: list[float], items: list[int] | None = None) -> Decoded:
    """One decision's list, from what two of the parts say of each item."""
    parts = torch.zeros(1, len(own), len(PARTS))
    parts[0, :, OWN], parts[0, :, MARKET] = torch.tensor(own), torch.tensor(market)
    item = torch.tensor([items or list(range(len(own)))])
    return Decoded(item, parts.sum(-1).log(), parts, torch.tensor([1.5]))


def order(found: Decoded, rare: list[float], category: list[int], weight: float = 0.6, size: int = 10) -> list[int]:
    chosen = diversified(found, torch.tensor([rare]), torch.tensor([category]), size=size, weight=weight)
    return [int(item) for item in chosen.item_BN[0]]


def test_a_rare_habit_comes_before_a_common_one_and_the_markets_order_stays() -> None:
    found = decoded([0.3, 0.1, 0.09, 0, 0], [0, 0, 0, 0.08, 0.07])
    # 0.09 * 100 ** 0.6 = 1.43 against 0.1; rarity says nothing where nobody has a habit
    assert order(found, [1, 1, 100, 1, 100], [0, 1, 2, 3, 4]) == [0, 2, 1, 3, 4]
    assert order(found, [1, 1, 1, 1, 1], [0, 1, 2, 3, 4]) == [0, 1, 2, 3, 4]
    assert order(found, [1, 100, 100, 1, 1], [0, 1, 2, 3, 4], size=2) == [0, 1]


def test_a_category_counts_less_each_time_it_was_shown() -> None:
    found = decoded([0] * 5, [0.3, 0.2, 0.19, 0.18, 0.17])
    # 0.2 / 2 ** 0.2 = 0.174, so the third and fourth pass the second, and the fifth does not
    assert order(found, [1] * 5, [0, 0, 1, 2, 0]) == [0, 2, 3, 1, 4]
    assert order(found, [1] * 5, [0, 0, 0, 0, 0]) == [0, 1, 2, 3, 4]


def test_places_without_an_item_stay_last() -> None:
    found = decoded([0.5, 0.2, 0, 0], [0, 0, 0, 0], items=[7, 3, -1, -1])
    assert order(found, [1, 100, 100, 100], [0, 0, 1, 2]) == [7, 3, -1, -1]


def test_rarity_is_told_by_sales_against_the_bestseller() -> None:
    assert rarity(np.log(np.array([50.0, 5.0, 0.01]))) == pytest.approx([1, 10, RAREST])


def test_a_trained_backbone_ranks_with_it(trained: TrainedBackbone) -> None:
    available = np.arange(ITEMS) % 3 != 0
    decisions = [trained.decision(user, at_day(CUT), hint([0, 1, 4])) for user in WHO]
    barred = [np.array([int(user[1:]) * 7 % ITEMS]) for user in WHO]
    plain = trained.rank(decisions, available, size=6)
    whole = trained.rank(decisions, available, size=ITEMS)
    varied, again = (trained.rank(decisions, available, size=6, diversity=0.6) for _ in range(2))
    assert torch.equal(varied.item_BN, again.item_BN)
    assert torch.equal(varied.item_BN[:, 0], plain.item_BN[:, 0]) and not torch.equal(varied.item_BN, plain.item_BN)
    assert torch.equal(plain.item_BN, trained.rank(decisions, available, size=6, diversity=0.0).item_BN)
    assert varied.entropy_B.numpy() == pytest.approx(plain.entropy_B.numpy(), abs=1e-4)
    for row, (items, probability) in enumerate(zip(varied.item_BN.tolist(), varied.log_probability_BN, strict=True)):
        assert len(set(items)) == 6 and all(available[item] for item in items)
        place = [whole.item_BN[row].tolist().index(item) for item in items]
        assert probability.numpy() == pytest.approx(whole.log_probability_BN[row, place].numpy(), abs=1e-5)
    assert varied.parts_BNM.sum(-1).numpy() == pytest.approx(varied.log_probability_BN.exp().numpy(), abs=1e-5)
    without = trained.rank(decisions, available, size=6, without=barred, diversity=0.6)
    assert not any(set(row) & set(gone.tolist()) for row, gone in zip(without.item_BN.tolist(), barred, strict=True))
    alone = trained.rank(decisions[:1], available, size=6, diversity=0.6)
    assert alone.item_BN[0].tolist() == varied.item_BN[0].tolist(), "a batch changes nothing"


def test_slates_show_more_categories(trained: TrainedBackbone) -> None:
    category = catalogue()["category"].fill_null("").to_list()
    decisions = [trained.decision(user, at_day(CUT), NO_HINT) for user in WHO]
    kinds = [
        sum(
            len({category[item] for item in row})
            for row in trained.rank(decisions, EVERYTHING, size=4, diversity=weight).item_BN.tolist()
        )
        for weight in (0.0, 0.6)
    ]
    assert kinds[1] > kinds[0]
