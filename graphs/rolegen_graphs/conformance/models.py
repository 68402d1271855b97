"""What the loop needs of a chat model and of embeddings, beyond their classes of langchain-core."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .rules import Rules

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.language_models import BaseChatModel

THREADS = 4
CLOSE = 1e-3
"""vectors of one text may differ so much with what stands beside it: kernels round otherwise in batches"""
TEXTS = ("a red lamp", "christmas lights, warm white", "cake tin")
ODD = ("", " ", "\u202e<script>x</script>", "lamp " * 5_000, "灯 🕯")
"""titles that real catalogues have"""


def check_chat_model(chat: BaseChatModel) -> None:
    """Hold a chat model against what the loop needs. It is asked about eight short questions.

    - A system and a user message have an answer with text, also without blocking an event loop, and from several threads.
    - Streamed, the answer has text too: :meth:`RoleGen.stream` shows it as it comes.
    - Counted tokens, where there are any, are not negative; without them budgets count estimates.

    Whether it reasons well enough is another question: ``check_reasoner(LlmReasoner(…), seen=…)`` asks for the loop's answers,
    and ``rolegen eval run`` judges them. For all of LangChain's rules there is the package ``langchain-tests``.

    Raises:
        ConformanceError: with every rule that does not hold.
    """
    asked = [("system", "You answer in one word."), ("human", "Which colour has the sky?")]
    with Rules(chat) as rules:
        found = rules.ask("a question", chat.invoke, asked)
        if found is not None:
            rules.hold("an answer has text", bool(_text(found)), found.content)
            usage = getattr(found, "usage_metadata", None) or {}
            counts = [usage.get("input_tokens", 0), usage.get("output_tokens", 0)]
            rules.hold("tokens are counts", all(isinstance(one, int) and one >= 0 for one in counts), counts)
        # A loop of its own in a thread: the caller may be in one already.
        with ThreadPoolExecutor(1) as pool:
            waited = rules.ask("without blocking", lambda: pool.submit(asyncio.run, chat.ainvoke(asked)).result())
        rules.hold("an answer that was waited for has text", waited is None or bool(_text(waited)))
        streamed = rules.ask("in a stream", lambda: "".join(_text(part) for part in chat.stream(asked)))
        rules.hold("a streamed answer has text", streamed is None or bool(streamed))
        with ThreadPoolExecutor(THREADS) as pool:
            several = rules.ask("several threads", lambda: list(pool.map(chat.invoke, [asked] * THREADS)))
        rules.hold("each thread has an answer", several is None or all(_text(one) for one in several))


def check_embeddings(embeddings: Embeddings, *, texts: Sequence[str] = TEXTS) -> None:
    """Hold embeddings against what grounding and the backbone's tokenizer need.

    - One vector for each text, in order, all of one length, with finite numbers; none for none.
    - Texts that real catalogues have are no error: empty, of 25,000 characters, of any script.
    - A text has the same vector again, alone or in a batch; different texts have different ones.
    - A query's vector has that length too.

    Args:
        texts: two or more different ones, for instance titles of yours.

    Raises:
        ConformanceError: with every rule that does not hold.
    """
    with Rules(embeddings) as rules:
        together = _vectors(rules, embeddings, [*texts, *ODD])
        none = rules.ask("no texts", embeddings.embed_documents, [])
        rules.hold("no text, no vector", none is None or len(none) == 0)
        if together is None:
            return
        for text, vector in zip(texts, together, strict=False):
            alone = _vectors(rules, embeddings, [text])
            rules.hold(
                "a text has the same vector alone and in a batch", alone is None or _near(alone[0], vector), text
            )
        for low, vector in enumerate(together[: len(texts)]):
            twins = [texts[row] for row in range(low) if _near(together[row], vector)]
            rules.hold("different texts have different vectors", not twins, (texts[low], twins))
        query = rules.ask("a query", embeddings.embed_query, texts[0])
        rules.hold("a query is as long as a text", query is None or len(query) == len(together[0]))


def _vectors(rules: Rules, embeddings: Embeddings, texts: Sequence[str]) -> list[list[float]] | None:
    found = rules.ask(f"{len(texts)} texts", embeddings.embed_documents, list(texts))
    if found is None or not rules.hold("one vector for each text", len(found) == len(texts), len(found)):
        return None
    lengths = {len(vector) for vector in found}
    whole = rules.hold("all vectors have one length", len(lengths) == 1 and 0 not in lengths, sorted(lengths))
    finite = rules.hold("vectors have finite numbers", all(math.isfinite(one) for vector in found for one in vector))
    return found if whole and finite else None


def _near(one: Sequence[float], other: Sequence[float]) -> bool:
    size = max(math.hypot(*one), math.hypot(*other), 1e-9)
    return len(one) == len(other) and math.dist(one, other) <= CLOSE * size


def _text(message: Any) -> str:
    content = message.content
    parts = content if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts)
