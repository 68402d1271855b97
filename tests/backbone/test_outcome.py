"""The question "will there be an order?": its labels, its calibration, and what an intervention changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.events import DAY, ORDER, Baskets
from rolegen_backbone.examples import NO_HINT, Change, Collator, Spells, spells
from rolegen_backbone.features import Features
from rolegen_backbone.model import UNKNOWN_ITEM
from rolegen_backbone.outcome_training import calibration_error
from rolegen_backbone.rollout import Question, Rollout, encode_events, intervention_behaviour, rollout

from .conftest import CUT, ITEMS, TODAY, Row, Toy, at_day, item_ids, log_of, shop_rows, toy_model

HORIZON, DORMANT = 30, 40


def drawn(rows: list[Row], *, first: int, last: int, limit: int = 400) -> Spells:
    log = log_of(rows, ["x"])
    features = Features(log, np.ones(1, np.float32), np.zeros((1, 1), np.float32))
    return spells(
        log,
        Baskets.of(log),
        features,
        horizon_days=HORIZON,
        dormant_days=DORMANT,
        first_day=first,
        last_day=last,
        limit=limit,
        seed=0,
    )


def test_labels_say_whether_an_order_followed_within_the_horizon() -> None:
    days = {"a": (0, 60, 75, 200), "b": (10,), "c": (30, 120)}
    found = drawn([Row(u, "x", TODAY + d) for u, many in days.items() for d in many], first=TODAY, last=TODAY + 260)
    assert len(found.at) > 100
    seen = set()
    for user, at, ordered in zip(found.user, found.at, found.ordered, strict=True):
        day = int(at) // DAY - TODAY
        orders = days["abc"[int(user)]]
        assert any(d < day for d in orders)  # the user is known
        truth = any(day <= d < day + HORIZON for d in orders)
        assert bool(ordered) == truth, (user, day)
        seen.add((int(user), truth))
    assert seen == {(0, True), (0, False), (1, False), (2, True), (2, False)}


def test_a_decision_whose_horizon_is_not_over_has_no_label_yet() -> None:
    rows = [Row("a", "x", TODAY), Row("b", "x", TODAY + 90)]
    found = drawn(rows, first=TODAY, last=TODAY + 100)
    assert len(found.at)
    assert (found.at // DAY + HORIZON <= TODAY + 100).all()
    assert set(found.user.tolist()) == {0}  # b's first order is too young to know what became of it
    assert not len(drawn(rows, first=TODAY, last=TODAY + HORIZON).at)


def test_decisions_lie_within_the_days_that_are_trained_on() -> None:
    found = drawn([Row("a", "x", TODAY), Row("b", "x", TODAY + 5)], first=TODAY + 50, last=TODAY + 150)
    assert (found.at // DAY >= TODAY + 50).all()


def test_facts_of_a_spell_are_those_of_its_decision_day() -> None:
    rows = [Row("a", "x", TODAY + d) for d in (0, 60, 75, 200)]
    found = drawn(rows, first=TODAY, last=TODAY + 260, limit=20)
    features = Features(log_of(rows, ["x"]), np.ones(1, np.float32), np.zeros((1, 1), np.float32))
    for user, at, feature in zip(found.user, found.at, found.feature, strict=True):
        assert np.array_equal(feature, features.user(int(user), int(at)))


def test_calibration_error_by_hand() -> None:
    # Two bins of three: mean probability 0.2 against 1/3, and 0.8 against 2/3.
    probability = np.array([0.9, 0.1, 0.8, 0.2, 0.7, 0.3])
    label = np.array([1, 0, 1, 1, 0, 0], np.float32)
    assert calibration_error(probability, label, bins=2) == pytest.approx(0.5 * (1 / 3 - 0.2) + 0.5 * (0.8 - 2 / 3))
    assert calibration_error(np.array([0.5, 0.5]), np.array([1, 0], np.float32), bins=1) == 0.0
    assert calibration_error(np.array([0.75]), np.array([1], np.float32)) == pytest.approx(0.25)  # nine empty bins
    # 5 in 3 bins: of 2, 2 and 1.
    probability, label = np.array([0.1, 0.2, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 0, 1], np.float32)
    assert calibration_error(probability, label, bins=3) == pytest.approx(0.4 * 0.15 + 0.4 * 0.0 + 0.2 * 0.1)


def probabilities(toy: Toy, appended: list[list[tuple[int, int]]], user: int, platt: tuple[float, float]) -> np.ndarray:
    """(rows, K) by the model's own parts, without the function under test."""
    n = len(appended)
    feature = np.repeat(toy.features.user(user, CUT * DAY)[None], n, axis=0)
    with torch.no_grad():
        encoded = encode_events(toy.model, toy.collate, np.full(n, user), np.full(n, CUT * DAY), feature, appended)
        logit = toy.model.outcome(torch.from_numpy(feature), encoded).numpy()
    return 1 / (1 + np.exp(-(platt[0] * logit + platt[1])))


def roll(toy: Toy, user: int, paths: list[list[int]], platt: tuple[float, float] = (0.7, -0.2)) -> list[Rollout]:
    code = intervention_behaviour(toy.features.log)
    return rollout(toy.model, toy.collate, platt, code, [question(toy, user, paths)])[0]


def question(toy: Toy, user: int, paths: list[list[int]]) -> Question:
    return Question(user=user, at=CUT * DAY, feature=toy.features.user(user, CUT * DAY), paths=paths)


@pytest.fixture(scope="module")
def viewed() -> Toy:
    """The same shop, but with a log of views."""
    toy = toy_model(seed=0)
    log = log_of(shop_rows(views=True), item_ids())
    price = np.ones(ITEMS, np.float32)
    return toy._replace(
        features=Features(log, price, np.zeros((ITEMS, 1), np.float32)), collate=Collator(log, toy.model.config.history)
    )


def test_an_intervention_leaves_the_weakest_behaviour_of_the_log(toy: Toy, viewed: Toy) -> None:
    assert intervention_behaviour(toy.features.log) == ORDER
    assert intervention_behaviour(viewed.features.log) == 1
    refunds = log_of([Row("a", "x", TODAY), Row("a", "x", TODAY + 1, "refund")], ["x"])
    assert intervention_behaviour(refunds) == ORDER  # nobody shows an item by refunding it


def test_where_orders_alone_are_logged_the_reference_is_some_item(toy: Toy) -> None:
    for path in ([3], [3, 17], [5, 5, 5]):
        (found,) = roll(toy, 4, [path])
        some = [(UNKNOWN_ITEM, ORDER)] * len(path)
        p = probabilities(toy, [some, [(item + 1, ORDER) for item in path]], 4, (0.7, -0.2))
        assert found.change == pytest.approx(float((p[1] - p[0]).mean()), abs=1e-5)
    assert roll(toy, 4, [[3]])[0].change != pytest.approx(0, abs=1e-6)


def test_where_views_are_logged_the_reference_is_the_untouched_trajectory(viewed: Toy) -> None:
    (found,) = roll(viewed, 4, [[3, 17]])
    p = probabilities(viewed, [[], [(4, 1), (18, 1)]], 4, (0.7, -0.2))
    assert found.change == pytest.approx(float((p[1] - p[0]).mean()), abs=1e-5)
    spread = float((p[1] - p[0]).std(ddof=1))
    assert found.high - found.low == pytest.approx(2 * 1.6449 * spread, abs=1e-4)


def test_an_intervention_may_take_an_event_out_or_put_another_item_in_its_place(toy: Toy) -> None:
    rows = toy.features.log.rows(4, CUT * DAY)
    event, item = int(toy.features.log.event[rows][-2]), int(toy.features.log.item[rows][-2])
    other = (item + 1) % ITEMS
    code = intervention_behaviour(toy.features.log)
    asked = dataclasses.replace(
        question(toy, 4, [[], [], [3], [], []]),
        changes=[Change(event, None), Change(event, other), Change(event, None), Change(event, item), Change(-1, None)],
    )
    gone, swapped, both, same, unknown = rollout(toy.model, toy.collate, (0.7, -0.2), code, [asked])[0]
    [plain] = roll(toy, 4, [[3]])
    assert {found.without for found in (gone, swapped, both, same)} == {plain.without}
    assert gone.change != pytest.approx(0, abs=1e-4) and swapped.change != pytest.approx(gone.change, abs=1e-4)
    assert both.change != pytest.approx(plain.change, abs=1e-4)
    assert same.change == pytest.approx(0, abs=1e-6) and unknown.change == pytest.approx(0, abs=1e-6)
    # A past without the event is the past of somebody who never had it: the encoder sees no hole.
    user, at = np.array([4, 4]), np.array([CUT * DAY] * 2)
    item_BT, _, _, mask_BT = toy.collate.events(user, at, None, [None, Change(event, None)])
    assert int(mask_BT[0].sum()) - int(mask_BT[1].sum()) == 1 and torch.equal(item_BT[0], item_BT[1])


def test_an_empty_path_changes_nothing(toy: Toy, viewed: Toy) -> None:
    for shop in (toy, viewed):
        empty = roll(shop, 2, [[], [4]])[0]
        assert empty.change == pytest.approx(0, abs=1e-6)
        assert empty.with_ == pytest.approx(empty.without, abs=1e-6)
    assert roll(toy, 2, []) == []


def test_rollouts_are_the_same_alone_together_and_again(toy: Toy) -> None:
    paths = [[3], [17, 2], [0, 1, 2, 3]]
    together = roll(toy, 7, paths)
    assert roll(toy, 7, paths) == together
    for path, expected in zip(paths, together, strict=True):
        (alone,) = roll(toy, 7, [path])
        assert dataclasses.astuple(alone) == pytest.approx(dataclasses.astuple(expected), abs=1e-5)


def test_decisions_that_are_rolled_out_together_do_not_see_each_other(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = intervention_behaviour(toy.features.log)
    paths: list[list[list[int]]] = [[[3]], [], [[17, 2], [5]], [[]], [[0, 1, 2, 3]], [[k] for k in range(ITEMS)]]
    questions = [question(toy, 3 * number, walks) for number, walks in enumerate(paths)]
    passes = []
    monkeypatch.setattr(
        "rolegen_backbone.rollout.encode_events",
        lambda *args: passes.append(len(args[2])) or encode_events(*args),  # type: ignore[func-returns-value]
    )
    together = rollout(toy.model, toy.collate, (0.7, -0.2), code, questions)
    assert len(passes) == 1  # one forward pass, not one for each
    assert [len(found) for found in together] == [len(walks) for walks in paths]
    for number, walks in enumerate(paths):
        alone = roll(toy, 3 * number, walks)
        for mine, ours in zip(alone, together[number], strict=True):
            assert dataclasses.astuple(mine) == pytest.approx(dataclasses.astuple(ours), abs=1e-5)
    # Many decisions go through in parts, each at least one decision, and none is lost.
    monkeypatch.setattr("rolegen_backbone.rollout.ROWS", 10)
    passes.clear()
    parts = rollout(toy.model, toy.collate, (0.7, -0.2), code, questions)
    assert len(passes) > 2
    for some, others in zip(parts, together, strict=True):
        for mine, ours in zip(some, others, strict=True):
            assert dataclasses.astuple(mine) == pytest.approx(dataclasses.astuple(ours), abs=1e-5)
    assert rollout(toy.model, toy.collate, (1.0, 0.0), code, []) == []


def test_numbers_of_a_rollout_agree_with_each_other(toy: Toy) -> None:
    for user in range(0, 40, 8):
        for found in roll(toy, user, [[k] for k in range(ITEMS)], platt=(3.0, 0.0)):
            assert found.low <= found.change <= found.high
            assert 0 <= found.without <= 1
            assert 0 <= found.with_ <= 1
            if 0 < found.with_ < 1:
                assert found.with_ - found.without == pytest.approx(found.change, abs=1e-6)


def test_the_served_probability_is_the_calibrated_one(trained: TrainedBackbone) -> None:
    """Platt scaling was fitted, and its error reported, on the mean logit of the ensemble."""
    decision = trained.decision("u03", at_day(CUT), NO_HINT)
    feature = decision.pool.user[None]
    with torch.no_grad():
        encoded = encode_events(
            trained.model, trained.collate, np.array([decision.user]), np.array([decision.at]), feature, None
        )
        logit = float(trained.model.outcome(torch.from_numpy(feature), encoded).mean())
    expected = 1 / (1 + np.exp(-(trained.platt[0] * logit + trained.platt[1])))
    assert trained.roll(decision, [[1]])[0].without == pytest.approx(expected, abs=1e-6)
