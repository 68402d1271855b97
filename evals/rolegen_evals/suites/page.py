"""A comparison for people: Markdown for a pull request, and one HTML file with charts and the traces side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rolegen_agent.report import CustomerSection, Fact, customer_section, write_page
from rolegen_graphs.words import ROLES, Decision, Outcome

from ..metrics import Interval
from ..reactivation.charts import difference_chart
from .cases import Case
from .comparison import Change, Comparison, Moved
from .graders import GRADERS
from .runs import Run

SHOWN = 5
"""cases whose traces stand side by side"""


@dataclass(frozen=True)
class _Pair:
    moved: Moved
    sections: tuple[CustomerSection, CustomerSection]


def write_comparison(path: Path, found: Comparison, cases: Sequence[Case], runs: tuple[Run, Run]) -> Path:
    """One HTML file that needs nothing outside itself, and no script."""
    by_id = {case.case: case for case in cases}
    first, second = found.names
    shares = [change for change in found.changes if GRADERS[change.grader].high == 1.0]
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
            *(Fact(label=name, value=run.configuration) for name, run in zip(found.names, runs, strict=True)),
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
        pairs=[_Pair(moved, _sections(by_id[moved.case], runs)) for moved in found.moved[:SHOWN]],
        failures=[(run.name, case, why) for run in runs for case, why in run.failures.items()],
        role_number={role: number for number, role in enumerate(ROLES)},
    )


def markdown(found: Comparison) -> str:
    """The comparison in few lines."""
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
    return "\n".join(lines) + "\n"


def _sections(case: Case, runs: tuple[Run, Run]) -> tuple[CustomerSection, CustomerSection]:
    observation = case.observation.model_dump(mode="json")
    decisions = [Decision.model_validate({**run.decisions[case.case], "observation": observation}) for run in runs]
    first, second = (customer_section(decision, _outcome(case, decision)) for decision in decisions)
    return first, second


def _outcome(case: Case, decision: Decision) -> Outcome | None:
    if case.bought is None:
        return None
    # The case knows what was bought, not when: the page shows the decision's day as "within the horizon".
    ordered_at = case.at if case.bought else None
    return Outcome(decision=decision.decision, user=case.user, ordered_at=ordered_at, items=case.bought)


def _cells(change: Change, primary: Sequence[str]) -> Mapping[str, object]:
    grader = GRADERS[change.grader]
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
