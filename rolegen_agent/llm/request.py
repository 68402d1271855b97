"""One question to a chat model: what is sent, and the hash by which an equal question is recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig

from rolegen_graphs.words import CallSite
from rolegen_prompts import Message, Prompt, estimate_tokens

StructuredOutput = Literal["json_schema", "json_object", "off"]
Parameters = Mapping[str, str | int | float | bool | None]

_SPEAKERS: Mapping[str, type[BaseMessage]] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}


@dataclass(frozen=True)
class Request:
    """A question as it goes out. ``expected_tokens`` estimates its input, schema included."""

    site: CallSite
    prompt: Prompt
    messages: list[BaseMessage]
    text: str
    """the messages as JSON"""
    extra: dict[str, Any]
    """what is bound beside the messages: the response format"""
    config: RunnableConfig
    hash: str
    """sha256 over model, parameters, response format and messages"""
    expected_tokens: int


def make_request(
    task: str,
    messages: Sequence[Message],
    schema: dict[str, Any],
    *,
    site: CallSite,
    prompt: Prompt,
    model: str,
    parameters: Parameters,
    structured: StructuredOutput,
) -> Request:
    """Everything about a question that does not depend on the network."""
    text = json.dumps([{"role": one.role, "content": one.content} for one in messages], ensure_ascii=False)
    extra = response_format(task, schema, structured)
    whole = json.dumps([model, parameters, extra, text], sort_keys=True, ensure_ascii=False)
    config: RunnableConfig = {
        "run_name": f"rolegen_{task}",
        "metadata": {
            "rolegen_decision": site.decision,
            "rolegen_round": site.round,
            "rolegen_node": site.node,
            "rolegen_prompt": f"{prompt.name}/{prompt.version}",
            "rolegen_prompt_hash": prompt.sha256,
        },
    }
    return Request(
        site=site,
        prompt=prompt,
        messages=[_SPEAKERS[one.role](content=one.content) for one in messages],
        text=text,
        extra=extra,
        config=config,
        hash=hashlib.sha256(whole.encode()).hexdigest(),
        expected_tokens=estimate_tokens(text) + estimate_tokens(json.dumps(extra)),
    )


def response_format(task: str, schema: dict[str, Any], structured: StructuredOutput) -> dict[str, Any]:
    """The response format as a plain dict: with a pydantic class the client library would parse, and lose raw text."""
    match structured:
        case "json_schema":
            wanted = {"name": task, "schema": schema, "strict": True}
            return {"response_format": {"type": "json_schema", "json_schema": wanted}}
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case "off":
            return {}
