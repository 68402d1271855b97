"""``langgraph dev`` serves the loop from ``langgraph.json``: one real run over HTTP."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from rolegen_agent.facade import RoleGen
from tests.support.shop import AT, users_at


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def served(root: Path, python: str, folder: Path, environment: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """The server on a free port, started as a user does; its log is a file."""
    port, log = free_port(), folder / "server.log"
    # It writes its own state beside the file it serves, so it gets a folder of its own.
    (folder / "langgraph.json").write_text((root / "langgraph.json").read_text("utf-8").replace('"."', f'"{root}"'))
    command = [str(Path(python).parent / "langgraph"), "dev", "--no-browser", "--no-reload", "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1"],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "LANGSMITH_TRACING": "false", **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        with process:
            try:
                url = f"http://127.0.0.1:{port}"
                wait_for(f"{url}/ok", process, log)
                yield url, log
            finally:
                process.terminate()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"no server at {url}:\n{log.read_text('utf-8', 'replace')[-3000:]}")


@pytest.mark.slow
def test_a_run_on_the_server_is_the_same_decision(root: Path, python: str, project: Path, tmp_path: Path) -> None:
    from langgraph_sdk import get_sync_client

    [user] = users_at(project, 1)
    home = tmp_path / "server"
    home.mkdir()
    with ExitStack() as opened:
        url, log = opened.enter_context(served(root, python, home, {"ROLEGEN_PROJECT": str(project), "ROLEGEN_AT": AT}))
        client = opened.enter_context(get_sync_client(url=url))
        served_graphs = {one["graph_id"]: one["assistant_id"] for one in client.assistants.search()}
        assert set(served_graphs) == {"rolegen", "rolegen_outcome"}
        drawn = client.assistants.get_graph(served_graphs["rolegen"])
        assert {"observe", "reason", "simulate", "ground", "execute", "feedback", "reflect"} <= {
            str(node["id"]) for node in drawn["nodes"]
        }
        thread = client.threads.create()
        at = "2011-09-01T00:00:00+00:00"
        state = client.runs.wait(thread["thread_id"], "rolegen", input={"user": user, "at": at})
        assert isinstance(state, dict), log.read_text("utf-8")[-3000:]
        wrong = client.runs.wait(None, "rolegen", input={"user": "nobody", "at": at}, raise_error=False)

        waiting = client.threads.create()["thread_id"]
        client.runs.wait(waiting, "rolegen_outcome", input={"user": user, "at": at})
        [asked] = client.threads.get_state(waiting)["tasks"][0]["interrupts"]
        report = {"ordered_at": "2011-09-05T10:00:00+00:00", "items": asked["value"]["items"][:1], "value": 4.5}
        ended = client.runs.wait(waiting, "rolegen_outcome", command={"resume": report})
        assert client.threads.get(waiting)["status"] == "idle"
        text = log.read_text("utf-8", "replace")
    with RoleGen.open(project) as shop:
        decision = shop.trace(user)
        outcome = shop.memory.find_outcome(decision.decision)
    assert isinstance(ended, dict) and asked["value"]["decision"] == decision.decision
    assert outcome is not None and outcome.value == ended["outcome"]["value"] == 4.5
    slate = [item["item"] for item in state["decision"]["slate"]["items"]]
    assert slate == [item.item for item in decision.slate.items] and len(slate) == 10
    assert isinstance(wrong, dict) and wrong["__error__"]["error"] == "InputError"
    assert "user 'nobody'" in text, "the server keeps the details of errors to its log"
    assert "BlockingError" not in text


def test_an_image_takes_both_graphs_and_nothing_of_this_machine(root: Path, python: str, tmp_path: Path) -> None:
    """What ``langgraph build`` hands to docker: the file that it generates, and what stays outside."""
    file = tmp_path / "Dockerfile"
    command = [str(Path(python).parent / "langgraph"), "dockerfile", "-c", str(root / "langgraph.json"), str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=tmp_path)
    graphs = re.search(r"^ENV LANGSERVE_GRAPHS='(.*)'$", file.read_text("utf-8"), re.M)
    assert (
        graphs is not None
        and json.loads(graphs[1]) == json.loads((root / "langgraph.json").read_text("utf-8"))["graphs"]
    )
    left_out = (root / ".dockerignore").read_text("utf-8").split("\n")
    assert {".git", ".venv", ".env", "**/.rolegen", "demo"} <= set(left_out), "secrets and data stay at home"
