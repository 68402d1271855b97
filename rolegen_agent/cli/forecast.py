"""How a forecast looks on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ..forecast import Estimate, Forecast, LimitForecast


def show_forecast(forecast: Forecast, console: Console) -> None:
    """What the run will about use, and which limit it will meet."""
    told = (
        f"{forecast.users:,} users with {forecast.model}: about {forecast.mean.calls:,} calls, {_tokens(forecast.mean)}"
    )
    console.print(f"{told}, {_usd(forecast.mean)}", markup=False, soft_wrap=True)
    console.print(f"high estimate: {forecast.high.calls:,} calls, {_tokens(forecast.high)}, {_usd(forecast.high)}")
    basis = (
        f"{forecast.learnt_from:,} finished decisions in memory"
        if forecast.learnt_from
        else "assumed lengths of answers, since memory has no decisions with this model and these prompts"
    )
    console.print(
        f"from the prompts of {forecast.sampled} users ({forecast.asked} to be asked about, {forecast.known:.0%} of the"
        f" questions answered in memory) and {basis}",
        markup=False,
        soft_wrap=True,
    )
    if forecast.outstanding:
        console.print(
            f"{forecast.outstanding:,} requests of this run stand in a nearline batch: import its results first",
            style="bold",
        )
    if not forecast.limits:
        console.print("no limit is set in [budget]", markup=False)
        return
    table = Table(show_header=False, box=None, padding=(0, 1))
    for limit in forecast.limits:
        table.add_row("limit", limit.name, f"{limit.limit:,}", _verdict(limit, forecast.users))
    console.print(table)


def _verdict(limit: LimitForecast, users: int) -> str:
    used = f"{limit.used:,.4g} used, " if limit.used else ""
    if limit.name.endswith("_per_decision"):
        return f"a decision needs about {limit.expected:,.4g}" + (": often too little" if limit.met else "")
    if limit.after_users is None:
        return f"{used}about {limit.expected:,.4g} more: enough"
    return f"{used}met after about {limit.after_users:,} of {users:,} users"


def _tokens(estimate: Estimate) -> str:
    return f"{estimate.tokens:,} tokens"


def _usd(estimate: Estimate) -> str:
    return "cost unknown (set the model's price in [llm])" if estimate.usd is None else f"{estimate.usd:.4f} USD"
