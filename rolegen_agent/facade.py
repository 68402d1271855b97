"""RoleGen from Python: open a project, ingest, train, awaken users, read traces, embed the graph."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from rolegen_errors import InputError

from .project import Project, open_project, parse_date

Progress = Callable[[str, int, int], None]
"""stage, done, total"""
Mode = Literal["updates", "values", "messages", "custom"]
"""LangGraph's stream modes"""

if TYPE_CHECKING:
    import polars as pl
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool
    from langgraph.graph import StateGraph

    from rolegen_graphs.words import Decision

    from .assembly import Assembly
    from .batch import AwakenReport
    from .forecast import Forecast
    from .ingest.report import IngestReport
    from .memory import Memory
    from .nearline import ExportReport, ImportReport


def _silent(stage: str, done: int, total: int) -> None:
    """No progress shown."""


class RoleGen:
    """One project, opened. Use it as a context manager, or call :meth:`close`.

    Example:
        ``with RoleGen.open("shop") as shop: shop.awaken(["13085"], "2011-09-01")``
    """

    def __init__(
        self,
        project: Project,
        *,
        overrides: Mapping[str, Mapping[str, object]] | None = None,
        chat: BaseChatModel | None = None,
        model: str | None = None,
    ) -> None:
        self.project = project
        self._chat, self._model = chat, model
        self.overrides = overrides
        self._assemblies: dict[datetime, Assembly] = {}

    @classmethod
    def open(
        cls,
        path: str | Path | None = None,
        *,
        overrides: Mapping[str, Mapping[str, object]] | None = None,
        chat: BaseChatModel | None = None,
        model: str | None = None,
    ) -> Self:
        """Open the project at ``path`` or in a folder above the working one.

        Args:
            overrides: section -> key -> value, stronger than the project file and the environment.
            chat: any langchain-core chat model; the loop then reasons with it. ``model`` names it in traces.
        """
        return cls(open_project(path, overrides=overrides), overrides=overrides, chat=chat, model=model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the memory's connections."""
        if "memory" in self.__dict__:
            self.memory.close()
            del self.__dict__["memory"]
        self._assemblies.clear()

    @cached_property
    def memory(self) -> Memory:
        """The loop memory; a SQLite file is made or upgraded on first use."""
        from .memory import open_memory

        self.project.store.mkdir(parents=True, exist_ok=True)
        return open_memory(self.project.memory_url, horizon_days=self.project.settings.slate.horizon_days)

    def ingest(self, *, progress: Progress = _silent) -> IngestReport:
        """Read the log and catalogue of the project file into the store."""
        from .ingest import ingest

        return ingest(self.project, progress=progress)

    def dormant(self, at: datetime | str) -> pl.DataFrame:
        """Dormant users at ``at`` with the reason, see :func:`rolegen_agent.dormant.dormant_users`."""
        import polars as pl

        from .dormant import dormant_users

        self.project.require_store()
        return dormant_users(pl.scan_parquet(self.project.events), moment(at), self.project.settings.dormancy)

    def train(self, at: datetime | str, *, progress: Progress = _silent, force: bool = False) -> Path:
        """Learn from the events before ``at``; returns the artefact folder. A finished training is not repeated."""
        from .artefacts import train

        folder = train(self.project, moment(at), progress=progress, force=force)
        self._assemblies.clear()
        self.memory.record_artefact(
            "backbone",
            moment(at),
            (folder / "wanted.txt").read_text("utf-8"),
            str(folder.relative_to(self.project.root)),
            json.loads((folder / "backbone" / "backbone.json").read_text("utf-8")),
        )
        return folder

    def assembly(self, at: datetime | str) -> Assembly:
        """The filled ports for decisions at ``at``, loaded once."""
        from .assembly import assemble

        when = moment(at)
        if when not in self._assemblies:
            self._assemblies[when] = assemble(self.project, when, self.memory, chat=self._chat, model=self._model)
        return self._assemblies[when]

    def graph(self, at: datetime | str) -> StateGraph[Any, Any, Any, Any]:
        """The uncompiled state machine for decisions at ``at``: compile it, or put it into a graph of your own."""
        from rolegen_graphs import create_decision_graph

        assembly = self.assembly(at)
        return create_decision_graph(assembly.parts, settings=assembly.settings)

    def awaken(
        self,
        users: Sequence[str],
        at: datetime | str,
        *,
        llm_budget: str | int | None = None,
        progress: Progress = _silent,
        stop: Event | None = None,
    ) -> AwakenReport:
        """Decide on many users; what memory holds already is not done again. See :mod:`rolegen_agent.batch`.

        Args:
            llm_budget: calls (``200``) or dollars (``"2.50usd"``) that are spent on the users for whom thinking matters
                most; the evidence reasoner decides on the others. Budget and users are part of the run.
        """
        from .batch import awaken

        assembly = self.assembly(at) if llm_budget is None else self._budgeted(users, at, llm_budget, progress, stop)
        settings, parts, thinking = self.project.settings, None, assembly.client is not None
        # A budget that is shared out ends with the evidence reasoner, not with a stop.
        if assembly.client is not None and llm_budget is None and settings.budget.on_budget == "stop":
            from .llm.pausing import Pausing

            parts = assembly.asking(Pausing(assembly.client))
        return awaken(
            assembly,
            self.memory,
            users,
            moment(at),
            # Without an LLM nobody waits for anything, and threads would only fight over the interpreter: see processes.py.
            workers=settings.llm.concurrency if thinking else 1,
            checkpoints=self._checkpoints() if thinking or settings.memory.keep_checkpoints else None,
            keep_checkpoints=settings.memory.keep_checkpoints,
            progress=lambda done, total: progress("awaken", done, total),
            stop=stop,
            parts=parts,
        )

    def forecast(self, users: Sequence[str], at: datetime | str, *, progress: Progress = _silent) -> Forecast:
        """What an LLM run on ``users`` will about cost, without sending anything. See :mod:`rolegen_agent.forecast`."""
        from .forecast import forecast

        assembly = self.assembly(at)
        return forecast(
            assembly,
            self.memory,
            users,
            moment(at),
            progress=lambda done, total: progress("forecast", done, total),
        )

    def export_batch(
        self,
        users: Sequence[str],
        at: datetime | str,
        file: str | Path,
        *,
        progress: Progress = _silent,
        stop: Event | None = None,
    ) -> ExportReport:
        """Write what the LLM is to be asked next as an OpenAI Batch file. See :mod:`rolegen_agent.nearline`."""
        from .nearline import export_batch

        llm = self.project.settings.llm
        return export_batch(
            self.assembly(at),
            self.memory,
            users,
            moment(at),
            Path(file),
            attempts=llm.retries + 1,
            price_share=llm.batch_price_share,
            progress=lambda done, total: progress("export", done, total),
            stop=stop,
        )

    def import_batch(
        self, file: str | Path, *, skip_bad_lines: bool = False, progress: Progress = _silent
    ) -> ImportReport:
        """Read the results of such a file into the memory. See :mod:`rolegen_agent.nearline`."""
        from .assembly import price
        from .nearline import import_batch

        return import_batch(
            self.memory,
            Path(file),
            price=price(self.project),
            price_share=self.project.settings.llm.batch_price_share,
            skip_bad_lines=skip_bad_lines,
            progress=lambda done, total: progress("import", done, total),
        )

    def _budgeted(
        self, users: Sequence[str], at: datetime | str, llm_budget: str | int, progress: Progress, stop: Event | None
    ) -> Assembly:
        """An assembly of its own: another run than without a budget, with calls counted by itself."""
        from .allocation import LlmBudget, fingerprint
        from .assembly import assemble, price
        from .sharing import spend

        budget, settings, when = LlmBudget.parse(llm_budget), self.project.settings, moment(at)
        limited = settings.model_copy(update={"budget": budget.within(settings.budget)})
        assembly = assemble(
            Project(self.project.root, limited),
            when,
            self.memory,
            chat=self._chat,
            model=self._model,
            allotment=fingerprint(budget, users),
        )
        return spend(
            assembly,
            users,
            when,
            budget,
            price=price(self.project),
            progress=lambda done, total: progress("rank", done, total),
            stop=stop,
        )

    def decide(self, user: str, at: datetime | str) -> Decision:
        """Decide on one user and remember it."""
        graph = self._begin(user, at)
        return cast("Decision", graph.compile().invoke({"user": user, "at": moment(at)})["decision"])

    async def adecide(self, user: str, at: datetime | str) -> Decision:
        """As :meth:`decide`, without blocking the event loop."""
        import asyncio

        graph = await asyncio.to_thread(self._begin, user, at)
        return cast("Decision", (await graph.compile().ainvoke({"user": user, "at": moment(at)}))["decision"])

    def stream(self, user: str, at: datetime | str, *, mode: Mode | Sequence[Mode] = "updates") -> Iterator[Any]:
        """One decision in LangGraph's stream modes, remembered at its end: ``updates`` and ``values`` come node by node,
        ``messages`` brings the LLM's words as it writes them, ``custom`` tells how each call ended and what it cost.
        Several modes come as pairs (mode, part)."""
        modes: Any = mode if isinstance(mode, str) else list(mode)
        graph = self._begin(user, at)
        yield from graph.compile().stream({"user": user, "at": moment(at)}, stream_mode=modes)

    async def astream(
        self, user: str, at: datetime | str, *, mode: Mode | Sequence[Mode] = "updates"
    ) -> AsyncIterator[Any]:
        """As :meth:`stream`, without blocking the event loop."""
        import asyncio

        modes: Any = mode if isinstance(mode, str) else list(mode)
        graph = (await asyncio.to_thread(self._begin, user, at)).compile()
        async for part in graph.astream({"user": user, "at": moment(at)}, stream_mode=modes):
            yield part

    def trace(self, user: str, *, run: str | None = None) -> Decision:
        """The latest remembered decision on a user, with everything that led to it.

        Raises:
            InputError: there is none.
        """
        found = self.memory.find_latest(user, run)
        if found is None:
            raise InputError(
                f"there is no decision on user {user[:80]!r}" + (f" in run {run!r}" if run else ""),
                where=self.memory.url,
                fix="run `rolegen awaken` first; `rolegen dormant` lists users",
            )
        return self.memory.get(found)

    def as_tool(self, at: datetime | str | None = None) -> BaseTool:
        """A LangChain tool for agents: a user's slate with roles and reasons. ``at`` None means the time of the call."""
        from .tool import awaken_tool

        return awaken_tool(self.decide, at)

    def _begin(self, user: str, at: datetime | str) -> StateGraph[Any, Any, Any, Any]:
        """The graph, with a note of the decision: calls of one that breaks off are then known by run and user."""
        assembly = self.assembly(at)
        if assembly.client is not None:
            self.memory.begin(assembly.settings.run, user, moment(at))
        return self.graph(at)

    def _checkpoints(self) -> str | Path:
        url = self.project.memory_url
        return self.project.checkpoints if url.startswith("sqlite") else url


def moment(at: datetime | str) -> datetime:
    """An aware decision time from itself, a date (midnight UTC) or an ISO time with zone."""
    if isinstance(at, str):
        return parse_date(at)
    if at.tzinfo is None:
        raise InputError(f"the decision time {at} has no time zone", fix="pass an aware datetime, or a date as text")
    return at
