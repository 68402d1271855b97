"""Tokens: input and output tokens of one decision, answers from a cache included; 0 and up, less is better."""

from __future__ import annotations

from .grade import Graded, Grader


def grade(graded: Graded) -> float | None:
    return float(sum(one.input_tokens + one.output_tokens for one in graded.asked))


GRADER = Grader("tokens", grade, better=-1, unit="tokens", high=float("inf"))
