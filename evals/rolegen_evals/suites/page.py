"""A comparison for people: Markdown for a pull request, and one HTML file with charts and the traces side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolegen_agent.report import CustomerSection, Fact, customer_section, write_page
from rolegen_agent.report.text import bounded
from rolegen_graphs.words import ROLES, Decision, Outcome

from ..metrics import Interval
from ..reactivation.charts import difference_chart
from .cases import Case
from .comparison import Change, Comparison, Moved
from .decided import Decided, read_decided
from .graders import find_grader
from .runs import Run

SHOWN = 5
"""cases whose traces stand side by side"""
FAILURES_TOLD = 10
"""failed cases that the table names"""


@dataclass(frozen=True)
class _Pair:
    moved: Moved
    sections: tuple[CustomerSection, CustomerSection]


def write_comparison(
    path: Path, found: Comparison, cases: Sequence[Case], runs: tuple[Run, Run], folders: tuple[Path, Path]
) -> Path:
    """One HTML file that needs nothing outside itself, and no script.

    Args:
        folders: of the two runs, where what they decided lies; where it is missing, no traces are shown.
    """
    by_id = {case.case: case for case in cases}
    moved = found.moved[:SHOWN]
    decided = [read_decided(folder, {one.case for one in moved}) for folder in folders]
    first, second = found.names
    named = list(zip(found.names, runs, strict=True))
    shares = [change for change in found.changes if find_grader(change.grader).high == 1.0]
    return write_page(
        path,
        "comparison.html.jinja",
        folder=Path(__file__).parent,
        title=f"{second} against {first}",
        verdict=found.verdict,
        because=found.because,
        facts=[
            Fact(label="Cases in both runs", value=f"{found.cases:,}"),
            *(Fact(label=f"Without a result in {name}", value=f"{n:,}") for name, n in found.missing.items() if n),
            *(Fact(label=f"Failed in {name}", value=f"{len(run.failures):,}") for name, run in named if run.failures),
            *(Fact(label=name, value=run.configuration) for name, run in named),
            *(Fact(label=f"Prompts that differ: {one}", value=told) for one, told in _prompts(runs)),
            *(Fact(label=f"Judge of {name}", value=judge_words(run.judge)) for name, run in named if run.judge),
            Fact(label="Dollars a decision for a hundredth gained", value=_money(found.cost_per_point)),
        ],
        names=found.names,
        rows=[_cells(change, found.primary) for change in found.changes],
        chart=difference_chart(f"{second} minus {first}", [(one.grader, one.difference) for one in shares]),
        slices=[
            difference_chart(
                f"{name}, by {stratum}",
                [(one.value, one.difference) for one in found.slices if (one.stratum, one.grader) == (stratum, name)],
            )
            for stratum, name in dict.fromkeys((one.stratum, one.grader) for one in found.slices)
        ],
        pairs=[
            _Pair(one, _sections(by_id[one.case], [some[one.case] for some in decided]))
            for one in moved
            if all(one.case in some for some in decided)
        ],
        without_trace=[one for one in moved if not all(one.case in some for some in decided)],
        failures=[
            (name, case, why) for name, run in zip(found.names, runs, strict=True) for case, why in run.failures.items()
        ],
        role_number={role: number for number, role in enumerate(ROLES)},
    )


def _prompts(runs: tuple[Run, Run]) -> list[tuple[str, str]]:
    """By prompt: the versions and hashes of both runs, where they differ."""
    first, second = (run.prompts for run in runs)
    return [
        (name, f"{first.get(name, 'none')} → {second.get(name, 'none')}")
        for name in sorted({*first, *second})
        if first.get(name) != second.get(name)
    ]


def judge_words(judge: Mapping[str, Any]) -> str:
    """Who judged, and how far that judge can be trusted, in one line."""
    kappa = judge["kappa"]["all"]
    return (
        f"{judge['model']}, rubric {judge['prompt']}: agrees with {judge['examples']} labelled examples in "
        f"{judge['exact']['all']:.0%} of the verdicts, kappa {'not defined' if kappa is None else f'{kappa:.2f}'}"
    )


def markdown(found: Comparison, runs: tuple[Run, Run] | None = None) -> str:
    """The comparison in few lines; with ``runs`` also what failed in them and who judged."""
    first, second = found.names
    lines = [
        f"## {second} against {first}: {found.verdict}",
        "",
        found.because,
        "",
        f"{found.cases} cases in both runs; differences are {second} minus {first}, with 95 % intervals and permutation p.",
        "",
        f"| measure | {first} | {second} | difference | p | cases needed |",
        "|---|---|---|---|---|---|",
    ]
    for change in found.changes:
        name = f"**{change.grader}**" if change.grader in found.primary else change.grader
        needed = "" if change.cases_needed is None else f"{change.cases_needed:,}"
        cells = (
            name,
            _number(change.first),
            _number(change.second),
            _difference(change.difference),
            f"{change.p:.2g}",
            needed,
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [f"\n{n} cases without a result in {name}." for name, n in found.missing.items() if n]
    if found.cost_per_point is not None:
        lines.append(f"\n{_money(found.cost_per_point)} US dollars a decision for a hundredth gained.")
    for name, run in zip(found.names, runs or (), strict=False):
        if run.failures:
            lines += [f"\n{len(run.failures)} cases failed in {name}:\n"]
            lines += [f"- {case}: {_one_line(why)}" for case, why in list(run.failures.items())[:FAILURES_TOLD]]
        if run.judge:
            lines.append(f"\nJudge of {name}: {judge_words(run.judge)}.")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return bounded(" ".join(text.split()), 300)


def _sections(case: Case, decided: Sequence[Decided]) -> tuple[CustomerSection, CustomerSection]:
    decisions = [one.decision_on(case) for one in decided]
    first, second = (customer_section(decision, _outcome(case, decision)) for decision in decisions)
    return first, second


def _outcome(case: Case, decision: Decision) -> Outcome | None:
    if case.bought is None:
        return None
    # The case knows what was bought, not when: the page shows the decision's day as "within the horizon".
    ordered_at = case.at if case.bought else None
    return Outcome(decision=decision.decision, user=case.user, ordered_at=ordered_at, items=case.bought)


def _cells(change: Change, primary: Sequence[str]) -> Mapping[str, object]:
    grader = find_grader(change.grader)
    return {
        "name": change.grader,
        "primary": change.grader in primary,
        "better": "more" if grader.better > 0 else "less",
        "unit": grader.unit,
        "first": _number(change.first),
        "second": _number(change.second),
        "difference": _difference(change.difference),
        "gain": change.gain,
        "p": f"{change.p:.2g}",
        "needed": "" if change.cases_needed is None else f"{change.cases_needed:,}",
        "cases": change.difference.users,
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _difference(found: Interval) -> str:
    ends = "" if found.low is None or found.high is None else f" [{found.low:+.3g}, {found.high:+.3g}]"
    return f"{found.value:+.3g}{ends}"


def _money(value: float | None) -> str:
    return "not known, or nothing was gained" if value is None else f"{value:.6f}"
