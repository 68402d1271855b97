"""Suites: stable pinned cases, a paired comparison that is neither blind nor easily fooled, a gate, and runs that go on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from rolegen_errors import InputError
from rolegen_evals.suites.cases import Case, read_cases, write_cases
from rolegen_evals.suites.comparison import Comparison, compare, worse_than_allowed
from rolegen_evals.suites.page import markdown
from rolegen_evals.suites.retelling import paraphrased, reordered
from rolegen_evals.suites.suite import SETTINGS, Suite, write_suite
from tests.support.observations import make_observation

SUITE = Suite(graders=("recall", "validity", "tokens"), primary={"recall": 0.02, "validity": 0.02})


def make_case(number: int, cohort: str = "lapsed") -> Case:
    return Case(
        case=f"c{number:03d}",
        user=f"u{number}",
        at=datetime(2011, 9, 1, tzinfo=UTC),
        observation=make_observation(),
        strata={"cohort": cohort, "history": "short" if number % 3 else "long"},
        bought=("A",),
        artefacts="12345678",
    )


CASES = [make_case(number, "lapsed" if number % 2 else "browser") for number in range(300)]


def measured(seed: int, gain: float = 0.0, where: str | None = None) -> dict[str, dict[str, float]]:
    """Noisy recalls and validities of all cases; ``gain`` on those of one cohort, or of all."""
    random = np.random.default_rng(seed)
    usual = np.random.default_rng(0).uniform(0.2, 0.8, len(CASES))  # what makes a case easy for everybody
    return {
        case.case: {
            "recall": float(usual[i] + random.normal(0, 0.1) + gain * (where in (None, case.strata["cohort"]))),
            "validity": 1.0,
            "tokens": 1000.0,
        }
        for i, case in enumerate(CASES)
    }


def compared(first: dict[str, dict[str, float]], second: dict[str, dict[str, float]]) -> Comparison:
    return compare(SUITE, CASES, ("old", "new"), first, second)


def test_a_gain_is_found_a_loss_too_and_noise_is_not() -> None:
    better = compared(measured(1), measured(2, gain=0.05))
    assert better.verdict == "better" and "recall" in better.because
    [recall] = [change for change in better.changes if change.grader == "recall"]
    assert recall.difference.low is not None and 0.02 < recall.difference.low < 0.05 < recall.difference.low + 0.05
    assert compared(measured(1), measured(2, gain=-0.05)).verdict == "worse"
    same = compared(measured(1), measured(2))
    assert same.verdict == "no evidence" and "would need about" in same.because
    assert compared(measured(1), measured(1)).because.endswith("no case changed")


def test_further_primary_measures_cost_what_they_vary_and_no_more() -> None:
    names = ("recall", "grounding_rate", "validity")
    random = np.random.default_rng(3)
    first = {case.case: dict.fromkeys(names, 0.5) for case in CASES}
    second = {case.case: {**first[case.case], "recall": 0.5 + random.normal(0.022, 0.2)} for case in CASES}

    def p_of(*primary: str) -> tuple[float, float | None]:
        suite = Suite(graders=names, primary=dict.fromkeys(primary, 0.02))
        [recall] = [one for one in compare(suite, CASES, ("a", "b"), first, second).changes if one.grader == "recall"]
        return recall.p, recall.p_primary

    alone, corrected = p_of("recall")
    assert 0 < alone < 0.2 and corrected == alone
    assert p_of("recall", "validity", "grounding_rate") == (alone, alone), "two measures that nothing moved"
    for one in second.values():
        one["grounding_rate"] = 0.5 + random.normal(0, 0.2)
    alone_beside, beside = p_of("recall", "grounding_rate")
    assert alone_beside == alone and beside is not None and 1.2 * alone < beside < 2.5 * alone
    assert p_of("validity") == (alone, None), "a measure that is not primary has a p-value of its own alone"


def test_less_is_better_for_costs() -> None:
    suite = Suite(graders=("tokens",), primary={"tokens": 10.0})
    first = {case.case: {"tokens": 1000.0 + i % 7} for i, case in enumerate(CASES)}
    second = {case: {"tokens": one["tokens"] - 50 - i % 3} for i, (case, one) in enumerate(first.items())}
    assert compare(suite, CASES, ("old", "new"), first, second).verdict == "better"
    lost = compare(suite, CASES, ("old", "new"), second, first)
    assert lost.verdict == "worse" and worse_than_allowed(lost, suite.primary)


def test_slices_say_for_whom_and_the_most_changed_cases_come_first() -> None:
    found = compared(measured(1), measured(2, gain=0.1, where="browser"))
    gains = {
        one.value: one.difference.value for one in found.slices if one.grader == "recall" and one.stratum == "cohort"
    }
    assert gains["browser"] > 0.07 and abs(gains["lapsed"]) < 0.03
    sizes = [abs(one.gain) for one in found.moved]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 10


def test_a_case_that_one_run_lacks_is_counted_and_left_out() -> None:
    second = measured(2)
    del second["c007"]
    second["c008"].pop("recall")
    found = compared(measured(1), second)
    assert found.cases == 299 and found.missing == {"old": 0, "new": 1}
    assert next(one for one in found.changes if one.grader == "recall").difference.users == 298
    assert "1 cases without a result in new" in markdown(found)
    with pytest.raises(InputError, match="no finished case in common"):
        compared(measured(1), {})


def test_the_gate_fails_beyond_the_margin_and_where_nothing_was_measured() -> None:
    margins = SUITE.primary
    assert worse_than_allowed(compared(measured(1), measured(2)), margins) == []
    [lost] = worse_than_allowed(compared(measured(1), measured(2, gain=-0.04)), margins)
    assert lost.startswith("recall") and "allowed is 0.02" in lost
    silent = {case: {"recall": 0.5} for case in measured(1)}
    assert worse_than_allowed(compared(measured(1), silent), {"validity": 0.1}) == [
        "validity: measured on no case of both runs"
    ]


def test_cases_are_read_back_as_they_were_and_bad_ones_are_named(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    write_cases(CASES[:3], file)
    assert read_cases(file) == CASES[:3]
    lines = file.read_text("utf-8").splitlines()
    for text, said in (
        ("", "no case"),
        ("\n".join([*lines, lines[1]]), "line 4, case c001"),
        ("\n".join([lines[0], lines[1].replace('"user"', '"usr"')]), "line 2"),
        ("\n".join([lines[0], "{"]), "line 2"),
    ):
        file.write_text(text, "utf-8")
        with pytest.raises(InputError, match=said):
            read_cases(file)


def test_a_suite_says_what_is_wrong_with_its_settings(tmp_path: Path) -> None:
    write_suite(tmp_path, CASES[:1])
    assert Suite.read(tmp_path).primary["recall"] == 0.02
    for text, said in (
        ('graders = ["recal"]\n[primary]\n', "no grader is called recal"),
        ('graders = ["recall"]\n[primary]\nvalidity = 0.1\n', "not among the graders: validity"),
        ('graders = ["recall"]\n[primary]\nrecall = -1\n', "primary.recall"),
        ("graders = [", "cannot be read"),
    ):
        (tmp_path / SETTINGS).write_text(text, "utf-8")
        with pytest.raises(InputError, match=said):
            Suite.read(tmp_path)


def test_settings_of_a_suite_are_the_users_and_stay(tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text('graders = ["recall"]\n[primary]\n', "utf-8")
    write_suite(tmp_path, CASES[:2])
    assert Suite.read(tmp_path).graders == ("recall",) and len(read_cases(tmp_path / "cases.jsonl")) == 2


def test_a_history_told_again_holds_the_same_events_at_the_same_times() -> None:
    seen = make_observation()
    for told in (reordered(seen), paraphrased(seen)):
        before, after = seen.trajectory.events, told.trajectory.events
        assert sorted(one.event for one in after) == sorted(one.event for one in before)
        assert [one.at for one in after] == [one.at for one in before]
        assert told != seen
    assert {one.title for one in paraphrased(seen).trajectory.events}.isdisjoint(one.title for one in before)
