"""Metrics against numbers worked out by hand, and the intervals against what theory says."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest

from rolegen_errors import InputError
from rolegen_evals import metrics

SLATE = ["a", "b", "c", "d"]


def test_the_formulas_in_the_docstrings_hold() -> None:
    found = doctest.testmod(metrics)
    assert found.attempted >= 9
    assert found.failed == 0


@pytest.mark.parametrize(
    ("basket", "k", "hit", "recall", "ndcg"),
    [
        # one of one, at rank 1
        ({"a"}, 4, 1.0, 1.0, 1.0),
        # ranks 2 and 4 of two wanted: (1/log2 3 + 1/log2 5) / (1 + 1/log2 3) = 1.061606 / 1.630930
        ({"b", "d"}, 4, 0.0, 1.0, 0.650920),
        # cut at 3, only rank 2 counts: 0.630930 / 1.630930
        ({"b", "d"}, 3, 0.0, 0.5, 0.386853),
        # the basket is larger than k, so two hits of min(2, 5) are all that could be found
        ({"a", "b", "x", "y", "z"}, 2, 1.0, 1.0, 1.0),
        # rank 3 of three wanted: (1/log2 4) / (1 + 0.630930 + 0.5) = 0.5 / 2.130930
        ({"c", "x", "y"}, 4, 0.0, 1 / 3, 0.234639),
        ({"x"}, 4, 0.0, 0.0, 0.0),
    ],
)
def test_ranking_by_hand(basket: set[str], k: int, hit: float, recall: float, ndcg: float) -> None:
    assert metrics.hit_at_1(SLATE, basket) == hit
    assert metrics.recall_at(SLATE, basket, k) == pytest.approx(recall)
    assert metrics.ndcg_at(SLATE, basket, k) == pytest.approx(ndcg, abs=1e-6)


def test_an_empty_slate_scores_zero() -> None:
    assert metrics.hit_at_1([], {"a"}) == metrics.recall_at([], {"a"}, 10) == metrics.ndcg_at([], {"a"}, 10) == 0.0


@pytest.mark.parametrize("metric", [metrics.recall_at, metrics.ndcg_at])
def test_what_would_flatter_is_refused(metric: metrics.RankingMetric) -> None:
    with pytest.raises(InputError, match="'a'"):
        metric(["a", "a"], {"a"}, 2)
    with pytest.raises(InputError, match="basket is empty"):
        metric(["a"], set(), 2)
    with pytest.raises(InputError, match="at least 1"):
        metric(["a"], {"a"}, 0)


def test_exposure_counts_the_items_that_nobody_saw() -> None:
    # exposures 0, 0, 1, 3: sum((2i - n - 1) x) = 1 * 1 + 3 * 3 = 10, divided by n * total = 4 * 4
    slates = [["a", "b"], ["a"], ["a"]]
    assert metrics.gini(slates, ["a", "b", "c", "d"]) == pytest.approx(10 / 16)
    assert metrics.gini([["a"], ["b"]], ["a", "b"]) == pytest.approx(0.0)
    assert metrics.gini([[], []], ["a", "b"]) == 0.0
    assert metrics.catalogue_coverage(slates, ["a", "b", "c", "d"]) == 0.5
    assert metrics.catalogue_coverage(slates, ["a", "b", "c", "d"], k=1) == 0.25
    with pytest.raises(InputError, match="'z'"):
        metrics.gini([["z"]], ["a"])


def test_category_collapse_shows() -> None:
    category_of = {"a": "x", "b": "x", "c": "y", "d": "z"}
    # 3 of one kind and 1 of another: -(0.75 ln 0.75 + 0.25 ln 0.25); the collapsed slate adds 0
    mixed = ["a", "b", "c"]
    expected = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    assert metrics.category_entropy([mixed], category_of) == pytest.approx(expected)
    assert metrics.category_entropy([mixed, ["a", "b"]], category_of) == pytest.approx(expected / 2)
    assert metrics.category_coverage([mixed, ["a", "b"]], category_of) == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="without a category"):
        metrics.category_coverage([["q"]], category_of)


def test_scores_keep_the_order_of_the_users_and_need_all_slates() -> None:
    found = metrics.scores({"u": ["a"], "v": ["b", "c"], "w": []}, {"v": ["c"], "u": ["a"]}, k=2)
    assert found.users == ("v", "u")
    assert found.hit1.tolist() == [0.0, 1.0]
    assert found.recall.tolist() == [1.0, 1.0]
    assert list(found.columns()) == ["hit1", "recall2", "ndcg2"]
    with pytest.raises(InputError, match=r"1 of 2 users(.|\n)*'w'"):
        metrics.scores({"u": ["a"]}, {"u": ["a"], "w": ["a"]})


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    draws = rng.random((200, 120)) < 0.3
    found = [metrics.interval(row.astype(float), seed=i) for i, row in enumerate(draws)]
    covered = sum(f.low is not None and f.high is not None and f.low <= 0.3 <= f.high for f in found)
    assert 180 <= covered <= 199  # 95 % of 200, give or take three standard errors and the percentile bias


def test_the_interval_is_repeatable_and_knows_its_limits() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert metrics.interval(values, seed=3) == metrics.interval(values, seed=3)
    assert metrics.interval([0.5, 0.5]) == metrics.Interval(value=0.5, low=0.5, high=0.5, users=2)
    assert metrics.interval([0.5]) == metrics.Interval(value=0.5, low=None, high=None, users=1)
    with pytest.raises(InputError, match="at least one user"):
        metrics.interval([])
    with pytest.raises(InputError, match="score 1 is nan"):
        metrics.interval([0.1, math.nan])


def test_pairing_removes_what_makes_a_user_easy() -> None:
    rng = np.random.default_rng(1)
    easy = rng.random(400)
    theirs = {f"u{i}": float(x) for i, x in enumerate(easy)}
    ours = {user: x + 0.01 + float(rng.normal(0, 0.01)) for user, x in theirs.items()}
    difference = metrics.paired_difference(ours, theirs)
    assert difference.low is not None and difference.high is not None
    assert 0.0 < difference.low < 0.01 < difference.high < 0.02  # unpaired, the spread of 0.29 would drown it
    with pytest.raises(InputError, match="one system only"):
        metrics.paired_difference({"u": 1.0}, {"v": 1.0})
