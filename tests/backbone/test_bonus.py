"""A bonus beside probability changes the order alone, and reaches items that no list would hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.examples import NO_HINT
from rolegen_backbone.model import target_log_probability

from .conftest import CUT, ITEMS, USERS, at_day, catalogue, hint

WHO = [f"u{user:02d}" for user in range(0, USERS, 3)]
AVAILABLE = np.arange(ITEMS) % 4 != 0


def exact(trained: TrainedBackbone, user: str, with_: object) -> np.ndarray:
    """(I,) log probability of every item, one by one."""
    decision = trained.decision(user, at_day(CUT), with_)  # type: ignore[arg-type]
    batch = trained.collate.batch([decision])
    with torch.no_grad():
        encoded = trained.model.encode(batch)
        return target_log_probability(trained.model, batch, encoded, torch.arange(ITEMS)[None])[0].numpy()


def test_the_order_is_that_of_probability_plus_bonus_over_everything(trained: TrainedBackbone) -> None:
    random = np.random.default_rng(3)
    bonus = random.normal(0, 6, (len(WHO), ITEMS))
    decisions = [trained.decision(user, at_day(CUT), NO_HINT) for user in WHO]
    found = trained.rank(decisions, np.ones(ITEMS, bool), size=8, bonus=bonus)
    for row, user in enumerate(WHO):
        wanted = exact(trained, user, NO_HINT) + bonus[row]
        chosen = found.item_BN[row].numpy()
        assert wanted[chosen] == pytest.approx(np.sort(wanted)[::-1][:8], abs=1e-3)
        assert found.log_probability_BN[row].numpy() == pytest.approx(wanted[chosen] - bonus[row][chosen], abs=1e-3)
        assert found.parts_BNM[row].sum(-1).log().numpy() == pytest.approx(
            wanted[chosen] - bonus[row][chosen], abs=1e-3
        )


def test_no_bonus_at_all_changes_nothing_and_nothing_unavailable_comes(trained: TrainedBackbone) -> None:
    decisions = [trained.decision(user, at_day(CUT), NO_HINT) for user in WHO]
    plain = trained.rank(decisions, AVAILABLE, size=10)
    same = trained.rank(decisions, AVAILABLE, size=10, bonus=np.zeros((len(WHO), ITEMS)))
    assert torch.equal(plain.item_BN, same.item_BN)
    forced = trained.rank(decisions, AVAILABLE, size=10, bonus=np.where(AVAILABLE, 0.0, 50.0)[None].repeat(len(WHO), 0))
    assert AVAILABLE[forced.item_BN.numpy()].all()
    own = [np.flatnonzero(AVAILABLE)[:5]] * len(WHO)
    barred = trained.rank(decisions, AVAILABLE, size=6, without=own, bonus=np.full((len(WHO), ITEMS), 9.0))
    assert not np.isin(barred.item_BN.numpy(), own[0]).any()


def test_reasoned_candidates_and_diversity_go_with_it(trained: TrainedBackbone) -> None:
    with_ = hint([3, 7, 11])
    bonus = np.zeros((1, ITEMS))
    bonus[0, 5] = 40.0
    found = trained.rank(
        [trained.decision(WHO[0], at_day(CUT), with_)], np.ones(ITEMS, bool), size=6, bonus=bonus, diversity=0.5
    )
    assert int(found.item_BN[0, 0]) == 5
    assert float(found.log_probability_BN[0, 0]) == pytest.approx(float(exact(trained, WHO[0], with_)[5]), abs=1e-3)
    assert len(catalogue()) == ITEMS
