"""The page of the benchmark: tables and charts of both tasks, differences, guard, errors, and how it was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolegen_agent.report import Fact, Figure, Metric, System, write_page
from rolegen_agent.report.charts import Drawn, metric_chart

from ..demo import ATTRIBUTION
from ..results import commit, machine
from .benchmark import OURS, Outcome
from .charts import difference_chart
from .judge import METRICS, RANKING
from .lineup import LABELS
from .protocol import DORMANT_DAYS, HORIZON_DAYS, TASKS, Task
from .rolegen import GUARDS

TASK_WORDS: Mapping[Task, tuple[str, str]] = {
    "all": ("All items", "every item sold before the date may be shown"),
    "discovery": ("Discovery", "only items that the customer had never bought, as candidates and as targets"),
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """One task."""

    heading: str
    caption: str
    systems: Sequence[System]
    best: Mapping[str, float]
    charts: Sequence[Drawn]
    differences: Sequence[Drawn]


def write_reactivation_page(path: Path, outcome: Outcome) -> Path:
    """Write the page; it needs nothing outside itself, and no script."""
    customers = len({case.user for case in outcome.cases.cases})
    return write_page(
        path,
        "reactivation.html.jinja",
        folder=Path(__file__).parent,
        title="What do dormant customers buy when they come back?",
        lede=(
            f"On {len(outcome.period.dates)} decision dates {outcome.cases.dormant:,} times a customer of an online gift shop "
            f"had been silent for at least {DORMANT_DAYS} days. {len(outcome.cases.cases):,} times one came back within "
            f"{HORIZON_DAYS} days ({customers:,} customers). Every system ranked ten items for each of them, knowing only "
            "what happened before the date."
        ),
        facts=[
            Fact(
                label="Period",
                value=f"{outcome.period.name}, {', '.join(f'{at:%Y-%m-%d}' for at in outcome.period.dates)}",
            ),
            Fact(label="Trained on", value=f"everything before {outcome.period.cut:%Y-%m-%d}"),
            Fact(
                label="Stayed away, left out", value=f"{outcome.cases.dormant - len(outcome.cases.cases):,} decisions"
            ),
            Fact(label="Cases with a new item", value=f"{len(outcome.cases.of('discovery')):,}"),
            Fact(label="Commit and machine", value=f"{commit()}, {machine()}"),
        ],
        metrics=_metrics(),
        sections=[_section(outcome, task) for task in TASKS],
        guard=outcome.guard,
        groups=outcome.groups,
        labels=LABELS,
        settings=_settings(outcome),
        attribution=ATTRIBUTION,
    )


def _metrics() -> list[Metric]:
    return [Metric(key=key, label=label, meaning=meaning) for key, (label, meaning) in METRICS.items()]


def _section(outcome: Outcome, task: Task) -> Section:
    rows = {name: judged[task] for name, judged in outcome.judged.items() if name not in GUARDS}
    systems = []
    for name in sorted(rows, key=lambda name: -float(rows[name].cases["ndcg10"].mean())):
        judged = rows[name]
        found = {metric: judged.interval(metric) for metric in RANKING}
        shown = {metric: Figure(value=f.value, low=f.low, high=f.high) for metric, f in found.items()}
        shown |= {metric: Figure(value=value) for metric, value in judged.spread.items()}
        systems.append(System(name=LABELS.get(name, name), ours=name == OURS, figures=shown))
    best = {key: (min if key == "gini" else max)(system.figures[key].value for system in systems) for key in METRICS}
    others = [name for name in rows if name != OURS]
    differences = [
        difference_chart(
            f"{METRICS[metric][0]}: RoleGen minus …",
            [(LABELS.get(name, name), rows[OURS].minus(rows[name], metric)) for name in others],
        )
        for metric in RANKING
        if OURS in rows and others
    ]
    return Section(
        heading=TASK_WORDS[task][0],
        caption=f"{TASK_WORDS[task][1]}; {len(outcome.cases.of(task)):,} cases; 95 % bootstrap intervals over customers",
        systems=systems,
        best=best,
        charts=[metric_chart(metric, systems) for metric in _metrics()],
        differences=differences,
    )


def _settings(outcome: Outcome) -> list[tuple[str, int, float, str]]:
    """Label, seeds, seconds and choices of every system."""
    return [
        (LABELS.get(name, name), len(done.slates), done.seconds, _said(done.system.settings))
        for name, done in outcome.finished.items()
    ]


def _said(settings: Mapping[str, Any]) -> str:
    def words(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{key} {words(one)}" for key, one in value.items()) or "defaults"
        return str(value)

    return "; ".join(f"{key}: {words(value)}" for key, value in settings.items())
