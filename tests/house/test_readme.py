"""The README is what a newcomer runs: its blocks run here, in its order, in one empty folder; then those of the pages behind it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import polars as pl
import pytest

from tests.support.snippets import Step, read, steps

MINUTES = 10
SMALL = {"EPOCHS": "1", "MAX_RETURNS": "600", "MAX_READ": "60", "MAX_HINTS": "60", "MAX_SPELLS": "600"}
"""a training of seconds: what is tested is that the page's commands work, not what they reach"""
BEHIND = ("docs/own_parts.md", "graphs/README.md", "prompts/README.md", "rolegen_agent/README.md")
"""pages whose blocks go on in the folder that the README's blocks leave"""


@pytest.mark.slow
def test_every_block_of_the_readme_runs(root: Path, python: str, tmp_path: Path) -> None:
    rolegen = Path(python).parent / "rolegen"
    targets = set(re.findall(r"^([\w-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.M))
    environment = os.environ | {f"ROLEGEN_BACKBONE__{key}": value for key, value in SMALL.items()}
    for page, step in [(name, step) for name in ("README.md", *BEHIND) for step in read(root / name)]:
        if step.kind == "target":
            assert step.text in targets, f"{page}:{step.line}: the Makefile has no target {step.text!r}"
            continue
        command = [python, "-c", step.text] if step.kind == "program" else [str(rolegen), *step.arguments()]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60 * MINUTES,
        )
        assert done.returncode == 0, f"{page}:{step.line}: {step.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        if "orders.csv" in step.text and step.kind == "program":
            thin_out(tmp_path / "orders.csv")


def thin_out(log: Path) -> None:
    """Keep one customer in four, among them the one whom the page asks about: what is tested is that its commands work."""
    orders = pl.read_csv(log, infer_schema=False)
    orders.filter(pl.col("customer").cast(pl.Int64) % 4 == 12349 % 4).write_csv(log)


def test_links_of_the_pages_lead_somewhere(root: Path) -> None:
    pages = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages += [
        page
        for folder in ("backbone", "evals", "graphs", "prompts", "rolegen_agent", "docs")
        for page in (root / folder).glob("*.md")
    ]
    broken = [
        f"{page.relative_to(root)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


PAGE = """\
# Page

```console
$ git clone somewhere
$ rolegen init --preset shop \\
    "my shop"   # a comment
Created rolegen.toml
$ make demo PYTHON=python3.12
```

Text.

```python
print(1)
```

<!-- not run: needs an endpoint -->
```bash
rolegen awaken --reasoner llm
```

```toml
[data]
```

```bash
cd project
rolegen train
```
"""


def test_blocks_are_read_as_a_reader_would() -> None:
    found = list(steps(PAGE, "PAGE.md"))
    assert [(step.kind, step.line) for step in found] == [
        ("rolegen", 5),
        ("target", 8),
        ("program", 14),
        ("rolegen", 28),
    ]
    assert found[0].arguments() == ["init", "--preset", "shop", "my shop"]
    assert found[1] == Step(kind="target", line=8, text="demo")
    assert found[2].text == "print(1)\n"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```bash\ncurl example\n```\n", "PAGE.md:2: do not know how to check 'curl example'"),
        ("<!-- not run: -->\n```bash\nrolegen x\n```\n", "without a reason"),
    ],
)
def test_nothing_goes_unchecked_unnoticed(page: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(steps(page, "PAGE.md"))
