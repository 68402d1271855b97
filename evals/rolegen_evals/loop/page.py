"""The page of the benchmark: orders by policy in each world with intervals, and the monthly replay as a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import altair as alt

from rolegen_agent.report import Fact, Figure, Metric, System, write_page
from rolegen_agent.report.charts import LINE, OURS, Drawn, metric_chart, svg

from ..demo import ATTRIBUTION
from ..results import Result

WORDS: Mapping[str, str] = {
    "planted": "the world that everything is developed on",
    "unseen": "a world on which nothing of ours was tuned",
}
ORDERS = Metric(
    key="orders",
    label="net orders of a dormant user",
    meaning="within 40 days, after the last round; 95 % intervals over shops",
)


def write_loop_page(path: Path, result: Result) -> Path:
    """Write the page; it needs nothing outside itself, and no script."""
    figures = result.figures
    worlds = [name for name in WORDS if f"loop.seeds.{name}" in figures]
    return write_page(
        path,
        "loop.html.jinja",
        folder=Path(__file__).parent,
        title="Does the loop bring orders?",
        facts=[Fact(label="Commit and machine", value=f"{result.commit}, {result.machine}")],
        worlds=[
            (name, WORDS[name], metric_chart(ORDERS, _policies(figures, name)), _gains(figures, name))
            for name in worlds
        ],
        months=_months(figures),
        cases=round(figures["replay.cases.all"]),
        attribution=ATTRIBUTION,
    )


def _policies(figures: Mapping[str, float], world: str) -> list[System]:
    """All policies, the best first."""
    start = f"orders_per_1000.{world}."
    found = {key.removeprefix(start): value / 1000 for key, value in figures.items() if key.startswith(start)}

    def bound(name: str, end: str) -> float | None:
        value = figures.get(f"orders_{end}.{world}.{name}")
        return None if value is None else value / 1000

    return [
        System(
            name=name.replace("_", " "),
            ours=name == "rolegen",
            figures={"orders": Figure(value=found[name], low=bound(name, "low"), high=bound(name, "high"))},
        )
        for name in sorted(found, key=lambda name: -found[name])
    ]


def _gains(figures: Mapping[str, float], world: str) -> list[str]:
    """One sentence for each rival that is asked about first."""
    said = []
    for rival in ("static_best", "no_reflection", "no_improve", "neither"):
        gain = figures.get(f"gain_percent.{world}.{rival}")
        if gain is None:
            continue
        low, high = (figures.get(f"gain_{end}.{world}.{rival}") for end in ("low", "high"))
        between = "" if low is None or high is None else f" ({low:+.1f} to {high:+.1f})"
        said.append(f"RoleGen has {gain:+.1f} % orders{between} beside {rival.replace('_', ' ')}.")
    return said


def _months(figures: Mapping[str, float]) -> Drawn:
    """hit@1 by month with the loop and without."""
    start = "replay_months.hit1."
    rows = [
        {"arm": key.removeprefix(start).split("@")[0], "month": key.split("@")[1], "hit1": value}
        for key, value in figures.items()
        if key.startswith(start)
    ]
    lines = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line(point=True)
        .encode(
            x=alt.X("month:O", title=None, axis=alt.Axis(labelAngle=-60)),
            y=alt.Y("hit1:Q", title="hit@1"),
            color=alt.Color("arm:N", title=None, scale=alt.Scale(domain=["loop", "frozen"], range=[OURS, LINE])),
        )
    )
    spoken = "; ".join(f"{row['arm']} {row['month']} {row['hit1']:.3f}" for row in rows)
    return Drawn(heading="hit@1 by month", spoken=spoken, svg=svg(lines, width=420, height=180))
