"""Ctrl-C and kill -9 in the middle: the same command goes on, and nothing is lost or done twice."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from rolegen_agent.facade import RoleGen
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, Command, small_log, write_project


def until(condition: object, seconds: float = 90) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_ctrl_c_ends_an_awakening_and_the_same_command_goes_on(rolegen: Command, project: Path) -> None:
    with (project / "rolegen.toml").open("a", encoding="utf-8") as file:
        file.write('[reasoner]\nthink = "always"\nrounds = 1\n[llm]\nconcurrency = 2\n')
    with ScriptedLlm("slow", delay_s=0.1) as server:
        environment = {"OPENAI_BASE_URL": server.url, "OPENAI_MODEL": "scripted"}
        command = ("awaken", "--at", AT, "--limit", "12", "--reasoner", "llm", "--yes", "--project", str(project))
        with rolegen.started(*command, environment=environment) as process:
            until(lambda: len(server.chats) >= 8)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "the same command goes on from here" in err and "Traceback" not in err
        with RoleGen.open(project) as shop:
            [run] = shop.memory.runs()
        assert 0 < run.decisions < 12 and f"{run.decisions} now, 0 earlier, {12 - run.decisions} left" in out
        asked = len(server.chats)
        again = json.loads(rolegen(*command, "--json", environment=environment).stdout)
    assert (again["earlier"], again["decided"], again["left"]) == (run.decisions, 12 - run.decisions, 0)
    assert again["calls"] == len(server.chats) - asked


def test_a_killed_awakening_goes_on_from_its_checkpoints(rolegen: Command, project: Path, tmp_path: Path) -> None:
    with (project / "rolegen.toml").open("a", encoding="utf-8") as file:
        file.write('[reasoner]\nthink = "always"\nrounds = 1\n[llm]\nconcurrency = 1\n')
    twin = shutil.copytree(project, tmp_path / "undisturbed")
    base = ("awaken", "--at", AT, "--limit", "6", "--reasoner", "llm", "--yes", "--json", "--project")
    with ScriptedLlm("slow", delay_s=0.1) as server:
        environment = {"OPENAI_BASE_URL": server.url, "OPENAI_MODEL": "scripted"}
        whole = json.loads(rolegen(*base, str(twin), environment=environment).stdout)
        before = len(server.chats)
        with rolegen.started(*base, str(project), environment=environment) as process:
            until(lambda: len(server.chats) >= before + 5)
            process.kill()
        again = rolegen(*base, str(project), environment=environment)
        assert again.returncode == 0, again.stderr
        paid = len(server.chats) - before
    # At most the one request that was under way is put again.
    assert whole["calls"] <= paid <= whole["calls"] + 1
    with RoleGen.open(project) as one, RoleGen.open(twin) as other:
        assert [run.decisions for run in one.memory.runs()] == [6] == [run.decisions for run in other.memory.runs()]
        for row in other.memory.decisions():
            assert [i.item for i in one.trace(row.user).slate.items] == [
                i.item for i in other.trace(row.user).slate.items
            ]


@pytest.mark.slow
def test_a_training_that_was_stopped_twice_goes_on_with_the_same_command(rolegen: Command, tmp_path: Path) -> None:
    folder = write_project(tmp_path / "own", small_log(40))
    with RoleGen.open(folder) as shop:
        shop.ingest()
    command = ("train", "--at", AT, "--project", str(folder), "--json")
    artefacts = folder / ".rolegen" / "artefacts" / AT
    for blow, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        with rolegen.started(*command) as process:
            until(lambda: (artefacts / "backbone").exists() and any((artefacts / "backbone").iterdir()))
            time.sleep(1)  # further into it, wherever that is
            process.send_signal(blow)
            _, err = process.communicate(timeout=180)
        assert process.returncode == code and "Traceback" not in err
        assert not (artefacts / "evidence" / "manifest.json").exists()
        assert rolegen("awaken", "--at", AT, "--project", str(folder)).returncode == 1, "half a training is none"
    done = rolegen(*command, timeout=400)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["as_of"] == "2011-09-01T00:00:00+00:00"
    with RoleGen.open(folder) as shop:
        users = shop.dormant(AT)["user"].head(3).to_list()
        assert shop.awaken(users, AT).decided == 3
