"""Awaken many users on a Ray cluster: Ray Data hands chunks of users to a pool of actors on its nodes.

An actor opens the project once, with an LLM client of its own, and runs :func:`rolegen_agent.batch.awaken` on each chunk. The
unit of resumption stays the decision in PostgreSQL. When a node dies, Ray starts its actors on other nodes and gives them the
same chunks again; they find what was recorded, answers of the LLM included, and make the rest. Claims keep a user from being
decided by two at once, and the run's budget is one sum in the database, whoever spends it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Event

from rolegen_errors import RoleGenError
from rolegen_graphs import decision_id

from ..allocation import Grant
from ..assembly import Assembly, price
from ..batch import AwakenReport
from ..facade import Progress, RoleGen
from ..project import moment
from ..telemetry.export import deliver_spans, exported_spans
from .actors import decide_in_actors
from .connection import Site, again, connected, require_shared_memory, unshared
from .desk import Desk, Word

CHUNK = 64
"""users handed to a worker at a time; with an LLM at least ``ROUNDS`` times as many as it asks for at once"""
ROUNDS = 16


@dataclass(frozen=True)
class ProjectOpening:
    """How an actor opens the project for the decisions of one run."""

    site: Site
    at: datetime
    run: str
    grant: Grant | None = None
    """the LLM budget as it was shared out among all users of the command"""

    def open(self) -> OpenedProject:
        """The project of this node.

        Raises:
            ProjectError: it is not that of the command.
        """
        shop = self.site.open()
        # For as long as the actor lives: a process can export its spans to one place only.
        exported_spans(shop.project).__enter__()
        # The name of a run is a digest of training, settings and prompts: where it differs, something is not shared.
        assembly = shop.assembly(self.at) if self.grant is None else shop.granted(self.at, self.grant)
        if assembly.settings.run != self.run:
            raise unshared(shop.project.root)
        return OpenedProject(shop, assembly)


@dataclass(frozen=True)
class OpenedProject:
    """The project in an actor, which is killed when there is nothing more to do: its spans leave with each chunk."""

    shop: RoleGen
    assembly: Assembly

    def awaken(
        self, users: Sequence[str], at: datetime, *, progress: Progress, stop: Event | None = None
    ) -> AwakenReport:
        """Decide on a chunk of users."""
        report = self.shop.awaken_by(self.assembly, users, at, progress=progress, stop=stop)
        deliver_spans()
        return report


def awaken_on_ray(
    shop: RoleGen,
    users: Sequence[str],
    at: datetime | str,
    *,
    address: str,
    progress: Progress,
    stop: Event,
    workers: int | None = None,
    llm_budget: str | int | None = None,
) -> AwakenReport:
    """As :meth:`RoleGen.awaken`, by workers on the nodes of the cluster at ``address``, see :func:`connected`.

    ``[llm] concurrency`` counts in each worker, ``[budget]`` over all of them. In the report *earlier* is what the memory held at
    the start, *decided* what came to it since, from workers that died too; calls, tokens and cost are what the run's budget
    counts, so retries are calls, and a request that a dead worker had under way keeps its estimate. ``fallbacks``, ``sure``,
    ``cached`` and ``failed_calls`` are told by the workers that lived.

    Args:
        stop: set by the caller to end after the decisions under way.
        workers: actors; None takes one for each CPU of the cluster.
        llm_budget: as for :meth:`RoleGen.awaken`; users are ranked where the command runs.

    Raises:
        RoleGenError: of the first decision that failed; decisions under way are finished and kept first.
        ProjectError: the nodes do not share the project or the memory; or the cluster was lost.
    """
    started, when, settings = time.perf_counter(), moment(at), shop.project.settings
    site, grant = Site.of(shop), None
    if llm_budget is None:
        assembly = shop.assembly(when)
    else:
        assembly, grant = shop.share_out(users, when, llm_budget, progress=progress, stop=stop)
    run = assembly.settings.run
    keys = {decision_id(run, user, when): user for user in dict.fromkeys(users)}
    held, spent_before = shop.memory.recorded(keys), shop.memory.spent(run)
    todo = [user for key, user in keys.items() if key not in held]
    size = max(CHUNK, ROUNDS * settings.llm.concurrency) if assembly.client is not None else CHUNK
    told: list[AwakenReport] = []
    error: RoleGenError | None = None
    halt = Event()

    def look(words: dict[str, Word]) -> None:
        progress("awaken", len(held) + sum(done for _, done, _ in words.values()), len(keys))
        if stop.is_set():
            halt.set()

    look({})
    if todo:
        with connected(address) as nodes:
            require_shared_memory(shop, nodes)
            desk, opening = Desk.on(nodes), ProjectOpening(site, when, run, grant)
            with desk.watched(look, halt):
                for found in decide_in_actors(opening, todo, when, desk, size=size, actors=workers or nodes.cpus or 1):
                    if isinstance(found, AwakenReport):
                        told.append(found)
                    else:
                        error = error or again(found)
                    if error is not None or (told and told[-1].budget_met):
                        halt.set()
    after = shop.memory.recorded(keys)
    progress("awaken", len(after), len(keys))
    if error is not None:
        raise error
    spent, left = shop.memory.spent(run), len(keys) - len(after)
    budget_met = next((report.budget_met for report in told if report.budget_met), "")
    return AwakenReport(
        run=run,
        wanted=len(keys),
        earlier=len(held),
        decided=len(after) - len(held),
        left=left,
        fallbacks=sum(report.fallbacks for report in told),
        sure=sum(report.sure for report in told),
        calls=spent.calls - spent_before.calls,
        cached=sum(report.cached for report in told),
        failed_calls=sum(report.failed_calls for report in told),
        tokens=spent.tokens - spent_before.tokens,
        cost_usd=None if price(shop.project) is None else spent.usd - spent_before.usd,
        seconds=time.perf_counter() - started,
        stopped=(stop.is_set() or bool(budget_met)) and left > 0,
        waiting=sum(report.waiting for report in told),
        budget_met=budget_met,
        allocation=assembly.allocation,
    )
