"""A look at the endpoint before a run starts, so that nobody waits for the first of a thousand failures."""

from __future__ import annotations

import difflib
import os

import openai

from rolegen_errors import ProjectError

from .failures import FAILURES, Redactor, public_url
from .models import NO_KEY

_FALLBACK = "or run with '--reasoner evidence', which needs no LLM"
_OFFICIAL = "https://api.openai.com/v1"


def check_endpoint(base_url: str | None, api_key: str | None, model: str, *, timeout_s: float = 10.0) -> None:
    """Make sure that ``model`` can be asked at ``base_url``. Costs nothing where the endpoint lists its models.

    A model that is not listed (an alias, a gateway with wildcards, a server without a list) is asked for one word.

    Args:
        base_url: None takes ``OPENAI_BASE_URL``, else OpenAI's own address.
        api_key: None takes ``OPENAI_API_KEY``.
        model: the model's name.
        timeout_s: seconds for each of the at most two requests.

    Raises:
        ProjectError: the endpoint is unreachable, refuses the key, does not speak the protocol or does not know the
            model; the message says which, and never holds the key.
    """
    url = base_url or os.environ.get("OPENAI_BASE_URL") or _OFFICIAL
    key = api_key or os.environ.get("OPENAI_API_KEY") or ""
    where = public_url(url)
    if not key and url == _OFFICIAL:
        raise ProjectError(
            "no API key is set",
            where=where,
            fix=f"set OPENAI_API_KEY, or OPENAI_BASE_URL to a local server, {_FALLBACK}",
        )
    redact = Redactor([key])
    client = openai.OpenAI(base_url=url, api_key=key or NO_KEY, max_retries=0, timeout=timeout_s)
    problem: ProjectError | None = None
    listed: list[str] = []
    try:
        listed = [one.id for one in client.models.list().data]
    except FAILURES as error:
        problem = _fatal(error, where, redact)
    if problem is None and model not in listed:
        try:
            said = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Say OK."}], max_completion_tokens=16
            )
            if not said.choices:
                problem = _no_protocol(where, "it answered without choices")
        except FAILURES as error:
            problem = _fatal(error, where, redact) or _refused(error, where, redact, model, listed)
    client.close()
    if problem is not None:
        raise problem


def _fatal(error: BaseException, where: str, redact: Redactor) -> ProjectError | None:
    """A failure that no second request can change; None for one that may be due to this request alone."""
    if isinstance(error, openai.APITimeoutError):
        return ProjectError(
            "the LLM endpoint does not answer in time", where=where, fix=f"is it up? Try again, {_FALLBACK}"
        )
    if isinstance(error, openai.APIConnectionError):
        return ProjectError(
            f"the LLM endpoint cannot be reached: {redact.tell(error)}",
            where=where,
            fix=f"start the server or correct OPENAI_BASE_URL, {_FALLBACK}",
        )
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return ProjectError(
            f"the LLM endpoint refuses the API key: {redact.tell(error)}",
            where=where,
            fix=f"check OPENAI_API_KEY, {_FALLBACK}",
        )
    if isinstance(error, openai.InternalServerError | openai.RateLimitError):
        return ProjectError(
            f"the LLM endpoint is up but cannot answer now: {redact.tell(error)}",
            where=where,
            fix=f"try later, {_FALLBACK}",
        )
    return None


def _refused(error: BaseException, where: str, redact: Redactor, model: str, listed: list[str]) -> ProjectError:
    if not isinstance(error, openai.APIStatusError):
        return _no_protocol(where, redact.tell(error))
    if not listed and isinstance(error, openai.NotFoundError):
        return _no_protocol(where, redact.tell(error))
    near = difflib.get_close_matches(model, listed, n=5, cutoff=0.3) or listed[:5]
    known = f"it offers for instance {', '.join(near)}; " if near else ""
    return ProjectError(
        f"the LLM endpoint does not accept model '{model}': {redact.tell(error)}",
        where=where,
        fix=f"{known}set another model, {_FALLBACK}",
    )


def _no_protocol(where: str, told: str) -> ProjectError:
    return ProjectError(
        f"something answers there, but not with OpenAI's chat completions: {told}",
        where=where,
        fix=f"OPENAI_BASE_URL usually ends in /v1, {_FALLBACK}",
    )
