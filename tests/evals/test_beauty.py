"""The Beauty benchmark on small made-up histories: what may be learnt from, what may come out, what is marked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from rolegen_backbone.next_item_training import NextItemConfig
from rolegen_errors import InputError, ProjectError
from rolegen_evals.beauty import benchmark, systems, tune
from rolegen_evals.beauty.benchmark import PUBLISHED, run_beauty
from rolegen_evals.beauty.hybrid import (
    NeighbourPointer,
    calibrate,
    gate_shares,
    mixture_slates,
    semantic_slates,
)
from rolegen_evals.beauty.neighbours import PLAIN, Neighbours, knn_slates, similarity
from rolegen_evals.beauty.networks import OURS, SASREC, Fitted, dense_slates, fit_ours
from rolegen_evals.beauty.protocol import METRICS, SIZE, Beauty, best, judge
from rolegen_evals.bench import BENCHMARKS, Order, run

ITEMS = 40
SMALL = replace(OURS, width=16, dropout=0.1, codebook=8, levels=2, training=NextItemConfig(8, 256, 1e-2, warm_up=5))


def quiet(stage: str, done: int, total: int) -> None:
    """Say nothing."""


def chain(users: int = 160, length: int = 7) -> Beauty:
    """Whoever had item i has item i + 1 next."""
    histories = [(np.arange(length) + 3 * user) % ITEMS for user in range(users)]
    return Beauty(histories, [f"{'red' if item % 2 else 'blue'} cream number {item}" for item in range(ITEMS)])


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Beauty, Fitted]:
    data = chain()
    return data, fit_ours(data, SMALL, folder=tmp_path_factory.mktemp("ours"), progress=quiet)


def test_the_split_leaves_out_the_last_two() -> None:
    data = Beauty([np.array([4, 5, 6, 7, 8])], ["x"] * 10)
    assert [own.tolist() for own in data.train] == [[4, 5, 6]]
    assert ([own.tolist() for own in data.known("validation")], data.target("validation").tolist()) == (
        [[4, 5, 6]],
        [7],
    )
    assert ([own.tolist() for own in data.known("test")], data.target("test").tolist()) == ([[4, 5, 6, 7]], [8])


def test_metrics_of_one_target_by_hand() -> None:
    slates = np.stack([np.arange(10), np.arange(10), np.arange(10), np.r_[5, np.full(9, -1)]])
    found = judge(slates, np.array([0, 2, 9, 30]))
    assert {metric: scores.tolist() for metric, scores in found.items()} == {
        "recall1": [1, 0, 0, 0],
        "recall5": [1, 1, 0, 0],
        "recall10": [1, 1, 1, 0],
        "ndcg5": [1, 0.5, 0, 0],
        "ndcg10": [1, 0.5, pytest.approx(1 / np.log2(11)), 0],
    }


def test_what_is_known_comes_out_only_unmasked() -> None:
    score = np.tile(np.arange(20, dtype=np.float32), (2, 1))
    known = [np.array([19, 3]), np.array([18])]
    assert best(score.copy(), known, masked=True)[:, :2].tolist() == [[18, 17], [19, 17]]
    assert best(score.copy(), known, masked=False)[:, :2].tolist() == [[19, 18], [19, 18]]


def test_a_chain_is_found_by_every_part_of_ours_and_nothing_known_comes_out(ours: tuple[Beauty, Fitted]) -> None:
    data, fitted = ours
    known, target = data.known("test"), data.target("test")
    slates = {
        "dense": dense_slates(fitted.model, known, masked=True),
        "semantic": semantic_slates(fitted.model, known, quiet),
    }
    pointer = NeighbourPointer(data, fitted)
    _, evidence = calibrate(fitted.model, pointer, data)
    share = gate_shares(fitted.model, pointer, evidence, known, "test")
    assert share.exp().sum(dim=1).numpy() == pytest.approx(np.ones(len(known)), abs=1e-5)
    slates["mixture"] = mixture_slates(fitted.model, pointer, share, known, quiet)
    for name, shown in slates.items():
        assert judge(shown, target)["recall1"].mean() > 0.8, name
        assert all(not set(slate) & set(own.tolist()) for slate, own in zip(shown.tolist(), known, strict=True)), name
        assert all(len(set(slate)) == SIZE for slate in shown.tolist()), name


def test_validation_is_judged_by_a_gate_fitted_on_others(ours: tuple[Beauty, Fitted]) -> None:
    data, fitted = ours
    pointer = NeighbourPointer(data, fitted)
    _, evidence = calibrate(fitted.model, pointer, data)
    before = gate_shares(fitted.model, pointer, evidence, data.known("validation"), "validation")
    evidence.log_part_UP[0] = evidence.log_part_UP[0].flip(0) * 3  # another target for user 0
    after = gate_shares(fitted.model, pointer, evidence, data.known("validation"), "validation")
    even = np.arange(len(before)) % 2 == 0
    assert before[even].numpy() == pytest.approx(after[even].numpy(), abs=1e-6)
    assert (before[~even] - after[~even]).abs().max() > 1e-6


def test_neighbours_know_the_training_part_only(ours: tuple[Beauty, Fitted]) -> None:
    data, fitted = ours
    changed = Beauty([np.r_[own[:-2], 0, 1] for own in data.histories], data.titles)
    near, other = NeighbourPointer(data, fitted).near, NeighbourPointer(changed, fitted).near
    assert (near != other).nnz == 0
    shorter = Beauty([own[1:] for own in data.histories], data.titles)
    assert (near != NeighbourPointer(shorter, fitted).near).nnz > 0


def test_neighbours_by_hand() -> None:
    near = similarity([np.array([0, 1]), np.array([0, 1]), np.array([1, 2])], 3, Neighbours(0.0, 0.0, 0.5)).toarray()
    assert near == pytest.approx(
        np.array([[0, 2 / 6**0.5, 0], [2 / 6**0.5, 0, 1 / 3**0.5], [0, 1 / 3**0.5, 0]]), abs=1e-6
    )
    slates = knn_slates(chain().train, chain().known("test"), ITEMS, PLAIN, masked=True)
    assert judge(slates, chain().target("test"))["recall10"].mean() > 0.9


def write(folder: Path, data: Beauty) -> Path:
    at = folder / "amazon_beauty"
    at.mkdir(parents=True)
    names = [f"B{item:03d}" for item in range(data.items)]
    pl.DataFrame({"item_id": names, "title": list(data.titles)}).write_parquet(at / "items.parquet")
    own = [[names[item] for item in history] for history in data.histories]
    pl.DataFrame({"user_id": range(len(own)), "item_ids": own}).write_parquet(at / "sequences.parquet")
    return folder


def test_the_whole_run_marks_what_was_published_and_reads_back_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [
        replace(one, run=systems._ours(SMALL) if one.name == "rolegen" else one.run)
        for one in systems.lineup(quick=True)
    ]
    monkeypatch.setattr(benchmark, "lineup", lambda quick: small)
    data = write(tmp_path / "data", chain(60))
    result = run_beauty(data=data, work=tmp_path / "work", progress=quiet)
    for name in ("rolegen", "rolegen_dense", "rolegen_semantic", "knn", "knn_plain", "sasrec"):
        for metric in METRICS:
            assert 0 <= result.figures[f"test.{metric}.{name}"] <= 1
    assert result.figures["test.recall10.tiger_published"] == 0.0648
    assert result.figures["test.ndcg5.tiger_published"] == 0.0321
    assert {name.split(".", 2)[2] for name in result.figures if "publish" in name} == {
        f"{p}_published" for p in PUBLISHED
    }
    assert "unmasked.recall10.sasrec" in result.figures
    assert any(key.startswith("test_difference.recall10.rolegen minus ") for key in result.figures)

    def fail(*told: object) -> systems.Answer:
        raise AssertionError("what is finished is not computed again")

    monkeypatch.setattr(benchmark, "lineup", lambda quick: [replace(one, run=fail) for one in small])
    again = run_beauty(data=data, work=tmp_path / "work", progress=quiet)
    assert again.figures == result.figures
    monkeypatch.setattr(benchmark, "lineup", lambda quick: small[:1])
    validated = run_beauty(data=data, work=tmp_path / "work", progress=quiet, split="validation")
    assert not [name for name in validated.figures if "published" in name]  # those are of the test targets


def test_trials_are_judged_on_validation_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, tried = chain(60), []
    monkeypatch.setattr(tune, "TUNED", tmp_path / "tuned.json")

    def trial(given: Beauty, settings: Mapping[str, float]) -> np.ndarray:
        tried.append(settings["decay"])
        right = given.target("validation")[:, None] if settings["decay"] > 0.5 else given.target("test")[:, None]
        return np.concatenate([right, np.full((len(right), SIZE - 1), -1)], axis=1)

    monkeypatch.setattr(tune, "TRIALS", {"knn": ([{"decay": 0.4}, {"decay": 0.6}], trial)})
    for _ in range(2):
        tune.tune("knn", data, Console(quiet=True))
    assert tried == [0.4, 0.6]
    kept = json.loads((tmp_path / "tuned.json").read_text())["knn"]
    assert [one["validation"]["recall10"] for one in kept] == [0.0, 1.0]


def test_the_defaults_are_the_best_trials() -> None:
    kept = json.loads(tune.TUNED.read_text())
    best_of = {name: max(tried, key=lambda one: one["validation"]["recall10"]) for name, tried in kept.items()}
    assert Neighbours(**best_of["knn"]["settings"]) == Neighbours()
    training = replace(SASREC.training, **best_of["sasrec"]["settings"])
    assert training == SASREC.training


def test_missing_data_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="--data DIR"):
        run("beauty", Order(progress=quiet, work=tmp_path))
    with pytest.raises(ProjectError, match=r"(?s)no items\.parquet.*--data DIR.*sequences\.parquet"):
        run("beauty", Order(progress=quiet, data=tmp_path / "nowhere", work=tmp_path))
    with pytest.raises(ProjectError, match="no --report"):
        run("beauty", Order(progress=quiet, data=tmp_path, report=tmp_path / "page.html"))
    with pytest.raises(ProjectError, match="no system 'magic'"):
        run("beauty", Order(progress=quiet, data=tmp_path, without=("magic",)))
    assert "beauty" in BENCHMARKS


def test_histories_that_cannot_be_split_are_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "short", Beauty([np.arange(3)], ["x"] * ITEMS))
    with pytest.raises(InputError, match="3 items"):
        Beauty.read(data)
    data = write(tmp_path / "strange", chain(3))
    at = data / "amazon_beauty" / "items.parquet"
    pl.read_parquet(at).head(5).write_parquet(at)
    with pytest.raises(InputError, match=r"is not in items\.parquet"):
        Beauty.read(data)
