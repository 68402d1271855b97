"""Answers in milliseconds: what `rolegen awaken` remembered, ranked again by the backbone for what happened since.

Nothing here reasons. A decision is read from the memory; where its user did something since, or something of its slate is not
to be shown now, the backbone ranks its surviving candidates again, under the same guard as the loop. No module on this path
knows how to ask an LLM.

What a request sees: the log before the last midnight, and what was told since with a time strictly before the request.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from rolegen_errors import BusyError, InputError, MemoryStoreError, ProjectError
from rolegen_graphs.words import Slate

from ..backbone_tool import Asked, use_threads
from ..memory import open_memory
from ..project import Project
from .batching import Batcher
from .day import Day, midnight, state_of
from .figures import Figures
from .planning import Plan, answer, instead, make_plan, settled
from .ranking import Ranker
from .recording import Recorder
from .telling import MOST_SAID, read_told
from .users import Known, Users
from .watching import Watcher
from .words import Answer, EventSeen, EventsReport, Health, SlateWanted

OUTAGE_S = 1.0
"""a request does not wait longer for a database server that went away"""
SPARED_S = 2.0
"""after a failure the memory is not asked for so long"""
READERS = 2
MOST_AHEAD = 20
"""users of one call that are ranked before they ask"""
Progress = Callable[[str, int, int], None]


class Online:
    """One project, ready to answer. Use it as a context manager, or call :meth:`close`; safe for several threads.

    Args:
        at: the time at which the server's clock starts, for a log of the past; None is the time that it is.
        run: answer from decisions of this run only; None: from the latest of any.
        apart: rank in a process beside, see :mod:`.ranking`.

    Raises:
        ProjectError: nothing is trained for today, or the project ranks with parts of its own.
        MemoryStoreError: the memory cannot be opened.
    """

    def __init__(
        self,
        project: Project,
        *,
        at: datetime | None = None,
        run: str | None = None,
        apart: bool = False,
        progress: Progress = lambda stage, done, total: None,
    ) -> None:
        if project.settings.parts.own is not None:
            raise ProjectError(
                "a server ranks with the project's backbone, and [parts] own puts something else behind the loop",
                fix="serve your own recommender, or remove [parts] own",
            )
        self.project, self._settings = project, project.settings.serve
        self._start, self._began = at, time.monotonic()
        use_threads(1)  # batches are small: threads within one would only fight with the server's
        now = self.clock()
        state = state_of(project, midnight(now))
        self._faults: dict[str, str] = {}
        self._spared_until = 0.0
        self._waiting, self._lock = 0, threading.Lock()
        # What was opened before something fails is closed again, in the reverse order.
        with ExitStack() as opened:
            self._ranker = Ranker(project, beam=self._settings.beam, fault=self._fault) if apart else None
            if self._ranker is not None:
                opened.callback(self._ranker.close)
            progress("load", 0, 1)
            self.day = self._load(midnight(now))
            progress("load", 1, 1)
            self.memory = open_memory(
                project.memory_url, horizon_days=project.settings.slate.horizon_days, outage_s=OUTAGE_S
            )
            opened.callback(self.memory.close)
            self._users = Users(self.memory, run=run, limit=self._settings.users)
            self.figures = Figures(lambda: self._waiting, lambda: len(self._users))
            self._recorder = Recorder(self.memory, self.figures)
            opened.callback(self._recorder.close)
            self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="memory")
            opened.callback(self._readers.shutdown)
            self._batcher: Batcher[Asked, Slate] = Batcher(self._rank, largest=self._settings.batch)
            opened.callback(self._batcher.close)
            self._watcher = Watcher(
                project,
                self.memory,
                self._users,
                clock=self.clock,
                every_s=self._settings.refresh_s,
                served=state,
                load=self._load,
                serve=self._serve,
                fault=self._fault,
            )
            self._watcher.start()
            opened.callback(self._watcher.close)
            self._users.preload(now, self.day.covered, progress=lambda done, total: progress("decisions", done, total))
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is under way, write what is to be kept, and close the memory; a second time does nothing."""
        self._opened.close()

    def clock(self) -> datetime:
        """The time of requests that name none."""
        if self._start is None:
            return datetime.now(UTC)
        return self._start + timedelta(seconds=time.monotonic() - self._began)

    def slate(
        self,
        user: str,
        *,
        events: Sequence[EventSeen | Mapping[str, object]] = (),
        exclude: Collection[str] = (),
        size: int | None = None,
        at: datetime | None = None,
        shown: bool = False,
    ) -> Answer:
        """The slate of one user now; :class:`~.words.SlateWanted` says what the arguments mean.

        Raises:
            InputError: the request is not understood.
            BusyError: too many are under way.
        """
        given: dict[str, Any] = {"user": user, "events": events, "exclude": list(exclude), "size": size}
        try:
            wanted = SlateWanted.model_validate({**given, "at": at, "shown": shown})
        except ValidationError as error:
            raise InputError(f"the request is not understood: {error}", fix="see rolegen_agent.online.words") from error
        with self._under_way() as began:
            when, known = self._at_hand(wanted)
            found, away = (known, False) if known is not None else self._read(wanted, when)
            plan = self._plan(wanted, when, found, memory_away=away)
            futures = [self._batcher.submit(batch.key, batch.asked) for batch in plan.batches]
            late = bool(wait(futures, self._left(began)).not_done)
            return self._told(plan, futures, began, late=late)

    async def aslate(self, wanted: SlateWanted) -> Answer:
        """As :meth:`slate`, without blocking the event loop."""
        with self._under_way() as began:
            when, known = self._at_hand(wanted)
            if known is not None:
                found, away = known, False
            else:
                loop = asyncio.get_running_loop()
                found, away = await loop.run_in_executor(self._readers, self._read, wanted, when)
            plan = self._plan(wanted, when, found, memory_away=away)
            futures = [self._batcher.submit(batch.key, batch.asked) for batch in plan.batches]
            late = False
            if futures:
                # Shielded: a ranking that comes too late for this request is kept for the next one.
                waited = [asyncio.shield(asyncio.wrap_future(future)) for future in futures]
                _, left = await asyncio.wait(waited, timeout=self._left(began))
                late = bool(left)
                for one in left:
                    one.cancel()
            return self._told(plan, futures, began, late=late)

    def tell(self, events: Sequence[object]) -> EventsReport:
        """Keep what users did. It is in the memory when this returns, and serves every later request of any server.

        Args:
            events: rows as :class:`~.words.EventTold` has them; each is looked at by itself.

        Raises:
            MemoryStoreError: the memory fails; nothing was recorded, and the same call may be made again.
        """
        now, day = self.clock(), self.day
        told, refused = read_told(events, now)
        distinct = {one.told: one for one in reversed(told)}  # of two tellings in one call the first counts
        try:
            recorded = self.memory.record_told(list(distinct.values()))
        except MemoryStoreError:
            self.figures.fault("memory")
            raise
        finally:
            self._users.moved({one.user for one in told})
        self._rank_ahead(list(dict.fromkeys(one.user for one in told if one.at <= now)))
        unknown = [one.item for one in told if one.item not in day.index]
        report = EventsReport(
            rows=len(events),
            recorded=recorded,
            known=len(told) - recorded,
            refused=len(refused),
            late=sum(one.at <= day.covered for one in told),
            ahead=sum(one.at > now for one in told),
            unknown_items=list(dict.fromkeys(unknown))[:MOST_SAID],
            refusals=refused[:MOST_SAID],
        )
        for fate in ("recorded", "known", "refused", "late", "ahead"):
            self.figures.events(fate, getattr(report, fate))
        self.figures.unknown(unknown)
        return report

    async def atell(self, events: Sequence[object]) -> EventsReport:
        """As :meth:`tell`, without blocking the event loop."""
        with self._under_way():
            return await asyncio.get_running_loop().run_in_executor(self._readers, self.tell, events)

    def health(self) -> Health:
        """Whether all works, and what is served."""
        faults = [f"{name}: {what}" for name, what in sorted(self._faults.items())]
        return Health(
            status="degraded" if faults else "ok",
            day=self.day.at,
            clock=self.clock(),
            model=self.day.fingerprint,
            model_as_of=self.day.as_of,
            users=len(self._users),
            waiting=self._waiting,
            p50_ms=self.figures.milliseconds(0.5),
            p99_ms=self.figures.milliseconds(0.99),
            unknown_items=self.figures.unknown_items(),
            faults=faults,
        )

    @contextmanager
    def _under_way(self) -> Iterator[float]:
        """Counts a request while it lasts, and refuses it where too many are under way."""
        with self._lock:
            if self._waiting >= self._settings.queue:
                self.figures.refused("busy")
                raise BusyError(
                    f"{self._waiting} requests are under way",
                    fix="ask again in a second, or run more servers: they share the memory",
                )
            self._waiting += 1
        try:
            yield time.perf_counter()
        finally:
            with self._lock:
                self._waiting -= 1

    def _at_hand(self, wanted: SlateWanted) -> tuple[datetime, Known | None]:
        """The time of a request, and what is known of its user in RAM. A request that names its time may ask for an earlier
        one than the next, so it is answered from the memory alone."""
        if wanted.at is not None:
            return wanted.at.astimezone(UTC), None
        when = self.clock()
        return when, self._users.find(wanted.user, when)

    def _read(self, wanted: SlateWanted, at: datetime) -> tuple[Known, bool]:
        """What the memory knows, and whether it is away; then what was known before, or nothing, has to do."""
        user = wanted.user
        if time.monotonic() >= self._spared_until:
            try:
                return self._users.read([user], at, self.day.covered, keep=wanted.at is None)[user], False
            except MemoryStoreError as error:
                self._spared_until = time.monotonic() + SPARED_S
                self.figures.fault("memory")
                self._fault("memory", error.what)
        return self._users.stale(user, at) or Known(None, None, (), None, 0.0), True

    def _plan(self, wanted: SlateWanted, at: datetime, known: Known, *, memory_away: bool) -> Plan:
        return make_plan(
            wanted, at, self.day, known, self.project.settings.slate, self._settings, memory_away=memory_away
        )

    def _left(self, began: float) -> float | None:
        """Seconds for which a request that began then still waits to be ranked; None: for as long as it takes."""
        patience = self._settings.patience_ms
        return None if patience == 0 else max(0.0, patience / 1000 - (time.perf_counter() - began))

    def _rank_ahead(self, users: Sequence[str]) -> None:
        """Rank for users of whom something was told, before they ask for it."""
        for user in users[:MOST_AHEAD]:
            if self._users.holds(user):
                with suppress(RuntimeError):  # the readers are shut down: nobody will ask
                    self._readers.submit(self._rank_one_ahead, user)

    def _rank_one_ahead(self, user: str) -> None:
        when = self.clock()
        try:
            known = self._users.find(user, when) or self._users.read([user], when, self.day.covered)[user]
            plan = self._plan(SlateWanted(user=user), when, known, memory_away=False)
        except Exception:  # noqa: BLE001 - only a head start is lost; who asks for the slate is told why it fails
            self.figures.fault("ahead")
            return
        futures = [self._batcher.submit(batch.key, batch.asked, ahead=True) for batch in plan.batches]
        self._keep_later(plan, futures)

    def _keep_later(self, plan: Plan, futures: Sequence[Future[list[Slate]]]) -> None:
        """What is ranked too late, or too early, for a request serves the next one."""

        def ready(_done: Future[list[Slate]]) -> None:
            if not all(one.done() for one in futures) or any(one.cancelled() for one in futures):
                return
            if any(one.exception() is not None for one in futures):
                self.figures.fault("ahead")
            else:
                settled(plan, [one.result() for one in futures], self.project.settings.slate)

        for future in futures:
            if plan.key is None:
                future.cancel()
            else:
                future.add_done_callback(ready)

    def _told(self, plan: Plan, futures: Sequence[Future[list[Slate]]], began: float, *, late: bool) -> Answer:
        if late:
            self._keep_later(plan, futures)
            plan = instead(plan)
            self.figures.late()
        slate = settled(plan, [] if late else [one.result() for one in futures], self.project.settings.slate)
        told = answer(plan, slate)
        if plan.wanted.shown:
            self._recorder.keep(told.decision, slate)
        self.figures.answered(plan.source, time.perf_counter() - began)
        return told

    def _load(self, at: datetime) -> Day:
        day = Day.open(self.project, at, beam=self._settings.beam)
        if self._ranker is not None:
            self._ranker.open(day)
        return day

    def _rank(self, key: Any, asked: Sequence[Asked]) -> Sequence[Slate]:
        """One batch of equal day, variant and size."""
        day, variant, size = key
        found: Sequence[Slate] = (
            day.slates(variant, asked, size) if self._ranker is None else self._ranker.slates(day, variant, asked, size)
        )
        return found

    def _serve(self, day: Day) -> None:
        self.day = day  # a request under way goes on with the one that it began with

    def _fault(self, name: str, what: str) -> None:
        if what:
            self._faults[name] = what
        else:
            self._faults.pop(name, None)
