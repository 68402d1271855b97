"""Models of your own: a chat model behind an HTTP service of the house, and embeddings without any download.

Name them in ``rolegen.toml``; any importable ``BaseChatModel`` or ``Embeddings`` of langchain-core will do, or what makes one:

    [parts]
    chat = "own_models:chat"            # or an entry point of the group rolegen.chat_models
    [llm]
    model = "house"                     # its name in traces and in the cache of answers
    [backbone]
    encoder = "own_models:Words"        # or an entry point of the group rolegen.encoders; [grounding] encoder too
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import httpx2
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from sklearn.feature_extraction.text import HashingVectorizer


class HouseChat(BaseChatModel):
    """Posts ``{"lines": [[role, text], …]}`` to a service that answers ``{"text": …, "read": …, "written": …}``."""

    address: str

    @property
    def _llm_type(self) -> str:
        return "house"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **more: Any
    ) -> ChatResult:
        lines = [[message.type, str(message.content)] for message in messages]
        found = httpx2.post(self.address, json={"lines": lines}, timeout=60).raise_for_status().json()
        used = {"input_tokens": found["read"], "output_tokens": found["written"]}
        usage: Any = {**used, "total_tokens": sum(used.values())}
        return ChatResult(generations=[ChatGeneration(message=AIMessage(found["text"], usage_metadata=usage))])


class Words(Embeddings):
    """Hashed words and pairs of words, 512 numbers of length one; nothing is learnt or loaded."""

    def __init__(self) -> None:
        self._hash = HashingVectorizer(n_features=512, ngram_range=(1, 2), norm="l2", alternate_sign=True)

    def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        found: list[list[float]] = self._hash.transform(texts).toarray().tolist() if texts else []
        return found

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def chat() -> HouseChat:
    """For ``[parts] chat``."""
    return HouseChat(address=os.environ["HOUSE_LLM"])
