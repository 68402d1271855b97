"""Fusion of an LLM's role claim with the log's evidence: a logarithmic opinion pool, weighted by support.

Both sides become distributions over the nine roles that say something (all but ``unresolved``):

- the LLM's claim (role r, confidence c): r has a = reliability * c + (1 - reliability) / 9, the others share the rest
  evenly; ``unresolved`` claims nothing, so it is uniform;
- the log's beliefs: each named role has its probability (scaled down where they add up to more than one), the roles
  that are not named share the rest evenly.

The pool is log p = ((1 - w) log p_llm + w log p_log) / temperature + constant, with w = n / (n + k): few observations n,
and the LLM weighs more (Genest and Zidek 1986, "Combining probability distributions"; with weights that add up to one
the pool is externally Bayesian). ``fit_fusion`` calibrates k, reliability and temperature on cases with a known role.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from rolegen_errors import InputError

from .words import ROLES, LabelParts, Reading, Record, Role, RoleBelief, RoleLabel

CLASSES: tuple[Role, ...] = tuple(role for role in ROLES if role != "unresolved")
"""what a pooled distribution ranges over"""
FEWEST_CASES = 30
"""cases below which nothing is fitted"""
_LEAST = 0.01
"""least mass of all roles together that a side leaves open: no side may rule a role out for certain"""

Beliefs = Mapping[Role, RoleBelief]


class Fusion(Record):
    """Parameters of the pool. The defaults are a choice, not a measurement; ``cases`` says what others were fitted on."""

    k: float = Field(20.0, gt=0, le=1e6, allow_inf_nan=False)
    """observations at which the log weighs as much as the LLM"""
    reliability: float = Field(0.8, ge=0, le=1)
    """how far the LLM's own confidence is to be believed: 0 not at all, 1 as it stands"""
    temperature: float = Field(1.0, gt=0, le=10)
    """above 1 flattens what is pooled, below 1 sharpens it"""
    resolved: float = Field(0.4, ge=0, le=1)
    """a fused role below this confidence is not claimed: the event is unresolved"""
    cases: int = Field(0, ge=0)
    """labelled cases that the parameters were fitted on; 0: the stated defaults"""

    def log_weight(self, support: int) -> float:
        """n / (n + k), in [0, 1)."""
        return support / (support + self.k)


@dataclass(frozen=True, kw_only=True)
class FusionCase:
    """One event whose true role is known, with what both sides said of it."""

    llm_role: Role
    llm_confidence: float
    log: Beliefs
    truth: Role


def pooled(llm_role: Role, llm_confidence: float, log: Beliefs, fusion: Fusion) -> dict[Role, float]:
    """The fused probability of each role in ``CLASSES``; they add up to one."""
    mass = _pool(_of_claim(llm_role, llm_confidence, fusion), _of_log(log), support_of(log), fusion)
    return dict(zip(CLASSES, mass, strict=True))


def support_of(log: Beliefs) -> int:
    """Observations behind the log's side of one event: those of its best supported role."""
    return max((belief.support for belief in log.values()), default=0)


def fuse_label(label: RoleLabel, log: Beliefs, fusion: Fusion) -> RoleLabel:
    """The label with the fused role and confidence, and with both sides beside it.

    Intents stay the LLM's, and so do reason and cited events where its role does; where it does not, the reason says what outweighed it and
    quotes it, and no events are cited. The statistic is the log's for the fused role.
    """
    chances = pooled(label.role, label.confidence, log, fusion)
    role = max(CLASSES, key=lambda one: (round(chances[one], 9), one == label.role, -CLASSES.index(one)))
    confidence, sure = chances[role], chances[role] >= fusion.resolved
    by_log = min(log, key=lambda one: (-log[one].probability, ROLES.index(one)), default=None)
    statistic = log[role].statistic if role in log else label.statistic if role == label.role else None
    return label.model_copy(
        update={
            "role": role if sure else "unresolved",
            "confidence": round(confidence if sure else 1.0 - confidence, 4),
            "evidence": label.evidence if sure and role == label.role else (),
            "why": _why(label, log, role, sure),
            "statistic": statistic if sure else None,
            "parts": LabelParts(
                llm_role=label.role,
                llm_confidence=label.confidence,
                log_role=by_log,
                log_probability=log[by_log].probability if by_log else 0.0,
                log_for_llm_role=log[label.role].probability if label.role in log else 0.0,
                support=support_of(log),
                log_weight=round(fusion.log_weight(support_of(log)), 4),
            ),
        }
    )


def _why(label: RoleLabel, log: Beliefs, role: Role, sure: bool) -> str:
    """Why the fused label has its role: in the LLM's own words where it is the LLM's role."""
    if sure and role == label.role:
        return label.why
    told = f"the LLM said {label.role} ({label.confidence:.2f})" + (f": {label.why}" if label.why else "")
    if sure and role in log:
        count = support_of(log)
        return f"the log's evidence for {role} ({log[role].probability:.2f}, {count} observations) outweighs the LLM's; {told}"
    if sure:
        return f"what the log leaves open outweighs what either side names; {told}"
    best = max(log, key=lambda one: (log[one].probability, -ROLES.index(one)), default=None)
    other = "the log says nothing" if best is None else f"the log says {best} ({log[best].probability:.2f})"
    return f"neither side is sure enough: {other}, {told}"


def fuse_reading(reading: Reading, beliefs: Mapping[int, Beliefs], fusion: Fusion) -> Reading:
    """Every label of an LLM's reading with the log's evidence for its event; the intent stays the LLM's."""
    return reading.model_copy(
        update={"labels": tuple(fuse_label(label, beliefs.get(label.event, {}), fusion) for label in reading.labels)}
    )


def fit_fusion(cases: Sequence[FusionCase], *, resolved: float = 0.4) -> Fusion:
    """Parameters that minimise the log loss of the true roles, with a weak pull to the defaults.

    The pull is a unit normal prior on log k, logit reliability and log temperature, worth as much as one case: it
    decides only what the cases leave open.

    Raises:
        InputError: fewer than ``FEWEST_CASES`` cases, or one whose truth is ``unresolved``.
    """
    # scipy is heavy, and nobody needs it to decide.
    from scipy import optimize

    if len(cases) < FEWEST_CASES:
        raise InputError(
            f"{len(cases)} cases are too few to calibrate the fusion",
            fix=f"label at least {FEWEST_CASES} events, or keep the defaults",
        )
    for number, case in enumerate(cases):
        if case.truth not in CLASSES:
            raise InputError(f"the true role is {case.truth!r}", where=f"case {number}", fix="leave such cases out")
    start = _free(Fusion())
    logs = [(_of_log(case.log), support_of(case.log), CLASSES.index(case.truth)) for case in cases]

    def loss(free: Sequence[float]) -> float:
        fusion = _fusion(free, resolved, len(cases))
        total = sum((one - default) ** 2 for one, default in zip(free, start, strict=True)) / 2
        for case, (belief, support, truth) in zip(cases, logs, strict=True):
            claim = _of_claim(case.llm_role, case.llm_confidence, fusion)
            total -= math.log(_pool(claim, belief, support, fusion)[truth])
        return total / len(cases)

    found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(-3.0, 9.0), (-6.0, 6.0), (-2.0, 2.0)])
    best = _fusion([float(one) for one in found.x], resolved, len(cases))
    return best.model_copy(update={name: round(getattr(best, name), 6) for name in ("k", "reliability", "temperature")})


def _pool(claim: Sequence[float], belief: Sequence[float], support: int, fusion: Fusion) -> list[float]:
    """The pooled probabilities in the order of ``CLASSES``, from both sides in the same order."""
    weight = fusion.log_weight(support)
    scores = [
        ((1 - weight) * math.log(p) + weight * math.log(q)) / fusion.temperature
        for p, q in zip(claim, belief, strict=True)
    ]
    top = max(scores)
    mass = [math.exp(score - top) for score in scores]
    total = sum(mass)
    return [one / total for one in mass]


def _of_claim(role: Role, confidence: float, fusion: Fusion) -> list[float]:
    even = 1 / len(CLASSES)
    if role not in CLASSES:
        return [even] * len(CLASSES)
    # Half of the least open mass on either end, so that no logarithm of zero is asked for.
    sure = min(max(fusion.reliability * confidence + (1 - fusion.reliability) * even, _LEAST / 2), 1 - _LEAST / 2)
    return [sure if one == role else (1 - sure) / (len(CLASSES) - 1) for one in CLASSES]


def _of_log(log: Beliefs) -> list[float]:
    named = {role: belief.probability for role, belief in log.items() if role in CLASSES}
    total = sum(named.values())
    scale = min(1.0, (1 - _LEAST) / total) if total > 0 else 1.0
    silent = len(CLASSES) - len(named)
    # What the named roles leave open belongs to the others, or to all where every role is named.
    rest = (1 - scale * total) / (silent or len(CLASSES))
    found = [scale * named[role] + (0 if silent else rest) if role in named else rest for role in CLASSES]
    floored = [max(one, _LEAST / len(CLASSES)) for one in found]
    return [one / sum(floored) for one in floored]


def _free(fusion: Fusion) -> list[float]:
    """Parameters without bounds: log k, logit reliability, log temperature."""
    return [
        math.log(fusion.k),
        math.log(fusion.reliability / (1 - fusion.reliability)),
        math.log(fusion.temperature),
    ]


def _fusion(free: Sequence[float], resolved: float, cases: int) -> Fusion:
    k, reliability, temperature = free
    return Fusion(
        k=math.exp(k),
        reliability=1 / (1 + math.exp(-reliability)),
        temperature=math.exp(temperature),
        resolved=resolved,
        cases=cases,
    )
