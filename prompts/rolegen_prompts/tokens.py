"""How many tokens a text will cost, before any endpoint has counted them."""

from __future__ import annotations

_BYTES_PER_TOKEN = 3
"""English prose has about 4 bytes a token, tables of ids and prices about 3, other scripts 3 to 4: the safe side."""


def estimate_tokens(text: str) -> int:
    """A cautious estimate that needs no vocabulary; the endpoint's own usage replaces it once it is known."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)
