"""What a report says, as plain data: facts of the run, figures per system, customers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolegen_graphs.words import Role

if TYPE_CHECKING:
    from .customer import CustomerSection

ROLE_MEANING: dict[Role, str] = {
    "trigger": "starts a need where none was active",
    "bridge": "moves intent from one category to another",
    "anchor": "sets the reference price or quality, itself not bought",
    "comparison": "one of the set that was compared",
    "complement": "bought in addition to something else",
    "gateway": "low-risk first order that opens repeat buying",
    "replenishment": "habitual rebuy",
    "target": "satisfies the intent",
    "incidental": "no instrumental effect",
    "unresolved": "the evidence does not decide",
}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One line about the run, such as ``Decision date``: ``2011-09-01``."""

    label: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A column of the table of figures: its key, its heading, and one sentence on how to read it."""

    key: str
    label: str
    meaning: str = ""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A value with its interval, if there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class System:
    """A row of the table of figures, by metric key; ``ours`` marks the one that the report is about."""

    name: str
    figures: Mapping[str, Figure]
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that one page shows.

    Attributes:
        title: the heading of the page.
        lede: one or two sentences on what was done.
        reasoner: who answered, in plain words (see :func:`reasoner_words`).
        facts: data set, decision date, horizon, users, seeds: whatever identifies the run.
        metrics: columns of the table, in order.
        systems: rows of the table, in order.
        figures_caption: over whom the figures were computed.
        notes: sentences below the table, for instance paired differences or what was left out.
        customers: one section each, in the order of the page; the first one is shown open.
        commands: shell commands to try next.
        attribution: source and licence of the data.
    """

    title: str
    lede: str
    reasoner: str
    facts: Sequence[Fact] = ()
    metrics: Sequence[Metric] = ()
    systems: Sequence[System] = ()
    figures_caption: str = ""
    notes: Sequence[str] = ()
    customers: Sequence[CustomerSection] = field(default=(), repr=False)
    commands: Sequence[str] = ()
    attribution: str = ""


def reasoner_words(reasoner: str) -> str:
    """``Decision.reasoner`` in plain words, the same wherever a person reads it.

    >>> reasoner_words("evidence")
    'the evidence reasoner (log statistics and the backbone; no LLM was called)'
    """
    if reasoner == "evidence":
        return "the evidence reasoner (log statistics and the backbone; no LLM was called)"
    if reasoner.startswith("student:"):
        teacher = reasoner.removeprefix("student:")
        return f"a student of {teacher} (a small model distilled from its decisions; no LLM was called)"
    if reasoner == "mixed":
        return "several: one stood in where another gave no valid answer"
    return f"the LLM {reasoner.removeprefix('llm:')}"
