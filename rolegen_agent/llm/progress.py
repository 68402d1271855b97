"""What whoever streams the surrounding graph with ``stream_mode="custom"`` learns of each call."""

from __future__ import annotations

from typing import Literal

from langgraph.config import get_stream_writer

from rolegen_graphs.words import LlmCall


def tell(state: Literal["answered", "cached", "failed"], call: LlmCall) -> None:
    """Hand on how one call ended; nobody hears it where no graph is around or nobody streams it."""
    try:
        write = get_stream_writer()
    except RuntimeError:  # not within a graph
        return
    write(
        {
            "llm": state,
            "decision": call.site.decision,
            "round": call.site.round,
            "node": call.site.node,
            "prompt": f"{call.prompt}/{call.prompt_version}",
            "input_tokens": 0 if state == "cached" else call.input_tokens,
            "output_tokens": 0 if state == "cached" else call.output_tokens,
            "cost_usd": 0.0 if state == "cached" else call.cost_usd,
            "latency_s": 0.0 if state == "cached" else call.latency_s,
            "error": call.error,
        }
    )
