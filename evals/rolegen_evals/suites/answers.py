"""Recorded answers of a run as JSON lines: a suite is repeated from them without an endpoint and without a key.

Unlike inspect's own cache, which is made of pickles and belongs to one machine, such a file may be committed, read and trusted:
it holds the digest of a request and the text that came back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rolegen_errors import InputError
from rolegen_prompts import Message

ANSWERS = "answers.jsonl"


class Recorded(BaseModel):
    """One answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: str
    raw: str
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)


def request_digest(model: str, messages: Sequence[Message], schema: Mapping[str, Any]) -> str:
    """sha256 over model name, conversation and wanted shape: equal requests have equal ones, whatever the address."""
    content = [model, [[one.role, one.content] for one in messages], schema]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_answers(answers: Iterable[Recorded], file: Path) -> None:
    """Write each request's answer once, in the order of the digests, so that equal runs give equal files."""
    unique = {one.request: one for one in answers}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(unique[key].model_dump_json() + "\n" for key in sorted(unique)), "utf-8")


def read_answers(file: Path) -> dict[str, Recorded]:
    """By request.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
        found = [Recorded.model_validate_json(line) for line in lines]
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(f"the recorded answers cannot be read: {error}", where=str(file)) from error
    return {one.request: one for one in found}
