"""Judging by hand-made slates: seeds, customers with several cases, the guard, and what is written and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rolegen_errors import InputError, ProjectError
from rolegen_evals.bench import BENCHMARKS, Order, run
from rolegen_evals.metrics import clustered, interval
from rolegen_evals.reactivation import tifu_knn
from rolegen_evals.reactivation.benchmark import Outcome, figures
from rolegen_evals.reactivation.ease import _weights
from rolegen_evals.reactivation.errors import errors
from rolegen_evals.reactivation.item_knn import similarity
from rolegen_evals.reactivation.judge import Catalogue, judge
from rolegen_evals.reactivation.lineup import BASELINES, SIMPLE, tuned
from rolegen_evals.reactivation.page import write_reactivation_page
from rolegen_evals.reactivation.protocol import TASKS, VALIDATION, Case, Cases
from rolegen_evals.reactivation.run import Finished, TaskSlates, run_system
from rolegen_evals.reactivation.systems import Slates, code_of
from rolegen_evals.reactivation.tune import trials
from tests.support.browser import Watched, chromium

from .reactivation_shop import CUT, random_rows, shop

AT = datetime(2011, 3, 1, tzinfo=UTC)
CATALOGUE = Catalogue({"a": "x", "b": "x", "c": "y", "d": "y"})


def case(user: str, basket: str, new: str, month: int = 3) -> Case:
    at = AT.replace(month=month)
    return Case(f"{user}@{at:%Y-%m-%d}", user, at, frozenset(basket), frozenset(new))


CASES = Cases((case("u", "ab", "b"), case("v", "a", ""), case("u", "c", "c", 4)), dormant=9)


def slates(*firsts: str) -> dict[str, list[str]]:
    return {one.key: list(first) for one, first in zip(CASES.cases, firsts, strict=True)}


GOOD: TaskSlates = {"all": slates("ab", "ab", "ca"), "discovery": slates("bd", "bd", "cd")}
WEAK: TaskSlates = {"all": slates("ab", "ba", "ba"), "discovery": slates("bd", "bd", "dc")}


def test_a_system_is_the_mean_of_its_seeds() -> None:
    runs: list[TaskSlates] = [
        {"all": slates("ab", "bc", "ca"), "discovery": slates("bd", "bd", "cd")},
        {"all": slates("ab", "ab", "ba"), "discovery": slates("db", "bd", "dc")},
    ]
    found = judge(CASES, runs, CATALOGUE)
    assert found["all"].cases["hit1"].tolist() == [1.0, 0.5, 0.5]
    assert found["all"].seeds["hit1"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert found["discovery"].keys == ("u@2011-03-01", "u@2011-04-01"), "v bought nothing new"
    assert found["discovery"].seeds["hit1"].tolist() == [1.0, 0.0]
    # discovery, first seed: b, d, c, d over four items: exposures 0, 1, 1, 2
    assert found["discovery"].spread["coverage"] == 0.75
    with pytest.raises(InputError, match="no slate"):
        judge(CASES, [{"all": {}, "discovery": {}}], CATALOGUE)


def test_a_customer_with_many_cases_is_drawn_as_one() -> None:
    random = np.random.default_rng(0)
    taste = random.random(60)
    users = [f"u{k}" for k in range(60) for _ in range(10)]
    values = (random.random(600) < np.repeat(taste, 10)).astype(float)
    by_user, by_case = clustered(values, users), interval(values)
    assert by_user.value == by_case.value and by_user.users == 60
    width = [found.high - found.low for found in (by_user, by_case) if found.high is not None and found.low is not None]
    assert width[0] > 1.3 * width[1], "cases of one customer are alike, so they tell less"
    single = clustered(values, [str(k) for k in range(600)])
    assert single.low == pytest.approx(by_case.low, abs=0.005)
    with pytest.raises(InputError, match="2 users"):
        clustered([1.0], ["a", "b"])


def outcome(judged: Mapping[str, Any], folder: Path | None = None) -> Outcome:
    rivals = {task: dict.fromkeys(("hit1", "recall10", "ndcg10"), "frequency") for task in TASKS}
    guard = {"random": interval([0.1, 0.3])}
    return Outcome(VALIDATION, CASES, {}, judged, guard, (), rivals, 1.0)


def test_figures_carry_ratio_difference_and_guard(tmp_path: Path) -> None:
    judged = {"rolegen": judge(CASES, [GOOD, GOOD], CATALOGUE), "frequency": judge(CASES, [WEAK], CATALOGUE)}
    found = figures(outcome(judged))
    assert found["all.hit1.rolegen"] == 1.0 and found["all.hit1.frequency"] == pytest.approx(1 / 3)
    assert found["all_ratio.hit1.rolegen to frequency"] == pytest.approx(3.0)
    assert found["all_difference.hit1.rolegen minus frequency"] == pytest.approx(2 / 3)
    low = found["all_difference.hit1_low.rolegen minus frequency"]
    assert low == pytest.approx(0.5), "u wins one of two cases, v one of one: no resample of customers is below a half"
    assert found["discovery_ratio.hit1.rolegen to frequency"] == pytest.approx(2.0)
    assert found["all_seeds.hit1_sd.rolegen"] == 0.0 and "all_seeds.hit1_sd.frequency" not in found
    assert found["guard.recall10.random"] == pytest.approx(0.2)
    assert found["counts.decisions.dormant"] == 9 and found["counts.customers.returned"] == 2
    outcome(judged).result().write(tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text("utf-8"))["figures"] == found


def test_the_page_opens_without_a_fault(tmp_path: Path) -> None:
    judged = {name: judge(CASES, [GOOD], CATALOGUE) for name in ("rolegen", "frequency", "ranker")}
    page = write_reactivation_page(tmp_path / "page.html", outcome(judged))
    with chromium() as browser:
        opened = browser.new_page()
        watched = Watched(opened)
        opened.goto(page.as_uri())
        text = opened.inner_text("body")
        opened.close()
    assert watched.faults == []
    assert "Discovery" in text and "LightGBM ranker" in text and "9 times a customer" in text
    assert page.read_text("utf-8").count("<svg") == 18, "six metrics and three differences for each task"


def test_errors_are_shares_of_bought_items() -> None:
    one = shop(random_rows())
    perfect: TaskSlates = {"all": {case.key: sorted(case.basket) for case in one.cases.cases}}
    nothing: TaskSlates = {"all": {case.key: [] for case in one.cases.cases}}
    groups = errors(one, {"rolegen": [perfect, nothing], "ranker": [nothing]})
    kinds = {group.kind for group in groups}
    assert len(kinds) == 4
    assert all(group.found == {"rolegen": 0.5, "ranker": 0.0} for group in groups)
    bought = sum(len(case.basket) for case in one.cases.cases)
    assert {kind: sum(group.bought for group in groups if group.kind == kind) for kind in kinds} == dict.fromkeys(
        kinds, bought
    )


class Counting:
    """A system that notes how often it is fitted, and stops once."""

    name, seeds, tasks, modules = "counting", 2, TASKS, ("rolegen_evals.metrics",)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings, self.fits = settings, list[int]()

    def fit(self, past: Any, *, seed: int, folder: Path, progress: Any) -> Any:
        self.fits.append(seed)
        if seed == 1 and len(self.fits) == 2:
            raise KeyboardInterrupt
        return self

    def slates(self, ask: Any) -> Slates:
        return {user: [] for user in ask.users}


def test_a_stopped_run_goes_on_and_other_settings_start_anew(tmp_path: Path) -> None:
    one = shop(random_rows(users=20))

    def go(system: Counting) -> Finished:
        return run_system(system, one, data="d", seeds=3, work=tmp_path, progress=lambda *_: None)

    system = Counting({"x": 1})
    with pytest.raises(KeyboardInterrupt):
        go(system)
    assert len(go(system).slates) == 2 and system.fits == [0, 1, 1], "the first seed was kept"
    go(system)
    assert system.fits == [0, 1, 1]
    other = Counting({"x": 2})
    with pytest.raises(KeyboardInterrupt):
        go(other)
    assert other.fits == [0, 1]
    assert code_of(["rolegen_evals.metrics"]) != code_of(["rolegen_evals.results"])


def test_item_knn_by_hand() -> None:
    past = shop([("u", "a", -9), ("u", "b", -9), ("v", "a", -8), ("v", "b", -8), ("w", "a", -7), ("w", "c", -7)]).past(
        CUT
    )
    near = similarity(past, "basket", "cosine", 0.0, 10).toarray()
    # a in 3 baskets, b in 2, c in 1: a and b twice together, a and c once
    assert near[0, 1] == pytest.approx(2 / 6**0.5) and near[0, 2] == pytest.approx(1 / 3**0.5)
    assert near[1, 2] == 0.0 and not near.diagonal().any()
    shrunk = similarity(past, "basket", "cosine", 1.0, 1).toarray()
    assert shrunk[0, 1] == pytest.approx(2 / (6**0.5 + 1)) and shrunk[0, 2] == 0.0, "only the nearest is kept"


def test_tifu_vectors_by_hand() -> None:
    past = shop([("u", "a", -30), ("u", "b", -20), ("u", "a", -10)]).past(CUT)
    # groups of two counted from the last: {a now, b before} and {a}; within 0.5, between 0.1
    vector = tifu_knn.user_vectors(past, 2, 0.5, 0.1).toarray()[0]
    assert vector.tolist() == pytest.approx([1 / 2 / 2 + 0.1 / 1 / 2, 0.5 / 2 / 2])


def test_ease_reproduces_the_closed_form() -> None:
    past = shop(random_rows(users=20, items=8)).past(CUT)
    ever = (past.counts.toarray() > 0).astype(float)
    inverse = np.linalg.inv(ever.T @ ever + 3.0 * np.eye(8))
    expected = np.eye(8) - inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0.0)
    assert _weights(past, 3.0, -1) == pytest.approx(expected, abs=1e-4)


def test_every_baseline_is_tuned_with_the_same_effort() -> None:
    for name, baseline in BASELINES.items():
        wanted = trials(baseline.grid, baseline.trials, baseline.by_hand)
        assert len(wanted) == 12 and len({str(one) for one in wanted}) == 12
        kept = tuned(name)
        assert [trial["settings"] for trial in kept["trials"]] == wanted, f"tune {name} again: its grid has changed"
        for task in TASKS:
            best = max(kept["trials"], key=lambda one: one["figures"][task]["hit1"] + one["figures"][task]["ndcg10"])
            assert kept["chosen"][task] == best["settings"]
    with pytest.raises(InputError, match="never tuned"):
        tuned("nothing")


def test_a_benchmark_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    assert "reactivation" in BENCHMARKS

    def quiet(stage: str, done: int, total: int) -> None: ...

    with pytest.raises(ProjectError, match="no --report"):
        run("demo", Order(progress=quiet, report=tmp_path / "page.html"))
    with pytest.raises(ProjectError, match="no system 'magic'"):
        run("reactivation", Order(progress=quiet, without=("magic",), work=tmp_path))
    with pytest.raises(ProjectError, match="nothing is left"):
        run("reactivation", Order(progress=quiet, without=SIMPLE, work=tmp_path))
    with pytest.raises(ProjectError, match="there is no benchmark 'x'"):
        run("x", Order(progress=quiet))
