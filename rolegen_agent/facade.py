"""RoleGen from Python: open a project, ingest, train, awaken users, read traces, embed the graph."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from rolegen_errors import InputError, ProjectError

from .project import Project, moment, open_project, today

Progress = Callable[[str, int, int], None]
"""stage, done, total"""
Mode = Literal["updates", "values", "messages", "custom"]
"""LangGraph's stream modes"""

if TYPE_CHECKING:
    import polars as pl
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool
    from langgraph.graph import StateGraph
    from langgraph.graph.state import CompiledStateGraph

    from rolegen_graphs.ports import OutcomeSource
    from rolegen_graphs.reports import OutcomeReport
    from rolegen_graphs.words import Decision, Outcome

    from .allocation import Grant
    from .assembly import Assembly, OwnParts
    from .batch import AwakenReport
    from .distil import DistilReport
    from .feedback import AttributionReport, FeedbackReport
    from .forecast import Forecast
    from .improve import ImproveReport
    from .ingest.report import IngestReport
    from .lessons import LearningReport
    from .memory import Memory
    from .memory.verification import Difference, Verification
    from .nearline import ExportReport, ImportReport
    from .online import Online
    from .telemetry import DecisionSpan


def _silent(stage: str, done: int, total: int) -> None:
    """No progress shown."""


KEPT_DATES = 4
"""decision times whose parts stay loaded: a server that decides "today" for weeks must not keep every day's"""


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
        parts: OwnParts | None = None,
    ) -> None:
        self.project = project
        self._chat, self._model, self._own = chat, model, parts
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
        parts: OwnParts | None = None,
    ) -> Self:
        """Open the project at ``path`` or in a folder above the working one.

        Args:
            overrides: section -> key -> value, stronger than the project file and the environment.
            chat: any langchain-core chat model; the loop then reasons with it. ``model`` names it in traces.
            parts: is given the parts that the project would use, and what was learnt, and returns those to use; see
                ``examples/own_parts.py``. Set ``[parts] version`` when what it does changes: it names another run.
        """
        return cls(open_project(path, overrides=overrides), overrides=overrides, chat=chat, model=model, parts=parts)

    @property
    def spreads(self) -> bool:
        """Whether another process can open the same: parts that were handed over here exist only here."""
        return self._own is None and self._chat is None

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
        settings = self.project.settings
        return open_memory(
            self.project.memory_url, horizon_days=settings.slate.horizon_days, outage_s=settings.memory.outage_s
        )

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

        return self.remember_training(train(self.project, moment(at), progress=progress, force=force), at)

    def remember_training(self, folder: Path, at: datetime | str) -> Path:
        """Let decisions from now on use a training that has ended, and the memory know of it; returns its folder."""
        self._assemblies.clear()
        self.memory.record_artefact(
            "backbone",
            moment(at),
            (folder / "wanted.txt").read_text("utf-8"),
            str(folder.relative_to(self.project.root)),
            json.loads((folder / "backbone" / "backbone.json").read_text("utf-8")),
        )
        return folder

    def improve(self, at: datetime | str, *, progress: Progress = _silent) -> ImproveReport:
        """Let what happened before ``at`` make later decisions better: fine-tune the promoted artefacts, test the result on
        a held-back time, then promote it or roll it back. See :mod:`rolegen_agent.improve.run`."""
        from .improve import improve

        report = improve(self.project, self.memory, moment(at), progress=progress)
        self._assemblies.clear()
        return report

    def distil(
        self, at: datetime | str, *, teacher: str | None = None, progress: Progress = _silent, force: bool = False
    ) -> DistilReport:
        """Distil a student from a teacher's decisions before ``at``; it serves decisions from then on, see
        :func:`rolegen_agent.distil.distil`."""
        from .distil import distil

        report = distil(self.project, self.memory, moment(at), teacher=teacher, progress=progress, force=force)
        self._assemblies.clear()
        return report

    def assembly(self, at: datetime | str) -> Assembly:
        """The filled ports for decisions at ``at``, kept for the dates that were loaded last."""
        from .assembly import assemble

        when = moment(at)
        if when not in self._assemblies:
            self._assemblies[when] = assemble(
                self.project, when, self.memory, chat=self._chat, model=self._model, own=self._own
            )
            while len(self._assemblies) > KEPT_DATES:
                del self._assemblies[next(iter(self._assemblies))]
        return self._assemblies[when]

    def graph(self, at: datetime | str) -> StateGraph[Any, Any, Any, Any]:
        """The uncompiled state machine for decisions at ``at``: compile it, or put it into a graph of your own."""
        from rolegen_graphs import create_decision_graph

        assembly = self.assembly(at)
        parts = assembly.parts
        if assembly.client is not None:
            from .observer import BeginningObserver

            # Noted before the first call: the calls of a decision that breaks off are then known by run and user.
            parts = replace(parts, observer=BeginningObserver(parts.observer, self.memory, assembly.settings.run))
        return create_decision_graph(parts, settings=assembly.settings)

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
        if llm_budget is None:
            return self.awaken_by(self.assembly(at), users, at, progress=progress, stop=stop)
        assembly, _ = self.share_out(users, at, llm_budget, progress=progress, stop=stop)
        return self.awaken_by(assembly, users, at, progress=progress, stop=stop)

    def awaken_by(
        self,
        assembly: Assembly,
        users: Sequence[str],
        at: datetime | str,
        *,
        progress: Progress = _silent,
        stop: Event | None = None,
    ) -> AwakenReport:
        """As :meth:`awaken`, with an assembly that is at hand: of this project, for ``at``."""
        from .batch import awaken, under_way

        settings, parts, thinking = self.project.settings, None, assembly.client is not None
        # A budget that is shared out ends with the evidence reasoner, not with a stop.
        if assembly.client is not None and assembly.settings.granted is None and settings.budget.on_budget == "stop":
            from .llm.pausing import Pausing

            parts = assembly.asking(Pausing(assembly.client))
        return awaken(
            assembly,
            self.memory,
            users,
            moment(at),
            # Without an LLM nobody waits for anything, and threads would only fight over the interpreter: see processes.py.
            workers=under_way(settings.llm.concurrency) if thinking else 1,
            checkpoints=self._checkpoints() if thinking or settings.memory.keep_checkpoints else None,
            keep_checkpoints=settings.memory.keep_checkpoints,
            progress=lambda done, total: progress("awaken", done, total),
            stop=stop,
            parts=parts,
        )

    def reflect(self, at: datetime | str, *, progress: Progress = _silent) -> LearningReport:
        """Learn lessons from the decisions whose outcomes were known by ``at``; they serve decisions after it.

        See :mod:`rolegen_agent.lessons.learning`. With an LLM reasoner the LLM proposes too; outcomes decide.
        """
        from .assembly import proposer
        from .lessons import learn

        wanted = self.project.settings.lessons
        return learn(
            self.memory,
            moment(at),
            support=wanted.support,
            false_rate=wanted.false_rate,
            days=wanted.days,
            proposer=proposer(self.project, self.memory, chat=self._chat, model=self._model),
            progress=progress,
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

    def share_out(
        self,
        users: Sequence[str],
        at: datetime | str,
        llm_budget: str | int,
        *,
        progress: Progress = _silent,
        stop: Event | None = None,
    ) -> tuple[Assembly, Grant]:
        """Rank ``users`` and share out an LLM budget among them: another run than without one, with calls counted by itself.

        Returns:
            What decides on them, and the same for a project that is opened elsewhere (:meth:`granted`).

        Raises:
            InputError: the budget is not understood.
            ProjectError: no LLM is involved, or a budget in dollars without a price.
        """
        from .allocation import Grant, LlmBudget, fingerprint
        from .assembly import price
        from .sharing import spend

        budget, when = LlmBudget.parse(llm_budget), moment(at)
        grant = Grant(budget=budget, allotment=fingerprint(budget, users), rounds={})
        assembly = spend(
            self.granted(when, grant),
            users,
            when,
            budget,
            price=price(self.project),
            progress=lambda done, total: progress("rank", done, total),
            stop=stop,
        )
        return assembly, replace(grant, rounds=assembly.settings.granted or {})

    def granted(self, at: datetime | str, grant: Grant) -> Assembly:
        """What decides as a budget was shared out elsewhere; nobody else is asked, and the budget holds over all."""
        from .assembly import assemble

        settings = self.project.settings
        limited = settings.model_copy(update={"budget": grant.budget.within(settings.budget)})
        assembly = assemble(
            Project(self.project.root, limited),
            moment(at),
            self.memory,
            chat=self._chat,
            model=self._model,
            allotment=grant.allotment,
            own=self._own,
        )
        return replace(assembly, settings=replace(assembly.settings, granted=grant.rounds))

    def online(
        self,
        at: datetime | str | None = None,
        *,
        run: str | None = None,
        apart: bool = False,
        progress: Progress = _silent,
    ) -> Online:
        """Slates in milliseconds from what :meth:`awaken` remembered, as ``rolegen serve`` gives them over HTTP.

        It has a memory of its own open: close it, or use it as a context manager.

        Args:
            at: where the clock starts, for a log of the past; None: the time that it is.
            run: answer from decisions of this run only.
            apart: rank in a process beside, for a program that answers many at once. It is spawned, so the main module may be
                imported again (``if __name__ == "__main__":``).

        Raises:
            ProjectError: nothing is trained for that day, or the project has parts of its own.
        """
        from .online import Online

        if self._own is not None:
            raise ProjectError("a server ranks with the project's backbone, not with parts that were handed over")
        self.memory  # noqa: B018 - made or upgraded here
        when = None if at is None else moment(at)
        return Online(self.project, at=when, run=run, apart=apart, progress=progress)

    def decide(self, user: str, at: datetime | str) -> Decision:
        """Decide on one user and remember it."""
        graph = self.graph(at).compile()
        with self._span(user, at) as span:
            decision = cast("Decision", graph.invoke({"user": user, "at": moment(at)})["decision"])
            self._tell(span, decision.decision)
        return decision

    async def adecide(self, user: str, at: datetime | str) -> Decision:
        """As :meth:`decide`, without blocking the event loop."""
        import asyncio

        graph = (await asyncio.to_thread(self.graph, at)).compile()
        with self._span(user, at) as span:
            decision = cast("Decision", (await graph.ainvoke({"user": user, "at": moment(at)}))["decision"])
            await asyncio.to_thread(self._tell, span, decision.decision)
        return decision

    def stream(self, user: str, at: datetime | str, *, mode: Mode | Sequence[Mode] = "updates") -> Iterator[Any]:
        """One decision in LangGraph's stream modes, remembered at its end: ``updates`` and ``values`` come node by node,
        ``messages`` brings the LLM's words as it writes them, ``custom`` tells how each call ended and what it cost.
        Several modes come as pairs (mode, part)."""
        from .telemetry import steps_within

        modes: Any = mode if isinstance(mode, str) else list(mode)
        graph = self.graph(at).compile()

        def steps(span: DecisionSpan) -> Generator[Any, None, None]:
            yield from graph.stream({"user": user, "at": moment(at)}, stream_mode=modes)
            self._tell(span, self._decision(user, at))

        yield from steps_within(self._span(user, at), steps)

    async def astream(
        self, user: str, at: datetime | str, *, mode: Mode | Sequence[Mode] = "updates"
    ) -> AsyncIterator[Any]:
        """As :meth:`stream`, without blocking the event loop."""
        import asyncio

        from .telemetry import async_steps_within

        modes: Any = mode if isinstance(mode, str) else list(mode)
        graph = (await asyncio.to_thread(self.graph, at)).compile()

        async def steps(span: DecisionSpan) -> AsyncGenerator[Any, None]:
            async for part in graph.astream({"user": user, "at": moment(at)}, stream_mode=modes):
                yield part
            await asyncio.to_thread(self._tell, span, self._decision(user, at))

        async for part in async_steps_within(self._span(user, at), steps):
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

    def as_agent(
        self,
        at: datetime | str | None = None,
        *,
        name: str = "rolegen",
        back_to: str | None = None,
        waits: bool = False,
    ) -> CompiledStateGraph[Any, Any, Any, Any]:
        """An agent for a supervisor, a swarm or a graph over messages, see :mod:`rolegen_agent.agent`.

        Args:
            waits: interrupt after each decision until its outcome is reported, see :meth:`outcome_graph`.
        """
        from .agent import awaken_agent

        graph = self.outcome_graph if waits else self.graph
        return awaken_agent(lambda when: graph(when).compile(), name=name, at=at, back_to=back_to)

    def as_handoff_tool(self, at: datetime | str | None = None, *, agent: str = "rolegen") -> BaseTool:
        """The tool by which another agent hands a user over to :meth:`as_agent`; an unknown user comes back to it as an error."""
        from .agent import handoff_tool

        def check(user: str) -> None:
            when = moment(at if at is not None else today())
            self.assembly(when).parts.observer.observe(user, when)

        return handoff_tool(check, agent=agent)

    def erase(self, user: str) -> dict[str, int]:
        """Delete what memory, checkpoints and ledgers of the evidence hold about one person; returns the deleted rows by
        table, and from how many ledgers.

        Raises:
            MemoryStoreError: another program keeps what was deleted readable in a file; repeat it after that one's end.
        """
        from .artefacts import forget
        from .memory.forgetting import erase_checkpoints

        ledgers = forget(self.project, user)
        # Checkpoints first: after a kill in between the memory still knows which decisions they belonged to.
        threads = erase_checkpoints(self._checkpoints(), user, self.memory.decisions_of(user))
        return {**self.memory.erase(user), "checkpoints": threads, "ledgers": ledgers}

    def prune(self, before: datetime, *, dry_run: bool = False, progress: Progress = _silent) -> dict[str, int]:
        """Delete what was recorded before ``before``, see :meth:`rolegen_agent.memory.Memory.prune`."""
        return self.memory.prune(before, dry_run=dry_run, progress=lambda done, total: progress("prune", done, total))

    def verify(self, *, progress: Progress = _silent, tally: Verification | None = None) -> Iterator[Difference]:
        """What the memory says that does not follow from the rest of it, or from the catalogue; nothing is changed."""
        import polars as pl

        file = self.project.items
        known = set(pl.read_parquet(file, columns=["item"])["item"].to_list()) if file.exists() else None
        return self.memory.verify(known_items=known, progress=progress, tally=tally)

    def record_outcomes(
        self,
        outcomes: Iterable[Outcome | OutcomeReport | Mapping[str, object]],
        *,
        source: str = "api",
        on_bad: Literal["raise", "keep"] = "raise",
    ) -> FeedbackReport:
        """Remember what came of decisions; the same twice changes nothing. See :class:`rolegen_graphs.reports.OutcomeReport`.

        What cannot be recorded becomes a dead letter and stops nothing else.

        Args:
            on_bad: ``keep`` only counts dead letters; ``raise`` raises after everything else was recorded.

        Raises:
            InputError: with ``raise``, for the first that could not be recorded.
        """
        from .feedback.recording import record_rows, row_of

        rows = (row_of(number, given, source) for number, given in enumerate(outcomes, start=1))
        report = record_rows(self.memory, rows, source)
        if on_bad == "raise":
            report.raise_for_dead()
        return report

    def read_feedback(self, file: str | Path, *, progress: Progress = _silent) -> FeedbackReport:
        """Record an outcome file (CSV, JSON lines or Parquet); see :mod:`rolegen_agent.feedback.files`."""
        from .feedback import read_reports, record_rows

        return record_rows(
            self.memory,
            read_reports(Path(file)),
            str(file),
            progress=lambda done: progress("feedback", done, 0),
        )

    def outcomes_from_log(
        self, *, run: str | None = None, progress: Progress = _silent, stop: Event | None = None
    ) -> FeedbackReport:
        """Record what the ingested log says of every decision that it knows more about than the memory."""
        from .feedback import record_from_log

        return record_from_log(
            self.project,
            self.memory,
            run=run,
            progress=lambda done, total: progress("feedback", done, total),
            stop=stop,
        )

    def outcomes_from_source(
        self,
        source: OutcomeSource | None = None,
        *,
        since: datetime | str | None = None,
        progress: Progress = _silent,
    ) -> FeedbackReport:
        """Record what a source of the shop tells, by default the one that ``[parts] outcomes`` names.

        See :mod:`rolegen_agent.feedback.from_source`. ``since``: None asks from the first decision on.
        """
        from .feedback import open_source, record_from_source

        return record_from_source(
            self.memory,
            source or open_source(self.project.settings.parts),
            since=None if since is None else moment(since),
            progress=lambda done: progress("feedback", done, 0),
        )

    def retry_dead_letters(self, *, progress: Progress = _silent) -> FeedbackReport:
        """Try again what could not be recorded, for instance because its decision was not in memory yet."""
        from .feedback import retry_letters

        return retry_letters(self.memory, progress=lambda done: progress("retry", done, 0))

    def attribute(
        self,
        *,
        run: str | None = None,
        force: bool = False,
        progress: Progress = _silent,
        stop: Event | None = None,
    ) -> AttributionReport:
        """Credit orders to decisions and path steps, where that is not done yet. See :mod:`rolegen_agent.feedback.crediting`."""
        from .assembly import open_recommender
        from .feedback import attribute_orders

        mine = self._own is not None or self.project.settings.parts.own is not None  # credit by what decided
        return attribute_orders(
            self.memory,
            lambda at: self.assembly(at).parts.recommender if mine else open_recommender(self.project, at),
            run=run,
            force=force,
            progress=lambda done, total: progress("attribute", done, total),
            stop=stop,
        )

    def write_shown(self, file: str | Path, *, run: str | None = None) -> int:
        """Write what was shown, with propensities, in the columns of an event log; returns how many rows."""
        from .feedback import write_shown

        return write_shown(self.memory, Path(file), run=run)

    def as_feedback_tool(self) -> BaseTool:
        """A LangChain tool for agents that tells the memory what came of a decision."""
        from .tool import feedback_tool

        return feedback_tool(lambda given: self.record_outcomes([given], source="tool"))

    def outcome_graph(self, at: datetime | str) -> StateGraph[Any, Any, Any, Any]:
        """As :meth:`graph`, and then it waits for the outcome; see :func:`rolegen_graphs.outcome_graph.create_outcome_graph`."""
        from rolegen_graphs.outcome_graph import create_outcome_graph

        return create_outcome_graph(self.graph(at), sink=self.settle)

    def settle(self, report: OutcomeReport) -> Outcome:
        """Record one report of a named decision, and return what is known of its outcome now.

        Raises:
            InputError: it cannot be recorded; it is kept as a dead letter.
        """
        self.record_outcomes([report], source="graph")
        found = self.memory.find_outcome(report.decision or "")
        if found is None:
            raise InputError("the report names no decision", fix="give its id as `decision`")
        return found

    def _decision(self, user: str, at: datetime | str) -> str:
        from rolegen_graphs import decision_id

        return decision_id(self.assembly(at).settings.run, user, moment(at))

    def _span(self, user: str, at: datetime | str) -> AbstractContextManager[DecisionSpan]:
        from .telemetry import decision_span

        return decision_span(self._decision(user, at), self.assembly(at).settings.run, user, moment(at))

    def _tell(self, span: DecisionSpan, decision: str) -> None:
        if span.recording:
            span.tell(self.memory.get(decision), self.memory.calls(decision=decision))

    def _checkpoints(self) -> str | Path:
        url = self.project.memory_url
        return self.project.checkpoints if url.startswith("sqlite") else url
