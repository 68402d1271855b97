"""One project: a folder with ``rolegen.toml``, and the store ``.rolegen/`` beside it.

Values come, in falling order of precedence, from the caller's overrides, from environment variables
``ROLEGEN_<SECTION>__<KEY>`` (also those in a ``.env`` file of the project folder), from ``rolegen.toml``, and from the
defaults below. An unknown section or key is an error, not a silent default. Secrets are never read from ``rolegen.toml``.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from rolegen_errors import InputError, ProjectError

from .settings import (
    ENV_PREFIX,
    STORE_FOLDER,
    BackboneSettings,
    BudgetSettings,
    DataSettings,
    DormancySettings,
    LlmSettings,
    MemorySettings,
    PresetName,
    ReasonerSettings,
    Section,
    Settings,
    SlateSettings,
)

PROJECT_FILE = "rolegen.toml"
STORE_FORMAT = 2
"""of ``events.parquet``: since 2 an event's id depends on the event alone"""

__all__ = [
    "PROJECT_FILE",
    "STORE_FORMAT",
    "BackboneSettings",
    "BudgetSettings",
    "DataSettings",
    "DormancySettings",
    "LlmSettings",
    "MemorySettings",
    "PresetName",
    "Project",
    "ReasonerSettings",
    "Settings",
    "SlateSettings",
    "find_project",
    "open_project",
    "parse_date",
    "write_project_file",
]


class Project:
    """An opened project: ``root`` (absolute), ``settings``, and where everything of it lies."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root.resolve()
        self.settings = settings

    def __repr__(self) -> str:
        return f"Project({str(self.root)!r})"

    @property
    def file(self) -> Path:
        return self.root / PROJECT_FILE

    @property
    def store(self) -> Path:
        """Folder of everything that RoleGen writes; safe to delete, all of it but the memory can be rebuilt."""
        return self.root / STORE_FOLDER

    @property
    def events(self) -> Path:
        return self.store / "events.parquet"

    @property
    def items(self) -> Path:
        return self.store / "items.parquet"

    @property
    def ingest_report(self) -> Path:
        return self.store / "ingest.json"

    @property
    def quarantine(self) -> Path:
        """Bad rows of the last ingestion with file, row, column, reason and raw values; absent if there were none."""
        return self.store / "quarantine.csv"

    @property
    def checkpoints(self) -> Path:
        """SQLite file of the LangGraph checkpointer."""
        return self.store / "checkpoints.sqlite"

    @cached_property
    def memory_url(self) -> str:
        """SQLAlchemy URL of the loop memory, with a relative SQLite path resolved against the project folder."""
        url = self.settings.memory.url
        prefix, separator, path = url.partition(":///")
        if not prefix.startswith("sqlite") or not separator or path in ("", ":memory:") or path.startswith("file:"):
            return url
        path, mark, query = path.partition("?")
        return f"{prefix}:///{(self.root / path).as_posix()}{mark}{query}"

    @property
    def grounding(self) -> Path:
        """Folder of what is built over titles, by catalogue; see :mod:`rolegen_agent.grounding.opening`."""
        return self.store / "grounding"

    def artefacts(self, at: datetime) -> Path:
        """Folder of what was trained for decisions at ``at``. A time within the day gets a folder of its own, because
        a model of noon has seen a morning that a decision of midnight must not know."""
        if at.tzinfo is None:
            raise ProjectError(f"the decision time {at} has no time zone", fix="pass an aware datetime, see parse_date")
        at = at.astimezone(UTC)
        midnight = at.hour == at.minute == at.second == at.microsecond == 0
        return self.store / "artefacts" / (f"{at:%Y-%m-%d}" if midnight else f"{at:%Y-%m-%dT%H%M%S.%fZ}")

    def require_store(self) -> Self:
        """Raise ``ProjectError`` unless the log has been ingested into a store of this version."""
        for path in (self.events, self.items, self.ingest_report):
            if not path.is_file():
                raise ProjectError("the log is not ingested yet", where=str(path), fix="run `rolegen ingest` first")
        found = self._store_format()
        if found != STORE_FORMAT:
            newer = found > STORE_FORMAT
            raise ProjectError(
                f"the store has format {found}, this version of rolegen-agent reads {STORE_FORMAT}",
                where=str(self.store),
                fix="upgrade rolegen-agent: pip install -U rolegen-agent"
                if newer
                else "run `rolegen ingest` again, and `rolegen train` for later decisions; the memory keeps its decisions",
            )
        return self

    def _store_format(self) -> int:
        try:
            report = json.loads(self.ingest_report.read_text("utf-8"))
            return int(report.get("format", 1))
        except (ValueError, TypeError, AttributeError) as error:
            raise ProjectError(
                f"the ingestion's report cannot be read: {error}",
                where=str(self.ingest_report),
                fix="run `rolegen ingest` again",
            ) from error


def open_project(
    path: str | Path | None = None, *, overrides: Mapping[str, Mapping[str, object]] | None = None
) -> Project:
    """Open the project at ``path`` (its folder or its file), or search from the working folder upwards.

    ``overrides`` maps section -> key -> value and outranks the environment (command-line options).
    Raises ``ProjectError`` when there is no project file or something in it is not understood.
    """
    file = _find(path)
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError(f"not valid TOML: {error}", where=str(file), fix="correct that line") from error
    environment = _environment(file.parent)
    _check_sections(content, file, environment)
    llm = cast(dict[str, object], content.setdefault("llm", {}))
    if "api_key" in llm:
        raise ProjectError(
            "an API key stands in the project file; secrets belong in the environment",
            where=f"{file}, [llm] api_key",
            fix="remove it (and revoke it if it was shared), then set OPENAI_API_KEY or put it in .env",
        )
    for key in ("model", "base_url", "api_key"):
        if (value := environment.get(f"OPENAI_{key.upper()}")) and llm.get(key) is None:
            llm[key] = value
    try:
        settings = _read(content, file.parent / ".env", environment, overrides or {})
    except ValidationError as error:
        raise _explain(error, file, environment) from None
    return Project(file.parent, settings)


def write_project_file(
    folder: str | Path,
    *,
    preset: PresetName | None = None,
    events: str | Sequence[str] | None = None,
    catalogue: str | None = None,
    columns: Mapping[str, str] | None = None,
    behaviours: Mapping[str, str] | None = None,
    behaviour: str | None = None,
    timezone: str | None = None,
    currency: str | None = None,
    force: bool = False,
) -> Path:
    """Write a ``rolegen.toml`` that explains every key, with the given ones set and all others commented out.

    Raises ``ProjectError`` when the file exists and ``force`` is not given, or when a given value is not allowed.
    """
    file = Path(folder) / PROJECT_FILE
    if file.exists() and not force:
        raise ProjectError("there is a project file already", where=str(file), fix="edit it, or pass --force")
    chosen: dict[str, object] = {
        "events": list(events) if events is not None and not isinstance(events, str) else events,
        "catalogue": catalogue,
        "preset": preset,
        "columns": dict(columns or {}),
        "behaviours": dict(behaviours or {}),
        "behaviour": behaviour,
        "timezone": timezone,
        "currency": currency,
    }
    chosen = {key: value for key, value in chosen.items() if value}
    try:
        DataSettings.model_validate(chosen)
    except ValidationError as error:
        raise _explain(error, file, {}, section="data") from None
    lines = [
        "# A RoleGen project. Keys with a leading # show their default.",
        f"# Every key can be overridden by an environment variable, such as {ENV_PREFIX}DORMANCY__DAYS=60.",
    ]
    for section, info in Settings.model_fields.items():
        model = cast(type[Section], info.annotation)
        lines += ["", f"# {(model.__doc__ or '').strip()}", f"[{section}]"]
        for key, field in model.model_fields.items():
            if (section, key) == ("llm", "api_key"):
                lines.append("# The API key never stands here: set OPENAI_API_KEY, or put it in .env")
                continue
            lines.append(f"# {field.description}")
            if section == "data" and key in chosen:
                lines.append(f"{key} = {_toml(chosen[key])}")
            else:
                default = field.get_default(call_default_factory=True)
                lines.append(f"#{key} = {_toml(default)}" if default is not None else f"#{key} = ...")
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    draft.write_text("\n".join(lines) + "\n", "utf-8")
    draft.replace(file)
    return file


def parse_date(text: str) -> datetime:
    """``YYYY-MM-DD`` (midnight UTC) or an ISO 8601 time with zone, as an aware UTC datetime; else ``InputError``."""
    fix = "write YYYY-MM-DD, or a time with its zone such as 2011-09-01T12:00:00+01:00"
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InputError(f"'{text}' is not a date", fix=fix) from error
    if value.tzinfo is None:
        if ":" in text or "T" in text.upper():
            raise InputError(f"the time '{text}' has no time zone", fix=fix)
        return value.replace(tzinfo=UTC)
    return value.astimezone(UTC)


def moment(at: datetime | str) -> datetime:
    """An aware decision time from itself, a date (midnight UTC) or an ISO time with zone."""
    if isinstance(at, str):
        return parse_date(at)
    if at.tzinfo is None:
        raise InputError(f"the decision time {at} has no time zone", fix="pass an aware datetime, or a date as text")
    return at


def today() -> datetime:
    """The last midnight in UTC: decisions of one day are then the same decision."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def find_project(path: str | Path | None = None) -> Path | None:
    """The folder of the project at ``path``, or of the one in the working folder or above; None where there is none.

    Raises ``ProjectError`` when ``path`` is given and holds none.
    """
    if path is not None:
        return _find(path).parent
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / PROJECT_FILE).is_file()), None)


def _find(path: str | Path | None) -> Path:
    fix = "run `rolegen init` in the folder of your data, or name the project folder"
    if path is not None:
        given = Path(path).expanduser()
        file = given if given.suffix == ".toml" else given / PROJECT_FILE
        if not file.is_file():
            raise ProjectError(f"there is no {PROJECT_FILE}", where=str(given), fix=fix)
        return file.resolve()
    folder = find_project()
    if folder is None:
        raise ProjectError(f"there is no {PROJECT_FILE} here or in a folder above", where=str(Path.cwd()), fix=fix)
    return folder / PROJECT_FILE


def _environment(folder: Path) -> dict[str, str]:
    """Names and values of ``.env`` and the process, the latter winning."""
    values = dotenv_values(folder / ".env", interpolate=False) | dict(os.environ)
    return {key.upper(): value for key, value in values.items() if value}


def _check_sections(content: Mapping[str, object], file: Path, environment: Mapping[str, str]) -> None:
    """Unknown sections, in the file or in a variable's name; keys within sections are checked by their models."""
    known = list(Settings.model_fields)
    for section, values in content.items():
        if section not in known:
            raise ProjectError(
                f"unknown section [{section}]{_nearest(section, known)}",
                where=str(file),
                fix=f"the sections are {', '.join(known)}",
            )
        if not isinstance(values, dict):
            raise ProjectError(
                f"'{section}' must be a section", where=str(file), fix=f"write [{section}] above its keys"
            )
    for name in environment:
        section, separator, _ = name.removeprefix(ENV_PREFIX).lower().partition("__")
        if name.startswith(ENV_PREFIX) and separator and section not in known:
            raise ProjectError(
                f"the environment variable {name} names no section{_nearest(section, known)}",
                fix=f"unset it, or use {ENV_PREFIX}<SECTION>__<KEY> with one of {', '.join(known)}",
            )


def _read(
    content: Mapping[str, Any],
    env_file: Path,
    environment: Mapping[str, str],
    overrides: Mapping[str, Mapping[str, object]],
) -> Settings:
    class Sources(Settings):
        """The project file arrives as init values; the environment outranks it, and the caller outranks both."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            caller = InitSettingsSource(settings_cls, {key: dict(value) for key, value in overrides.items()})
            return caller, env_settings, dotenv_settings, init_settings

    try:
        merged = Sources(_env_file=env_file, **content)
    except SettingsError as error:
        suspects = [name for name, value in environment.items() if name.startswith(ENV_PREFIX) and not _is_json(value)]
        raise ProjectError(
            f"an environment variable cannot be read: {error}",
            where=", ".join(suspects),
            fix="write tables and lists as JSON",
        ) from error
    return Settings.model_construct(**{name: getattr(merged, name) for name in Settings.model_fields})


def _explain(error: ValidationError, file: Path, environment: Mapping[str, str], section: str = "") -> ProjectError:
    """The first problem of a validation as one error that names file (or variable) and key."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    path = [section, *path] if section else path
    name, keys = path[0], path[1:]
    variable = f"{ENV_PREFIX}{name}__{keys[0]}".upper() if keys else ""
    where = f"environment variable {variable}" if variable in environment else f"{file}, [{name}] {'.'.join(keys[:2])}"
    model = cast(type[Section], Settings.model_fields[name].annotation)
    known = list(model.model_fields)
    if first["type"] == "extra_forbidden":
        key = keys[-1]
        fix = f"the keys of [{name}] are {', '.join(known)}"
        return ProjectError(f"unknown key '{key}'{_nearest(key, known)}", where=where, fix=fix)
    what = first["msg"].removeprefix("Value error, ")
    if "api_key" not in path and isinstance(first["input"], str | int | float | bool):
        what = f"{what}, got {first['input']!r}"
    field = model.model_fields.get(keys[0]) if keys else None
    return ProjectError(what, where=where, fix=f"expected: {field.description}" if field else None)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _nearest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def _toml(value: object) -> str:
    """TOML of the plain values that a settings default or a caller of ``write_project_file`` can hold."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # A JSON string is a TOML basic string, except that TOML forbids a raw DEL and surrogate pairs.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
