"""The one error family of RoleGen, on the ground that all five components stand on.

Every error that RoleGen raises on purpose derives from :class:`RoleGenError`, so an embedder needs one ``except``.
A message says what is wrong, where (file, row, column, id), and what to do next.
"""

from __future__ import annotations


class RoleGenError(Exception):
    """Base of all errors that RoleGen raises on purpose.

    Args:
        what: what is wrong, one sentence.
        where: file, row, column or id; printed after ``what``.
        fix: the next step that the reader can take; printed last.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"  where: {self.where}")
        if self.fix:
            parts.append(f"  fix:   {self.fix}")
        return "\n".join(parts)


class InputError(RoleGenError):
    """Data from outside (a log, a catalogue, an outcome file) is not what it must be."""


class ProjectError(RoleGenError):
    """The project file, its artefacts or the environment do not allow what was asked."""


class MissingExtraError(ProjectError):
    """An optional dependency is not installed; the message carries the exact install command."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"'{package}' is not installed", fix=f"pip install 'rolegen-agent[{extra}]'")


class FutureError(RoleGenError):
    """Something learnt at or after a decision time was about to reach that decision."""


class PromptError(RoleGenError):
    """A prompt file is malformed, or was rendered with missing or unknown variables."""


class ReasonerError(RoleGenError):
    """A reasoner could not give a valid answer; the loop falls back to the evidence reasoner and says so."""


class BusyError(RoleGenError):
    """More was asked at once than can be answered soon; nothing was done, and the same call succeeds a little later."""


class BudgetError(ReasonerError):
    """The budget of calls, tokens or money is spent; no further LLM call is made."""


class RunBudgetError(BudgetError):
    """The budget of the whole run is spent, not only that of one decision."""


class PausedError(RoleGenError):
    """A decision cannot go on now and is not recorded. What was answered is kept, so that the same call goes on later."""


class RunPausedError(PausedError):
    """Nor can any other decision of the run: its budget is spent."""


class MemoryStoreError(RoleGenError):
    """The loop memory cannot be read or written."""


class MemoryAwayError(MemoryStoreError):
    """The memory's server does not answer now. What was recorded is safe, and the same call goes on later."""
