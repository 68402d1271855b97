"""A trained backbone on disk and in use."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.events import DAY
from rolegen_backbone.examples import NO_HINT
from rolegen_errors import FutureError, InputError, ProjectError

from .conftest import CONFIG, CUT, ITEMS, USERS, Row, at_day, fit, hint, item_ids, log_of, shop_rows

EVERYTHING = np.ones(ITEMS, bool)
WHO = [f"u{user:02d}" for user in range(0, USERS, 3)]


def test_what_comes_back_from_disk_answers_the_same(tmp_path: Path) -> None:
    made = fit(tmp_path, config=replace(CONFIG, epochs=1))
    loaded = TrainedBackbone.load(tmp_path, log_of(shop_rows(), item_ids()))
    assert loaded.as_of == made.as_of
    for hinted in (NO_HINT, hint([3, 11, 3], role=1)):
        a, b = (
            side.rank([side.decision(user, at_day(CUT), hinted) for user in WHO], EVERYTHING, size=6)
            for side in (made, loaded)
        )
        assert torch.equal(a.item_BN, b.item_BN)
        assert torch.equal(a.log_probability_BN, b.log_probability_BN)
    for user in WHO[:4]:
        first, second = (s.roll(s.decision(user, at_day(CUT), NO_HINT), [[1], [2, 3]]) for s in (made, loaded))
        assert first == second


def test_slates_are_distinct_available_and_best_first(trained: TrainedBackbone) -> None:
    available = np.arange(ITEMS) % 3 != 0
    decisions = [trained.decision(user, at_day(CUT), hint([0, 1, 3, 4])) for user in WHO]
    found = trained.rank(decisions, available, size=8)
    for row, score in zip(found.item_BN.tolist(), found.log_probability_BN.tolist(), strict=True):
        assert len(set(row)) == 8
        assert all(available[item] for item in row)
        assert score == sorted(score, reverse=True)
    # Stock that changes between calls is seen at once.
    again = trained.rank(decisions, ~available, size=8)
    assert all(not available[item] for row in again.item_BN.tolist() for item in row)


def test_the_future_changes_no_slate_and_no_rollout(trained: TrainedBackbone, trained_folder: Path) -> None:
    random = np.random.default_rng(8)
    planted = [
        Row(f"u{user:02d}", f"i{(user * 7 + 1) % ITEMS:02d}", CUT + 20 + day, behaviour, 99.0, 1e4, second)
        for user in range(USERS)
        for day, second in ((0, 0), (0, DAY - 1), (int(random.integers(1, 300)), 5))
        for behaviour in ("order", "view", "refund", "cart")
    ]
    # A stranger who sorts before everybody else: the users' numbers change, their answers must not.
    planted += [Row("a stranger", "i05", CUT + 20, second=0)]
    later = TrainedBackbone.load(trained_folder, log_of([*shop_rows(), *planted], item_ids()))
    for hour in (0, 13):
        for user in WHO:
            before, after = (side.decision(user, at_day(CUT + 20, hour), hint([2, 9])) for side in (trained, later))
            assert np.array_equal(before.pool.item, after.pool.item)
            assert np.array_equal(before.pool.feature, after.pool.feature)
            a, b = trained.rank([before], EVERYTHING, size=8), later.rank([after], EVERYTHING, size=8)
            assert torch.equal(a.item_BN, b.item_BN)
            assert torch.equal(a.log_probability_BN, b.log_probability_BN)


def test_events_after_the_cut_but_before_the_decision_are_seen(trained: TrainedBackbone, trained_folder: Path) -> None:
    """People have taken to another item since the training: their slates follow."""
    taken = {user: (int(user[1:]) * 7 + 11) % ITEMS for user in WHO}
    rows = [Row(user, f"i{item:02d}", CUT + day) for user, item in taken.items() for day in (10, 40, 70, 100)]
    later = TrainedBackbone.load(trained_folder, log_of([*shop_rows(), *rows], item_ids()))
    rank, chance = [], []
    for side in (trained, later):
        found = side.rank([side.decision(user, at_day(CUT + 135), NO_HINT) for user in WHO], EVERYTHING, size=ITEMS)
        hit = found.item_BN == torch.tensor(list(taken.values()))[:, None]
        rank.append(float(hit.float().argmax(dim=1).float().mean()))
        chance.append(float((found.log_probability_BN.exp() * hit).sum(dim=1).mean()))
    assert rank[1] < 4 < 5 < rank[0]
    assert chance[1] > 3 * chance[0]


def test_a_decision_before_the_cut_is_refused(trained: TrainedBackbone) -> None:
    with pytest.raises(FutureError, match="was trained on events up to") as caught:
        trained.decision("u00", at_day(CUT - 1, 23), NO_HINT)
    assert "rolegen train --at" in str(caught.value)


def test_a_stranger_and_a_time_without_zone_are_refused(trained: TrainedBackbone) -> None:
    with pytest.raises(InputError, match="'nobody' has no event"):
        trained.decision("nobody", at_day(CUT), NO_HINT)
    with pytest.raises(InputError, match="no time zone"):
        trained.decision("u00", datetime(2013, 1, 1), NO_HINT)


def test_the_folder_holds_only_plain_formats(trained_folder: Path) -> None:
    names = sorted(path.name for path in trained_folder.rglob("*"))
    assert names == [
        "backbone.json",
        "backbone.safetensors",
        "content.safetensors",
        "item_encoder.json",
        "item_encoder.safetensors",
        "items.parquet",
        "semantic_ids.json",
        "semantic_ids.safetensors",
    ]
    for path in trained_folder.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path.name  # what pickle and torch.save write


def test_a_killed_training_leaves_only_plain_formats_too(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def progress(stage: str, _done: int, _total: int) -> None:
        if stage == "outcome":
            raise Killed

    with pytest.raises(Killed):
        fit(tmp_path, progress=progress, config=replace(CONFIG, epochs=1))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors"}
    with pytest.raises(ProjectError, match="no trained backbone"):
        TrainedBackbone.load(tmp_path, log_of(shop_rows(), item_ids()))


def test_the_manifest_is_json_for_every_reader(trained_folder: Path) -> None:
    """NaN is no JSON: PostgreSQL and browsers refuse it."""

    def refuse(constant: str) -> NoReturn:
        raise AssertionError(constant)

    report = json.loads((trained_folder / "backbone.json").read_text(), parse_constant=refuse)["report"]
    assert report["hints"] > 0
    assert 0 <= report["outcome_ece"] <= 1


def test_a_format_of_another_version_is_refused(tmp_path: Path, trained_folder: Path) -> None:
    manifest = json.loads((trained_folder / "backbone.json").read_text())
    (tmp_path / "backbone.json").write_text(json.dumps({**manifest, "format": 99}))
    with pytest.raises(ProjectError, match="format 99"):
        TrainedBackbone.load(tmp_path, log_of(shop_rows(), item_ids()))


def test_a_log_over_other_items_is_refused(trained_folder: Path) -> None:
    """Item numbers would silently mean other items."""
    with pytest.raises(ProjectError, match="other items"):
        TrainedBackbone.load(trained_folder, log_of(shop_rows(), ["another", *item_ids()]))


def test_a_retraining_that_fails_to_save_does_not_pass_for_a_finished_one(tmp_path: Path) -> None:
    fit(tmp_path, config=replace(CONFIG, epochs=1))
    (tmp_path / "items.parquet").unlink()
    (tmp_path / "items.parquet").mkdir()  # stands for a full disk
    with pytest.raises(OSError, match="directory"):
        fit(tmp_path, config=replace(CONFIG, epochs=1, seed=9))
    with pytest.raises(ProjectError, match="no trained backbone"):
        TrainedBackbone.load(tmp_path, log_of(shop_rows(), item_ids()))
