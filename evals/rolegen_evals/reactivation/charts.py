"""Charts of this benchmark's page that the report of a run has no use for."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from rolegen_agent.report.charts import LINE, OURS, Drawn, svg

from ..metrics import Interval


def difference_chart(heading: str, differences: Sequence[tuple[str, Interval]]) -> Drawn:
    """A dot and its interval for each rival, right of the line at 0 where ours is better."""
    rows = [
        {
            "rival": name,
            "value": found.value,
            "low": found.value if found.low is None else found.low,
            "high": found.value if found.high is None else found.high,
            "text": f"{found.value:+.3f}",
        }
        for name, found in differences
    ]
    base = alt.Chart(alt.InlineData(values=rows)).encode(y=alt.Y("rival:N", sort=None, axis=None))
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(color=LINE, strokeDash=[3, 3]).encode(x="zero:Q")
    whiskers = base.mark_rule(strokeWidth=2, yOffset=7).encode(
        x=alt.X("low:Q", title=None, axis=alt.Axis(tickCount=4, format="+~g")), x2="high:Q"
    )
    dots = base.mark_circle(size=60, opacity=1, color=OURS, yOffset=7).encode(x="value:Q")
    values = base.mark_text(align="left", dx=6, yOffset=7).encode(x="high:Q", text="text:N")
    names = base.mark_text(align="left", yOffset=-8).encode(x=alt.value(0), text="rival:N")
    return Drawn(
        heading=heading,
        spoken="; ".join(f"{row['rival']} {row['text']}" for row in rows),
        svg=svg(zero + whiskers + dots + values + names, width=170, height=36 * len(rows)),
    )
