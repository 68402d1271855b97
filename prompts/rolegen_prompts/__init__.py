"""Prompts as versioned text files, and the small registry that renders them. Knows no LLM client and no graph."""

from __future__ import annotations

from .lint import Finding, lint, read_all
from .pack import PromptPack
from .parts import parts_of, with_parts
from .prompt import Message, Prompt
from .quoting import Quoted, fence, inline
from .tokens import estimate_tokens
from .versions import difference, next_version

__all__ = [
    "Finding",
    "Message",
    "Prompt",
    "PromptPack",
    "Quoted",
    "difference",
    "estimate_tokens",
    "fence",
    "inline",
    "lint",
    "next_version",
    "parts_of",
    "read_all",
    "with_parts",
]
