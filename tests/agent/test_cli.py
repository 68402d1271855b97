"""The command line as a user meets it: every command, its output for people and programs, its errors and exit codes."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from tests.support.shop import AT, Command, Done, Line

COMMANDS = {
    "init": "rolegen.toml",
    "ingest": "quarantined",
    "dormant": "dormant users",
    "train": "semantic ids",
    "evidence": "roles of an item",
    "awaken": "dormant user",
    "explain": "roles, intent, paths",
    "demo": "bundled data",
    "bench": "--json FILE",
    "prompts": "Versions of the prompts",
    "prompts list": "current one",
    "prompts show": "Nothing is sent",
    "prompts diff": "two versions",
    "prompts new": "never touched",
    "prompts lint": "front matter",
    "memory": "loop memory",
    "memory upgrade": "this version",
    "memory erase": "one person",
}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
OWN_LOG = """\
customer,sku,ts,what,pieces,unit,name
ann,A1,2024-01-02 09:00:00,buy,1,2.50,Red mug
ann,B2,2024-01-02 09:00:00,buy,2,3.00,Blue plate
bob,A1,2024-07-03 10:30:00,buy,1,2.50,Red mug
bob,A1,2024-07-05 10:30:00,return,1,2.50,Red mug
cid,B2,2024-11-20 18:00:00,look,1,3.00,Blue plate
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a log of the user's own, in the user's own words."""
    with gzip.open(tmp_path / "log.csv.gz", "wt", encoding="utf-8") as file:
        file.write(OWN_LOG)
    return tmp_path


def own_project(line: Line, events: str = "log.csv.gz") -> None:
    columns = ("user=customer", "item=sku", "time=ts", "behaviour=what", "quantity=pieces", "price=unit", "title=name")
    mapped = [word for pair in columns for word in ("--column", pair)]
    done = line("init", "--events", events, *mapped, "--timezone", "Europe/Berlin")
    assert done.returncode == 0, done.stderr
    words = '{ buy = "order", return = "refund", look = "view" }'
    file = line.folder / "rolegen.toml"
    file.write_text(
        re.sub(r"^#behaviours = .*$", f"behaviours = {words}", file.read_text("utf-8"), flags=re.M), "utf-8"
    )


def refused(done: Done, *told: str, code: int = 1) -> None:
    """An error for people: exit code, what and how to mend it. An exception that is no error of ours would end the test."""
    assert done.returncode == code, done
    for part in told:
        assert part in done.stderr, f"{part!r} is not in:\n{done.stderr}"


def test_help_of_every_command_says_what_it_does(line: Line) -> None:
    for name, told in COMMANDS.items():
        done = line(*name.split(), "--help")
        assert done.returncode == 0 and told in " ".join(done.stdout.split()), name
    assert all(name.split()[0] in line("--help").stdout for name in COMMANDS)


def test_an_unknown_command_or_option_is_wrong_usage(line: Line) -> None:
    refused(line("recommend"), "No such command", code=2)
    refused(line("dormant", "--when", AT), "No such option", code=2)
    refused(line("dormant"), "--at", code=2)
    refused(line("init", "--column", "user"), "OURS=YOURS", code=2)


def test_init_does_not_overwrite(line: Line, tmp_path: Path) -> None:
    assert line("init", "--preset", "online_retail_ii").returncode == 0
    before = (tmp_path / "rolegen.toml").read_text("utf-8")
    refused(line("init"), "there is a project file already", "--force")
    assert (tmp_path / "rolegen.toml").read_text("utf-8") == before
    assert line("init", "--force", "--timezone", "Europe/Berlin").returncode == 0
    assert (tmp_path / "rolegen.toml").read_text("utf-8") != before


def test_outside_of_a_project_it_says_how_to_make_one(line: Line) -> None:
    for command in (("ingest",), ("dormant", "--at", AT), ("explain", "x"), ("train", "--at", AT)):
        refused(line(*command), "there is no rolegen.toml", "rolegen init")


def test_a_log_of_ones_own_is_ingested_in_its_own_words_and_zone(line: Line, own: Path) -> None:
    own_project(line)
    done = line("ingest", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows"], report["kept"], report["users"], report["items"]) == (5, 5, 3, 2)
    assert report["events"] == {"expose": 0, "view": 1, "cart": 0, "order": 3, "refund": 1}
    assert report["first"] == "2024-01-02T08:00:00Z", "nine o'clock in Berlin, in winter"
    assert "rows read" in line("ingest").stdout
    listed = line("dormant", "--at", "2024-09-01", "--json")
    assert [row["user"] for row in json.loads(listed.stdout)] == ["ann"]
    assert "lapsed buyer: last order 2024-01-02" in line("dormant", "--at", "2024-09-01").stdout


def test_a_broken_log_is_refused_with_file_column_and_rows(line: Line, own: Path) -> None:
    lines = OWN_LOG.splitlines()
    lines[2] = lines[2].replace("2024-01-02 09:00:00", "yesterday")
    lines[4] = lines[4].replace("return", "steal")
    (own / "broken.csv").write_text("\n".join(lines) + "\n", "utf-8")
    own_project(line, "broken.csv")
    done = line("ingest")
    refused(done, "broken.csv")
    assert ("ts" in done.stderr and "yesterday" in done.stderr) or ("what" in done.stderr and "steal" in done.stderr)
    assert not (own / ".rolegen" / "events.parquet").exists()

    kept = line("ingest", "--on-bad-rows", "quarantine")
    assert kept.returncode == 0, kept.stderr
    assert re.search(r"kept +3", kept.stdout) and kept.stdout.count("quarantined") == 2
    text = (own / ".rolegen" / "quarantine.csv").read_text("utf-8")
    assert "yesterday" in text and "steal" in text and "broken.csv" in text


def test_wrong_words_are_refused_with_the_right_ones(line: Line, own: Path) -> None:
    own_project(line)
    refused(line("ingest", "--on-bad-rows", "ignore"), "on_bad_rows", "quarantine")
    refused(line("dormant", "--at", "2024-09-01"), "not ingested yet", "rolegen ingest")
    assert line("ingest").returncode == 0
    refused(line("dormant", "--at", "tomorrow"), "'tomorrow' is not a date", "YYYY-MM-DD")
    refused(line("dormant", "--at", "01.09.2024"), "is not a date")
    refused(line("dormant", "--at", "2024-09-01T12:00"), "has no time zone")
    refused(line("awaken", "--at", "2024-09-01"), "nothing was trained", "rolegen train --at 2024-09-01")
    refused(line("awaken", "--at", "2024-09-01", "--reasoner", "magic"), "kind", "evidence")
    refused(line("evidence", "A1"), "nothing was trained")
    refused(line("bench", "magic"), "there is no benchmark 'magic'", "reactivation")
    refused(line("bench", "all", "--report", "page.html"), "'all' knows no --report", "by its own name")


def test_a_log_that_is_too_short_to_learn_from_says_so(line: Line, own: Path) -> None:
    own_project(line)
    assert line("ingest").returncode == 0
    refused(line("train", "--at", "2023-01-01"), "no event before 2023-01-01", "later date")
    refused(line("train", "--at", "2024-09-01"), "fix:")


def test_dormant_lists_for_people_and_for_programs(line: Line, trained: Path) -> None:
    shown = line("dormant", "--at", AT, "--project", str(trained), "--limit", "3")
    rows = json.loads(line("dormant", "--at", AT, "--project", str(trained), "--json").stdout)
    assert f"{len(rows):,} dormant users at {AT}" in shown.stdout and "the first 3 shown" in shown.stdout
    assert all(row["user"] in shown.stdout for row in rows[:3]) and rows[3]["user"] not in shown.stdout
    assert set(rows[0]) >= {"user", "reason", "last_order", "days", "orders"}


def test_the_installed_command_ends_an_error_without_a_traceback(rolegen: Command) -> None:
    done = rolegen("dormant", "--at", AT)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: there is no rolegen.toml") and "Traceback" not in done.stderr
    assert CONTROL.search(done.stderr) is None


def test_awaken_explain_and_erase_one_user(line: Line, rolegen: Command, project: Path) -> None:
    place = ("--project", str(project))
    users = [row["user"] for row in json.loads(line("dormant", "--at", AT, "--json", *place).stdout)[:3]]
    done = rolegen("awaken", "--at", AT, "--limit", "3", *place)
    assert done.returncode == 0 and "3 now, 0 earlier, 0 left" in done.stdout
    assert "no LLM was called" in " ".join(done.stdout.split())
    assert CONTROL.search(done.stderr) is None and done.stderr == "", "no progress bar outside of a terminal"
    report = json.loads(line("awaken", "--at", AT, "--user", users[0], "--json", *place).stdout)
    assert (report["earlier"], report["decided"], report["calls"]) == (1, 0, 0)

    told = line("explain", users[0], *place).stdout
    trace = json.loads(line("explain", users[0], "--json", *place).stdout)
    assert trace["user"] == users[0] and trace["reasoner"] == "evidence" and trace["run"] == report["run"]
    assert f"customer {users[0]}" in told and "the evidence reasoner" in " ".join(told.split())
    assert all(item["item"] in told for item in trace["slate"]["items"])
    refused(line("explain", "nobody", *place), "no decision on user 'nobody'", "rolegen awaken")
    refused(line("explain", users[0], "--run", "other", *place), "in run 'other'")
    refused(line("awaken", "--at", AT, "--user", "nobody", *place), "'nobody'")

    assert line("memory", "upgrade", *place).returncode == 0
    ledger = project / ".rolegen" / "artefacts" / AT / "evidence" / "ledger"
    assert users[0] in pl.read_parquet(ledger / "users.parquet")["user"]
    shutil.copytree(ledger, project / ".rolegen" / "improving" / "x" / "candidate" / "evidence" / "ledger")
    killed = shutil.copytree(ledger, project / ".rolegen" / "artefacts" / "2011-08-01" / "evidence" / "ledger")
    (killed / "ledger.json").unlink()
    told = line("memory", "erase", users[0], "--yes", *place).stdout
    assert "from decisions" in told and "3 from ledgers" in told
    kept = [pl.read_parquet(file)["user"] for file in (project / ".rolegen").rglob("ledger/users.parquet")]
    assert len(kept) == 2 and all(users[0] not in some and users[1] in some for some in kept)
    refused(line("explain", users[0], *place), "no decision on user")
    assert "nothing was stored" in line("memory", "erase", users[0], "--yes", *place).stdout
    assert line("explain", users[1], *place).returncode == 0


def test_evidence_shows_an_item_and_a_category(line: Line, trained: Path) -> None:
    place = ("--project", str(trained))
    rows = json.loads(line("evidence", "85123A", "--json", *place).stdout)
    assert rows and {"value", "low", "high", "support"} <= set(rows[0])
    shown = line("evidence", "85123A", *place)
    assert shown.returncode == 0 and "support" in shown.stdout
    refused(line("evidence", "no such item", *place), "no such item in the catalogue")
    refused(line("evidence", *place), "give an item", code=2)


def test_titles_cannot_paint_the_terminal(line: Line, own: Path) -> None:
    (own / "rude.csv").write_text(OWN_LOG.replace("ann", "[bold]ann[/nope]"), "utf-8")
    own_project(line, "rude.csv")
    assert line("ingest").returncode == 0
    done = line("dormant", "--at", "2024-09-01")
    assert done.returncode == 0 and "[bold]ann[/nope]" in done.stdout
