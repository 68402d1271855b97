"""What docs/serving.md tells a reader to type, typed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from rolegen_agent.facade import RoleGen
from rolegen_agent.online import create_app
from rolegen_agent.pages import LOOPBACK
from tests.support.serving import served
from tests.support.snippets import read

from .conftest import NOW, Client, Decided


def test_the_page_s_requests_are_answered(root: Path, copied: Decided) -> None:
    page = (root / "docs" / "serving.md").read_text("utf-8")
    typed = [shlex.split(line) for line in re.findall(r"^curl .*$", page, re.M)]
    assert len(typed) == 4
    answers = []
    with (
        RoleGen.open(copied.folder) as shop,
        shop.online(NOW) as online,
        served(create_app(online, hosts=LOOPBACK)) as base,
    ):
        client = Client(int(base.rpartition(":")[2]))
        for words in typed:
            path = urlsplit(words[2]).path
            answers.append(client.post(path, **json.loads(words[6])) if len(words) > 3 else client.get(path))
    assert [one.get("source") for one in answers] == ["remembered", "reranked", None, None]
    assert answers[2]["recorded"] == 1
    assert answers[2]["unknown_items"] == []


def test_the_page_s_program_runs(root: Path, python: str, copied: Decided) -> None:
    steps = read(root / "docs" / "serving.md")
    assert [step.kind for step in steps] == ["rolegen", "program"]
    assert "--limit 5" in steps[0].text  # as the fixture has done
    done = subprocess.run(
        [python, "-c", steps[1].text], cwd=copied.folder.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("remembered ")
    assert second == "1 reranked"
