"""Cases: decisions for evals. Each pins all that the decision may see, and holds beside it what is known to be true.

A case is kept as one line of JSON. Its id depends on user and time alone, so that the cases of a longer log keep theirs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from pydantic import Field, ValidationError

from rolegen_agent import RoleGen
from rolegen_agent.outcomes import first_order_baskets
from rolegen_agent.project import moment
from rolegen_errors import InputError
from rolegen_graphs import decision_id
from rolegen_graphs.words import Observation, Record, Role

Progress = Callable[[int, int], None]
SHORT, LONG = 10, 60
"""events of a history below which it is short, and from which it is long"""
FEW_ORDERS = 10
"""orders of an item before the decision below which it counts as cold"""


class Case(Record):
    """One decision to be taken, with what became known of it."""

    case: str
    """stable id: a digest of user and time"""
    user: str
    at: datetime
    observation: Observation
    """trajectory, lessons and past decisions: the reasoner sees this and nothing else of the log"""
    strata: dict[str, str]
    """``history`` (short, middle, long), ``cohort`` and ``items`` (cold, warm)"""
    bought: tuple[str, ...] | None
    """distinct items of the first net order within the horizon, () without one; None where the horizon is not over"""
    roles: dict[int, Role] = Field(default_factory=dict)
    """planted role by event id; empty where nobody knows"""
    artefacts: str
    """fingerprint of the training that the case was made with: scores of another backbone are not comparable"""


def build_cases(
    shop: RoleGen,
    at: datetime | str,
    *,
    count: int,
    seed: int = 0,
    returned: float = 0.5,
    roles: Mapping[int, Role] | None = None,
    users: Collection[str] | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Case]:
    """``count`` cases of dormant users at ``at``, spread evenly over strata.

    Args:
        seed: which users are drawn within a stratum.
        returned: share of users who came back, where that is known and there are enough; only they have a basket to be found.
        roles: planted role by event id, for worlds whose truth is known.
        users: draw from these instead of all dormant users.

    Raises:
        InputError: nobody is dormant at ``at``.
        ProjectError: nothing is trained for ``at``.
    """
    when = moment(at)
    assembly = shop.assembly(when)
    pool = sorted(users if users is not None else assembly.dormant["user"].to_list())
    if not pool or count < 1:
        raise InputError(
            "there is nobody to make a case of", where=f"at {when.date()}", fix="rolegen dormant --at DATE"
        )
    horizon = shop.project.settings.slate.horizon_days
    events = pl.scan_parquet(shop.project.events)
    over = events.select(pl.col("time").max()).collect().item() >= when + timedelta(days=horizon)
    later = events.filter(pl.col("time") >= when, pl.col("time") < when + timedelta(days=horizon)).collect()
    baskets = first_order_baskets(later, when, horizon, pool)
    known = _orders(assembly.artefacts.events)
    strata = {user: _strata(assembly.parts.observer.observe(user, when), known) for user in pool}
    back = [user for user in pool if user in baskets] if over else []
    away = sorted(set(pool) - set(back))
    # Who is missing in one group is made good by the other one, so that there are as many cases as were asked for.
    wanted = max(min(round(count * returned), len(back)), min(count - len(away), len(back)))
    chosen = [
        *_spread({user: strata[user] for user in back}, wanted, seed),
        *_spread({user: strata[user] for user in away}, count - wanted, seed),
    ]
    cases = []
    for done, user in enumerate(sorted(chosen), 1):
        seen = assembly.parts.observer.observe(user, when)
        told = (
            {event.event: roles[event.event] for event in seen.trajectory.events if event.event in roles}
            if roles
            else {}
        )
        cases.append(
            Case(
                case=decision_id("case", user, when),
                user=user,
                at=when,
                observation=seen,
                strata=strata[user],
                bought=tuple(baskets[user].items) if user in baskets else () if over else None,
                roles=told,
                artefacts=assembly.artefacts.fingerprint,
            )
        )
        progress(done, len(chosen))
    return cases


def write_cases(cases: Sequence[Case], file: Path) -> None:
    """One line of JSON for each case."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(case.model_dump_json() + "\n" for case in cases), "utf-8")


def read_cases(file: Path) -> list[Case]:
    """What :func:`write_cases` wrote.

    Raises:
        InputError: the file is missing or empty, a line is no case, or an id stands there twice.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the cases cannot be read: {error}", where=str(file), fix="rolegen eval cases") from error
    cases: dict[str, Case] = {}
    for number, line in enumerate(lines, 1):
        try:
            case = Case.model_validate_json(line)
        except ValidationError as error:
            said = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, said["loc"]))
            raise InputError(f"no case: {place}: {said['msg']}", where=f"{file}, line {number}") from error
        if case.case in cases:
            raise InputError("the case stands there twice", where=f"{file}, line {number}, case {case.case}")
        cases[case.case] = case
    if not cases:
        raise InputError("the file holds no case", where=str(file), fix="rolegen eval cases")
    return list(cases.values())


def _orders(events: pl.DataFrame) -> dict[str, int]:
    counted = events.filter(pl.col("behaviour") == "order").group_by("item").len()
    return dict(counted.iter_rows())


def _strata(seen: Observation, orders: Mapping[str, int]) -> dict[str, str]:
    trajectory = seen.trajectory
    total = trajectory.total_events
    items = {event.item for event in trajectory.events}
    cold = sum(orders.get(item, 0) < FEW_ORDERS for item in items)
    return {
        "history": "short" if total < SHORT else "long" if total >= LONG else "middle",
        "cohort": trajectory.cohort,
        "items": "cold" if 2 * cold > len(items) else "warm",
    }


def _spread(strata: Mapping[str, Mapping[str, str]], count: int, seed: int) -> list[str]:
    """``count`` users, one stratum after the other in turn. The order within a stratum is that of a digest: further users do
    not shuffle those that were there."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for user in sorted(strata, key=lambda user: hashlib.sha256(f"{seed}/{user}".encode()).digest()):
        groups[tuple(strata[user].values())].append(user)
    turns = [(place, key, user) for key, members in groups.items() for place, user in enumerate(members)]
    return [user for _, _, user in sorted(turns)[:count]]
