"""One run of `rolegen improve`: build an update before a held-back time, test it there, then promote or roll back.

Stages, each of which is found done when the same command comes again after a kill:

1. *candidate*: the promoted artefacts, updated with the first part of what happened since their cut;
2. *trial*: candidate and promoted ones decide on the rest, which neither has seen (``trial.py``);
3. *final*: if it passed, the same update once more up to the very end. The held-back time is learnt from too: a shop forgets, what is newest
   tells most, and it was the recipe that was tested. The weight of showing is the tested one, not chosen again;
4. *swap*: the final folder is renamed into its place, whole or not at all, and memory is told.

Everything is staged outside of the artefacts, so that no decision can meet an update that was not promoted. A lock keeps a second
run out; the system lets go of it when a process dies.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from rolegen_errors import ProjectError

from ..artefacts import PROMOTED, Progress, fingerprint, latest
from ..memory.records import Promotion
from ..showing import read_weight
from .build import update
from .trial import Verdict, trial

if TYPE_CHECKING:
    from ..memory import Memory
    from ..memory.records import Experience
    from ..project import Project

LEAST_DAYS = 2
"""between two updates: a day to learn from, and one to test on"""


@dataclass(frozen=True)
class ImproveReport:
    """What an update came to."""

    at: datetime
    verdict: Literal["promoted", "rolled_back", "nothing_new"]
    reason: str
    folder: Path
    """of the artefacts that serve decisions at ``at`` from now on"""
    promotion: Promotion | None = None
    """as memory has it; None where there was nothing to try"""


def improve(project: Project, memory: Memory, at: datetime, *, progress: Progress) -> ImproveReport:
    """Update the artefacts from everything known strictly before ``at``; see the module's text.

    Raises:
        ProjectError: nothing is trained before ``at``, the log is not ingested, or another update is under way.
    """
    project.require_store()
    with _alone(project):
        return _improve(project, memory, at, progress)


def _improve(project: Project, memory: Memory, at: datetime, progress: Progress) -> ImproveReport:
    old, since = latest(project, at)
    made = old / PROMOTED
    if made.exists():  # repeated where a kill came between the swap and the row
        memory.record_promotion(Promotion.model_validate_json(made.read_bytes()))
    if at - since < timedelta(days=LEAST_DAYS):
        return ImproveReport(at, "nothing_new", f"the artefacts know everything up to {since.isoformat()}", old)
    if not _news(project, since, at):
        reason = f"the log holds no event from {since.date()} to {at.date()}; `rolegen ingest` reads what happened"
        return ImproveReport(at, "nothing_new", reason, old)
    found = memory.experiences(at)
    begun, wanted = fingerprint(old), _wanted(project, old, at, found)
    for earlier in memory.promotions():
        if (earlier.at, earlier.from_fingerprint, earlier.wanted) == (at, begun, wanted):
            return ImproveReport(
                at, "nothing_new", f"the same update was {_told(earlier.verdict)}: {earlier.reason}", old, earlier
            )
    held = _held(since, at, project.settings.improve.held_share)
    staged = _stage(project, at, wanted)
    known = [one for one in found if one.outcome.ordered_at is not None and one.outcome.ordered_at < held]
    built = update(project, old, since, held, staged / "candidate", known, weight=None, progress=progress)
    verdict = _trial(project, old, staged, held, at, found, progress)
    figures = {**verdict.figures, "candidate": built}
    if verdict.passed:
        final = staged / "final"
        figures["final"] = update(
            project,
            staged / "candidate",
            held,
            at,
            final,
            [one for one in found if one.outcome.ordered_at is not None],
            weight=read_weight(staged / "candidate"),
            progress=progress,
        )
    promotion = Promotion(
        at=at,
        from_fingerprint=begun,
        wanted=wanted,
        to_fingerprint=fingerprint(staged / "final") if verdict.passed else begun,
        verdict="promoted" if verdict.passed else "rolled_back",
        reason=verdict.reason,
        held_from=held,
        figures=figures,
    )
    folder = old
    if verdict.passed:
        (staged / "final" / PROMOTED).write_text(promotion.model_dump_json(indent=1) + "\n", "utf-8")
        folder = _swap(staged / "final", project.artefacts(at), staged / "replaced")
    memory.record_promotion(promotion)
    shutil.rmtree(staged)
    return ImproveReport(at, promotion.verdict, promotion.reason, folder, promotion)


def _trial(
    project: Project,
    old: Path,
    staged: Path,
    held: datetime,
    at: datetime,
    found: list[Experience],
    progress: Progress,
) -> Verdict:
    """The verdict on the candidate, read where it was reached before."""
    file = staged / "trial.json"
    if not file.exists():
        progress("trial", 0, 1)
        reached = trial(project, old, staged / "candidate", held, at, found)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(asdict(reached)) + "\n", "utf-8")
        part.replace(file)
        progress("trial", 1, 1)
    return Verdict(**json.loads(file.read_text("utf-8")))


def _swap(final: Path, place: Path, replaced: Path) -> Path:
    """Put a finished folder into its place; what an unfinished training left there gives way."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.replace(replaced)
    final.replace(place)
    return place


def _stage(project: Project, at: datetime, wanted: str) -> Path:
    """The folder of this update; what other updates left is removed."""
    staging = project.store / "improving"
    staged = staging / f"{project.artefacts(at).name}-{wanted[:12]}"
    if staging.exists():
        for other in staging.iterdir():
            if other.is_dir() and other != staged:
                shutil.rmtree(other)
    staged.mkdir(parents=True, exist_ok=True)
    return staged


def _news(project: Project, since: datetime, at: datetime) -> bool:
    """Whether the log has anything between the two."""
    events = pl.scan_parquet(project.events).filter(pl.col("time") >= since, pl.col("time") < at)
    return bool(events.select(pl.len()).collect().item())


def _held(since: datetime, at: datetime, share: float) -> datetime:
    """A midnight (UTC) that leaves about ``share`` of the time after it, strictly between the two."""

    def midnight(time: datetime) -> datetime:
        return time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    held = midnight(at - (at - since) * share)
    return held if held > since else midnight(since) + timedelta(days=1)


def _wanted(project: Project, old: Path, at: datetime, found: list[Experience]) -> str:
    """Digest of all that shapes an update: log and outcomes before ``at``, settings, and where it begins."""
    events = pl.scan_parquet(project.events).filter(pl.col("time") < at)
    height, last = events.select(pl.len(), pl.col("time").max()).collect().row(0)
    settings = project.settings
    parts = [
        repr((settings.improve, settings.backbone, settings.slate, settings.dormancy, settings.data.stock_days)),
        fingerprint(old),
        repr((height, last.isoformat(), at.isoformat())),
        *(one.decision + one.outcome.model_dump_json() for one in found),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _told(verdict: str) -> str:
    return verdict.replace("_", " ")


@contextmanager
def _alone(project: Project) -> Iterator[None]:
    """One update at a time.

    Raises ``ProjectError`` while another process or thread holds the lock.
    """
    from filelock import FileLock, Timeout

    file = project.store / "improve.lock"
    lock = FileLock(file, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise ProjectError(
            "another `rolegen improve` is under way", where=str(file), fix="wait until it has ended"
        ) from None
    try:
        yield
    finally:
        lock.release()
