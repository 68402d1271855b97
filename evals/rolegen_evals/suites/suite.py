"""A suite on disk: a folder with ``cases.jsonl``, ``suite.toml``, and below ``runs/`` one folder of logs for each run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rolegen_errors import InputError

from .cases import Case, read_cases, write_cases
from .graders import USUAL, find_grader

CASES, SETTINGS, RUNS = "cases.jsonl", "suite.toml", "runs"
TEMPLATE = """\
# Cases stand in cases.jsonl. What is measured on them; "judge" asks a model too, "module:attribute" names a grader of your own.
graders = [{graders}]
# Retellings cost one more question each; they are what the grader "stability" looks at: "repeat", "order", "paraphrase".
retellings = []
# Non-inferiority margins, in the measure's own unit; `rolegen eval gate` fails beyond them.
[primary]
{primary}
"""
MARGINS = {"recall": 0.02, "validity": 0.02, "grounding_rate": 0.05}


class Suite(BaseModel):
    """What is measured on the cases of a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    graders: tuple[str, ...] = Field(default=USUAL, min_length=1)
    retellings: tuple[Literal["repeat", "order", "paraphrase"], ...] = ()
    primary: Mapping[str, Annotated[float, Field(ge=0)]]
    """non-inferiority margin by grader"""

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in dict.fromkeys((*self.graders, *self.primary)):
            find_grader(name)
        missing = sorted(set(self.primary) - set(self.graders))
        if missing:
            raise ValueError(f"primary, but not among the graders: {', '.join(missing)}")
        return self

    @staticmethod
    def read(folder: Path) -> Suite:
        """The settings of a suite.

        Raises:
            InputError: there are none, or something in them is not understood.
        """
        file = folder / SETTINGS
        try:
            return Suite.model_validate(tomllib.loads(file.read_text("utf-8")))
        except InputError as error:
            raise InputError(error.what, where=str(file), fix=error.fix) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"the suite cannot be read: {error}", where=str(file), fix="rolegen eval cases") from error
        except ValidationError as error:
            said = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, said["loc"]))
            raise InputError(f"{place}: {said['msg']}" if place else said["msg"], where=str(file)) from error


def write_suite(folder: Path, cases: Sequence[Case]) -> None:
    """Write the cases, and the settings unless they are there already: those are the user's."""
    write_cases(cases, folder / CASES)
    if not (folder / SETTINGS).exists():
        margins = dict(MARGINS)
        if any(case.roles for case in cases):
            margins["role_accuracy"] = 0.02
        text = TEMPLATE.format(
            graders=", ".join(f'"{name}"' for name in USUAL),
            primary="\n".join(f"{name} = {margin}" for name, margin in margins.items()),
        )
        (folder / SETTINGS).write_text(text, "utf-8")


def open_suite(folder: Path) -> tuple[Suite, list[Case]]:
    """Settings and cases of a suite."""
    return Suite.read(folder), read_cases(folder / CASES)
