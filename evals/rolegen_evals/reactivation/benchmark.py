"""``rolegen bench reactivation``: run the line-up on a period, judge it, and say it in figures and on a page."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rolegen_errors import ProjectError

from ..metrics import Interval
from ..results import Result, commit, machine
from .errors import Group, errors
from .judge import RANKING, Catalogue, Judged, judge
from .lineup import SIMPLE, lineup
from .protocol import TASKS, TEST, VALIDATION, Cases, Period, Shop, Task
from .rolegen import GUARDS
from .run import Finished, bundled, data_digest, run_system
from .sasrec import interpreter
from .systems import Progress

OURS, RANKER = "rolegen", "ranker"
MINUTE = Period("quick", VALIDATION.cut, VALIDATION.dates[:1])
"""``--quick``: the shape of the result, on validation data"""


@dataclass(frozen=True)
class Outcome:
    """Everything that was measured."""

    period: Period
    cases: Cases
    finished: Mapping[str, Finished]
    judged: Mapping[str, Mapping[Task, Judged]]
    guard: Mapping[str, Interval]
    """``random`` and ``adversarial``: how far recall@10 falls against no candidates, in % of its value"""
    groups: Sequence[Group]
    rivals: Mapping[Task, Mapping[str, str]]
    """task -> ranking metric -> the best simple baseline"""
    seconds: float

    def result(self) -> Result:
        """The figures in the one language of benchmarks."""
        return Result(
            name="reactivation",
            commit=commit(),
            machine=machine(),
            seconds=round(self.seconds, 1),
            figures=figures(self),
        )


def run_reactivation(
    *,
    work: Path,
    progress: Progress,
    period: Period = TEST,
    quick: bool = False,
    without: Collection[str] = (),
    seeds: int = 3,
) -> Outcome:
    """Run all systems but ``without`` (of ``quick`` only the cheap ones) and judge them.

    Raises:
        ProjectError: a system in ``without`` does not exist, no simple baseline is left, or SASRec is wanted and RecTools cannot be found.
    """
    started = time.perf_counter()
    systems = lineup(quick=quick)
    if strange := [name for name in without if name not in systems and name != "sasrec"]:
        raise ProjectError(f"there is no system {strange[0]!r}", fix=f"the systems are {', '.join(systems)}")
    systems = {name: system for name, system in systems.items() if name not in without}
    if not set(SIMPLE) & set(systems):
        raise ProjectError(
            "nothing is left that the others could be measured against",
            fix=f"leave one of these in: {', '.join(SIMPLE)}",
        )
    if "sasrec" in systems:
        interpreter()  # says before the long run, not at its end, that RecTools is missing
    frames = bundled(work / "shop")
    shop, data = Shop(*frames, MINUTE if quick else period), data_digest(*frames)
    finished = {
        name: run_system(system, shop, data=data, seeds=1 if quick else seeds, work=work, progress=progress)
        for name, system in systems.items()
    }
    catalogue = Catalogue.of(shop.past(shop.period.dates[-1]).items)
    judged = {name: judge(shop.cases, one.slates, catalogue) for name, one in finished.items()}
    rivals = {
        task: {
            metric: max(
                (name for name in SIMPLE if name in judged),
                key=lambda name: float(judged[name][task].cases[metric].mean()),
            )
            for metric in RANKING
        }
        for task in TASKS
    }
    shown = {name: finished[name].slates for name in (OURS, RANKER, rivals["all"]["recall10"]) if name in finished}
    return Outcome(
        period=shop.period,
        cases=shop.cases,
        finished=finished,
        judged=judged,
        guard=_guard(judged),
        groups=errors(shop, shown),
        rivals=rivals,
        seconds=time.perf_counter() - started,
    )


def _guard(judged: Mapping[str, Mapping[Task, Judged]]) -> dict[str, Interval]:
    if "rolegen_no_candidates" not in judged:
        return {}
    alone = judged["rolegen_no_candidates"]["all"]
    scale = 100 / float(alone.cases["recall10"].mean())
    found = {}
    for name in GUARDS:
        if name in judged:
            fall = alone.minus(judged[name]["all"], "recall10")
            low, high = (None if bound is None else bound * scale for bound in (fall.low, fall.high))
            found[name.removeprefix("guard_")] = Interval(
                value=fall.value * scale, low=low, high=high, users=fall.users
            )
    return found


def figures(outcome: Outcome) -> dict[str, float]:
    """``all.hit1.rolegen`` and the like; intervals, paired differences, seeds and errors stand in tasks of their own."""
    found: dict[str, float] = {}
    rows = {name: tasks for name, tasks in outcome.judged.items() if name not in GUARDS}
    for task in TASKS:
        for name, tasks in rows.items():
            judged = tasks[task]
            found |= {f"{task}.{metric}.{name}": float(judged.cases[metric].mean()) for metric in RANKING}
            found |= {f"{task}.{metric}.{name}": value for metric, value in judged.spread.items()}
    for task in TASKS:
        for name, tasks in rows.items():
            for metric in RANKING:
                found |= _bounds(f"{task}_interval", metric, name, tasks[task].interval(metric), value=False)
        if OURS in rows:
            for name, tasks in rows.items():
                if name != OURS:
                    for metric in RANKING:
                        difference = rows[OURS][task].minus(tasks[task], metric)
                        found |= _bounds(f"{task}_difference", metric, f"{OURS} minus {name}", difference)
            for metric in RANKING:
                best = float(rows[outcome.rivals[task][metric]][task].cases[metric].mean())
                if best > 0:
                    ratio = float(rows[OURS][task].cases[metric].mean()) / best
                    found[f"{task}_ratio.{metric}.{OURS} to {outcome.rivals[task][metric]}"] = ratio
        for name, tasks in rows.items():
            for metric in RANKING:
                if len(tasks[task].seeds[metric]) > 1:
                    found[f"{task}_seeds.{metric}_sd.{name}"] = float(tasks[task].seeds[metric].std(ddof=1))
    for kind, fall in outcome.guard.items():
        found |= _bounds("guard", "recall10", kind, fall)
    for group in outcome.groups:
        for name, share in group.found.items():
            found[f"found_{group.kind.replace(' ', '_')}.{group.label.replace(' ', '_')}.{name}"] = share
    found["counts.decisions.dormant"] = float(outcome.cases.dormant)
    found["counts.decisions.returned"] = float(len(outcome.cases.cases))
    found["counts.decisions.with_a_new_item"] = float(len(outcome.cases.of("discovery")))
    found["counts.customers.returned"] = float(len({case.user for case in outcome.cases.cases}))
    found |= {f"time.seconds.{name}": round(one.seconds, 1) for name, one in outcome.finished.items()}
    return found


def _bounds(task: str, metric: str, system: str, found: Interval, *, value: bool = True) -> dict[str, float]:
    figures = {f"{task}.{metric}.{system}": found.value} if value else {}
    if found.low is not None and found.high is not None:
        figures |= {f"{task}.{metric}_low.{system}": found.low, f"{task}.{metric}_high.{system}": found.high}
    return figures
