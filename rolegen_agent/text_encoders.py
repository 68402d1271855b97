"""From the name in ``[backbone] encoder`` to what embeds the items' texts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import SecretStr

from rolegen_errors import ProjectError

from .llm.models import NO_KEY
from .plugins import load_named
from .settings import LlmSettings

if TYPE_CHECKING:
    from rolegen_backbone.text_encoder import TextEncoder


def text_encoder(name: str, llm: LlmSettings) -> TextEncoder | None:
    """An encoder by name.

    Args:
        name: ``tfidf``, ``sentence``, ``openai:MODEL`` at the endpoint of ``llm``, or ``module:attribute`` of any
            ``Embeddings`` of langchain-core, or of a function without arguments that makes one; or the name of
            an entry point of the group ``rolegen.encoders``.

    Returns:
        None for ``tfidf``, which is fitted with the backbone.

    Raises:
        ProjectError: there is nothing of that name, or it does not embed texts.
        MissingExtraError: ``sentence`` without its extra.
    """
    if name == "tfidf":
        return None
    if name == "sentence":
        from rolegen_backbone.text_encoder import SentenceEncoder

        return SentenceEncoder()
    module, _, attribute = name.partition(":")
    if module == "openai" and attribute:
        from langchain_openai import OpenAIEmbeddings

        key = llm.api_key.get_secret_value() if llm.api_key else os.environ.get("OPENAI_API_KEY") or NO_KEY
        return OpenAIEmbeddings(
            model=attribute,
            openai_api_base=llm.base_url,
            openai_api_key=SecretStr(key),
            request_timeout=llm.timeout_s,
            max_retries=llm.retries,
            # Else it sends token numbers, which few servers but OpenAI's take, after a download of the vocabulary.
            check_embedding_ctx_length=False,
        )
    fix = "[backbone] encoder: write tfidf, sentence, openai:MODEL, or module:attribute of a langchain Embeddings"
    found = load_named(name, group="rolegen.encoders", what="text encoder", fix=fix)
    encoder = found if hasattr(found, "embed_documents") and not isinstance(found, type) else found()
    if not hasattr(encoder, "embed_documents"):
        raise ProjectError(f"{name!r} gives a {type(encoder).__name__}, which does not embed documents", fix=fix)
    embeds: TextEncoder = encoder
    return embeds
