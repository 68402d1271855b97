"""Distilling a student from what memory holds of a teacher's decisions, and reading it back for a decision.

``artefacts/<date>/student/`` holds one student: weights and counts over items (``student.safetensors``, ``items.parquet``) and
``student.json`` with its teacher, the forms of paths and a report. It has learnt from decisions and events strictly before the date,
names no user, and belongs to the backbone that it was distilled on: another one, trained or improved since, needs another student.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rolegen_errors import InputError, ProjectError
from rolegen_graphs.words import ROLES

from .artefacts import Progress, fingerprint, latest, open_backbone
from .evidence import Market
from .reasoning.forms import SLOTS, Form, forms_of, named, slot_of
from .reasoning.student import PREFIX, StudentReasoner

if TYPE_CHECKING:
    from rolegen_backbone.artefact import TrainedBackbone
    from rolegen_backbone.student_training import Choices, Labels, Taught

    from .artefacts import Artefacts
    from .memory import Memory
    from .memory.records import Reasoned
    from .project import Project

FOLDER, FILE = "student", "student.json"
USED = 2.0
"""what an item of a path that was used weighs beside one of a path that was only proposed"""


@dataclass(frozen=True)
class DistilReport:
    """What came of distilling."""

    at: datetime
    folder: Path
    fingerprint: str
    teacher: str
    repeated: bool
    """the same student was there already"""
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """A student on disk."""

    folder: Path
    as_of: datetime
    teacher: str
    fingerprint: str

    @property
    def name(self) -> str:
        """Of the reasoner, as it stands in traces."""
        return PREFIX + self.teacher


def distil(
    project: Project,
    memory: Memory,
    at: datetime,
    *,
    teacher: str | None = None,
    progress: Progress,
    force: bool = False,
) -> DistilReport:
    """Distil a student for decisions from ``at`` on, from a teacher's decisions before it; the same one is not made twice.

    Args:
        teacher: ``evidence``, ``llm:<model>`` or whatever stands in traces; None takes the LLM with most decisions, or else
            the reasoner with most.

    Raises:
        InputError: there are too few decisions of the teacher.
        ProjectError: nothing is trained for ``at``.
    """
    from rolegen_backbone.student_training import StudentConfig
    from rolegen_backbone.student_training import distil as fit

    from .backbone_tool import use_threads

    project.require_store()
    settings = project.settings.student
    source, _ = latest(project, at)
    teacher = teacher or default_teacher(memory.reasoners(at))
    progress("decisions", 0, 1)
    known = memory.reasoned(at, teacher, most=settings.decisions)
    progress("decisions", 1, 1)
    if len(known) < settings.fewest:
        raise _too_few(memory.reasoners(at), teacher, len(known), settings.fewest, at)
    config = StudentConfig(
        seed=settings.seed, width=settings.width, epochs=settings.epochs, learning_rate=settings.learning_rate
    )
    folder, wanted = project.artefacts(at) / FOLDER, _wanted(source, teacher, known, config, at)
    if not force and (there := _read(folder)) is not None and there["wanted"] == wanted:
        return DistilReport(at, folder, _digest(folder), teacher, True, there)
    events, backbone = open_backbone(project, source, at)
    market = Market(events, backbone.items)
    forms = _forms(known, market)
    taught, left_out = _taught(known, backbone, forms)
    if len(taught) < settings.fewest:
        raise InputError(
            f"of {len(known)} decisions of {teacher} the log knows the history of {len(taught)}, {settings.fewest} are needed",
            fix="distil on the log that they were made on, or lower [student] fewest",
        )
    use_threads(1)  # sums in another order differ in their last bits: the same decisions are to give the same student
    student, report = fit(
        backbone,
        taught,
        as_of=at,
        roles=len(ROLES),
        forms=max(1, len(forms)),
        slots=SLOTS * max(1, len(forms)),
        config=config,
        progress=progress,
    )
    student.manifest = {
        **student.manifest,
        "teacher": teacher,
        "backbone": fingerprint(source),
        "wanted": wanted,
        "forms": [form.model_dump(mode="json") for form in forms],
        "learnt_from": {
            "decisions": len(taught),
            "first": known[0].at.isoformat(),
            "last": known[-1].at.isoformat(),
            "left_out": left_out,
        },
    }
    student.save(folder)
    made = _read(folder) or {}
    memory.record_artefact(
        FOLDER, at, _digest(folder), str(folder.relative_to(project.root)), {"teacher": teacher, **asdict(report)}
    )
    return DistilReport(at, folder, _digest(folder), teacher, False, made)


def default_teacher(known: Mapping[str, int]) -> str:
    """The LLM with most decisions; where there is none the reasoner with most, and ``evidence`` where nobody has decided."""
    possible = {name: count for name, count in known.items() if name != "mixed" and not name.startswith(PREFIX)}
    llms = {name: count for name, count in possible.items() if name.startswith("llm:")} or possible
    return max(sorted(llms), key=lambda name: llms[name], default="evidence")


def latest_student(project: Project, at: datetime, *, backbone: str, asked: str) -> Found:
    """The latest student that may decide at ``at`` on the backbone with that fingerprint.

    Args:
        asked: who wants one, for the error.

    Raises:
        ProjectError: there is none.
    """
    others: list[tuple[datetime, Path, str]] = []
    found: list[tuple[datetime, Path, str]] = []
    for file in (project.store / "artefacts").glob(f"*/{FOLDER}/{FILE}"):
        told = _read(file.parent) or {}
        as_of = datetime.fromisoformat(told["as_of"])
        if as_of <= at:
            (found if told["backbone"] == backbone else others).append((as_of, file.parent, told["teacher"]))
    day = at.astimezone(UTC).date()
    if not found:
        what = (
            f"the student of {max(others)[0].date()} was distilled on another backbone than the one that serves {day}"
            if others
            else f"there is no student for decisions at {day}"
        )
        raise ProjectError(
            f"{what}; {asked}", where=str(project.store / "artefacts"), fix=f"run `rolegen distil --at {day}`"
        )
    as_of, folder, teacher = max(found)
    return Found(folder, as_of, teacher, _digest(folder))


def open_student(found: Found, artefacts: Artefacts, *, paths: int) -> StudentReasoner:
    """The reasoner of a student on the artefacts that serve."""
    from rolegen_backbone.student import Student

    student = Student.load(found.folder, artefacts.backbone)
    forms = [Form.model_validate(form) for form in student.manifest["forms"]]
    return StudentReasoner(student, found.teacher, forms, artefacts.evidence, artefacts.market, paths=paths)


def _forms(known: Sequence[Reasoned], market: Market) -> list[Form]:
    decisions = [one for one in known if one.paths is not None]
    prices = [
        {
            (c.path, c.step): float(np.nan_to_num(market.price[market.code[c.item]]))
            for c in one.candidates
            if c.item in market.code
        }
        for one in decisions
    ]
    return forms_of([one.paths or () for one in decisions], prices)


def _taught(
    known: Sequence[Reasoned], backbone: TrainedBackbone, forms: Sequence[Form]
) -> tuple[list[Taught], dict[str, int]]:
    """What the model learns, and how much of what was said is left out, by reason."""
    from rolegen_backbone.events import DAY, seconds
    from rolegen_backbone.student_training import Taught

    log = backbone.log
    index = {item: row for row, item in enumerate(backbone.items["item"].to_list())}
    number = {form.name: place for place, form in enumerate(forms)}
    left_out = dict.fromkeys(
        ("decisions of unknown users", "labels of unknown events", "paths of no form", "rejected or unknown items"), 0
    )
    taught = []
    for one in known:
        user, at = log.user_index(one.user), seconds(one.at) // DAY * DAY
        if user is None or log.rows(user, at).start == log.rows(user, at).stop:
            left_out["decisions of unknown users"] += 1
            continue
        rows = log.rows(user, at)
        item_of = dict(zip(log.event[rows].tolist(), log.items[log.item[rows]].tolist(), strict=True))
        taught.append(Taught(user, at, _labels(one, item_of, left_out), _choices(one, index, number, left_out)))
    return taught, left_out


def _labels(one: Reasoned, item_of: Mapping[int, str], left_out: dict[str, int]) -> Labels | None:
    from rolegen_backbone.student_training import Labels

    if one.labels is None:
        return None
    # Ids of an older ingestion may name other rows; and an event counts once.
    kept = {label.event: label for label in one.labels if item_of.get(label.event) == label.item}
    left_out["labels of unknown events"] += len(one.labels) - len(kept)
    return Labels(
        event=np.array(list(kept), np.int64),
        role=np.array([ROLES.index(label.role) for label in kept.values()], np.int64),
        confidence=np.array([label.confidence for label in kept.values()], np.float32),
    )


def _choices(
    one: Reasoned, index: Mapping[str, int], number: Mapping[str, int], left_out: dict[str, int]
) -> Choices | None:
    from rolegen_backbone.student_training import Choices

    if one.paths is None:
        return None
    forms = [(number[name], path) for name, path in named(one.paths) if name in number]
    left_out["paths of no form"] += len(one.paths) - len(forms)
    of_path = {path.path: (form, len(path.steps)) for form, path in forms}
    slot: list[int] = []
    item: list[int] = []
    weight: list[float] = []
    for candidate in one.candidates:
        if candidate.path not in of_path:
            continue
        if candidate.item is None or candidate.item not in index:
            left_out["rejected or unknown items"] += 1
            continue
        form, steps = of_path[candidate.path]
        slot.append(SLOTS * form + slot_of(candidate.step, steps))
        item.append(index[candidate.item])
        weight.append(USED if candidate.path in one.chosen else 1.0)
    return Choices(
        form=np.array([form for form, _ in forms], np.int64),
        slot=np.array(slot, np.int64),
        item=np.array(item, np.int64),
        weight=np.array(weight, np.float32),
    )


def _too_few(known: Mapping[str, int], teacher: str, count: int, needed: int, at: datetime) -> InputError:
    day = at.astimezone(UTC).date()
    there = ", ".join(f"{number:,} of {name}" for name, number in known.items()) or "none at all"
    kind = "llm" if teacher.startswith("llm:") else "evidence"
    return InputError(
        f"memory holds {count:,} decisions of {teacher} from before {day}, {needed:,} are needed to distil a student",
        where=f"decisions from before {day}: {there}",
        fix=f"let it decide on more users first (`rolegen awaken --reasoner {kind}` for a date before {day}), name another --teacher, "
        "or lower [student] fewest",
    )


def _wanted(source: Path, teacher: str, known: Sequence[Reasoned], config: object, at: datetime) -> str:
    """Digest of all that shapes a student."""
    parts = [fingerprint(source), teacher, repr(config), at.isoformat(), *(one.model_dump_json() for one in known)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished student; None where there is none."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        told: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if not {"as_of", "backbone", "teacher", "wanted"} <= told.keys():
            raise ValueError("keys are missing")
    except ValueError as error:
        raise ProjectError(
            f"the student cannot be read: {error}", where=str(file), fix="run `rolegen distil --at DATE --force`"
        ) from error
    return told


def _digest(folder: Path) -> str:
    """8 hexadecimal digits over what the student is."""
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in (FILE, "student.safetensors"))).hexdigest()[
        :8
    ]
