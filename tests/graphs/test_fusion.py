"""Fused role labels: who wins when, what stays visible, and that fitting finds what generated the cases."""

from __future__ import annotations

import math
import random

import pytest
from pydantic import ValidationError

from rolegen_errors import InputError
from rolegen_graphs.fusion import CLASSES, Fusion, FusionCase, fit_fusion, fuse_label, fuse_reading, pooled
from rolegen_graphs.words import Intent, Reading, Role, RoleBelief, RoleLabel, Statistic

NONE = Intent(stage="none")
LIFT = Statistic(name="lift", value=3.0, low=2.0, high=4.0, support=90, neutral=1.0)


def claim(role: Role, confidence: float) -> RoleLabel:
    return RoleLabel(
        event=1, item="mug", role=role, confidence=confidence, intent_before=NONE, intent_after=NONE, why="because"
    )


def log(role: Role, probability: float, support: int) -> dict[Role, RoleBelief]:
    return {role: RoleBelief(probability=probability, support=support, statistic=LIFT)}


def test_the_more_the_log_has_seen_the_less_the_llm_weighs() -> None:
    chances = [pooled("bridge", 0.9, log("target", 0.9, n), Fusion())["target"] for n in (0, 5, 20, 80, 10_000)]
    assert chances == sorted(chances) and chances[0] < 0.1 and chances[-1] > 0.85
    assert pooled("bridge", 0.9, log("target", 0.8, 20), Fusion(reliability=1.0, k=20.0)) == pytest.approx(
        pooled("target", 0.8, log("bridge", 0.9, 20), Fusion(reliability=1.0, k=20.0)), abs=1e-12
    ), "at n = k both sides weigh the same"


def test_a_pool_by_hand() -> None:
    # Nine classes, w = 30 / (30 + 10): the LLM's role gets 0.7 * 0.9 + 0.3 / 9, the log's its 0.6.
    fusion = Fusion(k=10.0, reliability=0.7, temperature=2.0)
    llm = 0.7 * 0.9 + 0.3 / 9
    bridge = math.exp((0.25 * math.log(llm) + 0.75 * math.log(0.4 / 8)) / 2)
    target = math.exp((0.25 * math.log((1 - llm) / 8) + 0.75 * math.log(0.6)) / 2)
    others = 7 * math.exp((0.25 * math.log((1 - llm) / 8) + 0.75 * math.log(0.4 / 8)) / 2)
    found = pooled("bridge", 0.9, log("target", 0.6, 30), fusion)
    assert found["target"] == pytest.approx(target / (bridge + target + others))
    assert found["bridge"] == pytest.approx(bridge / (bridge + target + others))
    assert sum(found.values()) == pytest.approx(1) and set(found) == set(CLASSES)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_no_side_can_rule_anything_out_for_certain(confidence: float, probability: float) -> None:
    everything = {role: RoleBelief(probability=probability, support=10**6) for role in CLASSES}
    for beliefs in (log("target", probability, 10**9), everything, {}):
        found = pooled("bridge", confidence, beliefs, Fusion(reliability=1.0))
        assert all(0 < one < 1 for one in found.values()) and sum(found.values()) == pytest.approx(1)


def test_without_anything_in_the_log_the_llms_role_stays_with_a_tempered_confidence() -> None:
    fused = fuse_label(claim("anchor", 0.9), {}, Fusion(reliability=0.8))
    assert fused.role == "anchor" and fused.confidence == pytest.approx(0.8 * 0.9 + 0.2 / 9, abs=1e-4)
    assert fused.parts is not None and fused.parts.log_role is None and fused.parts.log_weight == 0


def test_the_reason_is_that_of_the_role_that_won() -> None:
    own = claim("bridge", 0.9).model_copy(update={"evidence": (1,)})
    kept = fuse_label(own, {}, Fusion())
    assert (kept.role, kept.why, kept.evidence) == ("bridge", "because", (1,))
    lost = fuse_label(own, log("target", 0.9, 180), Fusion())
    assert lost.role == "target" and lost.evidence == (), "events cited for another role support nothing here"
    assert lost.why == (
        "the log's evidence for target (0.90, 180 observations) outweighs the LLM's; the LLM said bridge (0.90): because"
    )
    unsure = fuse_label(claim("bridge", 0.9), log("target", 0.8, 20), Fusion(resolved=0.6))
    assert unsure.why == (
        "neither side is sure enough: the log says target (0.80), the LLM said bridge (0.90): because"
    )


def test_both_sides_stay_in_the_label_and_the_llms_words_too() -> None:
    fused = fuse_label(claim("bridge", 0.7), log("target", 0.9, 180), Fusion())
    assert fused.role == "target" and fused.statistic == LIFT and fused.why.endswith("because")
    parts = fused.parts
    assert parts is not None
    assert (parts.llm_role, parts.llm_confidence) == ("bridge", 0.7)
    assert (parts.log_role, parts.log_probability, parts.support, parts.log_weight) == ("target", 0.9, 180, 0.9)
    assert parts.log_for_llm_role == 0.0


def test_where_both_are_unsure_or_at_odds_the_event_is_unresolved() -> None:
    odds = fuse_label(claim("bridge", 0.9), log("target", 0.8, 20), Fusion(resolved=0.6))
    assert odds.role == "unresolved" and odds.confidence > 0.4 and odds.statistic is None
    assert odds.parts is not None and odds.parts.llm_role == "bridge"
    unsure = fuse_label(claim("bridge", 0.2), {}, Fusion())
    assert unsure.role == "unresolved"


def test_an_llm_that_does_not_know_leaves_the_role_to_a_log_that_does() -> None:
    assert fuse_label(claim("unresolved", 0.9), log("gateway", 0.9, 500), Fusion()).role == "gateway"
    assert fuse_label(claim("unresolved", 0.9), log("gateway", 0.9, 1), Fusion()).role == "unresolved"


def test_a_reading_keeps_its_intent_and_the_order_of_its_labels() -> None:
    first, second = claim("bridge", 0.9), claim("target", 0.9).model_copy(update={"event": 2})
    intent = Intent(stage="browsing", category="Light")
    fused = fuse_reading(Reading(labels=(first, second), intent=intent), {2: log("target", 0.9, 50)}, Fusion())
    assert [label.event for label in fused.labels] == [1, 2] and fused.intent == intent
    assert [label.parts.support for label in fused.labels if label.parts] == [0, 50]


def world(number: int, *, reliable: float, seed: int = 1) -> list[FusionCase]:
    """Cases whose LLM says 0.9 and is right with ``reliable``, and whose log is right with its probability."""
    rng, cases = random.Random(seed), []
    for _ in range(number):
        truth = rng.choice(CLASSES)
        said = truth if rng.random() < reliable else rng.choice([role for role in CLASSES if role != truth])
        support = rng.choice([0, 5, 50, 500])
        right = rng.random() < support / (support + 25)
        seen = truth if right else rng.choice([role for role in CLASSES if role != truth])
        beliefs = log(seen, 0.8, support) if support else {}
        cases.append(FusionCase(llm_role=said, llm_confidence=0.9, log=beliefs, truth=truth))
    return cases


def loss(cases: list[FusionCase], fusion: Fusion) -> float:
    told = [-math.log(pooled(one.llm_role, one.llm_confidence, one.log, fusion)[one.truth]) for one in cases]
    return sum(told) / len(told)


def test_fitting_believes_an_llm_as_far_as_it_deserves_and_pays_on_other_cases() -> None:
    good, bad = fit_fusion(world(300, reliable=0.85)), fit_fusion(world(300, reliable=0.2))
    assert bad.k < good.k, "the log takes over sooner where the LLM is worth less"
    for fitted, reliable in ((good, 0.85), (bad, 0.2)):
        alone = pooled("target", 0.9, {}, fitted)["target"]
        assert alone == pytest.approx(reliable, abs=0.1), "a claim of 90 % comes true as often as it really does"
        unseen = world(300, reliable=reliable, seed=2)
        assert loss(unseen, fitted) < loss(unseen, Fusion())
    assert good.cases == 300 and Fusion().cases == 0, "a default says that it is none that was fitted"
    assert fit_fusion(world(300, reliable=0.85)) == good


def test_too_few_or_unlabelled_cases_are_refused() -> None:
    with pytest.raises(InputError, match="29 cases are too few"):
        fit_fusion(world(29, reliable=0.8))
    unlabelled = FusionCase(llm_role="target", llm_confidence=0.5, log={}, truth="unresolved")
    with pytest.raises(InputError, match="case 30"):
        fit_fusion([*world(30, reliable=0.8), unlabelled])


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": math.inf}, {"reliability": 1.1}, {"temperature": 0}, {"unknown": 1}])
def test_parameters_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Fusion.model_validate(wrong)
