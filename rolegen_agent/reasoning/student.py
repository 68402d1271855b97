"""The reasoner without an LLM that answers like one: labels and paths by a small model distilled from a teacher's decisions.

Roles and path choices are learnt. Intents follow the evidence reasoner's rules, statistics come from the log, and rejected specs and
signals are dealt with by its fixed rules: none of that is the teacher's.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rolegen_errors import ReasonerError
from rolegen_graphs.words import (
    ROLES,
    CallSite,
    Candidate,
    Correction,
    Effect,
    Event,
    Intent,
    ItemSpec,
    Observation,
    Path,
    Reading,
    Reflection,
    RoleLabel,
    Signal,
)

from ..evidence.market import Market
from ..evidence.store import Evidence
from .forms import SLOTS, Form, slot_of
from .labels import RESOLVED, read_intents
from .paths import PER_CATEGORY, Limits
from .reflection import reflect_on, relaxed

if TYPE_CHECKING:
    from rolegen_backbone.events import Floats
    from rolegen_backbone.student import Said, Student

PREFIX = "student:"
LIKELY = 0.35
"""a form less likely than this is not proposed, where there are others"""
FEWEST_PATHS, FEWEST_LABELS = 2, 4


class _Heard(threading.local):
    """What the student said last in this thread, and about which observation."""

    def __init__(self) -> None:
        self.seen: Observation | None = None
        self.said: Said | None = None


class StudentReasoner:
    """Implements ``rolegen_graphs.ports.Reasoner`` under the name ``student:<teacher>``; deterministic, and safe for several threads.

    Args:
        student: of :func:`rolegen_agent.distil.distil`, on the backbone that serves.
        teacher: whose decisions it learnt from.
        forms: what its outputs stand for.
        evidence: for the statistics beside labels, and for the rules of intents.
        market: over the same items as the backbone; titles and prices for specs.
        paths: how many paths ``simulate`` gives at most.
        labels: how many events ``reason`` labels at most.
    """

    def __init__(
        self,
        student: Student,
        teacher: str,
        forms: Sequence[Form],
        evidence: Evidence,
        market: Market,
        *,
        paths: int = 8,
        labels: int = 12,
    ) -> None:
        self._student, self._teacher, self._forms = student, teacher, tuple(forms)
        self._evidence, self._market, self._paths, self._labels = evidence, market, paths, labels
        self._heard = _Heard()

    @property
    def name(self) -> str:
        return PREFIX + self._teacher

    def reason(self, seen: Observation, corrections: Sequence[Correction], *, site: CallSite) -> Reading:
        """Roles of the events that the teacher would label; those that a correction doubts are unresolved.

        Raises ``ReasonerError`` where the student has nothing to say of the user.
        """
        if not self._student.manifest["report"]["labels"]:
            raise ReasonerError(f"the decisions of {self._teacher} that the student learnt from hold no label")
        said = self._listen(seen)
        doubted = {c.event for c in corrections if c.kind == "wrong_role" and c.event is not None}
        place = {event: row for row, event in enumerate(said.event.tolist())}
        known = [event for event in seen.trajectory.events if event.event in place]
        telling = sorted(known, key=lambda event: (event.event not in doubted, -said.labelled_T[place[event.event]]))
        sure = sum(float(said.labelled_T[place[event.event]]) >= 0.5 or event.event in doubted for event in known)
        chosen = {event.event for event in telling[: min(self._labels, max(sure, FEWEST_LABELS))]}
        intents, present = read_intents(seen.trajectory, self._evidence)
        labels = []
        for event in known:
            if event.event in chosen:
                role_R = said.role_TR[place[event.event]]
                labels.append(self._label(event, role_R, intents[event.event], event.event in doubted))
        return Reading(labels=tuple(labels), intent=present)

    def simulate(
        self, seen: Observation, reading: Reading, corrections: Sequence[Correction], *, site: CallSite
    ) -> tuple[Path, ...]:
        """The likeliest forms of paths, each with the likeliest items that no other path has. A path's number names its form.

        Raises ``ReasonerError`` where the student has nothing to say of the user.
        """
        if not self._forms:
            raise ReasonerError(f"the decisions of {self._teacher} that the student learnt from hold no path")
        said, limits = self._listen(seen), Limits.of(corrections)
        dropped = limits.dropped | limits.due_only
        order = np.lexsort((np.arange(len(self._forms)), -np.round(said.form_F, 6))).tolist()
        taken: set[int] = set()
        categories: Counter[str] = Counter()
        paths: list[Path] = []
        for number in order:
            likely = float(said.form_F[number])
            if len(paths) == self._paths or (likely < LIKELY and len(paths) >= FEWEST_PATHS):
                break
            if number in dropped:
                continue
            codes = self._items(number, said, taken, categories if limits.spread else None)
            if codes:
                paths.append(self._path(number, codes, likely, limits))
        return tuple(paths)

    def revise(
        self, seen: Observation, rejected: Sequence[Candidate], *, site: CallSite
    ) -> tuple[ItemSpec | None, ...]:
        """Each rejected spec without its price band, or else without its category."""
        return tuple(relaxed(candidate.spec) for candidate in rejected)

    def reflect(
        self,
        seen: Observation,
        reading: Reading,
        paths: Sequence[Path],
        candidates: Sequence[Candidate],
        effects: Sequence[Effect],
        signals: Sequence[Signal],
        *,
        site: CallSite,
    ) -> Reflection:
        """Typed corrections by fixed rules, and at most one proposed lesson."""
        return reflect_on(seen.trajectory, paths, candidates, effects, signals)

    def _listen(self, seen: Observation) -> Said:
        if self._heard.seen is not seen:  # two nodes of a round ask about the same history
            self._heard.said = self._student.say(seen.trajectory.user, seen.trajectory.at)
            self._heard.seen = seen
        if self._heard.said is None:
            raise ReasonerError("the student knows no event of this user before the day of the decision")
        return self._heard.said

    def _label(self, event: Event, role_R: Floats, intents: tuple[Intent, Intent], doubted: bool) -> RoleLabel:
        best = int(role_R.argmax())
        role, confidence = ROLES[best], round(min(float(role_R[best]), 0.99), 4)
        told = f"{self._teacher} would call it {role}, as far as its student has learnt ({confidence:.2f})"
        if doubted or (role != "unresolved" and confidence < RESOLVED):
            told = "an earlier round doubted the role of this event" if doubted else f"undecided: {told}"
            role, confidence = "unresolved", 1.0 if doubted else round(1.0 - confidence, 4)
        return RoleLabel(
            event=event.event,
            item=event.item,
            role=role,
            confidence=confidence,
            intent_before=intents[0],
            intent_after=intents[1],
            statistic=self._evidence.statistic(role, event.item) if role != "unresolved" else None,
            why=told,
        )

    def _items(self, number: int, said: Said, taken: set[int], categories: Counter[str] | None) -> list[int]:
        """Codes of one path's items in order; they are taken then. ``categories``: how often each was used, if that is bounded."""
        form, found = self._forms[number], list[int]()
        # The intervention first, then the target, and what leads from one to the other last: so the two get what they need.
        for step in (0, form.steps, *range(1, form.steps)) if form.steps else (0,):
            scores = said.slot_PS[:, SLOTS * number + slot_of(step, form.steps)]
            for row in np.argsort(-scores, kind="stable").tolist():
                code = int(said.item[row])
                category = self._market.category[code]
                if code in taken or (categories is not None and categories[category] >= PER_CATEGORY):
                    continue
                taken.add(code)
                found.append(code)
                if categories is not None:
                    categories[category] += 1
                break
        return found if len(found) < 2 else [found[0], *found[2:], found[1]]

    def _path(self, number: int, codes: Sequence[int], likely: float, limits: Limits) -> Path:
        form = self._forms[number]
        last = len(codes) - 1
        specs = [
            self._spec(form, form.roles[slot_of(step, last)], code, number, limits) for step, code in enumerate(codes)
        ]
        return Path(
            path=number,
            operation="insert",
            intervention=specs[0],
            steps=tuple(specs[1:]),
            why=f"{self._teacher} would propose a path of the form '{form.name}' here, as far as its student has learnt ({likely:.2f})",
            kind=form.kind,
        )

    def _spec(self, form: Form, role: str, code: int, number: int, limits: Limits) -> ItemSpec:
        price = float(self._market.price[code])
        low = high = None
        if form.low is not None and form.high is not None and number not in limits.no_price and not np.isnan(price):
            low, high = round(min(form.low, 1.0) * price, 2), round(max(form.high, 1.0) * price, 2)
        named = form.category and number not in limits.no_category
        return ItemSpec.model_validate(
            {
                "role": role,
                "category": self._market.category[code] if named else None,
                "price_low": low,
                "price_high": high,
                "text": self._market.titles[code],
            }
        )
