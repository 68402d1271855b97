"""A pack: all prompts by name and version, the user's own before the default ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rolegen_errors import PromptError

from .prompt import Prompt

_DEFAULT = Path(__file__).parent / "packs" / "default"


class PromptPack:
    """Prompts by name and version. The highest version of a name that is no draft is the current one; the others stay readable.

    A user's folder has the same shape as the default one (``<name>/<version>.md``). It may hold any of the prompts:
    a name that it holds is served from it, everything else from the default pack.
    """

    def __init__(self, prompts: Mapping[str, Mapping[int, Prompt]], fallback: PromptPack | None = None) -> None:
        self._prompts, self._fallback = prompts, fallback

    @staticmethod
    def default() -> PromptPack:
        """The pack that RoleGen ships."""
        return PromptPack(_read_folder(_DEFAULT))

    @staticmethod
    def load(folder: Path) -> PromptPack:
        """The prompts of ``folder`` over the default ones.

        Raises:
            PromptError: the folder is missing or empty, a file is malformed, a name is unknown to the default pack
                (it would never be used), or a current prompt declares other variables than the loop hands over.
        """
        if not folder.is_dir():
            raise PromptError("the prompt folder does not exist", where=str(folder))
        default = PromptPack.default()
        own = _read_folder(folder)
        if not own:
            raise PromptError(
                "the prompt folder holds no prompt", where=str(folder), fix="a prompt lies at <name>/<version>.md"
            )
        for name, versions in own.items():
            if name not in default.names():
                raise PromptError(
                    f"no part of the loop uses a prompt called '{name}'",
                    where=str(folder / name),
                    fix=f"known names: {', '.join(default.names())}",
                )
            used = newest(versions)
            if used is not None and (error := variables_error(used, default.get(name))) is not None:
                raise error
        return PromptPack(own, fallback=default)

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        behind = self._fallback.names() if self._fallback else ()
        return tuple(sorted({*self._prompts, *behind}))

    def versions(self, name: str) -> tuple[int, ...]:
        """All readable versions of a name, oldest first."""
        behind = self._fallback.versions(name) if self._fallback else ()
        return tuple(sorted({*self._prompts.get(name, {}), *behind}))

    def get(self, name: str, version: int | str | None = None) -> Prompt:
        """The prompt of that name: the version asked for, else the current one.

        Raises:
            PromptError: there is no such name or version.
        """
        own = self._prompts.get(name, {})
        if version is None and (current := newest(own)) is not None:
            return current
        for number, prompt in own.items():
            if str(number) == str(version):
                return prompt
        if self._fallback:
            return self._fallback.get(name, version)
        known = f"versions: {', '.join(map(str, self.versions(name)))}" if own else f"names: {', '.join(self.names())}"
        raise PromptError(
            f"there is no prompt '{name}'" + (f" version {version}" if version else ""), fix=f"known {known}"
        )

    def find(self, name: str, sha256: str) -> Prompt | None:
        """The prompt with that content, so that a trace can show the very text that a call used; None if it is gone."""
        for prompt in self._prompts.get(name, {}).values():
            if prompt.sha256 == sha256:
                return prompt
        return self._fallback.find(name, sha256) if self._fallback else None


def newest(versions: Mapping[int, Prompt]) -> Prompt | None:
    """The highest version that is no draft; None where all are."""
    return max((one for one in versions.values() if not one.draft), key=lambda one: one.version, default=None)


def variables_error(current: Prompt, expected: Prompt) -> PromptError | None:
    """Whether a prompt declares other variables than the default one of its name: the loop fills in exactly those."""
    if set(current.variables) == set(expected.variables):
        return None
    return PromptError(
        f"prompt '{current.name}' declares other variables than the loop hands over",
        where=str(current.path),
        fix=f"declare: {', '.join(expected.variables)} (it need not print all of them)",
    )


def _read_folder(folder: Path) -> dict[str, dict[int, Prompt]]:
    prompts: dict[str, dict[int, Prompt]] = {}
    for path in sorted(folder.glob("*/*.md")):
        prompt = Prompt.read(path)
        prompts.setdefault(prompt.name, {})[prompt.version] = prompt
    return prompts
