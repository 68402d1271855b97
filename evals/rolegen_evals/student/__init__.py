"""``rolegen bench student``: how much of a teacher's gain a student keeps that asks no LLM."""
