"""`rolegen bench student`: shares are what they are called, and the whole of it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolegen_evals.bench import Order, run
from rolegen_evals.student.benchmark import figures_of


def shop(alone: list[float], teacher: list[float], student: list[float]) -> dict[str, dict[str, list[float]]]:
    hits = {"alone": alone, "teacher": teacher, "student": student}
    columns = {f"{metric}.{system}": rows for metric in ("hit1", "recall10") for system, rows in hits.items()}
    return {
        "asked": {"user": [float(k // 2) for k in range(len(alone))], **columns},
        "facts": {"cost.llm_calls": [0.0]},
    }


def test_the_share_is_of_the_teachers_gain_over_all_shops() -> None:
    some = [
        shop([0.0] * 60, [1.0] * 30 + [0.0] * 30, [1.0] * 24 + [0.0] * 36),
        shop([0.0] * 40, [1.0] * 40, [1.0] * 40),
    ]
    found = figures_of(some)
    assert found["gain.hit1"] == pytest.approx(0.7) and found["kept.hit1"] == pytest.approx(0.64)
    assert found["gain_share.hit1"] == pytest.approx(0.64 / 0.7)
    assert found["gain_share_low.hit1"] < 0.64 / 0.7 < found["gain_share_high.hit1"] <= 1
    assert found["difference_low.hit1"] < -0.06 < found["difference_high.hit1"] <= 0
    assert found["cost.llm_calls"] == 0


def test_no_share_is_told_of_a_gain_that_is_none() -> None:
    found = figures_of([shop([0.0, 1.0] * 20, [0.0, 1.0] * 20, [1.0, 1.0] * 20)])
    assert found["gain.hit1"] == 0 and "gain_share.hit1" not in found
    unsure = figures_of([shop([0.0] * 40, [1.0] + [0.0] * 39, [1.0] + [0.0] * 39)])
    assert unsure["gain_share.hit1"] == 1 and "gain_share_low.hit1" not in unsure, "resamples without a gain"


@pytest.mark.slow
@pytest.mark.long
def test_a_quick_run_measures_both_teachers_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    seen: list[str] = []
    order = Order(progress=lambda stage, done, total: seen.append(stage), quick=True, work=tmp_path)
    found = run("student", order).figures
    for teacher in ("evidence", "planted"):
        for system in ("alone", "teacher", "student"):
            assert 0 <= found[f"{teacher}.hit1.{system}"] <= 1
        assert found[f"{teacher}.cost.llm_calls"] == 0 < found[f"{teacher}.cost.ms.student"]
        assert found[f"{teacher}.answered.student"] == 1
        assert found[f"{teacher}.alone.same"] == 1, "both are compared with the same slates"
        assert found[f"{teacher}.roles.agreement"] > 0.3
    assert found["planted.roles.macro_f1.teacher"] == 1
    seen.clear()
    assert run("student", order).figures == found and not seen
