"""Claims on SQLite: files in a folder that whoever leaves last removes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from rolegen_agent.memory import claims
from rolegen_agent.memory.claims import FileClaims


class Interrupted(FileLock):
    """As the library fails where another program ends, and takes the empty folder along, between two of its steps."""

    left = 1

    def acquire(self, *arguments: Any, **named: Any) -> Any:
        if type(self).left:
            type(self).left -= 1
            Path(self.lock_file).parent.rmdir()
            raise FileNotFoundError(self.lock_file)
        return super().acquire(*arguments, **named)


def test_a_program_that_leaves_does_not_disturb_one_that_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "FileLock", Interrupted)
    mine, other = FileClaims(tmp_path / "m.sqlite"), FileClaims(tmp_path / "m.sqlite")
    assert mine.take("a") and not other.take("a") and not mine.take("a")
    mine.give("a")
    assert other.take("a")
    other.close()
    mine.close()
    assert not list(tmp_path.iterdir()), "nothing stays behind"


def test_a_file_in_the_place_of_the_folder_is_an_error_and_no_endless_wait(tmp_path: Path) -> None:
    (tmp_path / "m.sqlite-claims").touch()
    with pytest.raises(FileExistsError):
        FileClaims(tmp_path / "m.sqlite").take("a")
