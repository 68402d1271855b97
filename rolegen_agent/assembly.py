"""From a project and a decision time to the parts of the loop: the one place where everything is put together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING

import polars as pl
from pydantic import ValidationError

from rolegen_errors import ProjectError
from rolegen_graphs import LoopSettings, Parts
from rolegen_graphs.fusion import Fusion
from rolegen_graphs.gate import Gate
from rolegen_graphs.selection import Selection
from rolegen_graphs.words import Observation, Role, Statistic

from .artefacts import Artefacts, fingerprint, latest, load
from .dormant import dormant_users
from .ingest.report import IngestReport
from .lessons import Retrieval
from .plugins import load_named
from .project import Project
from .settings import PartsSettings, ReasonerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_core.language_models import BaseChatModel

    from rolegen_graphs.llm import Asker, LlmReasoner
    from rolegen_graphs.ports import Reasoner, Recommender
    from rolegen_prompts import PromptPack

    from .allocation import Allocation
    from .backbone_tool import BackboneRecommender
    from .distil import Found
    from .evidence import Evidence
    from .grounding import TextCatalogue
    from .llm import LlmClient, Price
    from .memory import Memory

OwnParts = Callable[[Parts, Artefacts], Parts]
"""from the parts that a project would use, and what was learnt, to the parts that are used"""
OUTPUT_RESERVE = 2000
"""tokens that an answer is expected to need at most, where ``max_output_tokens`` does not say"""
SHOWN_CATEGORIES = 40
"""categories that an LLM may name: those of the trajectory first, then what sells most"""


@dataclass(frozen=True)
class Assembly:
    """The filled ports of one run, and what else a batch needs to know."""

    parts: Parts
    settings: LoopSettings
    artefacts: Artefacts
    dormant: pl.DataFrame
    """dormant users at the decision time, see :func:`rolegen_agent.dormant.dormant_users`"""
    client: LlmClient | None
    """None when no LLM is involved"""
    allocation: Allocation | None = None
    """how an LLM budget was shared out, if one was given"""
    prompts: PromptPack | None = None
    """None when no LLM is involved"""
    reasoner_on: Callable[..., Reasoner] | None = None
    """the LLM reasoner of this run on another asker than ``client``, and with other ``prompts`` if given"""

    def asking(self, asker: Asker, *, prompts: PromptPack | None = None) -> Parts:
        """The same parts with the LLM reasoner on ``asker``, for instance one that sends nothing; ``prompts`` None: those of the run."""
        if self.reasoner_on is None:
            raise ProjectError("no LLM is involved", fix="use `--reasoner llm` or [reasoner] kind")
        return replace(self.parts, reasoner=self.reasoner_on(asker, prompts=prompts or self.prompts))


def assemble(
    project: Project,
    at: datetime,
    memory: Memory,
    *,
    chat: BaseChatModel | None = None,
    model: str | None = None,
    allotment: str = "",
    own: OwnParts | None = None,
) -> Assembly:
    """Load the artefacts for ``at`` and build the ports.

    Args:
        chat: any langchain-core chat model; None builds one from ``[llm]`` when the project's reasoner is ``llm``.
        model: the name of ``chat`` for the trace.
        allotment: what else makes this another run, see :func:`rolegen_agent.allocation.fingerprint`.
        own: gives the parts to use, from those of the project; None is what ``[parts] own`` names, if anything.

    Raises:
        ProjectError: nothing is trained for ``at``, or the LLM reasoner has no model.
    """
    from .backbone_tool import use_threads
    from .grounding import open_catalogue
    from .observer import LogObserver, typical_spend
    from .reasoning import EvidenceReasoner

    settings = project.settings
    own = own or own_parts(settings.parts)
    name = (model or settings.llm.model) if settings.reasoner.kind == "llm" or chat is not None else None
    chosen = _student(project, at, thinking=name is not None)
    told = f"llm:{name}" if name is not None else chosen.name if chosen is not None else "evidence"
    found = load(project, at, reasoner=told)
    use_threads(1)  # decisions run side by side: threads within one would only fight
    dormant = dormant_users(found.events.lazy(), at, settings.dormancy)
    evidence = EvidenceReasoner(found.evidence, found.market, paths=proposed(settings.reasoner))
    student = None
    if chosen is not None:
        from .distil import open_student

        student = open_student(chosen, found, paths=proposed(settings.reasoner))
    catalogue = open_catalogue(found.items, found.market, settings, store=project.grounding)
    client, llm, prompts, reasoner_on = None, None, None, None
    fusion = load_fusion(project)
    made = "" if chosen is None else f"student {chosen.fingerprint}"
    more = [one for one in (allotment, _own_name(own, settings.parts), made) if one]
    run = _run_name(project, found, told, None, None, more)
    if settings.reasoner.kind == "llm" or chat is not None:
        prompts = _prompts(project)
        if name is None:
            raise _no_model(project)
        reasoner_on = _reasoner_on(project, found, prompts, name)
        run = _run_name(project, found, f"llm:{name}", prompts, fusion, more)
        client = llm_client(project, memory, run, chat, name)
        llm = reasoner_on(client)
        for prompt in map(prompts.get, prompts.names()):
            memory.record_prompt(prompt.name, str(prompt.version), prompt.sha256, prompt.text)
    observer = LogObserver(
        found.events,
        found.items,
        memory=memory,
        lessons=retrieval(settings.reasoner),
        dormant=dict(zip(dormant["user"].to_list(), dormant["reason"].to_list(), strict=True)),
        max_events=settings.reasoner.max_events,
        telling=frozenset(found.evidence.tables["replenishment"]["item"].to_list()),
        typical_spend=typical_spend(found.events),
    )
    parts = Parts(
        observer=observer,
        reasoner=llm or student or evidence,
        fallback=evidence if llm or student else None,
        stand_in=student if llm else None,
        gated=llm is not None or student is None,
        evidence=evidence if llm else None,
        catalogue=catalogue,
        recommender=_recommender(project, found, catalogue, at),
        memory=memory,
    )
    if own is not None:
        parts = own(parts, found)
        if not isinstance(parts, Parts):
            raise ProjectError(
                f"the function for parts of your own gave {type(parts).__name__}",
                fix="return the given parts with some replaced: dataclasses.replace(parts, recommender=…)",
            )
    wanted = settings.reasoner
    loop = LoopSettings(
        run=run,
        rounds=wanted.rounds,
        slate_size=settings.slate.size,
        newcomers=settings.slate.newcomers,
        explore=settings.slate.explore,
        think=wanted.think,
        gate=Gate(ask_from=wanted.ask_from),
        fusion=fusion,
        selection=Selection(
            paths=wanted.paths,
            diversity=wanted.diversity,
            per_role=wanted.per_role,
            per_category=wanted.per_category,
        ),
    )
    return Assembly(
        parts=parts,
        settings=loop,
        artefacts=found,
        dormant=dormant,
        client=client,
        prompts=prompts,
        reasoner_on=reasoner_on,
    )


def _student(project: Project, at: datetime, *, thinking: bool) -> Found | None:
    """The student that the project asks for: as the reasoner, or in place of an LLM; None where it asks for none.

    Raises:
        ProjectError: it asks for one, and there is none for ``at``.
    """
    wanted = project.settings.reasoner
    if (wanted.stand_in if thinking else wanted.kind) != "student":
        return None
    from .distil import latest_student

    folder, _ = latest(project, at)
    asked = "[reasoner] stand_in wants one" if thinking else "[reasoner] kind, or --reasoner, wants one"
    return latest_student(project, at, backbone=fingerprint(folder), asked=asked)


def own_parts(settings: PartsSettings) -> OwnParts | None:
    """The function that ``[parts] own`` names; None where it names none.

    Raises:
        ProjectError: there is no such function.
    """
    if settings.own is None:
        return None
    fix = "[parts] own: write module:function of something that is importable, or the name of an installed entry point"
    found: OwnParts = load_named(settings.own, group="rolegen.parts", what="function for parts of your own", fix=fix)
    return found


def own_chat(settings: PartsSettings) -> BaseChatModel | None:
    """The chat model that ``[parts] chat`` names; None where it names none.

    Raises:
        ProjectError: there is none, or what it gives is no chat model of langchain-core.
    """
    if settings.chat is None:
        return None
    from langchain_core.language_models import BaseChatModel

    fix = "[parts] chat: write module:attribute of a langchain-core chat model, or of a function that makes one"
    found = load_named(settings.chat, group="rolegen.chat_models", what="chat model", fix=fix)
    chat = found if isinstance(found, BaseChatModel) else found()
    if not isinstance(chat, BaseChatModel):
        raise ProjectError(f"{settings.chat!r} gives a {type(chat).__name__}, which is no chat model", fix=fix)
    return chat


def _own_name(own: OwnParts | None, settings: PartsSettings) -> str:
    """What the parts add to a run's name, so that decisions of others are not taken for theirs."""
    if own is None:
        return ""
    named = settings.own or f"{own.__module__}:{getattr(own, '__qualname__', type(own).__qualname__)}"
    return f"parts {named} {settings.version}"


def open_recommender(project: Project, at: datetime) -> Recommender:
    """The recommender of decisions at ``at`` alone: whoever reasons has no part in a rollout.

    Raises:
        ProjectError: nothing is trained for ``at``.
    """
    from .backbone_tool import use_threads
    from .grounding import open_catalogue

    found = load(project, at)
    use_threads(1)
    catalogue = open_catalogue(found.items, found.market, project.settings, store=project.grounding)
    return _recommender(project, found, catalogue, at)


def _recommender(project: Project, found: Artefacts, catalogue: TextCatalogue, at: datetime) -> BackboneRecommender:
    from .backbone_tool import BackboneRecommender

    return BackboneRecommender(
        found.backbone,
        catalogue,
        diversity=project.settings.slate.diversity,
        until=at if _goes_on(project, at) else None,
        showing=found.showing,
    )


def retrieval(settings: ReasonerSettings) -> Retrieval:
    """Which lessons decisions get, by the project's settings."""
    return Retrieval(tokens=settings.lesson_tokens, withheld=settings.lessons_withheld, use=settings.lessons)


def proposer(
    project: Project, memory: Memory, *, chat: BaseChatModel | None = None, model: str | None = None
) -> LlmReasoner | None:
    """The LLM that proposes lessons in the outer loop, or None where the project reasons without one."""
    name = model or project.settings.llm.model
    if chat is None and project.settings.reasoner.kind != "llm":
        return None
    if name is None:
        raise _no_model(project)
    from rolegen_graphs.llm import LlmReasoner

    prompts = _prompts(project)
    prompt = prompts.get("learn")
    memory.record_prompt(prompt.name, str(prompt.version), prompt.sha256, prompt.text)
    client = llm_client(project, memory, f"lessons/llm:{name}", chat, name)
    return LlmReasoner(client, model=name, prompts=prompts)


def _no_model(project: Project) -> ProjectError:
    return ProjectError(
        "the LLM reasoner has no model",
        where=f"{project.file}, [llm] model",
        fix="set OPENAI_MODEL or [llm] model, or use `--reasoner evidence`",
    )


def proposed(settings: ReasonerSettings) -> int:
    """Paths that a reasoner proposes: at least as many as are used."""
    return max(settings.proposed, settings.paths)


def load_fusion(project: Project) -> Fusion:
    """The fitted parameters that the project names, or the stated defaults.

    Raises:
        ProjectError: the file is missing, or holds something else.
    """
    name = project.settings.reasoner.fusion
    if name is None:
        return Fusion()
    file = project.root / name
    try:
        return Fusion.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise ProjectError(
            f"the fusion parameters cannot be read: {error}",
            where=str(file),
            fix="write what `fit_fusion(cases).model_dump_json()` gave, or remove [reasoner] fusion",
        ) from error


def _goes_on(project: Project, at: datetime) -> bool:
    """Whether the log has events from ``at`` on, which the artefacts for ``at`` must not know."""
    report = IngestReport.model_validate_json(project.ingest_report.read_text("utf-8"))
    return report.last >= at


def _prompts(project: Project) -> PromptPack:
    from rolegen_prompts import PromptPack

    folder = project.settings.reasoner.prompts
    return PromptPack.load(project.root / folder) if folder else PromptPack.default()


def llm_client(project: Project, memory: Memory, run: str, chat: BaseChatModel | None, name: str) -> LlmClient:
    """The client of a run: ``[llm]`` and ``[budget]`` of the project, answers and sums in ``memory``; ``chat`` None: from ``[llm]``."""
    from .llm import Limits, LlmClient, chat_model
    from .memory.spending import RunLedger

    llm, budget = project.settings.llm, project.settings.budget
    chat = (
        chat
        or own_chat(project.settings.parts)
        or chat_model(
            name,
            base_url=llm.base_url,
            api_key=llm.api_key.get_secret_value() if llm.api_key else None,
            timeout_s=llm.timeout_s,
            temperature=None if llm.temperature == "none" else llm.temperature,
            max_output_tokens=llm.max_output_tokens,
            seed=llm.seed,
            extra_body=llm.extra_body,
        )
    )
    return LlmClient(
        chat,
        name=name,
        log=memory,
        limits=Limits(**budget.model_dump(exclude={"on_budget"})),
        ledger=RunLedger(memory, run),
        price=price(project),
        retries=llm.retries,
        longest_wait_s=llm.longest_wait_s,
        concurrency=llm.concurrency,
        output_reserve=llm.max_output_tokens or OUTPUT_RESERVE,
        structured_output=llm.structured_output,
        claim=memory.claimed,
    )


def price(project: Project) -> Price | None:
    """What the project file says that the model costs."""
    from .llm import Price

    llm = project.settings.llm
    if llm.input_usd_per_million is None or llm.output_usd_per_million is None:
        return None
    return Price(input_per_million=llm.input_usd_per_million, output_per_million=llm.output_usd_per_million)


def _reasoner_on(project: Project, found: Artefacts, prompts: PromptPack, name: str) -> Callable[[Asker], LlmReasoner]:
    from rolegen_graphs.llm import LlmReasoner

    return partial(
        LlmReasoner,
        model=name,
        prompts=prompts,
        paths=proposed(project.settings.reasoner),
        trajectory_tokens=project.settings.reasoner.trajectory_tokens,
        categories=_offer(found),
        statistics=_statistics(found.evidence),
    )


def _offer(found: Artefacts) -> Callable[[Observation], Sequence[str]]:
    """Categories an LLM may name: the user's own first, then the best selling ones."""

    @lru_cache(maxsize=8)  # a pass over the whole catalogue, and the same for all users of a date
    def selling(at: datetime) -> dict[str, None]:
        codes = found.market.as_of(at).popular
        return dict.fromkeys(
            islice(dict.fromkeys(found.market.category[int(code)] for code in codes), SHOWN_CATEGORIES)
        )

    def offer(seen: Observation) -> list[str]:
        own = dict.fromkeys(event.category for event in reversed(seen.trajectory.events))
        return list(own | selling(seen.trajectory.at))[:SHOWN_CATEGORIES]

    return offer


def _statistics(
    evidence: Evidence,
) -> Callable[[Observation], Mapping[int, Sequence[tuple[Role, Statistic]]]]:
    """The log's evidence beside each shown event, for the prompt: what leaves out "no effect" before what does not."""
    from rolegen_graphs.llm.trajectory import carries_evidence

    roles: tuple[Role, ...] = ("trigger", "gateway", "replenishment", "anchor", "target")

    def of(item: str) -> list[tuple[Role, Statistic]]:
        found = [(role, one) for role in roles if (one := evidence.statistic(role, item)) is not None]
        return sorted(found, key=lambda pair: not carries_evidence([pair]))

    def look(seen: Observation) -> dict[int, list[tuple[Role, Statistic]]]:
        known = {item: of(item) for item in {event.item for event in seen.trajectory.events}}
        return {event.event: known[event.item] for event in seen.trajectory.events}

    return look


def _run_name(
    project: Project,
    found: Artefacts,
    reasoner: str,
    prompts: PromptPack | None,
    fusion: Fusion | None,
    more: Sequence[str],
) -> str:
    """Date, reasoner and a digest of all that shapes a decision: the same command is the same run, and a changed
    setting, endpoint or prompt is another one. Prices, limits and patience change no answer."""
    settings, llm = project.settings, project.settings.llm
    shaping = repr((settings.reasoner, settings.grounding, settings.slate, settings.dormancy, settings.data.stock_days))
    if prompts is not None:
        from .llm.failures import public_url

        shaping += repr(
            (
                public_url(llm.base_url).rstrip("/") if llm.base_url else None,
                llm.temperature,
                llm.max_output_tokens,
                llm.seed,
                llm.structured_output,
                json.dumps(llm.extra_body, sort_keys=True, default=str),
            )
        )
    asked = [name for name in sorted(prompts.names()) if name not in ("learn", "judge")] if prompts else []
    texts = [prompts.get(name).sha256 for name in asked] if prompts else []  # the others take part in no decision
    texts += [fusion.model_dump_json()] if fusion is not None else []
    texts += more
    digest = hashlib.sha256("\n".join((found.fingerprint, shaping, *texts)).encode()).hexdigest()[:8]
    return f"{found.at.astimezone(UTC):%Y-%m-%d}/{reasoner}/{digest}"
