"""The charts of the report, drawn by Altair and turned into inline SVG by vl-convert, without a browser or a network.

Each is small enough to be read on a phone, has a transparent ground and colours that work on light and dark;
the page's style sheet colours the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from rolegen_graphs.words import ROLES, Fate, Role

from .text import bounded
from .words import Metric, System

# At least 3:1 against both grounds of the page; style.css gives the same colours to the dots beside role names.
ROLE_COLOURS: Mapping[Role, str] = {
    "trigger": "#e8590c",
    "bridge": "#845ef7",
    "anchor": "#0c8599",
    "comparison": "#1c7ed6",
    "complement": "#2f9e44",
    "gateway": "#d6336c",
    "replenishment": "#b07d00",
    "target": "#e03131",
    "incidental": "#8a7a66",
    "unresolved": "#7a848e",
}
_FATES: Mapping[Fate, str] = {"accepted": "#2f9e44", "mapped": "#1c7ed6", "rejected": "#e03131"}
OURS, OTHERS, LINE = "#0c8599", "#868e96", "#868e96"
_MARGIN = {"left": 4, "right": 44, "top": 4, "bottom": 4}  # the page may use a wider font


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One chart: its heading, what it says for those who do not see it, a line below it, and its SVG."""

    heading: str
    spoken: str
    svg: Markup
    caption: str = ""


def metric_chart(metric: Metric, systems: Sequence[System]) -> Drawn:
    """Bars of one metric for all systems, with their intervals."""
    rows = [
        {
            "system": bounded(system.name, 40),
            "value": figure.value,
            "low": figure.value if figure.low is None else figure.low,
            "high": figure.value if figure.high is None else figure.high,
            "text": f"{figure.value:.3f}",
            "ours": system.ours,
        }
        for system in systems
        if (figure := system.figures.get(metric.key)) is not None
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=alt.Y("system:N", sort=None, axis=None))
    bars = base.mark_bar(height=12, yOffset=8, cornerRadiusEnd=3).encode(
        x=alt.X("value:Q", title=None, axis=alt.Axis(tickCount=4, format="~g")),
        color=alt.condition(alt.datum.ours, alt.value(OURS), alt.value(OTHERS)),
    )
    whiskers = base.mark_rule(strokeWidth=1.5, yOffset=8).encode(x="low:Q", x2="high:Q")
    values = base.mark_text(align="left", dx=6, yOffset=8).encode(x="high:Q", text="text:N")
    names = base.mark_text(align="left", yOffset=-9).encode(x=alt.value(0), text="system:N")
    spoken = "; ".join(f"{row['system']} {row['text']}" for row in rows)
    return Drawn(
        heading=metric.label,
        spoken=spoken,
        caption=metric.meaning,
        svg=svg(bars + whiskers + values + names, width=150, height=40 * len(rows)),
    )


def roles_chart(counts: Mapping[Role, int]) -> Drawn:
    """How often each role was given to an event."""
    present = [role for role in ROLES if counts.get(role)]
    return _counted(
        "Roles that events played",
        {role: counts[role] for role in present},
        {role: ROLE_COLOURS[role] for role in present},
    )


def fates_chart(counts: Mapping[Fate, int]) -> Drawn:
    """What became of the wishes of all paths when they met the catalogue."""
    return _counted("What became of the wishes", {fate: counts.get(fate, 0) for fate in _FATES}, dict(_FATES))


def dormancy_chart(days: Sequence[float]) -> Drawn:
    """How long the customers had been silent, in 30-day bins."""
    bins: dict[int, int] = {}
    for one in days:
        bins[int(one // 30)] = bins.get(int(one // 30), 0) + 1
    rows = [
        {"from": 30 * n, "to": 30 * (n + 1) - 2, "customers": count, "none": 0} for n, count in sorted(bins.items())
    ]
    chart = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_bar(color=OURS)
        .encode(
            x=alt.X("from:Q", title="days since the last event", axis=alt.Axis(tickCount=6)),
            x2="to:Q",
            y=alt.Y("customers:Q", title="customers", axis=alt.Axis(tickCount=4)),
            y2="none:Q",
        )
    )
    middle = sorted(days)[len(days) // 2]
    caption = f"{len(days):,} customers; half of them silent for {middle:,.0f} days or longer"
    return Drawn(
        heading="How long they were silent", spoken=caption, caption=caption, svg=svg(chart, width=220, height=150)
    )


def _counted(heading: str, counts: Mapping[Any, int], colours: Mapping[Any, str]) -> Drawn:
    total = max(1, sum(counts.values()))
    rows = [{"name": name, "count": n, "text": f"{n:,} ({n / total:.0%})"} for name, n in counts.items()]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("name:N", sort=None, title=None), x=alt.X("count:Q", title=None, axis=None)
    )
    bars = base.mark_bar(height=16, cornerRadiusEnd=3).encode(
        color=alt.Color("name:N", legend=None, scale=alt.Scale(domain=list(colours), range=list(colours.values())))
    )
    labels = base.mark_text(align="left", dx=5).encode(text="text:N")
    spoken = "; ".join(f"{row['name']} {row['text']}" for row in rows)
    return Drawn(heading=heading, spoken=spoken, svg=svg(bars + labels, width=120, height=26 * len(rows)))


def svg(chart: alt.Chart | alt.LayerChart, *, width: int, height: int) -> Markup:
    """A chart in the page's look, as inline SVG; sizes in pixels."""
    spec = (
        chart.properties(width=width, height=height, background="transparent", padding=_MARGIN)
        .configure_view(stroke=None)
        .configure_axis(
            grid=False,
            domain=False,
            tickColor=LINE,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=170,
        )
        .configure_rule(color=LINE)
        .configure_text(fontSize=12)
    )
    # vl-convert escapes all text of the specification; the template inlines its answer as markup
    return Markup(vl_convert.vegalite_to_svg(spec.to_dict()))
