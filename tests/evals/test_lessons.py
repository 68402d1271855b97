"""The benchmark of lessons: false ones are rare, and a large effect is found."""

from __future__ import annotations

from rolegen_evals.lessons import bench_lessons


def test_it_measures_what_it_says() -> None:
    figures = bench_lessons(quick=True, seeds=2).figures
    assert figures["lessons.false_ever.effect 0 points"] == 0
    assert figures["lessons.found_ever.effect 9 points"] >= 0.5
    assert figures["lessons.tests.effect 0 points"] > 30
