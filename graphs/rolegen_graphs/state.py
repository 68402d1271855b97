"""What travels between the nodes: small plain records, checkpointed after each step. No tensor, no connection."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from .words import (
    Answer,
    Candidate,
    Correction,
    Decision,
    Effect,
    Observation,
    Path,
    PathChoice,
    Reading,
    Round,
    Signal,
    Slate,
    Worth,
)


class DecisionInput(TypedDict):
    """One user at one decision time."""

    user: str
    """id as in the log"""
    at: datetime | str
    """aware datetime, or its ISO form with a zone; only events strictly before it are visible"""


class DecisionOutput(TypedDict):
    """The finished decision."""

    decision: Decision
    """slate, rounds and everything that led to it"""


class DecisionState(TypedDict, total=False):
    """One pass after another through the inner loop; each pass overwrites what the pass before left."""

    user: str
    """id as in the log"""
    at: datetime | str
    """decision time"""
    key: str
    """decision id"""
    observation: Observation
    """what ``observe`` saw"""
    baseline: Slate
    """the recommender's slate without any reasoning"""
    worth: Worth | None
    """whether an LLM is asked, and why; None where there is none, or nobody else to ask"""
    number: int
    """number of the current round, from 1"""
    corrections: list[Correction]
    """what the last reflection asks the next round to change"""
    answers: list[Answer]
    """which reasoner answered each node of the current round"""
    reading: Reading
    """roles and intent"""
    paths: list[Path]
    """counterfactual paths"""
    candidates: list[Candidate]
    """every spec with its fate"""
    effects: list[Effect]
    """estimated effect of each path that has an item"""
    choices: list[PathChoice]
    """which paths are used, and why the others are not"""
    slate: Slate
    """slate with the candidates integrated"""
    signals: list[Signal]
    """findings of ``feedback``"""
    rounds: list[Round]
    """finished rounds"""
    decision: Decision
    """set when the loop ends"""
