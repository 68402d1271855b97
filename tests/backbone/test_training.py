"""Training: it learns, it can be killed at any moment, and it keeps the best it had."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.checkpoints import save_weights
from rolegen_backbone.distributed import Group
from rolegen_backbone.events import DAY, Baskets
from rolegen_backbone.examples import NO_HINT, Collator, Decision, returns, sample_targets
from rolegen_backbone.model import PoolScorer
from rolegen_backbone.taste_training import Taste, evaluate, fit_taste
from rolegen_backbone.training import TrainConfig, prepare
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


class Watch:
    """A progress callback that keeps the steps of stage 1 and of its repetition on all returns, "refit"."""

    def __init__(self, until: tuple[str, int] | None = None) -> None:
        """``until``: stop the training when that stage has done that much."""
        self.until, self.steps = until, {"train": list[int](), "refit": list[int]()}
        self._again = False

    def __call__(self, stage: str, done: int, _total: int) -> None:
        self._again = self._again or stage == "candidates"
        stage = "refit" if self._again and stage == "train" else stage
        if stage in self.steps:
            self.steps[stage].append(done)
        if self.until and stage == self.until[0] and done >= self.until[1]:
            raise Killed


def killer(stage: str, done: int) -> Watch:
    """Stops the training there."""
    return Watch((stage, done))


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
    [("features", 0), ("train", 3), ("train", 20), ("candidates", 4), ("refit", 17), ("outcome", 1)],
    ids=[
        "before training",
        "in the first epoch",
        "in a later epoch",
        "among the candidates",
        "while learning all returns",
        "at the outcome head",
    ],
)
def test_a_killed_training_resumes_to_the_same_weights(
    trained: TrainedBackbone, tmp_path: Path, stage: str, done: int
) -> None:
    with pytest.raises(Killed):
        fit(tmp_path, progress=killer(stage, done))
    assert not (tmp_path / "backbone.json").exists()
    watch = Watch()
    assert equal(fit(tmp_path, progress=watch), trained)
    learn, validation = prepared(toy_model())
    order = ("features", "train", "candidates", "refit", "outcome")
    for name, count, epochs in (
        ("train", len(learn), CONFIG.epochs),
        ("refit", len(learn) + len(validation), trained.manifest["report"]["best_epoch"]),
    ):
        per_epoch = -(-count // CONFIG.batch)
        over = epochs if order.index(stage) > order.index(name) else done // per_epoch if stage == name else 0
        assert len(watch.steps[name]) == (epochs - over) * per_epoch, name  # finished epochs are not repeated


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
    epochs, best, loss, curve = fit_taste(toy.model, toy.features.log, learn, validation, config, tmp_path, watch)
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
    assert [kept for _, kept in curve] == losses
    assert all(torch.equal(tensor, after[best][f"model.{name}"]) for name, tensor in kept.items())


def contrary_training(folder: Path, config: TrainConfig) -> tuple[Taste, list[int]]:
    """Train a model that knows better already on users who want something else; the steps that were done."""
    toy = toy_model(seed=1)
    learn, validation = prepared(toy)
    (folder / "first").mkdir(parents=True, exist_ok=True)
    if not (folder / "knows.safetensors").exists():
        fit_taste(toy.model, toy.features.log, validation, validation, CONFIG, folder / "first", silent)
        save_weights(toy.model, folder / "knows.safetensors")
    toy.model.load_state_dict(load_file(folder / "knows.safetensors"))
    contrary = [replace(d, target=np.array([(d.user * 7 + 11) % ITEMS])) for d in learn]
    steps: list[int] = []

    def watch(_stage: str, step: int, _total: int) -> None:
        steps.append(step)

    return fit_taste(toy.model, toy.features.log, contrary, validation, config, folder, watch), steps


def test_training_stops_when_validation_does_not_improve(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=12, patience=2)
    taste, steps = contrary_training(tmp_path, config)
    assert taste.epochs == len(taste.curve) == taste.best_epoch + 1 + config.patience < config.epochs
    assert taste.loss == min(kept for _, kept in taste.curve)
    again, more = contrary_training(tmp_path, config)
    assert again == taste
    assert len(more) == 1 < len(steps)  # a training that stopped early is not taken up again


def test_a_checkpoint_within_an_epoch_is_enough_to_go_on(trained: TrainedBackbone, tmp_path: Path) -> None:
    config = replace(CONFIG, checkpoint_steps=2)
    with pytest.raises(Killed):
        fit(tmp_path, config=config, progress=killer("train", 6))
    watch = Watch()
    assert equal(fit(tmp_path, config=config, progress=watch), trained)
    assert watch.steps["train"][0] == 5  # the kill came before the checkpoint after step 6


def without_dropout(seed: int) -> Toy:
    toy = toy_model(seed=seed)
    for module in toy.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, PoolScorer):
            module.dropout = 0.0
    return toy


def test_the_loss_does_not_depend_on_how_a_batch_is_cut(tmp_path: Path) -> None:
    """Weights of decisions differ and shards are uneven, so a mean of the shards' means would not do."""
    found = []
    for shards in (1, 3, 9):
        toy = without_dropout(seed=1)
        learn, validation = prepared(toy)
        config = replace(CONFIG, shards=shards, epochs=2)
        folder = tmp_path / str(shards)
        folder.mkdir()
        learn = [replace(d, weight=1.0 + 3 * (k % 5)) for k, d in enumerate(learn)][: 32 * 4 + 5]
        found.append(fit_taste(toy.model, toy.features.log, learn, validation, config, folder, silent).curve)
    for curve in found[1:]:
        assert np.array(curve) == pytest.approx(np.array(found[0]), abs=2e-4)


def test_shards_must_be_shared_out_evenly(tmp_path: Path) -> None:
    toy = toy_model()
    learn, validation = prepared(toy)
    with pytest.raises(InputError, match="3 shards cannot be shared out evenly to 2 processes"):
        config = replace(CONFIG, shards=3)
        fit_taste(toy.model, toy.features.log, learn, validation, config, tmp_path, silent, Group(rank=0, size=2))


def test_half_precision_learns_as_well(tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        toy = toy_model(seed=1)
        learn, validation = prepared(toy)
        config = replace(CONFIG, precision=precision)
        (tmp_path / precision).mkdir()
        taste = fit_taste(toy.model, toy.features.log, learn, validation, config, tmp_path / precision, silent)
        losses[precision] = taste.loss
        assert all(weight.dtype == torch.float32 for weight in toy.model.parameters())
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != losses["fp32"]


def test_a_compiled_training_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.compile captures, run without its code generator, which takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    curves = []
    for compiled in (False, True):
        toy = without_dropout(seed=1)  # compiled code draws other masks
        learn, validation = prepared(toy)
        config = replace(CONFIG, compile=compiled, epochs=1)
        (tmp_path / str(compiled)).mkdir()
        taste = fit_taste(
            toy.model, toy.features.log, learn[:100], validation, config, tmp_path / str(compiled), silent
        )
        curves.append(taste.curve)
    assert np.array(curves[1]) == pytest.approx(np.array(curves[0]), abs=2e-3)


def test_a_compiler_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise BackendCompilerFailed(lambda: None, RuntimeError("no C++ compiler found"), None)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    toy = toy_model()
    learn, validation = prepared(toy)
    with pytest.raises(ProjectError, match=r"torch\.compile failed") as caught:
        config = replace(CONFIG, compile=True)
        fit_taste(toy.model, toy.features.log, learn, validation, config, tmp_path, silent)
    assert "g++" in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    toy = toy_model()
    learn, validation = prepared(toy)
    with pytest.raises(ProjectError, match="has no GPU"):
        fit_taste(toy.model, toy.features.log, learn, validation, replace(CONFIG, device="cuda"), tmp_path, silent)


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


def test_what_only_the_latest_returns_show_is_learnt_when_all_are_learnt_from(tmp_path: Path) -> None:
    """Shortly before the cut everybody takes to item 22, whatever else: a model of the time before cannot know."""
    cut = CUT - CONFIG.validation_days
    rows = [row for row in shop_rows() if row.item != "i22"]
    fad = {(row.user, row.day) for row in rows if row.day >= cut}
    rows += [Row(user, "i22", day) for user, day in sorted(fad)]
    chance = {}
    for refit in (True, False):
        config = replace(CONFIG, refit=refit)
        trained = fit(tmp_path / str(refit), rows=rows, hints=no_hints, config=config)
        # Of those who have not followed it yet, if any, and of all others.
        decisions = [trained.decision(f"u{user:02d}", at_day(CUT), NO_HINT) for user in range(USERS)]
        found = trained.rank(decisions, np.ones(ITEMS, bool), size=ITEMS)
        chance[refit] = float((found.log_probability_BN.exp() * (found.item_BN == 22)).sum() / USERS)
        assert trained.manifest["report"]["validation_returns"] > 0
    assert chance[True] > 1.5 * chance[False]
