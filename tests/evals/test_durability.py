"""What a batch survives: kill -9 at random points, a server that restarts, and other programs on the same run."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from rolegen_agent.batch import AwakenReport, awaken
from rolegen_agent.memory import open_memory
from rolegen_agent.memory.checkpoints import open_checkpointer, threads
from rolegen_errors import MemoryAwayError
from rolegen_evals.bench import Order
from rolegen_evals.bench import run as bench
from rolegen_evals.load.cluster import own_cluster, postgres_programs
from rolegen_evals.load.processes import forks
from rolegen_evals.load.shop import AT, open_shop, user_name
from rolegen_evals.load.sweep import CountingLlm, Job, Rows, differences, dump, live, sweep, undisturbed

pytest_plugins = ["tests.support.postgres"]


@pytest.fixture
def job(memory_url: str, tmp_path: Path) -> Job:
    """A batch of 16 users on an empty memory, once on each database."""
    checkpoints = str(tmp_path / "checkpoints.db") if memory_url.startswith("sqlite") else memory_url
    return Job(memory=memory_url, checkpoints=checkpoints, endpoint="", run="killed", first=0, users=16)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows that such a batch leaves when nothing happens to it."""
    folder = tmp_path_factory.mktemp("twin")
    quiet = Job(
        memory=str(folder / "m.db"), checkpoints=str(folder / "c.db"), endpoint="", run="killed", first=0, users=16
    )
    return undisturbed(quiet, ["killed"])


def test_kills_at_random_points_leave_no_trace(job: Job) -> None:
    found = sweep(job, kills=8, delay_s=0.01, seed=3, progress=lambda done, total: None)
    assert found.kills == 8 and found.resumed >= 4, "decisions were half way when they were killed"
    assert found.repeated_finished == 0, "no answer that was kept is asked for again"
    assert found.differing_rows == found.threads_left == found.begun_left == found.unspent == 0


def run(job: Job, llm: CountingLlm, *, outage_s: float = 30.0) -> AwakenReport:
    with open_memory(job.memory, outage_s=outage_s) as memory:
        shop = open_shop(memory, job.run, endpoint=llm.server.url)
        return awaken(shop, memory, job.names(), AT, workers=4, checkpoints=job.checkpoints)


def test_two_commands_on_one_run_share_the_users_and_pay_once(job: Job, twin: Rows) -> None:
    llm = CountingLlm(0.02)
    with llm.server, ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: run(job, llm), range(2))
    assert one.decided + other.decided == 16 and min(one.decided, other.decided) > 0
    assert one.decided + one.earlier == other.decided + other.earlier == 16 and one.left == other.left == 0
    assert llm.asked.total() == len(llm.asked), "no question was put twice"
    assert differences(dump(job.memory), twin) == []


def test_users_of_a_killed_command_are_taken_over_by_the_one_beside_it(job: Job, twin: Rows) -> None:
    llm = CountingLlm(0.05)
    with llm.server as server, ThreadPoolExecutor(1) as pool:
        doomed = forks().Process(target=live, args=(replace(job, endpoint=server.url),))
        doomed.start()
        while llm.arrived < 5:
            doomed.join(0.01)
            assert doomed.exitcode is None
        beside = pool.submit(run, job, llm)
        while llm.arrived < 20:
            doomed.join(0.01)
        doomed.kill()
        doomed.join()
        report = beside.result()
    assert report.decided + report.earlier == 16 and report.left == 0
    assert differences(dump(job.memory), twin) == []
    with open_checkpointer(job.checkpoints) as saver:
        assert threads(saver) == set(), "nothing of the killed one is left either"


def test_checkpoints_of_recorded_decisions_are_swept_and_others_are_not(job: Job) -> None:
    llm = CountingLlm(0.0)
    with llm.server as server, open_memory(job.memory) as memory:
        shop = open_shop(memory, job.run, endpoint=server.url)
        # As after a kill between recording a decision and deleting its thread.
        awaken(shop, memory, job.names()[:2], AT, workers=2, checkpoints=job.checkpoints, keep_checkpoints=True)
        with open_checkpointer(job.checkpoints) as saver:
            assert len(threads(saver)) == 2
            other = {"configurable": {"thread_id": "of another program", "checkpoint_ns": ""}}
            from langgraph.checkpoint.base import empty_checkpoint

            saver.put(other, empty_checkpoint(), {}, {})  # type: ignore[arg-type]
        awaken(shop, memory, job.names()[:2], AT, workers=2, checkpoints=job.checkpoints)
        with open_checkpointer(job.checkpoints) as saver:
            assert threads(saver) == {"of another program"}
            saver.delete_thread("of another program")


def test_a_claim_is_one_holders_until_it_is_given_back_or_its_holder_is_gone(memory_url: str, tmp_path: Path) -> None:
    with open_memory(memory_url) as one, open_memory(memory_url) as other:
        with one.claimed("a") as mine:
            assert mine
            for memory in (one, other):
                with memory.claimed("a") as again:
                    assert not again
            with other.claimed("b") as free:
                assert free
        with other.claimed("a") as mine:
            assert mine
    if memory_url.startswith("sqlite"):
        assert not list(tmp_path.glob("*-claims")), "no file stays behind"


def test_claims_outlive_the_connection_that_held_them(postgres_url: str) -> None:
    import psycopg

    with open_memory(postgres_url, upgrade=True) as one, open_memory(postgres_url) as other, one.claimed("a") as mine:
        assert mine
        with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        with one.claimed("b") as free:  # the next claim finds the connection lost
            assert free
        with other.claimed("a") as taken:
            assert not taken


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A memory whose file another program holds for a while, again and again."""
    file, over = tmp_path / "memory.db", threading.Event()
    open_memory(file).close()

    def hold() -> None:
        blocker = sqlite3.connect(file, isolation_level=None, timeout=30)
        while not over.is_set():
            blocker.execute("BEGIN IMMEDIATE")
            over.wait(0.1)
            blocker.execute("COMMIT")
            over.wait(0.02)
        blocker.close()

    holder = threading.Thread(target=hold)
    holder.start()
    yield file
    over.set()
    holder.join()


def test_a_batch_waits_for_a_locked_file(locked: Path, tmp_path: Path) -> None:
    llm = CountingLlm(0.0)
    job = Job(memory=str(locked), checkpoints=str(tmp_path / "c.db"), endpoint="", run="r", first=0, users=2)
    with llm.server:
        assert run(job, llm).decided == 2


@pytest.mark.skipif(
    postgres_programs() is None and not os.environ.get("CI"), reason="PostgreSQL's server is not installed"
)
def test_a_batch_waits_for_a_restart_and_goes_on_after_an_outage(twin: Rows) -> None:
    llm = CountingLlm(0.02)
    with own_cluster() as cluster, llm.server, ThreadPoolExecutor(1) as pool:
        url = cluster.create("shop")
        open_memory(url, upgrade=True).close()
        job = Job(memory=url, checkpoints=url, endpoint="", run="killed", first=0, users=16)

        def after(requests: int) -> None:
            while llm.arrived < requests and not under_way.done():
                threading.Event().wait(0.005)

        under_way = pool.submit(run, job, llm, outage_s=1.0)
        after(8)
        cluster.stop()
        with pytest.raises(MemoryAwayError, match=r"(?s)is away.*the same command: it goes on"):
            under_way.result(60)  # it gave up by itself, with a word on what to do
        cluster.start()

        before = llm.arrived
        under_way = pool.submit(run, job, llm)
        after(before + 10)
        cluster.stop()
        cluster.start()
        after(before + 25)
        cluster.stop("immediate")  # the server's own kill -9
        cluster.start()
        report = under_way.result(60)
        assert report.left == 0 and report.decided > 0
        assert differences(dump(url), twin) == []
        with open_checkpointer(url) as saver:
            assert threads(saver) == set()
    # At most what each of the four workers had under way at each of the three outages.
    assert llm.asked.total() - len(llm.asked) <= 3 * 4


def test_the_load_benchmark_loses_and_doubles_nothing(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEGEN_BENCH_POSTGRES", postgres_url)
    figures = bench("load", Order(progress=lambda stage, done, total: None, quick=True)).figures
    for database in ("sqlite", "postgresql"):
        assert figures[f"load.decisions.{database}"] == 24
        for bad in ("missing", "doubled", "unfinished", "differences"):
            assert figures[f"load.{bad}.{database}"] == 0, f"{bad} on {database}"
        assert 0 < figures[f"load.write_p50_ms.{database}"] <= figures[f"load.write_p99_ms.{database}"]
    assert 0 < figures["throughput.share_of_endpoint.batch"] <= 1.05
    assert figures["throughput.requests_at_once.batch"] <= 2, "no more at once than [llm] concurrency says"
    assert figures["cpu_ms_per_decision.plain.loop"] > 0


def test_the_made_up_shop_tells_what_its_memory_finds_right(tmp_path: Path) -> None:
    users = [user_name(number) for number in range(150)]  # among them some to whom two specs bring the same item
    with open_memory(tmp_path / "memory.db") as memory:
        shop = open_shop(memory, "alike", endpoint=None, concurrency=1)
        awaken(shop, memory, users, AT, workers=1, checkpoints=None)
        assert list(memory.verify()) == []
