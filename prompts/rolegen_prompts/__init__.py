"""Prompts as versioned text files, and the small registry that renders them. Knows no LLM client and no graph."""

from __future__ import annotations

from .pack import PromptPack
from .prompt import Message, Prompt
from .quoting import Quoted, fence, inline
from .tokens import estimate_tokens

__all__ = ["Message", "Prompt", "PromptPack", "Quoted", "estimate_tokens", "fence", "inline"]
