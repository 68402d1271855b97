"""One prompt: a Markdown file with front matter, rendered into messages.

The file's body is divided by the lines ``# System``, ``# User`` and ``# Assistant``; it is divided before any data is
filled in, so data can never open a message. Templates run in Jinja's sandbox. Texts must pass one of the filters
``fence`` (a block), ``inline`` (a field) or ``answer`` (the model's own answer); numbers may be printed as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import frontmatter
import yaml
from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, meta
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rolegen_errors import PromptError

from .quoting import Quoted, answer, fence, inline

Speaker = Literal["system", "user", "assistant"]
_SECTIONS: dict[str, Speaker] = {f"# {speaker.capitalize()}": speaker for speaker in get_args(Speaker)}
_KEYS = {"name", "version", "variables", "output", "note"}
_MAY = {"draft", "lineage"}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation with a chat model."""

    role: Speaker
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as it stands in its file. ``sha256`` is the digest of the file's text with LF line ends."""

    name: str
    version: int
    variables: tuple[str, ...]
    output: str | Mapping[str, Any] | None
    """name of the answer's schema, an inline JSON schema, or None when the answer's schema is the caller's"""
    note: str
    """what changed in this version and why"""
    sha256: str
    path: Path
    text: str = field(repr=False)
    """the whole file, so that a memory can keep it for its traces"""
    body: str = field(repr=False)
    """what follows the front matter"""
    used: frozenset[str]
    """variables that the template really prints or asks about"""
    _sections: tuple[tuple[Speaker, Template], ...] = field(repr=False, compare=False)
    draft: bool = False
    """not in use: it is never the current version of its name"""
    lineage: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """where it comes from, if a program wrote it"""

    @staticmethod
    def read(path: Path) -> Prompt:
        """Read and check a prompt file called ``<name>/<version>.md``.

        Raises:
            PromptError: the file cannot be read, its front matter or its template is malformed, or it uses a
                variable that it does not declare.
        """
        try:
            text = path.read_text(encoding="utf-8")
            post = frontmatter.loads(text)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PromptError(f"the prompt file cannot be read: {error}", where=str(path)) from error
        head: dict[str, object] = post.metadata
        if set(head) - _MAY != _KEYS:
            odd = ", ".join(sorted((set(head) - _MAY) ^ _KEYS, key=str))
            raise PromptError(
                f"the front matter must have the keys {', '.join(sorted(_KEYS))}, and may have {', '.join(sorted(_MAY))};"
                f" missing or unknown: {odd}",
                where=str(path),
                fix="start from a copy of the default prompt of that name",
            )
        name, version, note = head["name"], head["version"], head["note"]
        if name != path.parent.name or str(version) != path.stem or type(version) is not int or version < 1:
            raise PromptError(
                f"name {name!r} and version {version!r} do not fit the file's place",
                where=str(path),
                fix="a prompt lies at <name>/<version>.md, and its version is a whole number from 1",
            )
        if not isinstance(note, str) or not note.strip():
            raise PromptError("the change note is empty", where=str(path), fix="say in 'note' what changed and why")
        output = head["output"]
        if output is not None and not isinstance(output, str | dict):
            raise PromptError("'output' is neither a schema's name nor a JSON schema", where=str(path))
        draft, lineage = head.get("draft", False), head.get("lineage", {})
        if not isinstance(draft, bool) or not isinstance(lineage, dict):
            raise PromptError("'draft' is not true or false, or 'lineage' is not a list of keys", where=str(path))
        variables = head["variables"]
        if not isinstance(variables, list) or not all(isinstance(v, str) and v.isidentifier() for v in variables):
            raise PromptError("'variables' is not a list of names", where=str(path))
        sections, used = _parse(str(post.content), set(variables), path)
        return Prompt(
            name=str(name),
            version=version,
            variables=tuple(variables),
            output=output,
            note=note.strip(),
            sha256=hashlib.sha256(text.encode()).hexdigest(),  # read_text has turned CRLF into LF
            path=path,
            text=text,
            body=str(post.content).strip(),
            used=used,
            draft=draft,
            lineage=lineage,
            _sections=sections,
        )

    def render(self, **variables: str | int | float) -> tuple[Message, ...]:
        """The messages of this prompt, in the order of its sections.

        Raises:
            PromptError: a declared variable is missing, an unknown one is given, or a text is printed unquoted.
        """
        missing, unknown = set(self.variables) - set(variables), set(variables) - set(self.variables)
        if missing or unknown:
            said = [f"missing: {', '.join(sorted(missing))}"] if missing else []
            said += [f"unknown: {', '.join(sorted(unknown))}"] if unknown else []
            raise PromptError(
                f"prompt '{self.name}' version {self.version} was rendered with wrong variables; {'; '.join(said)}",
                where=str(self.path),
                fix=f"it declares: {', '.join(self.variables) or 'none'}",
            )
        messages: list[Message] = []
        for speaker, template in self._sections:
            try:
                content = template.render(variables)
            except PromptError as error:
                raise PromptError(error.what, where=f"{self.path}, # {speaker.capitalize()}", fix=error.fix) from error
            except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
                raise PromptError(
                    f"the template failed: {error}", where=f"{self.path}, # {speaker.capitalize()}"
                ) from error
            messages.append(Message(speaker, content.strip()))
        return tuple(messages)


def _printable(value: object) -> object:
    """Jinja's last step before a value is printed: the place where unquoted text is stopped."""
    if isinstance(value, Quoted | Undefined) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value  # an Undefined raises by itself when it is printed
    raise PromptError(
        f"a value of type {type(value).__name__} is printed without quoting",
        fix="pass texts through one of the filters fence('name'), inline or answer as the last filter",
    )


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox without arithmetic: a prompt chooses and prints, and cannot spend memory or time."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        raise SecurityError(f"the operator {operator} is not available in a prompt")


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Sandbox(
        undefined=StrictUndefined, finalize=_printable, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters = {"fence": fence, "inline": inline, "answer": answer}
    environment.globals.clear()  # no range, no cycler: whatever a prompt uses, it declares
    return environment


def _parse(body: str, declared: set[str], path: Path) -> tuple[tuple[tuple[Speaker, Template], ...], frozenset[str]]:
    """The sections in order, and the variables that they use."""
    sections: list[tuple[Speaker, list[str]]] = []
    for line in body.splitlines():
        speaker = _SECTIONS.get(line.rstrip())
        if speaker is not None:
            sections.append((speaker, []))
        elif sections:
            sections[-1][1].append(line)
        elif line.strip():
            raise PromptError("the text before the first section has no speaker", where=str(path), fix="add '# System'")
    if not sections or sections[-1][0] != "user":
        raise PromptError("the prompt must end in a section '# User'", where=str(path))
    environment = _environment()
    parsed: list[tuple[Speaker, Template]] = []
    everywhere: set[str] = set()
    for speaker, lines in sections:
        source = "\n".join(lines)
        try:
            used = meta.find_undeclared_variables(environment.parse(source))
            template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise PromptError(
                f"the template is malformed: {error.message}",
                where=f"{path}, # {speaker.capitalize()}, line {error.lineno} of the section",
            ) from error
        if used - declared:
            raise PromptError(
                f"the template uses what 'variables' does not declare: {', '.join(sorted(used - declared))}",
                where=f"{path}, # {speaker.capitalize()}",
                fix="declare it, or use only declared variables",
            )
        parsed.append((speaker, template))
        everywhere |= used
    return tuple(parsed), frozenset(everywhere)
