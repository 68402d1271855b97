"""Artefacts of a project: what is learnt from the log up to a cut, and reading it back for a decision.

``.rolegen/artefacts/<cut>/`` holds ``backbone/`` (model, semantic ids, catalogue as of the cut), ``evidence/`` (role
statistics) and, after `rolegen improve`, ``showing.json`` (what the effects of showing weigh). All know only events strictly
before the cut; a decision uses the latest cut that is not after it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from rolegen_errors import InputError, ProjectError
from rolegen_graphs.words import ROLES

from .evidence import Evidence, Ledger, Market, update_evidence
from .evidence.ledger import UserReader
from .grounding.opening import require_index
from .outlook import Outlook
from .past_reasoning import PastReasoning, cuts_before
from .project import Project, Settings
from .showing import FILE as SHOWING
from .showing import Showing, read_weight
from .text_encoders import text_encoder

if TYPE_CHECKING:
    from rolegen_backbone.artefact import Sizes, TrainedBackbone
    from rolegen_backbone.distributed import Group
    from rolegen_backbone.training import TrainConfig

Progress = Callable[[str, int, int], None]
"""stage, done, total"""
PROMOTED = "promotion.json"
"""of an artefact folder that an update was promoted to: what memory is to know of it"""
LONGEST_TEXT = 1000
"""characters of a title or category that anything learns from, shows or remembers; the store keeps the whole text"""


@dataclass(frozen=True)
class Artefacts:
    """What one cut has to offer, with the log up to a decision time."""

    folder: Path
    as_of: datetime
    at: datetime
    """the decision time: the events end before it"""
    events: pl.DataFrame
    items: pl.DataFrame
    """the catalogue as of the decision time, categories filled in; what appeared after the cut has no evidence"""
    market: Market
    evidence: Evidence
    backbone: TrainedBackbone
    showing: Showing | None
    """None where the weight is 0"""

    @property
    def fingerprint(self) -> str:
        """See :func:`fingerprint`."""
        return fingerprint(self.folder)


def fingerprint(folder: Path) -> str:
    """8 hexadecimal digits over the training's manifest, and over what an improvement has added."""
    told = [folder / "backbone" / "backbone.json", folder / SHOWING]
    return hashlib.sha256(b"".join(file.read_bytes() for file in told if file.exists())).hexdigest()[:8]


def train(project: Project, at: datetime, *, progress: Progress, force: bool = False, evidence: bool = True) -> Path:
    """Learn everything from the events before ``at``; resumes a training that was stopped, repeats none that ended.

    Under ``torchrun`` or Ray Train the processes share out the backbone's first stage; the first one writes and shows progress.

    Args:
        evidence: False leaves the role evidence to the caller, see :func:`learn_evidence`; without it nothing serves.

    Raises:
        InputError: the log has too little to learn from.
        ProjectError: the log is not ingested; or an update was promoted for that date, which only ``force`` replaces.
    """
    from rolegen_backbone.distributed import join

    project.require_store()
    with join() as group:
        begin(project, at, force=force, write=group.first)
        group.wait()
        return _train(project, at, group, progress if group.first else _silent, evidence=evidence)


def begin(project: Project, at: datetime, *, force: bool = False, write: bool = True) -> Path:
    """The folder of the training for ``at``, emptied of what other data or settings have left in it.

    Args:
        write: False in the processes that leave it to another one.

    Raises:
        ProjectError: an update was promoted for that date, which only ``force`` replaces.
    """
    folder, settings = project.artefacts(at), project.settings
    asked = repr((train_config(settings), sizes(settings), settings.backbone.encoder, at.isoformat()))
    wanted = hashlib.sha256("\n".join((asked, _digest(project.events), _digest(project.items))).encode()).hexdigest()
    if (folder / PROMOTED).exists() and not force:
        raise ProjectError(
            f"what serves decisions from {at.date()} on was promoted by `rolegen improve`, and has learnt from more than a training",
            where=str(folder),
            fix="leave it as it is, or pass --force to replace it by a training from nothing",
        )
    stamp = folder / "wanted.txt"
    if write and (force or not stamp.exists() or stamp.read_text() != wanted):
        # Nothing half-trained from before may leak into this training.
        _empty(folder)
        stamp.write_text(wanted)
    return folder


def sizes(settings: Settings) -> Sizes:
    """The shape of the model that this project asks for."""
    from rolegen_backbone.artefact import Sizes

    wanted = settings.backbone
    return Sizes(
        width=wanted.width,
        layers=wanted.layers,
        history=wanted.history,
        levels=wanted.levels,
        codebook=wanted.codebook,
        quantiser=wanted.quantiser,
    )


def train_config(settings: Settings) -> TrainConfig:
    """What a training of this project is asked for."""
    from rolegen_backbone.training import TrainConfig

    wanted = settings.backbone
    return TrainConfig(
        seed=wanted.seed,
        epochs=wanted.epochs,
        batch=wanted.batch,
        learning_rate=wanted.learning_rate,
        horizon_days=settings.slate.horizon_days,
        dormant_days=settings.dormancy.days,
        max_returns=wanted.max_returns,
        max_hints=wanted.max_hints,
        max_read=wanted.max_read,
        max_spells=wanted.max_spells,
        patience=wanted.patience,
        precision=wanted.precision,
        compile=wanted.compile,
        device=wanted.device,
        shards=wanted.shards,
    )


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass


def _train(project: Project, at: datetime, group: Group, progress: Progress, *, evidence: bool) -> Path:
    folder = project.artefacts(at)
    learnt = (folder / "backbone" / "backbone.json").exists()
    if learnt and (not evidence or (folder / "evidence" / "manifest.json").exists()):
        return folder
    progress("items", 0, 1)
    events, items = before(project, at)
    progress("items", 1, 1)
    if not learnt:
        _fit(project, at, events, items, folder / "backbone", progress)
    if evidence:
        progress("evidence", 0, 1)
        if group.first:
            learn_evidence(project, events, items, at, folder / "evidence")
        progress("evidence", 1, 1)
    group.wait()
    return folder


def before(project: Project, at: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events and items that a training for ``at`` learns from.

    Raises:
        InputError: there is no event.
    """
    events = pl.read_parquet(project.events).filter(pl.col("time") < at)
    if events.is_empty():
        raise InputError(f"the log has no event before {at.date()}", fix="choose a later date")
    items = known_items(project, at)
    require_index(items.height, project.settings.grounding)
    return events, items


def _fit(
    project: Project, at: datetime, events: pl.DataFrame, items: pl.DataFrame, folder: Path, progress: Progress
) -> None:
    from rolegen_backbone.artefact import TrainedBackbone
    from rolegen_backbone.events import EventLog

    from .backbone_tool import use_threads

    config = train_config(project.settings)
    encoder = text_encoder(project.settings.backbone.encoder, project.settings.llm)
    ids = items["item"].to_numpy().astype(str)
    log = EventLog.from_frame(events.filter(pl.col("item").is_in(items["item"].implode())), ids)
    # A process that has decided before left torch on one thread; the number of threads shapes the last bits of a model.
    use_threads(_training_threads())
    cuts = cuts_before(at - timedelta(days=config.validation_days))
    past = PastReasoning(project.settings, events, items, log, cuts=cuts, progress=progress, store=project.grounding)
    TrainedBackbone.fit(
        items,
        log,
        as_of=at,
        sizes=sizes(project.settings),
        config=config,
        roles=len(ROLES),
        folder=folder,
        hints=past.candidates,
        readings=past.roles,
        progress=progress,
        encoder=encoder,
    )


def _training_threads() -> int:
    """``OMP_NUM_THREADS``, or all cores; under torchrun, which sets that to 1, this process's part of them."""
    beside = os.environ.get("LOCAL_WORLD_SIZE")
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if beside is None and wanted.isdigit():
        return max(1, int(wanted))
    return max(1, (os.cpu_count() or 1) // int(beside or 1))


def learn_evidence(
    project: Project,
    events: pl.DataFrame,
    items: pl.DataFrame,
    at: datetime,
    folder: Path,
    *,
    reader: UserReader | None = None,
) -> Evidence:
    """Role evidence as of ``at``, written to ``folder`` with its ledger; it builds on the project's latest earlier one.

    ``reader`` makes the rows of users, see :func:`rolegen_agent.evidence.ledger.read_ledger`. An earlier ledger that cannot be
    read is not built upon; ``Evidence.told`` says why.
    """
    earlier, flaw = None, ""
    found = []
    for file in (project.store / "artefacts").glob("*/evidence/ledger/ledger.json"):
        cut = datetime.fromisoformat(json.loads(file.read_text("utf-8"))["at"])
        if cut <= at:
            found.append((cut, file.parent))
    if found:
        try:
            earlier = Ledger.load(max(found)[1])
        except ProjectError as error:
            flaw = f" ({error})"
    update = update_evidence(events, items, at=at, earlier=earlier, reader=reader)
    evidence = replace(update.evidence, told=update.evidence.told + flaw)
    update.ledger.save(folder / "ledger")  # first: the manifest of the evidence says that all is there
    evidence.save(folder)
    return evidence


def forget(project: Project, user: str) -> int:
    """Take one user out of every ledger of the evidence; returns out of how many. What has no user in it stays as it is.

    A ledger that cannot be read, of a training that was killed or of another version, goes as a whole: it is only a cache.
    """
    touched = 0
    for folder in [*project.store.glob("artefacts/*/evidence/ledger"), *project.store.glob("improving/**/ledger")]:
        try:
            ledger = Ledger.load(folder)
        except ProjectError:
            shutil.rmtree(folder)
            touched += 1
            continue
        if user in ledger.users["user"]:
            ledger.without(user).save(folder)
            touched += 1
    return touched


def load(project: Project, at: datetime, *, reasoner: str | None = None) -> Artefacts:
    """The latest artefacts whose cut is not after ``at``, with the events strictly before ``at``.

    Items that appeared since the cut are added to the trained catalogue, so that they can be reasoned about and ranked.

    Args:
        reasoner: who will reason; the backbone then trusts candidates as far as this one has earned it. A student is trusted
            like its teacher until it has earned trust of its own.

    Raises:
        ProjectError: there are none, or the catalogue has outgrown its semantic ids.
    """
    project.require_store()
    folder, as_of = latest(project, at)
    events, backbone = open_backbone(project, folder, at)
    evidence, weight = Evidence.load(folder / "evidence"), read_weight(folder)
    return Artefacts(
        folder=folder,
        as_of=as_of,
        at=at,
        events=events,
        items=backbone.items,
        market=Market(events, backbone.items),
        evidence=evidence,
        backbone=_trusting(backbone, reasoner).served(),
        showing=Showing.of(weight, evidence, events, backbone.items, at, Outlook.load(folder)) if weight > 0 else None,
    )


def _trusting(backbone: TrainedBackbone, reasoner: str | None) -> TrainedBackbone:
    name = reasoner or ""
    return backbone.trusting(name if name in backbone.trust else name.removeprefix("student:"))


def open_backbone(project: Project, folder: Path, at: datetime) -> tuple[pl.DataFrame, TrainedBackbone]:
    """The events strictly before ``at``, and the backbone of an artefact folder over them and all items known by then."""
    from rolegen_backbone.artefact import TrainedBackbone
    from rolegen_backbone.events import EventLog

    trained = pl.read_parquet(folder / "backbone" / "items.parquet")
    events = pl.scan_parquet(project.events).filter(pl.col("time") < at).collect()

    def log_over(items: pl.DataFrame) -> EventLog:
        known = events.filter(pl.col("item").is_in(items["item"].implode()))
        return EventLog.from_frame(known, items["item"].to_numpy().astype(str))

    new = _first_seen_before(project, at).join(trained, on="item", how="anti")
    encoder = text_encoder(project.settings.backbone.encoder, project.settings.llm) if new.height else None
    backbone = TrainedBackbone.load(folder / "backbone", log_over(trained), encoder=encoder)
    if new.height:
        items = pl.concat([trained, new], how="diagonal_relaxed").sort("item")
        backbone = backbone.extend(items, log_over(items), until=at)
    return events, backbone


def latest(project: Project, at: datetime) -> tuple[Path, datetime]:
    """Folder and cut of the latest finished training that is not after ``at``."""
    finished = []
    for file in (project.store / "artefacts").glob("*/backbone/backbone.json"):
        cut = datetime.fromisoformat(json.loads(file.read_text("utf-8"))["as_of"])
        if cut <= at and (file.parent.parent / "evidence" / "manifest.json").exists():
            finished.append((cut, file.parent.parent))
    if not finished:
        raise ProjectError(
            f"nothing was trained on the time before {at.astimezone(UTC).date()}",
            where=str(project.store / "artefacts"),
            fix=f"run `rolegen train --at {at.astimezone(UTC).date()}`",
        )
    cut, folder = max(finished)
    return folder, cut


def known_items(project: Project, at: datetime) -> pl.DataFrame:
    """The catalogue as of ``at``: items first seen before it, and those only the catalogue names; no null title or category."""
    from rolegen_backbone.embedding import text_categories

    items = _first_seen_before(project, at)
    return items.with_columns(text_categories(items).alias("category"))


def _first_seen_before(project: Project, at: datetime) -> pl.DataFrame:
    items = pl.read_parquet(project.items).filter(pl.col("first_seen").is_null() | (pl.col("first_seen") < at))
    return items.with_columns(
        pl.col("title").fill_null("").str.head(LONGEST_TEXT), pl.col("category").str.head(LONGEST_TEXT)
    ).sort("item")


def _digest(file: Path) -> str:
    """SHA-256 of a file of the store: equal logs have equal ones, however often they were ingested."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _empty(folder: Path) -> None:
    """Remove what an earlier training left, file by file, and only what lies in this artefact folder."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
