"""What the fusion's parameters would be if planted worlds decided: ``python -m rolegen_evals.reasoning.default_fusion`` prints JSON.

Fitted where the truth is known: planted shops of ``staged``, easy and usual, with evidence from few users and from many (else nothing tells
how many observations are many), and claims of a perfect, a noisy and a random LLM, a third each, whose stated confidence is drawn alike
whether they are right or not. ``ece`` and ``log_loss`` are of another seed of ``staged`` and of ``pressed``, on which nothing was fitted;
``shipped`` are the stated defaults of ``Fusion``; ``LOG.md`` says why they stayed.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping

from rolegen_agent.evidence import Market, compute_evidence
from rolegen_agent.observer import LogObserver
from rolegen_agent.reasoning import EvidenceReasoner
from rolegen_graphs.fusion import CLASSES, Fusion, FusionCase, fit_fusion

from ..worlds import EASY, WORLDS, Knobs, plant
from .effects import options_of
from .fused import judged_fusion

QUALITY: Mapping[str, float] = {"perfect": 1.0, "noisy": 0.6, "random": 1 / len(CLASSES)}
"""how often each LLM is right; else it names any other role"""
CONFIDENCE = (0.5, 0.95)
USERS = (60, 250, 1_000, 4_000)
"""of the shops, so that items have from a few to thousands of observations"""
JUDGED, CASES = 50, 6_000


def cases_of(world: str, seed: int, knobs: Knobs, *, users: int, judged: int = JUDGED) -> list[FusionCase]:
    """What each LLM would say of every event whose role is known, beside what the log says."""
    planted = plant(WORLDS[world].open(seed, knobs), users, seed=seed)
    evidence = compute_evidence(planted.events, planted.items, at=planted.end, options=options_of(planted.shop))
    reasoner = EvidenceReasoner(evidence, Market(planted.events, planted.items))
    observer = LogObserver(planted.events, planted.items)
    known, luck, found = dict(planted.roles.iter_rows()), random.Random(seed), list[FusionCase]()
    for user in planted.events["user"].unique().sort().head(judged):
        for event, log in reasoner.beliefs(observer.observe(user, planted.end)).items():
            if event not in known:
                continue
            truth = next(role for role in CLASSES if role == known[event])
            for right in QUALITY.values():
                wrong = luck.choice([role for role in CLASSES if role != truth])
                role = truth if luck.random() < right else wrong
                found.append(
                    FusionCase(llm_role=role, llm_confidence=round(luck.uniform(*CONFIDENCE), 2), log=log, truth=truth)
                )
    return found


def main() -> None:
    """Fit, judge, print."""
    learnt = [
        case
        for seed, knobs in ((1, EASY), (2, Knobs()))
        for users in USERS
        for case in cases_of("staged", seed, knobs, users=users)
    ]
    fitted = fit_fusion(random.Random(0).sample(learnt, min(CASES, len(learnt))))
    told: dict[str, object] = {"fitted": fitted.model_dump()}
    for world in ("staged", "pressed"):
        cases = [case for users in USERS for case in cases_of(world, 3, Knobs(), users=users)]
        for name, fusion in (("fitted", fitted), ("shipped", Fusion())):
            told |= {f"{world}.{key}": round(value, 4) for key, value in judged_fusion(name, cases, fusion).items()}
    sys.stdout.write(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
