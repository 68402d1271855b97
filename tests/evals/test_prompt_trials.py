"""``rolegen bench evals``: repeated runs equal real ones, and the comparison finds what is planted and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rolegen_evals.prompt_trials.planted_suite import planted_suite
from rolegen_evals.prompt_trials.repeats import MEASURE, Labels, Repeats, other_measures
from rolegen_evals.prompt_trials.skilled_mind import Luck, SkilledMind, places
from rolegen_evals.reasoning.scripted import ScriptedEndpoint
from rolegen_evals.suites.cases import read_cases
from rolegen_evals.suites.suite import CASES, Suite
from rolegen_graphs.fusion import CLASSES
from tests.evals.test_suites import CASES as MADE


@pytest.mark.long
def test_a_repeated_run_is_what_the_real_one_was_and_the_sentence_is_worth_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    planted = planted_suite(tmp_path / "shop", users=60, count=4, progress=lambda *_: None)
    cases = read_cases(planted.folder / CASES)
    mind = SkilledMind(planted.trial.planted, usual=0.6, told=0.6, seed=9)
    with ScriptedEndpoint(mind) as endpoint:
        folder, usual = planted.run(endpoint.url, "usual", told=False)
        with planted.open(endpoint.url, told=False) as shop:
            labels = Labels.read(folder, cases, shop.assembly(planted.trial.at), places(planted.trial.planted))
        mind.told, mind.run = labels.skill_for(0.6, 0.2), 1
        _, told = planted.run(endpoint.url, "told", told=True)
    assert not usual.failures and all(one["validity"] == 1 for one in usual.values.values())
    for run, number, skill in ((usual, 0, mind.usual), (told, 1, mind.told)):
        luck = Luck.draw(len(mind.places), seed=9, run=number, lasting=0.0)
        assert labels.graded(luck, skill) == pytest.approx({one: run.values[one][MEASURE] for one in labels.cases})
    assert labels.expected(mind.told) - labels.expected(mind.usual) == pytest.approx(0.2)
    assert "recall" in set().union(*other_measures(usual, Suite.read(planted.folder)).values())


def test_repetitions_find_a_gain_and_find_nothing_in_equals() -> None:
    count, each = len(MADE), 12
    truth = np.arange(count * each) % len(CLASSES)
    labels = Labels(
        cases=[case.case for case in MADE],
        case=np.repeat(np.arange(count), each),
        event=np.arange(count * each),
        truth=truth,
        right=np.eye(len(CLASSES), dtype=bool)[truth],  # what the LLM says is what is graded
    )
    assert labels.skill_for(0.7, 0.03) == pytest.approx(0.73)
    suite = Suite(graders=(MEASURE,), primary={MEASURE: 0.02})
    repeats = Repeats(suite, MADE, labels, count * each, [])
    better = repeats.tally((0.7, 0.76), repeats=6, lasting=0.0)
    worse = repeats.tally((0.76, 0.7), repeats=6, lasting=0.0)
    assert (better.share("better"), better.share("stopped")) == (1, 0)
    assert (worse.share("worse"), worse.share("stopped")) == (1, 1)
    assert repeats.tally((0.7, 0.7), repeats=10, lasting=0.5).share("no evidence") >= 0.8
    lasting = Luck.draw(9_000, seed=1, run=0, lasting=0.5).chance == Luck.draw(9_000, seed=1, run=1, lasting=0.5).chance
    assert 0.47 < lasting.mean() < 0.53
