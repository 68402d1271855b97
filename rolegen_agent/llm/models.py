"""Construction of the default chat model: any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

NO_KEY = "none"
"""sent where no key is set: local servers want none, the client library wants some"""


def chat_model(
    model: str,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout_s: float = 60.0,
    temperature: float | None = 0.0,
    max_output_tokens: int | None = None,
    seed: int | None = None,
    extra_body: Mapping[str, Any] | None = None,
) -> BaseChatModel:
    """A chat model on any OpenAI-compatible endpoint. Makes no request.

    Args:
        model: the name that the endpoint knows. Hosted families' prefixes are fine on a custom endpoint.
        base_url: None takes ``OPENAI_BASE_URL``, else OpenAI's own address.
        api_key: None takes ``OPENAI_API_KEY``.
        timeout_s: seconds for one answer, from sending the request to its last byte.
        temperature: None leaves it to the endpoint; some models accept no other than their own.
        max_output_tokens: bound of one answer, reasoning tokens included; None leaves it to the endpoint.
        seed: for endpoints that sample repeatably.
        extra_body: further fields of each request that an endpoint knows beyond OpenAI's.
    """
    import os

    from langchain_openai import ChatOpenAI

    from .deadline import http_client

    return ChatOpenAI(
        model=model,
        base_url=base_url,
        api_key=SecretStr(api_key or os.environ.get("OPENAI_API_KEY") or NO_KEY),
        timeout=timeout_s,
        http_client=http_client(timeout_s),
        temperature=temperature,
        max_completion_tokens=max_output_tokens,
        seed=seed,
        extra_body=dict(extra_body) if extra_body else None,
        max_retries=0,  # retries would multiply: there is one boundary, in the client
        use_responses_api=False,  # else some model names go to /v1/responses, which few servers have
        stream_usage=True,  # else usage is lost when the graph streams from a custom endpoint
        cache=False,  # the one cache is the call log
    )
