"""What one builds the loop from: the ports filled in, and the few numbers that steer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from rolegen_errors import ProjectError, ReasonerError

from .fusion import Fusion
from .gate import Gate, Think
from .ports import CandidateSource, Catalogue, ItemLookup, Memory, Observer, Reasoner, Recommender, RoleEvidence
from .selection import Selection
from .words import Answer

T = TypeVar("T")
Node = Literal["reason", "simulate", "ground", "reflect"]


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """Numbers that steer the loop."""

    run: str
    """name of configuration and artefacts; part of each decision's key"""
    rounds: int = 2
    """passes of the inner loop at most"""
    slate_size: int = 10
    newcomers: int = 3
    """places of a slate for items that the recommender would not show without reasoning; they lie in its lower half"""
    explore: float = 0.0
    """temperature at which slates are sampled, see ``rolegen_graphs.exploration``; 0 shows the best one"""
    think: Think = "always"
    """``uncertain``: the gate decides who gets LLM calls, and in how many of the ``rounds``"""
    gate: Gate = field(default_factory=Gate)
    granted: Mapping[str, int] | None = None
    """LLM rounds by user, as a budget was allocated; users who are not in it get none. None: no such budget"""
    fusion: Fusion = field(default_factory=Fusion)
    """how an LLM's labels and the log's evidence are combined"""
    selection: Selection = field(default_factory=Selection)
    """which of the proposed paths are used"""
    min_categories: int = 3
    """a slate with fewer categories counts as collapsed (where the paths named as many)"""

    def __post_init__(self) -> None:
        if not self.run:
            raise ProjectError("a run needs a name", fix="pass LoopSettings(run=…)")
        least_of = (("rounds", self.rounds, 1), ("slate_size", self.slate_size, 1), ("newcomers", self.newcomers, 0))
        for name, value, least in least_of:
            if value < least:
                raise ProjectError(
                    f"{name} is {value}, it must be at least {least}", fix=f"pass LoopSettings({name}={least})"
                )
        if not 0 <= self.explore < float("inf"):
            raise ProjectError(f"explore is {self.explore}, it must be 0 or more", fix="pass LoopSettings(explore=0)")
        if self.think not in ("always", "uncertain"):
            raise ProjectError(f"think is {self.think!r}", fix="allowed are 'always' and 'uncertain'")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The ports of one loop.

    ``fallback`` answers where ``reasoner`` raises ``ReasonerError`` and for users not worth an LLM call; without one
    the error ends the decision, and nobody is left out. ``stand_in`` is asked before it, where there is one. With ``gated``
    False the reasoner costs nothing: no gate decides about whom it is asked. ``evidence`` is what the reasoner's labels are
    fused with, and what the gate knows of the log; without it labels stay as the reasoner gave them. ``sources`` put items
    forward beside the reasoner; the catalogue must then know items by their id.
    """

    observer: Observer
    reasoner: Reasoner
    catalogue: Catalogue
    recommender: Recommender
    fallback: Reasoner | None = None
    stand_in: Reasoner | None = None
    gated: bool = True
    evidence: RoleEvidence | None = None
    memory: Memory | None = None
    sources: Sequence[CandidateSource] = ()

    def __post_init__(self) -> None:
        if self.sources and not isinstance(self.catalogue, ItemLookup):
            raise ProjectError(
                f"{type(self.catalogue).__name__} knows no items by their id, which candidate sources need",
                fix="give the catalogue a method `look_up`, see rolegen_graphs.ports.ItemLookup, or leave `sources` out",
            )

    def ask(self, node: Node, question: Callable[[Reasoner], T], *, unless: str = "") -> tuple[T, Answer]:
        """Ask the reasoner, or who stands in for it when it cannot answer or ``unless`` says why it should not.

        Returns:
            the answer, and who gave it and why: the trace must tell.
        """
        others = [one for one in (self.stand_in, self.fallback) if one is not None and one is not self.reasoner]
        order, whys = (others, [unless]) if unless and others else ([self.reasoner, *others], list[str]())
        for one in order[:-1]:
            try:
                return question(one), Answer(node=node, reasoner=one.name, why="; ".join(whys))
            except ReasonerError as error:
                whys.append(f"{one.name} could not answer: {error.what}")
        return question(order[-1]), Answer(node=node, reasoner=order[-1].name, why="; ".join(whys))
