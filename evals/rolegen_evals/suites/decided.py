"""What a run has decided so far, a line for each case: written when the case is done, so that a kill loses none of them.

A line holds the decision, the questions behind it and the retold readings; grading needs nothing else. So a changed grader costs no
decision, and ``compare`` finds the traces that it shows.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rolegen_graphs.words import Decision, Reading

from .cases import Case
from .graders.grade import Asked

DECIDED = "decided.jsonl"
_ASKED = TypeAdapter(tuple[Asked, ...])


class Head(BaseModel):
    """First line: what the decisions were made by. Those of another configuration or code are not taken over."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    configuration: str
    code: str


class Decided(BaseModel):
    """One case's line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    seen: str
    """digest of what was pinned, see :func:`seen_digest`"""
    decision: str
    """JSON without the observation, which stands in the case"""
    asked: tuple[Asked, ...]
    again: dict[str, Reading]
    """readings of the retold history by retelling"""

    def decision_on(self, case: Case) -> Decision:
        """The decision with the observation of its case."""
        return Decision.model_validate({**json.loads(self.decision), "observation": case.observation})


class Journal:
    """The lines of one run, appended from any thread.

    Args:
        file: made with its folder if missing; what another configuration or code wrote there is replaced.
        others: files of other runs to take decisions from, where their head is the same.
    """

    def __init__(self, file: Path, head: Head, others: Collection[Path] = ()) -> None:
        self.file = file
        self._lock = threading.Lock()
        own = list(_read(file, head))
        self._known = {(one.case, one.seen): one for one in own}
        taken = [
            one
            for other in others
            if other != file
            for one in _read(other, head)
            if self._known.setdefault((one.case, one.seen), one) is one
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text("".join(f"{one.model_dump_json()}\n" for one in (head, *own, *taken)), "utf-8")
        new.replace(file)  # what a kill left half written is gone now

    def find(self, case: Case, seen: str, retellings: Sequence[str]) -> Decided | None:
        """The line of a case, if it was made from the same history and holds all retellings."""
        found = self._known.get((case.case, seen))
        return found if found is not None and set(retellings) <= found.again.keys() else None

    def add(self, one: Decided) -> None:
        """Append and bring to disk."""
        line = f"{one.model_dump_json()}\n".encode()
        with self._lock:
            self._known[one.case, one.seen] = one
            with self.file.open("ab") as out:
                out.write(line)
                out.flush()
                os.fsync(out.fileno())


def seen_digest(case: Case) -> str:
    """Digest of all that a decision on the case may see."""
    return hashlib.sha256(case.observation.model_dump_json().encode()).hexdigest()[:16]


def read_decided(folder: Path, cases: Collection[str]) -> Mapping[str, Decided]:
    """By case: what the run in ``folder`` decided on ``cases``; empty where only its ``run.json`` was kept."""
    return {one.case: one for one in _read(folder / DECIDED, None) if one.case in cases}


def _read(file: Path, head: Head | None) -> Iterator[Decided]:
    """The whole lines of ``file``; none without it, or below another head than ``head``."""
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        try:
            if head is not None and Head.model_validate_json(next(lines, "")) != head:
                return
            if head is None:
                next(lines, None)
            for line in lines:
                yield Decided.model_validate_json(line)
        except ValidationError:
            return  # a line that a kill cut off, and it is the last one: its case is decided again
