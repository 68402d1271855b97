"""Claims by name and in words: one id for one claim, whoever proposes it."""

from __future__ import annotations

import hashlib
import json

from rolegen_graphs.words import Claim, Direction, LessonEffect, Subject

from .statistics import Tested

_NAMES: dict[Subject, str] = {"role": "items in the role", "path": "the path", "category": "the category"}


def lesson_id(scope: tuple[str, str], claim: Claim) -> str:
    """The natural key of a claim in a scope, as 16 hexadecimal digits."""
    key = json.dumps([*scope, claim.subject, claim.value, claim.direction])
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def claim_of(tested: Tested) -> Claim:
    """What outcomes say so far: lead with what raised orders, avoid what lowered them."""
    direction: Direction = "lead" if tested.effect.change > 0 else "avoid"
    return Claim(subject=tested.subject, value=tested.value, direction=direction)


def claim_words(scope: tuple[str, str], claim: Claim) -> str:
    """``Lead with the path 'season' for lapsed/4+ orders/90-180 days.``"""
    verb = "Lead with" if claim.direction == "lead" else "Do not lead with"
    whom = {"all": "everybody", "cohort": scope[1], "user": "this customer"}[scope[0]]
    return f"{verb} {_NAMES[claim.subject]} '{claim.value}' for {whom}."


def effect_words(effect: LessonEffect) -> str:
    """What outcomes say, in one line; the difference is adjusted and shrunk, the rates are counted."""
    return (
        f"{effect.rate_led:.1%} of {effect.led:,} decisions that led with it were ordered from, {effect.rate_others:.1%} of "
        f"{effect.others:,} others; adjusted {effect.change * 100:+.1f} points [{effect.low * 100:+.1f}, {effect.high * 100:+.1f}]"
    )


def supports(claim: Claim, led: bool, ordered: bool) -> bool:
    """Whether an outcome is what the claim says: ordered where it was followed, not ordered where it was not."""
    followed = led if claim.direction == "lead" else not led
    return followed == ordered
