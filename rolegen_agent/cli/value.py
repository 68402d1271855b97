"""``value``: what slates that were not shown would have brought."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..facade import RoleGen
from .options import JsonOption, ProjectOption
from .show import as_json, out

EFFECTIVE_FLOOR = 50.0
"""an effective sample below this says next to nothing"""


def value(
    run: Annotated[str, typer.Option("--run", help="The run whose sampled slates were shown.")],
    policy: Annotated[
        str,
        typer.Option("--policy", help="Whose slates: rolegen, backbone (without reasoning), or a recorded baseline."),
    ] = "rolegen",
    against: Annotated[str | None, typer.Option("--against", help="Slates of this run; else of the same.")] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """What other slates would have brought, from the outcomes of a run whose slates were drawn ([slate] explore)."""
    from ..value import value_of_slates

    with RoleGen.open(project) as shop:
        found = value_of_slates(shop.memory, run, policy=policy, against=against)
    if json:
        as_json(asdict(found))
        return
    out.print(Text(f"{found.target}, from what {found.run} showed to {found.slate.users:,} users"), soft_wrap=True)
    table = Table("", "shown items bought, a decision", "net order, by the top item")
    rows = [("as shown", found.slate.logged, found.order.logged)]
    rows += [(name, found.slate.estimates[name], found.order.estimates[name]) for name in found.slate.estimates]
    for name, *cells in rows:
        told = [
            f"{one.value:.4f}" + (f" [{one.low:.4f}, {one.high:.4f}]" if one.low is not None else "") for one in cells
        ]
        table.add_row(name, *told)
    out.print(table)
    least, top = min(found.slate.effective), found.order.effective[0]
    out.print(
        f"{found.decisions:,} decisions; left out: {found.open:,} with an open outcome, {found.unsampled:,} not drawn, "
        f"{found.unmatched:,} without a slate to compare. {found.covered:.1%} of the places could have been drawn; "
        f"effective sample {least:.0f} at the weakest place, {top:.0f} at the top; {found.slate.clipped:.1%} of the weights cut"
    )
    if min(least, top) < EFFECTIVE_FLOOR:
        out.print("the effective sample is small: these figures say little", style="bold yellow")
