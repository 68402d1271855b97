"""Training: it learns, it can be killed at any moment, and it keeps the best it had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.events import DAY, Baskets
from rolegen_backbone.examples import NO_HINT, Collator, Decision, returns, sample_targets
from rolegen_backbone.training import evaluate, fit_taste, prepare
from rolegen_errors import FutureError, InputError, ProjectError

from .conftest import (
    CONFIG,
    CUT,
    ITEMS,
    TODAY,
    USERS,
    Row,
    Toy,
    at_day,
    fit,
    item_ids,
    log_of,
    no_hints,
    shop_rows,
    silent,
    toy_model,
)


class Killed(BaseException):
    """The process was stopped here."""


def killer(stage: str, done: int) -> Callable[[str, int, int], None]:
    """A progress callback that stops the training when ``stage`` has done that much."""

    def progress(now: str, count: int, _total: int) -> None:
        if now == stage and count >= done:
            raise Killed

    return progress


def equal(a: TrainedBackbone, b: TrainedBackbone) -> bool:
    mine, yours = a.model.state_dict(), b.model.state_dict()
    assert mine.keys() == yours.keys()
    return a.platt == b.platt and all(torch.equal(mine[name], yours[name]) for name in mine)


def prepared(toy: Toy) -> tuple[list[Decision], list[Decision]]:
    log = toy.features.log
    return prepare(log, Baskets.of(log), toy.features, CONFIG, last_day=CUT, progress=silent)


def test_it_learns_that_everybody_rebuys_an_item_of_his_own(trained: TrainedBackbone) -> None:
    decisions = [trained.decision(f"u{user:02d}", at_day(CUT), NO_HINT) for user in range(USERS)]
    found = trained.rank(decisions, np.ones(ITEMS, bool), size=5)
    hits = np.mean([row[0] == user * 7 % ITEMS for user, row in enumerate(found.item_BN.tolist())])
    popular = np.bincount([user * 7 % ITEMS for user in range(USERS)], minlength=ITEMS).max() / USERS
    assert hits >= 0.8
    assert hits > 5 * popular


def test_the_loss_falls(tmp_path: Path) -> None:
    toy = toy_model(seed=1)
    learn, validation = prepared(toy)
    collate = Collator(toy.features.log, toy.model.config.history)
    before = evaluate(toy.model, collate, validation, CONFIG)
    fit_taste(toy.model, toy.features.log, learn, validation, CONFIG, tmp_path, silent)
    assert evaluate(toy.model, collate, learn, CONFIG) < before - 0.5
    assert evaluate(toy.model, collate, validation, CONFIG) < before - 0.5


def test_training_decisions_see_nothing_of_their_targets_day() -> None:
    learn, validation = prepared(toy_model())
    baskets = Baskets.of(log_of(shop_rows(), item_ids()))
    bought = {
        (int(u), int(day)): baskets.items_of(b).tolist()
        for b, (u, day) in enumerate(zip(baskets.user, baskets.day, strict=True))
    }
    for decision in (*learn, *validation):
        day = decision.at // DAY
        following = min(d for u, d in bought if u == decision.user and d >= day)
        assert decision.target.tolist() == bought[decision.user, following]
        assert following - day <= CONFIG.horizon_days
        if decision in learn:
            assert following < CUT - CONFIG.validation_days  # no target lies in the window that chooses the epoch
    assert all(decision.at // DAY >= CUT - CONFIG.validation_days for decision in validation)


def test_decisions_of_long_gaps_lie_after_the_user_had_become_dormant() -> None:
    rows = [Row(f"u{k}", "x", TODAY + day) for k in range(50) for day in (0, 60, 160)]
    baskets = Baskets.of(log_of(rows, ["x"]))
    basket, day, weight = returns(
        baskets, horizon_days=60, dormant_days=70, first_day=TODAY, last_day=TODAY + 200, seed=1
    )
    long = baskets.day[basket] == TODAY + 160
    assert long.sum() == (~long).sum() == 50
    assert (weight[long] == 1).all() and (weight[~long] < 1).all()
    assert (day[long] >= TODAY + 60 + 70).all() and (day[long] <= TODAY + 160).all()
    assert len(set(day[long].tolist())) > 10
    assert (day[~long] > TODAY).all() and (day[~long] <= TODAY + 60).all()


def test_target_weights_of_a_decision_add_up_to_its_weight() -> None:
    decision = toy_model().decide(0)
    decisions = [replace(decision, target=np.arange(n), weight=w) for n, w in ((1, 1.0), (3, 0.3), (9, 0.6))]
    target, weight = sample_targets(decisions, np.random.default_rng(0))
    assert weight.sum(dim=1).tolist() == pytest.approx([1.0, 0.3, 0.6])
    assert target.shape == weight.shape
    for row, count in enumerate((1, 3, target.shape[1])):
        assert len(set(target[row, :count].tolist())) == count
        assert (weight[row, count:] == 0).all()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(trained: TrainedBackbone, tmp_path: Path) -> None:
    assert equal(fit(tmp_path / "again"), trained)
    assert not equal(fit(tmp_path / "other", config=replace(CONFIG, seed=4, epochs=1)), trained)


@pytest.mark.parametrize(
    ("stage", "done"),
    [("features", 0), ("train", 3), ("train", 20), ("candidates", 4), ("outcome", 1)],
    ids=["before training", "in the first epoch", "in a later epoch", "among the candidates", "at the outcome head"],
)
def test_a_killed_training_resumes_to_the_same_weights(
    trained: TrainedBackbone, tmp_path: Path, stage: str, done: int
) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, progress=killer(stage, done))
    assert not (tmp_path / "backbone.json").exists()
    steps: list[int] = []

    def watch(now: str, count: int, _total: int) -> None:
        if now == "train":
            steps.append(count)

    assert equal(fit(tmp_path, progress=watch), trained)
    learn, _ = prepared(toy_model())
    per_epoch = -(-len(learn) // CONFIG.batch)
    finished = done // per_epoch if stage == "train" else (0 if stage == "features" else CONFIG.epochs)
    assert len(steps) == (CONFIG.epochs - finished) * per_epoch  # finished epochs are not repeated


def test_two_kills_are_no_worse_than_one(trained: TrainedBackbone, tmp_path: Path) -> None:
    for stage, done in (("train", 20), ("train", 30)):
        with pytest.raises(Killed):
            fit(tmp_path, progress=killer(stage, done))
    assert equal(fit(tmp_path), trained)


def test_a_stopped_training_is_not_resumed_with_other_settings_or_another_log(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, progress=killer("train", 20))
    for other in (replace(CONFIG, learning_rate=2e-3), replace(CONFIG, seed=8)):
        with pytest.raises(ProjectError, match="other settings") as caught:
            fit(tmp_path, config=other)
        assert "rolegen train --force" in str(caught.value)
    with pytest.raises(ProjectError, match="another log"):
        fit(tmp_path, rows=[row for row in shop_rows() if row.user != "u03"])
    fit(tmp_path)  # what was begun can still be ended


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    """A model that knows what the kept-out users want unlearns it on users who want something else."""
    toy = toy_model(seed=1)
    contrary, validation = (
        [replace(d, target=np.array([(d.user * 7 + 11) % ITEMS])) for d in part] for part in prepared(toy)
    )
    (tmp_path / "first").mkdir()
    fit_taste(toy.model, toy.features.log, contrary, validation, CONFIG, tmp_path / "first", silent)
    learn, _ = prepared(toy)
    per_epoch = -(-len(learn) // CONFIG.batch)
    after: list[dict[str, torch.Tensor]] = []

    def watch(_stage: str, step: int, _total: int) -> None:
        if step > 1 and step % per_epoch == 1:
            after.append(load_file(tmp_path / "resume.safetensors"))

    config = replace(CONFIG, epochs=4)
    epochs, best, loss = fit_taste(toy.model, toy.features.log, learn, validation, config, tmp_path, watch)
    after.append(load_file(tmp_path / "resume.safetensors"))
    kept = {name: tensor.clone() for name, tensor in toy.model.state_dict().items()}
    collate = Collator(toy.features.log, toy.model.config.history)
    losses = []
    for checkpoint in after:
        toy.model.load_state_dict({k[6:]: v for k, v in checkpoint.items() if k.startswith("model.")})
        losses.append(evaluate(toy.model, collate, validation, config))
    assert len(losses) == epochs == 4
    assert best == int(np.argmin(losses)) < 3  # the last epoch is not the best one, or this test shows nothing
    assert loss == losses[best]
    assert all(torch.equal(tensor, after[best][f"model.{name}"]) for name, tensor in kept.items())


def test_too_few_returns_are_an_error_that_says_so(tmp_path: Path) -> None:
    rows = [Row(f"u{k}", "i01", CUT - 200) for k in range(30)]
    with pytest.raises(InputError, match=r"too few returning users.*0 before, 0 in the last 60 days") as caught:
        fit(tmp_path, rows=rows)
    assert "longer log" in str(caught.value)
    assert not (tmp_path / "backbone.json").exists()


@pytest.mark.parametrize("second", [0, DAY - 1])
def test_a_log_that_reaches_past_the_cut_is_refused(tmp_path: Path, second: int) -> None:
    with pytest.raises(FutureError, match="at or after"):
        fit(tmp_path, rows=[*shop_rows(), Row("u00", "i01", CUT, second=second)])


def test_training_without_any_candidate_works(tmp_path: Path) -> None:
    trained = fit(tmp_path, hints=no_hints, config=replace(CONFIG, epochs=1))
    found = trained.rank([trained.decision("u00", at_day(CUT), NO_HINT)], np.ones(ITEMS, bool), size=3)
    assert len(set(found.item_BN[0].tolist())) == 3
