"""The loop over ports that a reader could have written: what runs when, who answers, and what reaches the slate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import pytest

from rolegen_errors import InputError, ProjectError, ReasonerError
from rolegen_graphs import LoopSettings, Parts, create_decision_graph, decision_id
from rolegen_graphs.fusion import Fusion
from rolegen_graphs.gate import Gate
from rolegen_graphs.selection import Selection
from rolegen_graphs.words import (
    Article,
    Candidate,
    Correction,
    Decision,
    Intent,
    ItemSpec,
    Observation,
    Path,
    Proposal,
    Reading,
    Reflection,
    Role,
    RoleBelief,
    RoleLabel,
)
from tests.support.ports import AT, SHELF, ListedUsers, Log, Notebook, Ranker, Shelf, Thinker, parts, steering

NODES = ["observe", "reason", "simulate", "ground", "execute", "feedback", "reflect"]
FIX = Reflection(corrections=(Correction(kind="ungrounded", detail="name something that is sold"),))
UNSOLD = (ItemSpec(role="complement", text="bulb"), ItemSpec(role="trigger", text="moon"))


def decide(filled: Parts, *, at: Any = AT, **steer: Any) -> Decision:
    graph = create_decision_graph(filled, settings=steering(**steer)).compile()
    answer = graph.invoke({"user": "ann", "at": at})["decision"]
    assert isinstance(answer, Decision)
    return answer


def order(filled: Parts, **steer: Any) -> list[str]:
    graph = create_decision_graph(filled, settings=steering(**steer)).compile()
    return [node for step in graph.stream({"user": "ann", "at": AT}, stream_mode="updates") for node in step]


def test_the_seven_nodes_run_in_the_order_of_the_loop() -> None:
    assert order(parts()) == NODES


def test_corrections_lead_to_a_second_round_that_knows_them() -> None:
    thinker = Thinker(wishes=UNSOLD, reflection=FIX)
    assert order(parts(reasoner=thinker), rounds=2) == [*NODES, *NODES[1:]]
    assert [entry[1:] for entry in thinker.log if entry[1] == "reason"] == [
        ("reason", "1"),
        ("reason", "2", "ungrounded"),
    ]


@pytest.mark.parametrize(
    ("why", "thinker", "ranker", "rounds"),
    [
        ("no round is left", Thinker(wishes=UNSOLD, reflection=FIX), Ranker(), 1),
        ("the recommender is sure", Thinker(wishes=UNSOLD, reflection=FIX), Ranker(entropy=0.5), 3),
        ("there is nothing to correct", Thinker(wishes=UNSOLD), Ranker(), 3),
    ],
)
def test_there_is_no_further_round_when(why: str, thinker: Thinker, ranker: Ranker, rounds: int) -> None:
    decision = decide(parts(reasoner=thinker, recommender=ranker), rounds=rounds)
    assert len(decision.rounds) == 1, why
    assert [entry[1] for entry in thinker.log][-1] == "reflect"


def test_the_rounds_end_with_the_budget() -> None:
    decision = decide(parts(reasoner=Thinker(wishes=UNSOLD, reflection=FIX)), rounds=3)
    assert [one.number for one in decision.rounds] == [1, 2, 3]
    assert all(one.reflection == FIX for one in decision.rounds)
    assert [a.node for a in decision.rounds[2].answers] == ["reason", "simulate", "ground", "reflect"]


def test_without_a_signal_nobody_is_asked_to_reflect() -> None:
    thinker = Thinker(reflection=FIX)
    decision = decide(parts(reasoner=thinker), rounds=3)
    assert [entry[1] for entry in thinker.log] == ["reason", "simulate"]
    assert decision.rounds[0].signals == () and decision.rounds[0].reflection == Reflection()


@pytest.mark.parametrize("broken", ["reason", "simulate", "revise", "reflect"])
def test_the_fallback_answers_what_the_reasoner_cannot_and_the_trace_says_why(broken: str) -> None:
    thinker = Thinker(wishes=UNSOLD, fails=frozenset({broken}))
    stand_in = Thinker(name="evidence", wishes=UNSOLD)
    decision = decide(parts(reasoner=thinker, fallback=stand_in))
    assert decision.reasoner == "mixed"
    node = "ground" if broken == "revise" else broken
    answers = {answer.node: answer for answer in decision.rounds[0].answers}
    assert answers[node].reasoner == "evidence"  # type: ignore[index]
    assert answers[node].why == f"llm:thinker could not answer: no idea how to {broken}"  # type: ignore[index]
    assert {a.reasoner for a in answers.values() if a.node != node} == {"llm:thinker"}
    assert all(not a.why for a in answers.values() if a.node != node)


def test_without_a_fallback_the_error_reaches_the_caller_and_nothing_is_remembered() -> None:
    notebook = Notebook()
    with pytest.raises(ReasonerError, match="no idea how to simulate"):
        decide(parts(reasoner=Thinker(fails=frozenset({"simulate"})), memory=notebook))
    assert notebook.decisions == {}


def test_a_fault_that_is_no_reasoner_error_is_not_hidden_by_the_fallback() -> None:
    class Faulty(Thinker):
        def reason(self, *_: object, **__: object) -> Reading:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decide(parts(reasoner=Faulty(), fallback=Thinker(name="evidence")))


def test_a_user_whom_the_recommender_is_sure_of_costs_no_call() -> None:
    thinker, stand_in = Thinker(), Thinker(name="evidence")
    sure = parts(reasoner=thinker, fallback=stand_in, recommender=Ranker(entropy=0.1))
    decision = decide(sure, think="uncertain")
    assert thinker.log == [] and decision.reasoner == "evidence"
    assert decision.worth is not None and decision.worth.rounds == 0
    assert {answer.why for answer in decision.rounds[0].answers} == {decision.worth.why}
    assert decision.worth.why.endswith("not above 0.40, so no LLM is asked")
    assert decide(sure, think="always").worth == decision.worth.model_copy(
        update={
            "rounds": 2,
            "why": "every user is worth 2 LLM rounds (worth 0.29: uncertainty 0.05, thin evidence 1.00, value 0.50)",
        }
    )
    assert thinker.log


def test_the_gate_decides_how_many_rounds_an_llm_gets() -> None:
    thinker = Thinker(wishes=UNSOLD, reflection=FIX)
    unsure = parts(reasoner=thinker, fallback=Thinker(name="evidence"), recommender=Ranker(entropy=2.1))
    decision = decide(unsure, think="uncertain", rounds=3, gate=Gate(all_from=0.9))
    assert decision.worth is not None and 0 < decision.worth.rounds == len(decision.rounds) < 3
    assert decision.reasoner == "llm:thinker"


def test_an_allocated_budget_overrules_the_gate_and_the_trace_says_so() -> None:
    thinker, stand_in = Thinker(), Thinker(name="evidence")
    filled = parts(reasoner=thinker, fallback=stand_in)
    left_out = decide(filled, granted={"bob": 2})
    assert thinker.log == [] and left_out.reasoner == "evidence" and left_out.worth is not None
    assert left_out.worth.why.endswith("but the LLM budget went to users of higher worth")
    chosen = decide(filled, granted={"ann": 1})
    assert chosen.reasoner == "llm:thinker" and chosen.worth is not None and chosen.worth.rounds == 1


def test_without_anybody_else_to_ask_there_is_no_gate() -> None:
    decision = decide(parts(recommender=Ranker(entropy=0.1)), think="uncertain", granted={})
    assert decision.worth is None and decision.reasoner == "llm:thinker"


class Known:
    """A ``RoleEvidence`` that is sure of one role of the one event."""

    def __init__(self, role: Role, probability: float, support: int) -> None:
        self.belief = {7: {role: RoleBelief(probability=probability, support=support)}}

    def beliefs(self, seen: Observation) -> dict[int, dict[Role, RoleBelief]]:
        return self.belief


def test_what_an_llm_says_of_a_role_is_fused_with_what_the_log_says() -> None:
    stand_in = Thinker(name="evidence")
    thin, thick = (parts(fallback=stand_in, evidence=Known("target", 0.9, n)) for n in (1, 2000))
    easily = Fusion(resolved=0.3)
    [label] = decide(thin, fusion=easily).rounds[0].reading.labels
    assert label.role == "gateway" and label.parts is not None and label.parts.log_role == "target"
    decision = decide(thick, fusion=easily)
    [label] = decision.rounds[0].reading.labels
    assert label.role == "target" and label.parts is not None
    assert (label.parts.llm_role, label.parts.llm_confidence, label.parts.support) == ("gateway", 0.5, 2000)
    [signal] = decision.rounds[0].signals
    assert signal.kind == "disagreement" and signal.event == 7
    assert "called gateway (50%), the log says target (90% from 2000 observations)" in signal.detail
    assert not [s for s in decide(thin).rounds[0].signals if s.kind == "disagreement"], (
        "one observation is no contradiction"
    )


def test_what_the_log_said_alone_is_not_fused_with_itself() -> None:
    fails = Thinker(fails=frozenset({"reason"}))
    decision = decide(parts(reasoner=fails, fallback=Thinker(name="evidence"), evidence=Known("target", 0.9, 2000)))
    [label] = decision.rounds[0].reading.labels
    assert label.role == "gateway" and label.parts is None


def test_only_the_chosen_paths_give_candidates_to_the_slate_and_every_other_one_has_its_reason() -> None:
    wishes = tuple(ItemSpec(role="trigger", category="Light", text=text) for text in ("lamp", "bulb", "moon"))
    wishes += (ItemSpec(role="complement", category="Garden", text="seed"),)
    decision = decide(parts(reasoner=Thinker(wishes=wishes)), selection=Selection(paths=2))
    choices = {choice.path: choice for choice in decision.rounds[0].choices}
    assert {path: choice.place for path, choice in choices.items()} == {0: 1, 1: None, 2: None, 3: 2}
    assert "most alike to path 0" in choices[1].reason and "none of its specs became an item" in choices[2].reason
    assert {item.path for item in decision.slate.items} == {0, 3, None}
    assert [effect.path for effect in decision.rounds[0].effects] == [0, 1, 3], (
        "the effect of an unused path stays known"
    )


def test_a_path_that_hurts_for_certain_does_not_reach_the_slate() -> None:
    wishes = (ItemSpec(role="complement", text="seed"), ItemSpec(role="trigger", text="plate"))
    good = decide(parts(reasoner=Thinker(wishes=wishes)))
    assert [item.item for item in good.slate.items][:2] == ["seed", "plate"]
    decision = decide(parts(reasoner=Thinker(wishes=wishes), recommender=Ranker(harmful=frozenset({0}))))
    shown = {item.item: item for item in decision.slate.items}
    assert decision.slate.items[0].item == "plate" and shown["plate"].path == 1
    assert shown["seed"].role is None and shown["seed"].path is None  # only where the recommender had it anyway
    [signal] = decision.rounds[0].signals
    assert (signal.kind, signal.path) == ("negative_effect", 0)


def test_without_a_surviving_candidate_the_slate_is_that_without_reasoning() -> None:
    decision = decide(parts(recommender=Ranker(harmful=frozenset({0, 1}))))
    assert decision.slate == decision.slate_without_reasoning
    nothing = decide(parts(reasoner=Thinker(wishes=())))
    assert nothing.slate == nothing.slate_without_reasoning and nothing.rounds[0].effects == ()


def test_a_rejected_spec_is_revised_once() -> None:
    thinker = Thinker(wishes=UNSOLD, revised=lambda candidate: ItemSpec(role="trigger", text="cup"))
    shelf = Shelf()
    decision = decide(parts(reasoner=thinker, catalogue=shelf))
    assert shelf.log == [("shelf", "ground", "bulb", "moon"), ("shelf", "ground", "cup")]
    bulb, cup = decision.rounds[0].candidates
    assert (bulb.item, bulb.revised) == ("bulb", False)
    assert (cup.item, cup.path, cup.step, cup.fate, cup.revised) == ("cup", 1, 0, "accepted", True)
    assert cup.reason == "on the shelf (first: no moon here)"
    assert decision.rounds[0].signals == ()


def test_a_spec_that_stays_unsold_is_not_revised_twice() -> None:
    thinker = Thinker(wishes=UNSOLD, revised=lambda candidate: ItemSpec(role="trigger", text="sun"))
    shelf = Shelf()
    decision = decide(parts(reasoner=thinker, catalogue=shelf))
    assert len(shelf.log) == 2 and [entry[1] for entry in thinker.log].count("revise") == 1
    assert [s.kind for s in decision.rounds[0].signals] == ["ungrounded"]
    assert decision.rounds[0].candidates[1].reason == "no sun here (first: no moon here)"


def test_a_spec_that_nobody_revises_stays_as_it_was_rejected() -> None:
    decision = decide(parts(reasoner=Thinker(wishes=UNSOLD)))
    assert decision.rounds[0].candidates[1] == Candidate(
        path=1, step=0, role="trigger", spec=UNSOLD[1], fate="rejected", reason="no moon here", title="Moon"
    )


def test_a_revision_cannot_take_an_item_that_another_spec_has() -> None:
    wishes = (*UNSOLD, ItemSpec(role="anchor", text="sun"))
    thinker = Thinker(
        wishes=wishes,
        revised=lambda c: ItemSpec(role=c.role, text="bulb" if c.spec.text == "moon" else "cup"),
    )
    bulb, moon, sun = decide(parts(reasoner=thinker)).rounds[0].candidates
    assert (bulb.fate, bulb.item) == ("accepted", "bulb")
    assert (moon.fate, moon.item) == ("rejected", None)
    assert moon.reason == "another spec already has the item (first: no moon here)"
    assert (sun.fate, sun.item) == ("accepted", "cup")


def test_what_is_taken_away_needs_no_item() -> None:
    paths = [
        Path(
            path=0,
            operation="remove",
            intervention=ItemSpec(role="anchor", text="the expensive lamp"),
            replaces=7,
            steps=(ItemSpec(role="target", text="cup"),),
        )
    ]
    shelf, ranker = Shelf(), Ranker()
    decision = decide(parts(reasoner=Thinker(paths=paths), catalogue=shelf, recommender=ranker))
    assert shelf.log == [("shelf", "ground", "cup")]
    assert [(c.step, c.item) for c in decision.rounds[0].candidates] == [(1, "cup")]
    assert ("ranker", "rollout", "0:cup") in ranker.log
    assert ("ranker", "change", "0:7:None") in ranker.log, "the effect is that of a past without the event"


def test_what_replaces_an_event_stands_in_its_place_and_is_no_step() -> None:
    paths = [
        Path(
            path=2,
            operation="replace",
            intervention=ItemSpec(role="anchor", text="lamp"),
            replaces=5,
            steps=(ItemSpec(role="target", text="cup"),),
        )
    ]
    ranker = Ranker()
    decision = decide(parts(reasoner=Thinker(paths=paths), recommender=ranker))
    assert ("ranker", "rollout", "2:cup") in ranker.log
    assert ("ranker", "change", "2:5:lamp") in ranker.log
    assert {c.item for c in decision.rounds[0].candidates} == {"lamp", "cup"}, "both are candidates of the slate"


def test_the_effect_of_a_path_is_that_of_its_items_in_order() -> None:
    steps = (ItemSpec(role="bridge", text="moon"), ItemSpec(role="target", text="seed"))
    paths = [Path(path=4, operation="insert", intervention=ItemSpec(role="trigger", text="lamp"), steps=steps)]
    ranker = Ranker()
    decision = decide(parts(reasoner=Thinker(paths=paths), recommender=ranker))
    assert ("ranker", "rollout", "4:lamp+seed") in ranker.log
    assert [effect.path for effect in decision.rounds[0].effects] == [4]


def test_a_slate_of_one_category_and_paths_of_one_role_count_as_collapsed() -> None:
    same = (ItemSpec(role="trigger", text="lamp"), ItemSpec(role="trigger", text="bulb"))
    decision = decide(parts(reasoner=Thinker(wishes=same)), slate_size=2, min_categories=2)
    assert [signal.kind for signal in decision.rounds[0].signals] == ["collapse", "collapse"]
    assert {item.category for item in decision.slate.items} == {"Light"}


def test_a_role_that_the_log_contradicts_is_a_disagreement() -> None:
    from rolegen_graphs.words import Statistic

    class Sceptic(Thinker):
        def reason(self, *given: Any, **more: Any) -> Reading:
            label = super().reason(*given, **more).labels[0]
            against = Statistic(name="later orders", value=-0.2, low=-0.3, high=-0.1, support=90)
            unsure = against.model_copy(update={"high": 0.1})
            labels = [label.model_copy(update={"statistic": one}) for one in (against, unsure, None)]
            labels.append(labels[0].model_copy(update={"role": "incidental"}))
            return Reading(labels=tuple(labels), intent=Intent(stage="none"))

    [signal] = decide(parts(reasoner=Sceptic())).rounds[0].signals
    assert signal.kind == "disagreement" and signal.event == 7
    assert "gateway" in signal.detail and "from 90" in signal.detail
    assert "lamp" not in signal.detail, "a finding is shown to the next prompt, where no item id may stand"


def test_memory_gets_the_finished_decision_once() -> None:
    notebook = Notebook()
    decision = decide(parts(memory=notebook, reasoner=Thinker(wishes=UNSOLD, reflection=FIX)), rounds=3)
    assert notebook.writes == 1
    assert notebook.decisions == {decision.decision: decision}
    assert decision.decision == decision_id("test", "ann", AT)


def test_deciding_twice_is_one_decision() -> None:
    notebook = Notebook()
    filled = parts(memory=notebook)
    assert decide(filled) == decide(filled)
    assert len(notebook.decisions) == 1


def test_the_loop_runs_without_a_memory() -> None:
    assert decide(parts(memory=None)).slate.items


def test_the_recommender_is_asked_once_for_the_slate_without_reasoning() -> None:
    ranker = Ranker()
    decide(parts(recommender=ranker, reasoner=Thinker(wishes=UNSOLD, reflection=FIX)), rounds=3)
    assert ranker.log.count(("ranker", "slate")) == 1


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"run": ""}, "needs a name"),
        ({"rounds": 0}, "rounds is 0"),
        ({"slate_size": 0}, "slate_size is 0"),
        ({"think": "seldom"}, "allowed are 'always' and 'uncertain'"),
    ],
)
def test_bad_settings_fail_before_anything_is_built(bad: Mapping[str, Any], told: str) -> None:
    with pytest.raises(ProjectError, match=re.escape(told)):
        LoopSettings(**({"run": "test"} | dict(bad)))


def test_a_time_without_zone_is_refused() -> None:
    for naive in (datetime(2011, 9, 1), "2011-09-01T00:00:00", "2011-09-01"):
        with pytest.raises(InputError, match="has no zone"):
            decide(parts(), at=naive)


@pytest.mark.parametrize("nonsense", ["tomorrow", "", 20110901, None, date(2011, 9, 1)])
def test_what_is_no_time_is_refused_with_the_form_that_is_wanted(nonsense: object) -> None:
    with pytest.raises(InputError, match="2011-09-01T00:00:00") as caught:
        decide(parts(), at=nonsense)
    assert repr(nonsense) in str(caught.value)


def test_a_time_as_iso_text_is_the_same_decision() -> None:
    aware = decide(parts())
    assert decide(parts(), at="2011-09-01T00:00:00+00:00") == aware
    assert decide(parts(), at="2011-09-01T02:00:00+02:00").decision == aware.decision


def test_an_unknown_user_is_an_input_error() -> None:
    with pytest.raises(InputError, match="'ann' is not in the log"):
        decide(parts(observer=ListedUsers(users=("bob",))))


def test_the_drawing_shows_seven_nodes_and_both_ways_out_of_reflect() -> None:
    drawn = create_decision_graph(parts(), settings=steering()).compile().get_graph()
    assert set(drawn.nodes) == {"__start__", *NODES, "__end__"}
    assert {edge.target for edge in drawn.edges if edge.source == "reflect"} == {"reason", "__end__"}
    mermaid = drawn.draw_mermaid()
    assert all(f"{node}(" in mermaid for node in NODES)
    assert re.search(r"reflect -.*reason;", mermaid) and re.search(r"reflect -.*__end__;", mermaid)


def test_labels_and_paths_of_the_last_round_stand_in_the_decision() -> None:
    decision = decide(parts())
    [label] = decision.rounds[-1].reading.labels
    assert isinstance(label, RoleLabel) and label.role == "gateway"
    assert [path.intervention.text for path in decision.rounds[-1].paths] == ["bulb", "cup"]


def test_every_port_is_asked_for_one_user_only() -> None:
    log: Log = []
    decide(parts(reasoner=Thinker(log=log), recommender=Ranker(log=log), catalogue=Shelf(log=log)))
    assert [entry[:2] for entry in log] == [
        ("ranker", "slate"),
        ("llm:thinker", "reason"),
        ("llm:thinker", "simulate"),
        ("shelf", "ground"),
        ("ranker", "rollout"),
        ("ranker", "slate"),
    ]


def test_a_source_competes_with_the_reasoner_and_is_asked_nothing() -> None:
    class Known(Shelf):
        def look_up(self, items: Any, at: Any) -> Any:
            return {item: Article(item=item, title=item, category=SHELF[item]) for item in items if item in SHELF}

    class Campaign:
        name = "campaign"

        def propose(self, seen: Any, reading: Any) -> list[Proposal]:
            return [Proposal(item=item, role="trigger") for item in ("seed", "moon", "bulb")]

    thinker = Thinker(wishes=(ItemSpec(role="complement", text="bulb"),))
    decision = decide(parts(reasoner=thinker, catalogue=Known(), sources=[Campaign()]))
    last = decision.rounds[-1]
    assert [(path.path, path.source) for path in last.paths] == [(0, None), *((n, "campaign") for n in (1, 2, 3))]
    assert [one.fate for one in last.candidates] == ["accepted", "accepted", "rejected", "rejected"]
    assert last.candidates[3].reason == "another spec already has the item"
    assert next(item for item in decision.slate.items if item.item == "seed").path == 1
    assert not last.signals and [entry[1] for entry in thinker.log] == ["reason", "simulate"]
