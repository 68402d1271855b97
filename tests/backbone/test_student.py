"""The role student: it learns what a teacher says, the same each time, and from the past alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.events import DAY
from rolegen_backbone.student import Student
from rolegen_backbone.student_training import Choices, Distilled, Labels, StudentConfig, Taught, distil
from rolegen_errors import FutureError, InputError, ProjectError

from .conftest import CUT, ITEMS, at_day, catalogue, item_ids, log_of, shop_rows, silent

ROLES, FORMS = 3, 2
CONFIG = StudentConfig(seed=1, width=32, epochs=14, patience=14)
HABIT, EVEN, ODD = range(ROLES)


def planted(backbone: TrainedBackbone, day: int) -> list[Taught]:
    """A teacher's answers for everybody with a history: a rebought item is a habit, another one even or odd; form 0 holds the item of
    the user's own, form 1 the last item bought, and is proposed after three weeks of silence alone."""
    log, found = backbone.log, []
    for user in range(len(log.users)):
        rows = log.rows(user, day * DAY)
        if rows.stop - rows.start < 3:
            continue
        item, event = log.item[rows], log.event[rows]
        role = [
            HABIT if one in item[:place] else EVEN if one % 2 == 0 else ODD for place, one in enumerate(item.tolist())
        ]
        silent_for = day - int(log.time[rows][-1]) // DAY
        forms = [0, 1] if silent_for > 21 else [0]
        items = [user * 7 % ITEMS, int(item[-1])][: len(forms)]
        found.append(
            Taught(
                user,
                day * DAY,
                Labels(event[-6:], np.array(role[-6:]), np.full(len(role[-6:]), 0.9, np.float32)),
                Choices(np.array(forms), 3 * np.array(forms), np.array(items), np.ones(len(forms), np.float32)),
            )
        )
    return found


def teach(
    backbone: TrainedBackbone, config: StudentConfig = CONFIG, days: range = range(CUT - 250, CUT, 25)
) -> tuple[Student, Distilled]:
    torch.set_num_threads(1)
    taught = [one for day in days for one in planted(backbone, day)]
    return distil(
        backbone, taught, as_of=at_day(CUT), roles=ROLES, forms=FORMS, slots=3 * FORMS, config=config, progress=silent
    )


@pytest.fixture(scope="module")
def taught(trained: TrainedBackbone) -> tuple[Student, Distilled]:
    return teach(trained)


def test_it_learns_roles_and_choices_of_later_decisions(taught: tuple[Student, Distilled]) -> None:
    report = taught[1]
    assert report.role_agreement is not None and report.majority_agreement is not None and report.slot_top1 is not None
    assert report.role_agreement > max(0.85, report.majority_agreement + 0.15)
    assert report.slot_top1 > 0.7, "one of 24 items by chance"
    assert report.reach == 1.0 and report.held_out > 20


def test_it_says_what_the_teacher_would_say_at_a_date_of_its_own(
    taught: tuple[Student, Distilled], trained: TrainedBackbone
) -> None:
    student, right, forms = taught[0], [], []
    for one in planted(trained, CUT):
        said = student.say(str(trained.log.users[one.user]), at_day(CUT))
        assert said is not None and one.choices is not None
        np.testing.assert_allclose(said.role_TR.sum(axis=1), 1.0, atol=1e-5)
        np.testing.assert_allclose(said.slot_PS.sum(axis=0), 1.0, atol=1e-5)
        right.append(int(said.item[said.slot_PS[:, 0].argmax()]) == one.choices.item[0])
        forms.append((said.form_F[1] > 0.5) == (1 in one.choices.form))
    assert np.mean(right) > 0.7 and np.mean(forms) > 0.8
    assert student.say("nobody", at_day(CUT)) is None


def test_the_same_decisions_give_the_same_student_to_the_last_bit(trained: TrainedBackbone, tmp_path: Path) -> None:
    quick = replace(CONFIG, epochs=2)
    for name in ("one", "two"):
        teach(trained, quick, range(CUT - 100, CUT, 25))[0].save(tmp_path / name)
    for file in ("student.safetensors", "items.parquet", "student.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_what_was_saved_is_read_back_over_more_items_too(
    taught: tuple[Student, Distilled], trained: TrainedBackbone, tmp_path: Path
) -> None:
    student = taught[0]
    student.save(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json", ".parquet"}
    again = Student.load(tmp_path, trained)
    user = str(trained.log.users[3])
    one, other = student.say(user, at_day(CUT)), again.say(user, at_day(CUT))
    assert one is not None and other is not None
    np.testing.assert_array_equal(one.slot_PS, other.slot_PS)
    more = catalogue(ITEMS + 1)
    longer = trained.extend(more, log_of(shop_rows(), item_ids(ITEMS + 1)))
    wider = Student.load(tmp_path, longer).say(user, at_day(CUT))
    assert wider is not None and wider.item[wider.slot_PS[:, 0].argmax()] == one.item[one.slot_PS[:, 0].argmax()]
    (tmp_path / "student.safetensors").write_bytes(b"broken")
    with pytest.raises(ProjectError, match="cannot be read"):
        Student.load(tmp_path, trained)


def test_nothing_from_its_date_on_is_learnt_or_answered(
    taught: tuple[Student, Distilled], trained: TrainedBackbone
) -> None:
    with pytest.raises(FutureError, match="decision at or after"):
        teach(trained, CONFIG, range(CUT - 50, CUT + 1, 25))
    with pytest.raises(FutureError, match="distil --at"):
        taught[0].say(str(trained.log.users[0]), at_day(CUT - 1))
    with pytest.raises(FutureError, match="log holds events at or after"):
        distil(trained, planted(trained, CUT - 60), as_of=at_day(CUT - 30), roles=ROLES, forms=FORMS, slots=3 * FORMS, config=CONFIG, progress=silent)  # fmt: skip
    with pytest.raises(InputError, match="too few"):
        distil(
            trained, [], as_of=at_day(CUT), roles=ROLES, forms=FORMS, slots=3 * FORMS, config=CONFIG, progress=silent
        )
