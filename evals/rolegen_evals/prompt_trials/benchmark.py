"""``rolegen bench evals``: does a comparison of prompts see what is there, and nothing else? How long does it take?

======================================  =================================================================================
``compare.power.300``                   share of repetitions in which the prompt whose role accuracy is 3 points higher is
                                        called better, with all of the suite's primary measures; number of cases at the end
``compare.false_alarm.aa``              share in which a prompt is found to differ from itself
``compare_alone.…``                     the same where role accuracy is the only primary measure
``compare_lasting.…``                   the same where half of the LLM's luck is the event's own, whatever the prompt
``gate.stops.regression``               share in which the gate stops a prompt that is 3 points worse
``gate.stops.equal``                    share in which it stops one that is equal, because so few cases cannot show it
``gate.cases.equal``                    cases with which it would let an equal one in 80 % of the time
``exact.largest.difference``            of role accuracy by case between real runs and the same runs recomputed
``run.seconds.first``, ``…cpu…``        two prompts by ``rolegen eval run`` against an endpoint that takes 50 ms
``run.seconds.cached``                  the same with the runs removed: every decision anew, all answers from the cache
``run.seconds.finished``                the same once more: the runs are there
``world.…``                             what was planted: how often the LLM is right, what role accuracy that comes to
======================================  =================================================================================

Luck is drawn in the worst way: two runs of the LLM have no error in common. Real models err on the same events again and again,
which ``compare_lasting`` shows. Finished parts stay in the work folder.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import norm

from rolegen_errors import MissingExtraError, ProjectError

from ..reactivation.systems import code_of
from ..reasoning.benchmark import LOOP_CODE, Parts
from ..reasoning.scripted import ScriptedEndpoint
from ..results import Result, commit, machine
from ..suites.cases import read_cases
from ..suites.comparison import LEVEL, POWER
from ..suites.suite import CASES, RUNS, Suite
from .planted_suite import TRAINING, PlantedSuite, planted_suite
from .repeats import MEASURE, Labels, Repeats, other_measures
from .skilled_mind import Luck, SkilledMind, places

USUAL, GAIN = 0.7, 0.03
"""how often the LLM is right without the sentence, and what the sentence adds to role accuracy"""
DELAY_S = 0.05
LASTING = 0.5
SEED = 1_000_000
"""of the LLM whose runs are real; repetitions count from 0"""
CODE = (*LOOP_CODE, "rolegen_evals.suites", "rolegen_evals.prompt_trials")
Progress = Callable[[str, int, int], None]


def run_evals(*, work: Path, progress: Progress, quick: bool) -> Result:
    """Measure everything.

    Raises:
        MissingExtraError: inspect-ai is not installed.
    """
    try:
        import inspect_ai  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("inspect-ai", "eval") from error
    started = time.perf_counter()
    users, count, again, repeats = (200, 12, 2, 12) if quick else (1_200, 300, 3, 400)
    shop = work / f"shop-{code_of(CODE)[:12]}"
    parts, asked = Parts(work), (users, count, again, repeats)

    def seconds() -> dict[str, float]:
        return _seconds(planted_suite(shop, users=users, count=count, progress=progress), progress)

    def verdicts() -> dict[str, float]:
        planted = planted_suite(shop, users=users, count=count, progress=progress)
        return _verdicts(planted, again=again, repeats=repeats, progress=progress)

    figures = parts.once("verdicts", CODE, asked, verdicts) | parts.once("seconds", CODE, asked, seconds)
    return Result(
        name="evals",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures,
    )


def _verdicts(planted: PlantedSuite, *, again: int, repeats: int, progress: Progress) -> dict[str, float]:
    suite, cases = Suite.read(planted.folder), read_cases(planted.folder / CASES)
    mind = SkilledMind(planted.trial.planted, usual=USUAL, told=USUAL, seed=SEED)
    folders, runs = [], []
    with ScriptedEndpoint(mind) as endpoint:
        for run in range(again):
            progress("real runs", run, again + 1)
            mind.run = run
            folder, usual = planted.run(endpoint.url, f"usual-{run}", told=False)
            folders.append(folder)
            runs.append(usual)
        with planted.open(endpoint.url, told=False) as shop:
            labels = Labels.read(folders[0], cases, shop.assembly(planted.trial.at), places(planted.trial.planted))
        mind.told = labels.skill_for(USUAL, GAIN)
        mind.run = again
        progress("real runs", again, again + 1)
        _, told = planted.run(endpoint.url, "told", told=True)
    progress("real runs", again + 1, again + 1)
    events, size = len(mind.places), str(len(cases))
    largest = max(
        abs(value - run.values[case][MEASURE])
        for number, (run, skill) in enumerate([*((one, USUAL) for one in runs), (told, mind.told)])
        for case, value in labels.graded(Luck.draw(events, seed=SEED, run=number, lasting=0.0), skill).items()
    )
    alone = suite.model_copy(update={"graders": (MEASURE,), "primary": {MEASURE: suite.primary[MEASURE]}})
    few = suite.model_copy(update={"graders": tuple(suite.primary)})
    all_of_them = Repeats(few, cases, labels, events, [other_measures(run, suite) for run in runs])
    only = Repeats(alone, cases, labels, events, [])
    equal, better, worse = (USUAL, USUAL), (USUAL, mind.told), (mind.told, USUAL)
    figures = {
        "world.cases.all": float(len(cases)),
        "world.labels.all": float(len(labels.event)),
        "world.llm_right.usual": USUAL,
        "world.llm_right.told": mind.told,
        "world.role_accuracy.usual": labels.expected(USUAL),
        "world.role_accuracy.told": labels.expected(mind.told),
        "exact.largest.difference": largest,
    }
    steps = (
        ("compare", all_of_them, 0.0, repeats),
        ("compare_alone", only, 0.0, repeats // 4),
        ("compare_lasting", all_of_them, LASTING, repeats // 4),
    )
    for done, (task, trials, lasting, times) in enumerate(steps):
        progress("repetitions", done, len(steps) + 1)
        found = trials.tally(better, repeats=times, lasting=lasting)
        same = trials.tally(equal, repeats=times, lasting=lasting, first=repeats)
        figures |= {
            f"{task}.power.{size}": found.share("better"),
            f"{task}.wrong_way.{size}": found.share("worse"),
            f"{task}.false_alarm.aa": 1 - same.share("no evidence"),
            f"{task}.repeats.all": float(times),
        }
        if task == "compare":
            figures["gate.stops.equal"] = same.share("stopped")
    progress("repetitions", len(steps), len(steps) + 1)
    figures["gate.stops.regression"] = all_of_them.tally(
        worse, repeats=repeats // 4, lasting=0.0, first=2 * repeats
    ).share("stopped")
    figures["gate.cases.equal"] = float(_gate_cases(labels, events, suite.primary[MEASURE]))
    progress("repetitions", len(steps) + 1, len(steps) + 1)
    return figures


def _gate_cases(labels: Labels, events: int, margin: float) -> int:
    """Cases with which the interval of no difference stays above the margin in ``POWER`` of all runs."""
    one, two = (labels.graded(Luck.draw(events, seed=SEED, run=run, lasting=0.0), USUAL) for run in (0, 1))
    spread = np.std([two[case] - one[case] for case in one], ddof=1)
    return int(np.ceil(((norm.isf(LEVEL / 2) + norm.isf(1 - POWER)) * spread / margin) ** 2))


def _seconds(planted: PlantedSuite, progress: Progress) -> dict[str, float]:
    """Two prompts by the command line, in a process of its own, twice; the endpoint is in this one."""
    figures: dict[str, float] = {}
    mind = SkilledMind(planted.trial.planted, usual=USUAL, told=USUAL + GAIN, seed=SEED)
    # A cache of its own, or an earlier measurement would answer.
    cache = planted.trial.folder.resolve() / f"cache-{time.time_ns()}"
    with ScriptedEndpoint(mind, delay_s=DELAY_S) as endpoint:
        for done, turn in enumerate(("first", "cached", "finished")):
            progress("timed runs", done, 3)
            if turn != "finished" and (planted.folder / RUNS).exists():
                shutil.rmtree(planted.folder / RUNS)
            before, started, asked = _used(), time.perf_counter(), endpoint.requests
            _command(planted, endpoint.url, cache)
            figures[f"run.seconds.{turn}"] = time.perf_counter() - started
            figures[f"run.cpu_seconds.{turn}"] = _used() - before
            figures[f"run.requests.{turn}"] = float(endpoint.requests - asked)
    progress("timed runs", 3, 3)
    return figures


def _command(planted: PlantedSuite, url: str, cache: Path) -> None:
    program = "from rolegen_agent.cli import main; main()"
    prompts = ["--prompts", "default", "--prompts", str(planted.told)]
    command = [sys.executable, "-c", program, "eval", "run", str(planted.folder), "--reasoner", "llm", *prompts]
    settings = {f"ROLEGEN_BACKBONE__{name.upper()}": str(value) for name, value in TRAINING.items()}
    llm = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none", "OPENAI_MODEL": "scripted"}
    done = subprocess.run(
        [*command, "--project", str(planted.trial.folder)],
        env={**os.environ, **settings, **llm, "INSPECT_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ProjectError(f"`rolegen eval run` failed: {done.stderr[-2000:]}", where=str(planted.folder))


def _used() -> float:
    """Processor seconds of child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
