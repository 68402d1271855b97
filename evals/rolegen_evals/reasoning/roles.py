"""Are the roles right? What the evidence reasoner says of every event against what the event really did.

``roles.macro_f1.evidence`` is the mean F1 over the nine roles in the easy setting (no noise, nothing hidden); an event left unresolved counts as
missed. ``roles_SETTING.macro_f1.evidence`` is the same with one knob turned, ``roles_of.f1.ROLE`` by role, ``roles.events.evidence`` how many were judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sklearn.metrics import f1_score

from rolegen_agent.evidence import Market, compute_evidence
from rolegen_agent.observer import LogObserver
from rolegen_agent.reasoning import EvidenceReasoner
from rolegen_graphs.words import ROLES, Role

from ..worlds import EASY, PLANTED, WORLDS, Knobs, Planted, plant
from .effects import options_of

SETTINGS: Mapping[str, Knobs] = {
    "usual": Knobs(),
    "noisy": Knobs(noise=0.4, hidden=0.0),
    "hidden": Knobs(noise=0.0, hidden=1.0),
    "sparse": Knobs(noise=0.0, hidden=0.0, sparsity=0.6),
    "broad": Knobs(noise=0.0, hidden=0.0, breadth=3),
}
RESOLVED = 0.5
"""a role less sure than this is not claimed"""
EVERYTHING = 100_000
Progress = Callable[[str, int, int], None]


def role_figures(*, users: int, judged: int, quick: bool, progress: Progress) -> dict[str, float]:
    """Figures over the knobs, and of the world on which nothing was tuned; ``judged`` users of each log are read."""
    settings = {"easy": EASY} if quick else {"easy": EASY, **SETTINGS}
    asked = [("staged", name, knobs) for name, knobs in settings.items()] + [("pressed", "unseen", EASY)]
    found: dict[str, float] = {}
    for done, (world, name, knobs) in enumerate(asked, start=1):
        truth, said = read_roles(plant(WORLDS[world].open(0, knobs), users, seed=0), judged)
        task = "roles" if name == "easy" else f"roles_{name}"
        by_role = f1_score(truth, said, labels=list(PLANTED), average=None, zero_division=0.0)
        found[f"{task}.macro_f1.evidence"] = float(by_role.mean())
        found[f"{task}.events.evidence"] = float(len(truth))
        if name == "easy":
            found |= {f"roles_of.f1.{role}": float(value) for role, value in zip(PLANTED, by_role, strict=True)}
        progress("roles", done, len(asked))
    return found


def read_roles(planted: Planted, judged: int) -> tuple[list[str], list[Role]]:
    """The true role and the one that the evidence reasoner believes most, for every event whose role is known."""
    evidence = compute_evidence(planted.events, planted.items, at=planted.end, options=options_of(planted.shop))
    reasoner = EvidenceReasoner(evidence, Market(planted.events, planted.items))
    observer = LogObserver(planted.events, planted.items, max_events=EVERYTHING)
    known = dict(planted.roles.iter_rows())
    truth: list[str] = []
    said: list[Role] = []
    for user in planted.events["user"].unique().sort().head(judged):
        beliefs = reasoner.beliefs(observer.observe(user, planted.end))
        for event, roles in beliefs.items():
            if event in known:
                role = max(roles, key=lambda one: (roles[one].probability, -ROLES.index(one)))
                truth.append(known[event])
                said.append(role if roles[role].probability >= RESOLVED else "unresolved")
    return truth, said
