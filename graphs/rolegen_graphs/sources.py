"""Items that candidate sources put forward, as paths of one step beside those that a reasoner imagined."""

from __future__ import annotations

from typing import cast

from .ports import CandidateSource, Catalogue, ItemLookup
from .state import DecisionState
from .words import FROM_SOURCE, Article, Candidate, ItemSpec, Observation, Path, Proposal, Reading


def put_forward(
    source: CandidateSource,
    catalogue: Catalogue,
    seen: Observation,
    reading: Reading,
    paths: list[Path],
    candidates: list[Candidate],
) -> None:
    """Append a path and a candidate for each proposal of ``source``; one that cannot be shown stays, rejected with its reason.

    Args:
        catalogue: one that knows items by their id, as ``Parts`` sees to.
    """
    proposals = source.propose(seen, reading)
    known = cast("ItemLookup", catalogue).look_up([one.item for one in proposals], seen.trajectory.at)
    taken = {candidate.item for candidate in candidates if candidate.item is not None}
    first = max((path.path for path in paths), default=-1) + 1
    for number, proposal in enumerate(proposals, start=first):
        article = known.get(proposal.item)
        path = Path(
            path=number,
            operation="insert",
            intervention=_spec(proposal, article),
            why=proposal.why,
            kind=FROM_SOURCE + source.name,
        )
        paths.append(path)
        candidates.append(_candidate(path, proposal, article, source.name, taken))
        taken.add(proposal.item)


def reasoned(state: DecisionState) -> DecisionState:
    """The state without what candidate sources put forward: what the reasoner has to answer for."""
    own = {path.path for path in state["paths"] if path.source is None}
    if len(own) == len(state["paths"]):
        return state
    return {
        **state,
        "paths": [path for path in state["paths"] if path.path in own],
        "candidates": [candidate for candidate in state["candidates"] if candidate.path in own],
        "effects": [effect for effect in state["effects"] if effect.path in own],
    }


def _spec(proposal: Proposal, article: Article | None) -> ItemSpec:
    if article is None:
        return ItemSpec(role=proposal.role)
    return ItemSpec(
        role=proposal.role,
        category=article.category,
        price_low=article.price,
        price_high=article.price,
        text=article.title,
    )


def _candidate(path: Path, proposal: Proposal, article: Article | None, name: str, taken: set[str]) -> Candidate:
    if article is None:
        refused = f"{name} put forward item {proposal.item!r}, which is not available"
    elif article.item in taken:
        refused = "another spec already has the item"
    else:
        return Candidate(
            path=path.path,
            step=0,
            role=proposal.role,
            spec=path.intervention,
            fate="accepted",
            reason=f"put forward by {name}",
            item=article.item,
            title=article.title,
            score=proposal.score,
        )
    return Candidate(
        path=path.path, step=0, role=proposal.role, spec=path.intervention, fate="rejected", reason=refused
    )
