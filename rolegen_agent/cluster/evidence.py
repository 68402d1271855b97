"""The rows of role evidence made on a Ray cluster: ranges of users, each read by a task from the shared store.

What a user contributes depends on that user's events alone, so ranges of users are read anywhere and put together by counting
on. The tables are then computed from the rows of all users where the command runs: pairs of items, shrinkage and the fits of
effects look at everybody at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from rolegen_errors import ProjectError, RoleGenError

from ..evidence import EvidenceOptions
from ..evidence.ledger import UserReader, UserRows, read_users, together
from ..evidence.log import Scope
from .connection import Nodes, again, gist, plain, unshared

PARTS = 4
"""ranges of users for each CPU, so that a slow one holds up little"""


def users_on_ray(store: Path, nodes: Nodes, progress: Callable[[int, int], None]) -> UserReader:
    """What :func:`~rolegen_agent.evidence.ledger.read_users` gives, by tasks on the nodes of the cluster that was joined.

    Args:
        store: ``events.parquet`` of the project, which all nodes see.
    """

    def read(events: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> UserRows:
        import ray
        from ray.exceptions import RayError

        ranges = user_ranges(events, PARTS * max(nodes.cpus, 1))
        if len(ranges) < 2:
            return read_users(events, scope, options)
        task = ray.remote(_read_range).options(num_cpus=1, max_retries=-1, scheduling_strategy="SPREAD")
        scope_ref = ray.put(scope)
        waiting = {task.remote(store, users, scope_ref, options): place for place, users in enumerate(ranges)}
        found: dict[int, UserRows] = {}
        try:
            while waiting:
                progress(len(found), len(ranges))
                ready, _ = ray.wait(list(waiting), num_returns=1)
                for one in ready:
                    told = ray.get(one)
                    if isinstance(told, dict):
                        raise again(told)
                    found[waiting.pop(one)] = told
        except RayError as error:
            raise ProjectError(
                f"the cluster gave up: {gist(error)}",
                fix="install the same rolegen-agent with its extra ray on every node, and give the same command again",
            ) from error
        progress(len(ranges), len(ranges))
        return together([found[place] for place in range(len(ranges))])

    return read


def user_ranges(events: pl.DataFrame, parts: int) -> list[pl.Series]:
    """The users of ``events`` in the order of their ids, cut into at most ``parts`` ranges of about as many events each."""
    counts = events.group_by("user").agg(rows=pl.len()).sort("user")
    share = max(1, -(-events.height // max(parts, 1)))
    numbered = counts.with_columns(part=(pl.col("rows").cum_sum() - 1) // share)
    return [part["user"] for part in numbered.partition_by("part", maintain_order=True)]


def _read_range(store: Path, users: pl.Series, scope: Scope, options: EvidenceOptions) -> Any:
    """The rows of these users, or the error as plain values."""
    try:
        if not store.is_file():
            raise unshared(store)
        # The store is sorted by user, so the bounds let the reader pass over most of the file.
        of_range = pl.col("user").is_between(pl.lit(users[0]), pl.lit(users[-1])) & pl.col("user").is_in(
            users.implode()
        )
        events = pl.scan_parquet(store).filter(pl.col("time") < scope.at, of_range).collect()
        return read_users(events, scope, options)
    except RoleGenError as error:
        return plain(error)
