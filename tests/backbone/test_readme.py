"""The program on the page of this floor runs, and says what it should."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.snippets import read


def test_the_readmes_program_trains_a_backbone(root: Path, python: str, tmp_path: Path) -> None:
    (program,) = read(root / "backbone" / "README.md")
    done = subprocess.run(
        [python, "-c", program.text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "slate: ['wall clock'" in done.stdout  # the item of u03
    assert "effect of the tea pot: Rollout(without=" in done.stdout
    assert (tmp_path / "backbone" / "backbone.json").exists()
