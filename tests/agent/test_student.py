"""`rolegen distil` and the student behind the loop: from a teacher's decisions to answers without it."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from langchain_core.language_models import FakeListChatModel

from rolegen_agent import RoleGen
from rolegen_agent.distil import default_teacher
from rolegen_agent.project import moment
from rolegen_errors import FutureError, InputError, ProjectError
from rolegen_graphs.conformance import check_reasoner
from rolegen_graphs.words import CallSite
from tests.support.shop import AT, Line, users_at
from tests.support.snippets import read

NEXT = "2011-09-02"
TAUGHT = 70
STUDENT = {"reasoner": {"kind": "student"}}
SITE = CallSite(decision="test", round=1, node="reason")


@pytest.fixture(scope="module")
def distilled(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small shop after its evidence reasoner taught a student. Read it only."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("student") / "shop"))
    with RoleGen.open(folder, overrides={"student": {"epochs": 8}}) as shop:
        shop.awaken(users_at(folder, TAUGHT), AT)
        shop.distil(NEXT)
    return folder


@pytest.fixture
def taught(distilled: Path, tmp_path: Path) -> Path:
    """A copy to do anything to."""
    return Path(shutil.copytree(distilled, tmp_path / "shop"))


def test_it_answers_without_an_llm_and_is_named_for_what_it_is(taught: Path) -> None:
    users = users_at(taught, 90)[TAUGHT:]
    with RoleGen.open(taught, overrides=STUDENT) as shop:
        report = shop.awaken(users, NEXT)
        found = [shop.trace(user) for user in users]
        assert shop.memory.usage().calls == 0
        [artefact] = shop.memory.artefacts("student")
    assert report.decided == len(users) and "/student:evidence/" in report.run
    assert {one.reasoner for one in found} == {"student:evidence"} and all(one.worth is None for one in found)
    rounds = [one.rounds[-1] for one in found]
    assert all(one.reading.labels for one in rounds)
    specs = [spec for one in rounds for path in one.paths for spec in path.specs()]
    assert specs and all(spec.text and spec.category for spec in specs)
    grounded = [c for one in rounds for c in one.candidates if c.item is not None]
    assert len(grounded) > 0.9 * len(specs), "what it wishes for exists"
    assert artefact.manifest["teacher"] == "evidence" and artefact.manifest["decisions"] > 40


def test_it_keeps_the_rules_of_reasoners_and_says_the_same_twice(taught: Path) -> None:
    users = users_at(taught, 5)
    with RoleGen.open(taught, overrides=STUDENT) as shop:
        parts = shop.assembly(NEXT).parts
        seen = [parts.observer.observe(user, moment(NEXT)) for user in users]
        check_reasoner(parts.reasoner, seen=seen)
        first = [parts.reasoner.reason(one, (), site=SITE) for one in seen]
        assert first == [parts.reasoner.reason(one.model_copy(), (), site=SITE) for one in seen]


def test_nothing_later_reaches_it(taught: Path) -> None:
    weights = taught / ".rolegen/artefacts" / NEXT / "student/student.safetensors"
    before = weights.read_bytes()
    events = taught / ".rolegen/events.parquet"
    with RoleGen.open(taught, overrides={"student": {"epochs": 8}}) as shop:
        shop.awaken(users_at(taught, 20), "2011-10-01")  # the teacher goes on deciding
        pl.read_parquet(events).filter(pl.col("time") < moment(NEXT)).write_parquet(events)
        shop.distil(NEXT, force=True)
        assert weights.read_bytes() == before, "neither later decisions nor later events have a part in it"
        student = RoleGen.open(taught, overrides=STUDENT)
        with pytest.raises(ProjectError, match=f"(?s)no student for decisions at {AT}.*distil --at {AT}"):
            student.assembly(AT)
        with student, pytest.raises(FutureError, match="the student has learnt from decisions up to"):
            parts = student.assembly(NEXT).parts
            early = parts.observer.observe(users_at(taught, 1)[0], moment(NEXT) - timedelta(days=1))
            parts.reasoner.reason(early, (), site=SITE)


def test_another_backbone_needs_another_student(taught: Path) -> None:
    file = taught / ".rolegen/artefacts" / AT / "backbone/backbone.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "note": "trained again"}), "utf-8")
    with (
        RoleGen.open(taught, overrides=STUDENT) as shop,
        pytest.raises(ProjectError, match="distilled on another backbone"),
    ):
        shop.assembly(NEXT)


def test_it_answers_for_users_who_are_not_worth_an_llm(taught: Path) -> None:
    wanted = {"kind": "llm", "think": "uncertain", "ask_from": 0.69, "stand_in": "student"}
    silent = FakeListChatModel(responses=["nobody asks me"])
    with RoleGen.open(taught, overrides={"reasoner": wanted}, chat=silent, model="silent") as shop:
        found = [shop.decide(user, NEXT) for user in users_at(taught, 12)]
    sure = [one for one in found if one.worth is not None and not one.worth.rounds]
    assert len(sure) > 6 and {one.reasoner for one in sure} == {"student:evidence"}
    assert all("no LLM is asked" in answer.why for one in sure for answer in one.rounds[0].answers)


def test_the_command_line_distils_says_what_came_of_it_and_does_it_once(project: Path, line: Line) -> None:
    where = ("--project", str(project))
    refused = line("distil", "--at", NEXT, *where)
    assert refused.returncode == 1
    assert "memory holds 0 decisions of evidence" in refused.stderr and "60 are needed" in refused.stderr
    assert "rolegen awaken --reasoner evidence" in refused.stderr
    missing = line("awaken", "--at", NEXT, "--reasoner", "student", "--limit", "1", *where)
    assert missing.returncode == 1 and "run `rolegen distil --at 2011-09-02`" in missing.stderr
    for step in read(Path(__file__).parents[2] / "docs" / "student.md"):
        done = line(*step.arguments())
        assert done.returncode == 0, f"docs/student.md:{step.line}: {done.stderr}"
        if "distil" in step.text:
            assert "held-out labels" in done.stdout and "rebuy" in done.stdout
        if "explain" in step.text:
            assert "a student of evidence" in done.stdout
    again = line("distil", "--at", NEXT, "--json", *where)
    assert json.loads(again.stdout)["repeated"] is True


def test_the_teacher_is_the_llm_with_most_decisions() -> None:
    known = {"evidence": 900, "llm:large": 80, "llm:small": 70, "mixed": 500, "student:evidence": 2000}
    assert default_teacher(known) == "llm:large"
    assert default_teacher({"evidence": 5, "student:evidence": 9}) == "evidence" == default_teacher({})


def test_a_person_who_is_erased_teaches_no_more(taught: Path) -> None:
    gone = users_at(taught, 1)[0]
    folder = taught / ".rolegen/artefacts" / NEXT / "student"
    assert all(gone.encode() not in file.read_bytes() for file in folder.iterdir()), "a student names nobody"
    with RoleGen.open(taught, overrides={"student": {"epochs": 8}}) as shop:
        before = shop.distil(NEXT)
        shop.erase(gone)
        after = shop.distil(NEXT)
        assert before.repeated and not after.repeated
        assert after.manifest["learnt_from"]["decisions"] == before.manifest["learnt_from"]["decisions"] - 1
        with pytest.raises(InputError, match="memory holds 0 decisions of llm:nobody"):
            shop.distil(NEXT, teacher="llm:nobody")
