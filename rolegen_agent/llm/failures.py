"""What can go wrong between here and a chat model: which failures pass, how long to wait, and how to tell of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import openai
from langchain_core.exceptions import LangChainException
from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from rolegen_prompts import inline

# Providers raise their own classes; an endpoint that answers with something else than the protocol shows as one of the
# plain ones, from deep inside the client. Whatever is not among these is a mistake of ours and passes through.
FAILURES = (
    LangChainException,
    openai.OpenAIError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)

_SHORTEST_SECRET = 8
_TEXT = 500


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later: rate limits, server errors, timeouts, lost connections."""
    if getattr(error, "code", None) == "insufficient_quota":
        return False  # sent as 429, yet no waiting helps
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in (408, 409, 425, 429) or status >= 500
    if getattr(error, "is_retryable", False):
        return True
    return isinstance(error, openai.APIConnectionError | ConnectionError | TimeoutError)


def retry_after_s(error: BaseException) -> float | None:
    """Seconds that the endpoint asks to wait (``Retry-After`` as seconds or date, or ``retry-after-ms``), or None if it
    does not say so in a way that can be understood."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(headers.get(name, "")) / per_second
        except ValueError:
            continue  # not there, or not a number, then a date
        return None if math.isnan(seconds) else max(0.0, seconds)
    try:
        until = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    zoned = until if until.tzinfo else until.replace(tzinfo=UTC)  # "-0000" is UTC too (RFC 5322)
    return max(0.0, (zoned - datetime.now(UTC)).total_seconds())


def advice(error: BaseException) -> str:
    """The next step for a failure."""
    match getattr(error, "status_code", None):
        case 401 | 403:
            return "check OPENAI_API_KEY and what the key may do"
        case 404:
            return "check the model's name and OPENAI_BASE_URL (it usually ends in /v1)"
        case 400 | 422:
            return (
                "the endpoint refuses the request as it is: a setting may not suit the model (temperature = none, "
                "structured_output = 'off'), or the prompt is too long (trajectory_tokens)"
            )
        case 429:
            return "slow down (concurrency), wait, or raise the quota"
        case _:
            return "look at the endpoint; with '--reasoner evidence' no LLM is needed"


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment, any of which may carry a secret."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"


class Redactor:
    """Removes known secrets from texts that will be kept or shown.

    Args:
        secrets: what must never appear. Strings below 8 characters ("EMPTY", "none") are placeholders that local
            servers are given, and ordinary words: they stay.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)

    @staticmethod
    def of(model: BaseChatModel, *more: str) -> Redactor:
        """A redactor for every secret field of a chat model."""
        held = (value.get_secret_value() for value in vars(model).values() if isinstance(value, SecretStr))
        return Redactor([*held, *more])

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "(redacted)")
        return text

    def tell(self, error: BaseException) -> str:
        """One bounded line: the class of the error, its message and those of its causes, without secrets."""
        told = f"{type(error).__name__}: {error}"
        if isinstance(error, AttributeError | TypeError | LookupError | ValueError) and not isinstance(
            error, openai.OpenAIError | LangChainException
        ):
            told = f"its answer does not follow OpenAI's chat completions ({told})"
        cause = error.__cause__
        while cause is not None:  # "Connection error." says nothing; "Connection refused" stands two causes below
            if str(cause) not in told:
                told += f" ({type(cause).__name__}: {cause})"
            cause = cause.__cause__
        return inline(self(told), _TEXT)
