"""Is the fused confidence what it says? Expected calibration error and log loss of the fusion, by default and fitted.

``fusion.ece.SETTING``, ``fusion.log_loss.SETTING`` and ``fusion.macro_f1.SETTING`` over events that a mixed bag of LLMs labelled (a perfect, a random and
an adversarial one, a third each): ``default`` with the stated parameters, ``fitted`` with those that ``fit_fusion`` found on the other half of the users,
``fitted_perfect`` the same for the perfect one alone; ``llm`` and ``log`` are either side by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import f1_score

from rolegen_backbone.outcome_training import calibration_error
from rolegen_graphs.fusion import CLASSES, Fusion, FusionCase, fit_fusion, pooled
from rolegen_graphs.ports import RoleEvidence
from rolegen_graphs.words import Decision

Cases = list[FusionCase]


def fusion_figures(
    arms: Mapping[str, Mapping[str, Decision]], evidence: RoleEvidence, truth: Mapping[int, str]
) -> dict[str, float]:
    """Figures of the module; ``truth`` is the planted role by event id."""
    halves: dict[str, tuple[Cases, Cases]] = {}
    for name, decisions in arms.items():
        fit: Cases = []
        judge: Cases = []
        for number, made in enumerate(decisions.values()):
            (judge if number % 2 else fit).extend(_cases(made, evidence, truth))
        halves[name] = (fit, judge)
    mixed = [case for _, judge in halves.values() for case in judge]
    fitted = fit_fusion([case for fit, _ in halves.values() for case in fit])
    found = judged_fusion("default", mixed, Fusion()) | judged_fusion("fitted", mixed, fitted)
    found |= judged_fusion("default_perfect", halves["perfect"][1], Fusion())
    found |= judged_fusion("fitted_perfect", halves["perfect"][1], fit_fusion(halves["perfect"][0]))
    found |= judged_fusion("llm", mixed, Fusion(k=1e6, reliability=0.99))
    found |= judged_fusion("log", mixed, Fusion(k=1e-6))
    return found | {
        "fusion.cases.default": float(len(mixed)),
        "fusion.k.fitted": fitted.k,
        "fusion.reliability.fitted": fitted.reliability,
    }


def _cases(made: Decision, evidence: RoleEvidence, truth: Mapping[int, str]) -> Cases:
    beliefs = evidence.beliefs(made.observation)
    return [
        FusionCase(
            llm_role=label.parts.llm_role,
            llm_confidence=label.parts.llm_confidence,
            log=beliefs.get(label.event, {}),
            truth=next(role for role in CLASSES if role == truth[label.event]),
        )
        for label in made.rounds[-1].reading.labels
        if label.parts is not None and label.event in truth
    ]


def judged_fusion(name: str, cases: Sequence[FusionCase], fusion: Fusion) -> dict[str, float]:
    """Calibration error, log loss and macro-F1 of one set of parameters."""
    chances = [pooled(case.llm_role, case.llm_confidence, case.log, fusion) for case in cases]
    said = [max(chance, key=lambda role: chance[role]) for chance in chances]
    right = np.array([role == case.truth for role, case in zip(said, cases, strict=True)], dtype=np.float32)
    sure = np.array([chance[role] for chance, role in zip(chances, said, strict=True)])
    loss = -np.mean([math.log(max(chance[case.truth], 1e-9)) for chance, case in zip(chances, cases, strict=True)])
    present = sorted({case.truth for case in cases})
    f1 = f1_score([case.truth for case in cases], said, labels=present, average="macro", zero_division=0.0)
    return {
        f"fusion.ece.{name}": calibration_error(sure, right),
        f"fusion.log_loss.{name}": float(loss),
        f"fusion.macro_f1.{name}": float(f1),
    }
