"""On a Ray cluster of two real nodes the commands give what they give on one machine, also when a node dies in the middle."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl
import pytest

from rolegen_agent.cluster import awaken_on_ray
from rolegen_agent.cluster.connection import Nodes, Site, require_shared_memory
from rolegen_agent.cluster.evidence import user_ranges
from rolegen_agent.facade import RoleGen
from rolegen_agent.memory import open_memory
from rolegen_errors import MissingExtraError, ProjectError
from tests.agent.test_batch import about, decisions
from tests.agent.test_cli_interrupt import until
from tests.support.ray_cluster import RayCluster, ray_cluster
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, Command, small_log, users_at, write_project

pytest_plugins = ["tests.support.postgres"]
USERS = 16
PATIENCE_S = 300.0
"""beside other tests on two cores a worker of Ray takes its time to start"""
LLM = '[reasoner]\nthink = "always"\nrounds = 1\n[llm]\nconcurrency = 2\n'


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    pytest.importorskip("ray")
    with ray_cluster() as running:
        yield running


@pytest.fixture
def on_server(postgres_url: str) -> dict[str, str]:
    """The environment of commands whose memory is a PostgreSQL database without rows."""
    from sqlalchemy import create_engine, text

    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    with open_memory(postgres_url, upgrade=True):
        pass
    return {"ROLEGEN_MEMORY__URL": postgres_url}


def opened(folder: Path, environment: dict[str, str]) -> RoleGen:
    return RoleGen.open(folder, overrides={"memory": {"url": environment["ROLEGEN_MEMORY__URL"]}})


@pytest.mark.long
def test_the_store_is_the_same_byte_for_byte(rolegen: Command, cluster: RayCluster, tmp_path: Path) -> None:
    log = small_log(40)
    bad = log.head(3).with_columns(Quantity=pl.lit(None, log.schema["Quantity"]))
    settings = 'on_bad_rows = "quarantine"\n'
    for name in ("one", "many"):
        folder = write_project(tmp_path / name, log)
        file = folder / "rolegen.toml"
        file.write_text(
            file.read_text().replace('events = "log.parquet"', f'events = ["log.parquet", "more.csv"]\n{settings}')
        )
        pl.concat([bad, log.tail(500)]).with_columns(pl.col("InvoiceDate").dt.strftime("%Y-%m-%d %H:%M:%S")).write_csv(
            folder / "more.csv"
        )
    one = rolegen("ingest", "--json", "--project", str(tmp_path / "one"))
    many = rolegen(
        "ingest", "--json", "--ray", cluster.address, "--project", str(tmp_path / "many"), timeout=PATIENCE_S
    )
    assert one.returncode == many.returncode == 0, one.stderr + many.stderr
    for name in ("events.parquet", "items.parquet"):
        assert (tmp_path / "one/.rolegen" / name).read_bytes() == (tmp_path / "many/.rolegen" / name).read_bytes()
    told = [{**json.loads(done.stdout), "seconds": 0, "quarantine": None} for done in (one, many)]
    assert told[0] == told[1]


@pytest.mark.long
def test_a_training_on_the_cluster_is_that_of_one_process_also_when_a_node_dies(
    rolegen: Command, cluster: RayCluster, on_server: dict[str, str], tmp_path: Path
) -> None:
    folder = write_project(tmp_path / "one", small_log(40))
    with (folder / "rolegen.toml").open("a") as file:
        file.write("shards = 2\nmax_hints = 20\nmax_read = 50\nmax_spells = 300\n")
    assert rolegen("ingest", "--project", str(folder)).returncode == 0
    other = Path(shutil.copytree(folder, tmp_path / "many"))
    one = rolegen("train", "--at", AT, "--json", "--project", str(folder))
    assert one.returncode == 0, one.stderr
    command = ("train", "--at", AT, "--json", "--ray", cluster.address, "--ray-workers", "2", "--project", str(other))
    artefacts = other / ".rolegen" / "artefacts" / AT
    with rolegen.started(*command, environment=on_server) as process:
        until(lambda: (artefacts / "backbone" / "resume.safetensors").exists(), seconds=PATIENCE_S)
        cluster.kill_second_node()
        cluster.add_node()
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    curves = [json.loads(text)["report"]["curve"] for text in (one.stdout, out)]
    for mine, theirs in zip(*curves, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    alone = folder / ".rolegen" / "artefacts" / AT
    for file in sorted((alone / "evidence").rglob("*.parquet")):
        assert pl.read_parquet(file).equals(pl.read_parquet(artefacts / file.relative_to(alone))), file.name


@pytest.mark.long
def test_a_node_that_dies_costs_no_decision_and_no_answer(
    rolegen: Command, cluster: RayCluster, project: Path, on_server: dict[str, str], tmp_path: Path
) -> None:
    with (project / "rolegen.toml").open("a", encoding="utf-8") as file:
        file.write(LLM)
    twin = Path(shutil.copytree(project, tmp_path / "undisturbed"))
    base = ("awaken", "--at", AT, "--limit", str(USERS), "--reasoner", "llm", "--yes", "--json", "--project")
    with ScriptedLlm("slow", delay_s=0.2) as server:
        llm = {"OPENAI_BASE_URL": server.url, "OPENAI_MODEL": "scripted"}
        whole = json.loads(rolegen(*base, str(twin), environment=llm).stdout)
        before = len(server.chats)
        ray = ("--ray", cluster.address, "--ray-workers", "2")
        with rolegen.started(*base, str(project), *ray, environment={**llm, **on_server}) as process:
            until(lambda: len(server.chats) >= before + 12, seconds=PATIENCE_S)
            cluster.kill_second_node()
            out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, err
        paid = len(server.chats) - before
    cluster.add_node()
    report = json.loads(out)
    assert (report["wanted"], report["earlier"], report["decided"], report["left"]) == (USERS, 0, USERS, 0)
    # Requests that were under way on the dead node are put again, and counted.
    assert whole["calls"] <= paid <= whole["calls"] + 4 and report["calls"] == paid
    with opened(project, on_server) as many, RoleGen.open(twin) as one:
        users = users_at(twin, USERS)
        assert decisions(many, users) == about(decisions(one, users))
        assert [(run.decisions, run.begun) for run in many.memory.runs()] == [(USERS, 0)]
        assert list(many.verify()) == []


@pytest.mark.long
def test_an_llm_budget_goes_to_the_same_users_as_on_one_machine(
    rolegen: Command, cluster: RayCluster, project: Path, on_server: dict[str, str], tmp_path: Path
) -> None:
    with (project / "rolegen.toml").open("a", encoding="utf-8") as file:
        file.write(LLM)
    twin = Path(shutil.copytree(project, tmp_path / "one"))
    base = ("awaken", "--at", AT, "--limit", str(USERS), "--reasoner", "llm", "--yes", "--json", "--llm-budget", "12")
    with ScriptedLlm() as server:
        llm = {"OPENAI_BASE_URL": server.url, "OPENAI_MODEL": "scripted"}
        one = json.loads(rolegen(*base, "--project", str(twin), environment=llm).stdout)
        ray = ("--ray", cluster.address, "--ray-workers", "2")
        done = rolegen(*base, *ray, "--project", str(project), environment={**llm, **on_server}, timeout=2 * PATIENCE_S)
        assert done.returncode == 0, done.stderr
    many = json.loads(done.stdout)
    assert (many["run"], many["allocation"], many["decided"]) == (one["run"], one["allocation"], USERS)
    assert many["calls"] == one["calls"] <= 12 and many["allocation"]["asked"] > 0
    with opened(project, on_server) as spread, RoleGen.open(twin) as alone:
        users = users_at(twin, USERS)
        assert decisions(spread, users) == about(decisions(alone, users))


@pytest.mark.long
def test_a_limit_of_the_run_holds_over_all_nodes_and_ctrl_c_drains(
    rolegen: Command, cluster: RayCluster, project: Path, on_server: dict[str, str]
) -> None:
    with (project / "rolegen.toml").open("a", encoding="utf-8") as file:
        file.write(LLM + "[budget]\ncalls_per_run = 9\n")
    command = ("awaken", "--at", AT, "--limit", str(USERS), "--reasoner", "llm", "--yes", "--project", str(project))
    ray = ("--ray", cluster.address, "--ray-workers", "2")
    with ScriptedLlm("slow", delay_s=0.2) as server:
        environment = {"OPENAI_BASE_URL": server.url, "OPENAI_MODEL": "scripted", **on_server}
        limited = rolegen(*command, *ray, environment=environment, timeout=PATIENCE_S)
        assert limited.returncode == 3 and "calls_per_run = 9" in limited.stderr, limited.stderr
        assert len(server.chats) == 9
        raised = {**environment, "ROLEGEN_BUDGET__CALLS_PER_RUN": "1000"}
        with rolegen.started(*command, *ray, "--json", environment=raised) as process:
            until(lambda: len(server.chats) >= 16, seconds=PATIENCE_S)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, err
        report = json.loads(out)
        assert report["stopped"] and report["left"] > 0 and "Traceback" not in err
        assert report["wanted"] == USERS == report["earlier"] + report["decided"] + report["left"]
        with opened(project, on_server) as shop:
            assert [run.decisions for run in shop.memory.runs()] == [report["earlier"] + report["decided"]]


def test_several_nodes_refuse_a_memory_in_a_file(shop: RoleGen) -> None:
    require_shared_memory(shop, Nodes(count=1, cpus=2, gpus=0, here=""))
    with pytest.raises(ProjectError, match="2 nodes cannot write to one SQLite memory"):
        require_shared_memory(shop, Nodes(count=2, cpus=4, gpus=0, here=""))


def test_a_node_that_does_not_see_the_project_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"(?s)does not see the project's folder.*same path"):
        Site(tmp_path / "elsewhere", {}, {}).open()


def test_without_the_extra_the_install_command_is_told(shop: RoleGen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    silent: Any = lambda stage, done, total: None  # noqa: E731
    with pytest.raises(MissingExtraError, match=r"pip install 'rolegen-agent\[ray\]'"):
        awaken_on_ray(shop, users_at(shop.project.root, 1), AT, address="local", progress=silent, stop=Event())


def test_ranges_hold_every_user_once_in_order() -> None:
    events = pl.DataFrame({"user": ["b"] * 5 + ["a"] * 2 + ["d"] * 1 + ["c"] * 2})
    assert [part.to_list() for part in user_ranges(events, 2)] == [["a"], ["b", "c", "d"]]
    assert [user for part in user_ranges(events, 3) for user in part] == ["a", "b", "c", "d"]
    assert len(user_ranges(events, 1)) == 1
