"""``ground``: every spec of every path against the real catalogue; a rejected spec may be revised once. Then candidate
sources put their items beside them."""

from __future__ import annotations

from ..parts import LoopSettings, Parts
from ..sources import put_forward
from ..state import DecisionState
from ..words import CallSite, Candidate, ItemSpec
from .reason import not_worth_it


class Ground:
    """Retrieves, lets the reasoner revise what was rejected, and retrieves those once more (chain of retrieval)."""

    def __init__(self, parts: Parts, settings: LoopSettings) -> None:
        self.parts, self.settings = parts, settings

    def __call__(self, state: DecisionState) -> DecisionState:
        seen = state["observation"]
        asked = [
            (path.path, step, spec)
            for path in state["paths"]
            for step, spec in enumerate(path.specs())
            if not (step == 0 and path.operation == "remove")  # what is taken away needs no item
        ]
        candidates = list(self.parts.catalogue.ground(asked, seen))
        rejected = [row for row, candidate in enumerate(candidates) if candidate.fate == "rejected"]
        answers = list(state["answers"])
        if rejected:
            site = CallSite(decision=state["key"], round=state["number"], node="ground")
            specs, answer = self.parts.ask(
                "ground",
                lambda reasoner: reasoner.revise(seen, [candidates[row] for row in rejected], site=site),
                unless=not_worth_it(state),
            )
            answers.append(answer)
            self._again(candidates, rejected, specs, state)
        paths = list(state["paths"])
        for source in self.parts.sources:
            put_forward(source, self.parts.catalogue, seen, state["reading"], paths, candidates)
        return {"paths": paths, "candidates": candidates, "answers": answers}

    def _again(
        self, candidates: list[Candidate], rejected: list[int], specs: tuple[ItemSpec | None, ...], state: DecisionState
    ) -> None:
        """Ground the revised specs and put the results in the place of the rejected ones."""
        revised = [(row, spec) for row, spec in zip(rejected, specs, strict=True) if spec is not None]
        asked = [(candidates[row].path, candidates[row].step, spec) for row, spec in revised]
        if not asked:
            return
        taken: set[str | None] = {candidate.item for candidate in candidates if candidate.item is not None}
        for (row, _), found in zip(revised, self.parts.catalogue.ground(asked, state["observation"]), strict=True):
            first = candidates[row].reason
            if found.item is not None and found.item in taken:
                found = found.model_copy(
                    update={"fate": "rejected", "item": None, "reason": "another spec already has the item"}
                )
            taken.add(found.item)
            candidates[row] = found.model_copy(update={"revised": True, "reason": f"{found.reason} (first: {first})"})
