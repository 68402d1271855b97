"""``rolegen prompts optimize``: from a suite and a prompt to a draft of its next version, with a comparison on users never seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolegen_agent import RoleGen
from rolegen_agent.assembly import Assembly, llm_client
from rolegen_agent.llm.pausing import Pausing
from rolegen_errors import InputError, ProjectError
from rolegen_prompts import Prompt, PromptPack, next_version, with_parts

from ..results import commit
from ..suites import page
from ..suites.cases import Case
from ..suites.comparison import Comparison, compare
from ..suites.decided import DECIDED, Decided, Head, Journal, seen_digest
from ..suites.graders import find_grader
from ..suites.graders.grade import Graded
from ..suites.runs import Run, digest
from ..suites.suite import CASES, SETTINGS, Suite, open_suite
from .deciding import Deciding
from .proposing import Proposer, changeable
from .search import Found, search
from .split import Split, split

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from rolegen_agent.llm import LlmClient

RESERVE = 1.3
"""times what the prompt as it was took on the held-out cases is kept for the one that is chosen"""
RESULT = "result.json"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be optimised, and within which limits."""

    prompt: str
    into: Path
    """folder of prompts that gets the draft"""
    work: Path
    """folder of the search: answers, proposals, log, comparison; the same one goes on"""
    tokens: int
    """hard limit of both models together, over all times that the command is given"""
    parts: tuple[str, ...] = ()
    """names; none: all that may change"""
    measure: str | None = None
    """grader that is raised; None: the suite's first primary one that is a share"""
    held_out: float = 0.5
    proposals: int = 20
    seed: int = 0
    at_once: int = 4


@dataclass(frozen=True)
class Optimised:
    """What came of it."""

    draft: str | None
    """file of the new version; None where nothing was better on the cases to choose by"""
    comparison: str | None
    """folder with ``comparison.md``, ``.json`` and ``.html``"""
    verdict: str
    because: str
    chosen_by: tuple[float, float]
    """mean of the measure before and after, on the cases to choose by: too good to be true, since the best was chosen by it"""
    proposals: int
    refused: Mapping[str, int]
    """proposals that could not be used, by reason"""
    tokens: int
    """spent, in all"""
    stopped: str


def optimise(
    project: Path | None,
    folder: Path,
    wish: Wish,
    *,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    reflection: BaseChatModel | None = None,
    reflection_name: str | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Optimised:
    """Search, compare, write a draft. Nothing that is in use changes.

    Args:
        folder: of the suite.
        overrides: as for ``RoleGen.open``; the reasoner is the LLM in any case.
        reflection: the chat model that proposes; None: the one that reasons.
        reflection_name: its name.

    Raises:
        InputError: too few users, or a measure that cannot be raised.
        ProjectError: the budget does not even pay for the comparison.
    """
    done = wish.work / RESULT
    if done.is_file():
        return _read(done)
    if wish.tokens < 1 or wish.proposals < 1:
        raise InputError("a search needs at least one token and one proposal", fix="--tokens N --proposals N")
    suite, cases = open_suite(folder)
    parts, measure = split(cases, held_out=wish.held_out, seed=wish.seed), _measure(suite, wish.measure)
    wish.work.mkdir(parents=True, exist_ok=True)
    given = {name: dict(values) for name, values in (overrides or {}).items()}
    given["reasoner"] = {**given.get("reasoner", {}), "kind": "llm"}
    given["memory"] = {"url": f"sqlite:///{(wish.work / 'answers.sqlite').resolve()}"}
    given["budget"] = {**given.get("budget", {}), "tokens_per_run": wish.tokens}
    with RoleGen.open(project, overrides=given) as shop:
        assemblies = {at: shop.assembly(at) for at in {case.at for case in cases}}
        for case in cases:
            if case.artefacts != assemblies[case.at].artefacts.fingerprint:
                raise InputError(
                    "the case was made with another training", where=f"case {case.case}", fix="rolegen eval cases"
                )
        first = assemblies[cases[0].at]
        client, pack = first.client, first.prompts
        assert client is not None and pack is not None, "the reasoner is an LLM"
        reflector = client
        if reflection is not None:
            name = reflection_name or type(reflection).__name__
            reflector = llm_client(shop.project, shop.memory, first.settings.run, reflection, name)
        prompt = pack.get(wish.prompt)
        start = changeable(prompt, wish.parts)
        deciding = Deciding(assemblies, Pausing(client), wish.at_once)
        proposer = Proposer(prompt, pack, Pausing(reflector), wish.work / "proposals", measure)
        progress("held out, before", 0, 1)
        before = deciding.decide(parts.held_out, pack)
        progress("held out, before", 1, 1)
        kept = round(RESERVE * sum(one.input_tokens + one.output_tokens for graded in before for one in graded.asked))
        _limit((client, reflector), wish.tokens - kept)
        if kept + kept / RESERVE >= wish.tokens:
            raise ProjectError(
                f"the comparison on {len(parts.held_out)} held-out cases takes about {kept:,} of {wish.tokens:,} tokens, which"
                " leaves too little to search with",
                fix=f"--tokens {4 * kept}, or fewer cases",
            )
        found = search(
            start,
            parts,
            deciding=deciding,
            proposer=proposer,
            measure=measure,
            proposals=wish.proposals,
            seed=wish.seed,
            work=wish.work,
            progress=lambda: progress("tokens", min(client.budget.ledger.total().tokens, wish.tokens), wish.tokens),
        )
        _limit((client, reflector), wish.tokens)
        comparison, where = None, None
        if found.best != start:
            progress("held out, after", 0, 1)
            chosen = proposer.pack_of(found.best)
            after = deciding.decide(parts.held_out, chosen)
            progress("held out, after", 1, 1)
            names = (f"{prompt.name} {prompt.version}", f"{prompt.name} draft")
            runs = (
                _run(names[0], before, pack, suite, first, folder),
                _run(names[1], after, chosen, suite, first, folder),
            )
            comparison = compare(suite, parts.held_out, names, runs[0].values, runs[1].values)
            where = _write_comparison(wish.work, comparison, parts.held_out, runs, (before, after))
        spent = client.budget.ledger.total().tokens
        told = _lineage(wish, prompt, found, parts, proposer, measure, comparison, spent, folder, (client, reflector))
        draft = _draft(wish, prompt, pack, found, told) if comparison is not None else None
    result = Optimised(
        draft=str(draft) if draft else None,
        comparison=str(where) if where else None,
        verdict=comparison.verdict if comparison else "nothing better found",
        because=comparison.because if comparison else "no proposal was better on the cases to choose by",
        chosen_by=(found.start, found.score),
        proposals=proposer.made,
        refused=dict(proposer.refused),
        tokens=spent,
        stopped=found.stopped,
    )
    done.write_text(json.dumps(asdict(result), ensure_ascii=False, indent=1) + "\n", "utf-8")
    return result


def _measure(suite: Suite, wanted: str | None) -> str:
    shares = [name for name in suite.primary if find_grader(name).high == 1.0]
    if wanted is not None and wanted not in suite.graders:
        raise InputError(f"the suite has no grader {wanted!r}", fix=f"choose one of {', '.join(suite.graders)}")
    if wanted is None and not shares:
        raise InputError("the suite has no primary measure that is a share", fix="name one with --measure")
    return wanted or shares[0]


def _limit(clients: tuple[LlmClient, ...], tokens: int) -> None:
    """What is already spent counts, also that of earlier times; answers that are remembered cost nothing."""
    for client in clients:
        client.budget.limits = client.budget.limits.model_copy(update={"tokens_per_run": max(tokens, 0)})


def _run(name: str, graded: Sequence[Graded], pack: PromptPack, suite: Suite, assembly: Assembly, folder: Path) -> Run:
    values: dict[str, dict[str, float]] = {}
    for one in graded:
        measured = {grader: find_grader(grader).grade(one) for grader in suite.graders}
        values[one.case.case] = {grader: value for grader, value in measured.items() if value is not None}
    return Run(
        name=name,
        configuration=assembly.settings.run,
        suite=digest(*((folder / name).read_text("utf-8") for name in (CASES, SETTINGS))),
        commit=commit(),
        prompts={one: f"{pack.get(one).version} {pack.get(one).sha256[:8]}" for one in pack.names()},
        values=values,
        failures={},
        log="",
    )


def _write_comparison(
    work: Path,
    found: Comparison,
    cases: Sequence[Case],
    runs: tuple[Run, Run],
    graded: tuple[Sequence[Graded], Sequence[Graded]],
) -> Path:
    """The comparison in three forms, and the two runs that it is of, each in a folder."""
    folders = work / "before", work / "after"
    for folder, run, decisions in zip(folders, runs, graded, strict=True):
        run.write(folder)
        journal = Journal(folder / DECIDED, Head(configuration=run.name, code=run.commit))
        for one in decisions:
            told = one.decision.model_dump_json(exclude={"observation"})
            journal.add(
                Decided(case=one.case.case, seen=seen_digest(one.case), decision=told, asked=tuple(one.asked), again={})
            )
    (work / "comparison.md").write_text(page.markdown(found), "utf-8")
    (work / "comparison.json").write_text(json.dumps(found.as_dict(), indent=1) + "\n", "utf-8")
    page.write_comparison(work / "comparison.html", found, cases, runs, folders)
    return work


def _lineage(
    wish: Wish,
    prompt: Prompt,
    found: Found,
    parts: Split,
    proposer: Proposer,
    measure: str,
    comparison: Comparison | None,
    spent: int,
    folder: Path,
    clients: tuple[LlmClient, LlmClient],
) -> dict[str, Any]:
    """What stands in the draft's front matter."""
    changes = comparison.changes if comparison is not None else ()
    held = next((one for one in changes if one.grader == measure), None)
    return {
        "parent": f"{prompt.name} {prompt.version} {prompt.sha256[:8]}",
        "optimiser": f"gepa {version('gepa')}, seed {wish.seed}",
        "models": {"reasons": clients[0].name, "proposes": clients[1].name},
        "parts": sorted(found.best),
        "suite": folder.name,
        "cases": {"learn": len(parts.learn), "choose": len(parts.choose), "held_out": len(parts.held_out)},
        "tokens": {"limit": wish.tokens, "spent": spent},
        "proposals": {"made": proposer.made, "refused": proposer.refused.total(), "judged": found.tried},
        "measure": measure,
        "choose": {"before": round(found.start, 4), "after": round(found.score, 4)},
        "held_out": None
        if held is None or comparison is None
        else {
            "before": round(held.first, 4),
            "after": round(held.second, 4),
            "low": held.difference.low,
            "high": held.difference.high,
            "verdict": comparison.verdict,
        },
    }


def _draft(wish: Wish, prompt: Prompt, pack: PromptPack, found: Found, lineage: Mapping[str, Any]) -> Path:
    there = [int(path.stem) for path in (wish.into / prompt.name).glob("*.md") if path.stem.isdigit()]
    return next_version(
        prompt,
        wish.into,
        note=f"Draft of an optimiser for {lineage['measure']}: see lineage.",
        taken=(*pack.versions(prompt.name), *there),
        body=with_parts(prompt, found.best),
        draft_of=lineage,
    )


def _read(file: Path) -> Optimised:
    try:
        kept = json.loads(file.read_text("utf-8"))
        return Optimised(**{**kept, "chosen_by": tuple(kept["chosen_by"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"the finished search cannot be read: {error}", where=str(file), fix="remove the file"
        ) from error
