"""``rolegen bench plan``: the plan as figures, and as part of a page, which a test holds against what the script says."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from pathlib import Path

from rolegen_errors import InputError

from ..results import Result, commit, machine
from .plan import Plan, Wanted, markdown, read_measured

USERS, ITEMS = 50e6, 30e6
_PART = re.compile(r"(<!-- plan -->\n).*?(<!-- /plan -->)", re.S)


def plan_for(users: float | None = None, items: float | None = None) -> Plan:
    """The plan for so many users and items, with the assumptions as they are stated."""
    return Plan(Wanted(users=users or USERS, items=items or ITEMS), read_measured())


def with_plan(page: str, plan: Plan) -> str:
    """The page with the plan between its marks.

    Raises:
        InputError: it has no such marks.
    """
    if not _PART.search(page):
        raise InputError(
            "the page has no place for the plan", fix="put <!-- plan --> and <!-- /plan --> on lines of their own"
        )
    return _PART.sub(lambda found: f"{found[1]}{markdown(plan)}\n{found[2]}", page)


def run_plan(*, users: float | None, items: float | None, report: Path | None) -> Result:
    """Figures ``plan.….…`` and ``simulated.….…``; ``report`` is a page whose part between the marks is written anew."""
    started, plan = time.perf_counter(), plan_for(users, items)
    if report is not None:
        if not report.is_file():
            raise InputError(
                "there is no such page",
                where=str(report),
                fix="make one with the lines <!-- plan --> and <!-- /plan -->",
            )
        report.write_text(with_plan(report.read_text("utf-8"), plan), "utf-8")
    name = f"{plan.wanted.users:.0f}"
    figures = {f"simulated.{metric}.{name}": float(value) for metric, value in asdict(plan.simulated()).items()}
    totals = {
        "events": plan.events,
        "users_asked": plan.asked,
        "core_hours": plan.core_s / 3600,
        "workers": float(plan.workers),
        "nodes": float(plan.nodes),
    }
    figures |= {f"plan.{metric}.{name}": value for metric, value in totals.items()}
    return Result(
        name="plan",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures={key: round(value, 3) for key, value in figures.items()},
    )
