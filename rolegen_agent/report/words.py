"""What a report says, as plain data: facts of the run, figures per system, customers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolegen_graphs.words import PathChoice, RoleLabel

from .text import bounded

if TYPE_CHECKING:
    from .customer import CustomerSection


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


def parts_words(label: RoleLabel) -> str:
    """Both sides of a fused label, the same wherever a person reads it; empty where one reasoner answered alone."""
    if (parts := label.parts) is None:
        return ""
    log = "the log says nothing"
    if parts.log_role is not None:
        cases = f"{parts.support:,} observation{'' if parts.support == 1 else 's'}"
        log = f"the log {parts.log_role} {parts.log_probability:.0%} from {cases}, weight {parts.log_weight:.2f}"
    return f"the LLM said {parts.llm_role} {parts.llm_confidence:.0%}; {log}"


def choice_words(choice: PathChoice) -> str:
    """Why a path was used, or not.

    >>> choice_words(PathChoice(path=1, chosen=True, place=1, reason="the best effect"))
    'used, 1st choice: the best effect'
    """
    if choice.place is None:
        return f"not used: {bounded(choice.reason, 160)}"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(choice.place, "th")  # there are never twenty paths
    return f"used, {choice.place}{ending} choice: {bounded(choice.reason, 160)}"


def reasoner_words(reasoner: str) -> str:
    """``Decision.reasoner`` in plain words, the same wherever a person reads it.

    >>> reasoner_words("evidence")
    'the evidence reasoner (log statistics and the backbone; no LLM was called)'
    """
    if reasoner == "evidence":
        return "the evidence reasoner (log statistics and the backbone; no LLM was called)"
    if reasoner == "mixed":
        return "an LLM, with the evidence reasoner standing in where the LLM gave no valid answer"
    return f"the LLM {reasoner.removeprefix('llm:')}"
