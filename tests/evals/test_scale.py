"""The scale curve on PostgreSQL, the simulation, and the page that plans from what was measured."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from rolegen_errors import InputError
from rolegen_evals.bench import Order, run
from rolegen_evals.scale.benchmark import run_scale
from rolegen_evals.scale.page import plan_for, with_plan
from rolegen_evals.scale.plan import MEASURED, read_measured
from rolegen_evals.scale.simulation import Decision, Fleet, simulate
from tests.support.postgres import SERVER

pytest_plugins = ["tests.support.postgres"]

FLEET = Fleet(nodes=2, workers_per_node=2, concurrency=4, llm_per_s=1e6, llm_s=0.5, llm_spread=0.0, commits_per_s=1e6)
WORK = Decision(llm_share=0.0, calls=3.0, cpu_s=0.1, cpu_s_per_call=0.02, commits=5.0, commits_per_call=4.0)


def rate(fleet: Fleet = FLEET, work: Decision = WORK) -> float:
    return simulate(fleet, work, seconds=200, warm_up_s=20, seed=1).decisions_per_s


def test_each_bottleneck_gives_the_rate_that_arithmetic_gives() -> None:
    assert rate() == pytest.approx(4 / 0.1, rel=0.02), "four cores, a tenth of a second each"
    assert rate(replace(FLEET, commits_per_s=50.0)) == pytest.approx(50 / 5, rel=0.02)
    asking = replace(WORK, llm_share=1.0)
    assert rate(replace(FLEET, llm_per_s=6.0), asking) == pytest.approx(6 / 3, rel=0.05)
    slow = replace(FLEET, llm_s=10.0)  # requests at once over their seconds
    assert rate(slow, asking) == pytest.approx(4 * 4 / 10 / 3, rel=0.1)


def test_deaths_cost_time_and_only_requests_that_were_under_way() -> None:
    asking = replace(WORK, llm_share=1.0)
    quiet = simulate(FLEET, asking, seconds=600, warm_up_s=20, seed=1)
    dying = simulate(replace(FLEET, failures_per_hour=60.0), asking, seconds=600, warm_up_s=20, seed=1)
    assert dying.failures > 0 and dying.decisions_per_s < quiet.decisions_per_s
    assert 0 < dying.repeated_calls <= dying.failures * 2 * 4, "at most what a node may have under way"
    assert dying == simulate(replace(FLEET, failures_per_hour=60.0), asking, seconds=600, warm_up_s=20, seed=1)


def test_the_page_says_what_the_script_says(root: Path) -> None:
    page = (root / "docs" / "scale.md").read_text("utf-8")
    assert with_plan(page, plan_for()) == page, "run: rolegen bench plan --report docs/scale.md"
    assert "50 million users x 100 events" in page
    with pytest.raises(InputError, match="no place for the plan"):
        with_plan("nothing", plan_for())


def test_a_plan_is_not_written_into_a_page_that_is_not_there(tmp_path: Path) -> None:
    order = Order(progress=lambda stage, done, total: None, report=tmp_path / "plan.md")
    with pytest.raises(InputError, match="no such page"):
        run("plan", order)


def test_a_plan_for_others_is_another_plan() -> None:
    order = Order(progress=lambda stage, done, total: None, users=1e6, items=1e5)
    figures = run("plan", order).figures
    assert figures["plan.events.1000000"] == 1e8
    assert figures["simulated.decisions_per_s.1000000"] > 0


@pytest.mark.long
def test_what_the_plan_is_computed_from_is_measured_by_one_command(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLEGEN_BENCH_POSTGRES", SERVER)
    found = run("costs", Order(progress=lambda stage, done, total: None, quick=True)).figures
    wanted = [one for one in tomllib.loads(MEASURED.read_text("utf-8")).values() if one["result"] == "costs"]
    assert {key for one in wanted for key in one["figures"]} <= set(found)
    assert all(value > 0 for value in found.values())
    assert found["decision.calls.llm"] >= 2 and found["decision.tokens.llm"] > 1000
    assert found["decision.commits.llm"] > found["decision.commits.plain"] > 1, "an LLM's calls are kept one by one"
    assert 5 < found["store.bytes_per_event.log"] < 100


def test_a_plan_says_which_result_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"costs\.json"):
        read_measured(tmp_path)


def test_the_curve_counts_every_decision_and_goes_on_where_it_stopped(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLEGEN_BENCH_POSTGRES", SERVER)
    steps: list[str] = []
    found = run_scale(
        work=tmp_path, quick=True, without=("ray",), progress=lambda stage, done, total: steps.append(stage)
    ).figures
    for workers in (1, 2):
        assert found[f"scale.missing.{workers}.20"] == 0
        assert found[f"scale.calls_per_decision.{workers}.20"] >= 2
        assert found[f"scale.bytes_per_decision.{workers}.20"] > 1000
    with pytest.raises(InputError, match="no part of the curve"):
        run_scale(work=tmp_path, quick=True, without=("nobody",), progress=lambda stage, done, total: None)
