"""What an LLM run will cost, told before anything is sent.

The prompts of a few users are really rendered, by running their loops with answers from memory where it has some and from
the evidence reasoner where it has not. How many questions a decision takes, how long answers are and how often they need
a repair is learnt from finished decisions with the same model and prompts; without any, it is assumed, and said so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rolegen_errors import ProjectError, ReasonerError
from rolegen_graphs import create_decision_graph, decision_id
from rolegen_graphs.words import CallSite, LlmCall
from rolegen_prompts import Message, Prompt, estimate_tokens

from .batch import decide

if TYPE_CHECKING:
    from .assembly import Assembly
    from .llm import LlmClient
    from .memory import Memory

SAMPLE = 20
"""users whose prompts are rendered"""
LEARN_FROM = 200
"""latest finished decisions that are looked at"""
_FEWEST = 3
"""finished decisions; fewer say nothing"""

# Assumed where memory knows nothing: tokens of an answer by node, the share of answers that need a repair, the share of
# decisions that take each further round, and the length of a prompt that was not rendered, beside that of "reason".
_ANSWER = {"reason": 900, "simulate": 700, "ground": 300, "reflect": 300}
_REPAIRS, _MANY_REPAIRS = 0.05, 0.25
_FURTHER = 0.5
_SHORT = 0.4
_REPAIR_TEXT = 200
"""tokens of a repair beside the prompt and the answer that it shows"""

Amount = npt.NDArray[np.float64]
"""[calls, input tokens, output tokens]"""


@dataclass(frozen=True)
class Estimate:
    """Totals of the users still to be decided."""

    calls: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    """None when the model's price is not known"""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class LimitForecast:
    """One limit of the budget, and when it will be met."""

    name: str
    limit: float
    used: float
    """by the run so far; 0 for a limit of a decision"""
    expected: float
    """of the users still to be decided together, or of one of them who is asked about for a limit of a decision"""
    after_users: int | None
    """users after whom the run will about meet it; None if it will not, and for a limit of a decision"""

    @property
    def met(self) -> bool:
        """whether it will be met, as far as the mean tells"""
        return self.used + self.expected > self.limit


@dataclass(frozen=True)
class Forecast:
    """What a run is expected to use from now on."""

    run: str
    model: str
    users: int
    """still to be decided"""
    earlier: int
    sampled: int
    """users whose prompts were rendered"""
    asked: int
    """of those sampled, users about whom the LLM would be asked anything, or was"""
    outstanding: int
    """requests of this run that stand in a nearline batch: online they would be paid again"""
    known: float
    """share of the sampled questions that memory answers for nothing"""
    learnt_from: int
    """finished decisions that lengths, rounds and repairs were learnt from; 0: assumed"""
    mean: Estimate
    high: Estimate
    """what will rarely be exceeded; an upper bound but for repairs where nothing could be learnt"""
    limits: tuple[LimitForecast, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {**asdict(self), "limits": [{**asdict(limit), "met": limit.met} for limit in self.limits]}


@dataclass(frozen=True)
class _Question:
    node: str
    text: int
    """estimated tokens of its messages"""
    whole: int
    """the same with the schema"""
    known: bool


class _Measuring:
    """An ``Asker`` that sends and records nothing: it answers from memory, or notes what would have been sent."""

    def __init__(self, client: LlmClient) -> None:
        self._client = client
        self.questions: defaultdict[str, list[_Question]] = defaultdict(list)
        """by decision"""

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        request = self._client.request(task, messages, schema, site=site, prompt=prompt)
        found = self._client.log.find_call(request.hash)
        known = found is not None and bool(found.raw)
        self.questions[site.decision].append(
            _Question(site.node, estimate_tokens(request.text), request.expected_tokens, known)
        )
        if found is None or not known:
            raise ReasonerError("a forecast sends nothing")
        return found.raw


def forecast(
    assembly: Assembly,
    memory: Memory,
    users: Sequence[str],
    at: datetime,
    *,
    sample: int = SAMPLE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Forecast:
    """Estimate what deciding on ``users`` will use; sends nothing and records nothing.

    Args:
        sample: users, evenly spread, whose prompts are rendered.

    Raises:
        ProjectError: no LLM is involved.
    """
    client, run = assembly.client, assembly.settings.run
    if client is None:
        raise ProjectError("without an LLM there is nothing to forecast", fix="use `--reasoner llm`")
    wanted = list(dict.fromkeys(users))
    finished = {user for user, when in memory.finished(run) if when == at}
    todo = [user for user in wanted if user not in finished]
    measuring = _Measuring(client)
    parts = replace(assembly.asking(measuring), memory=None)
    graph = create_decision_graph(parts, settings=assembly.settings).compile()
    rows = sorted({int(row) for row in np.linspace(0, len(todo) - 1, min(sample, len(todo)))}) if todo else []
    progress(0, len(rows))
    for done, row in enumerate(rows, 1):
        decide(graph, todo[row], at, decision_id(run, todo[row], at))
        progress(done, len(rows))

    asked = list(measuring.questions.values())
    questions = [question for one in asked for question in one]
    known = sum(question.known for question in questions) / len(questions) if questions else 0.0
    share = len(asked) / len(rows) if rows else 0.0
    past = _past(memory, client, assembly)
    if len(past) >= _FEWEST and questions:
        each = np.array([_seen(calls, _scales(questions, past)) for calls in past])
        mean, spread = each.mean(0) * (1 - known), each.std(0, ddof=1) * (1 - known)
        # The sum over new decisions varies by itself, and their mean is only known from the past ones.
        users_asked = len(todo) * share
        margin = 2 * spread * np.sqrt(users_asked + users_asked**2 / len(past))
        total, high = users_asked * mean, users_asked * mean + margin
    else:
        past, rounds = [], assembly.settings.rounds
        cap = client.budget.limits.calls_per_decision
        reserve = dict.fromkeys(_ANSWER, client.output_reserve)
        mean = (1 - known) * _assumed(questions, 1 + _FURTHER * (rounds - 1), _REPAIRS, _ANSWER, cap)
        most = _assumed(questions, rounds, _MANY_REPAIRS, reserve, cap)
        total, high = len(todo) * share * mean, len(todo) * share * most
    return Forecast(
        run=run,
        model=client.name,
        users=len(todo),
        earlier=len(wanted) - len(todo),
        sampled=len(rows),
        asked=len(asked),
        outstanding=memory.usage(run).outstanding,
        known=known,
        learnt_from=len(past),
        mean=_estimate(total, client),
        high=_estimate(np.maximum(total, high), client),
        limits=_limits(client, _estimate(total, client), _estimate(mean, client), len(todo)),
    )


def _past(memory: Memory, client: LlmClient, assembly: Assembly) -> list[list[LlmCall]]:
    """Calls of finished decisions without a failure, by decision; what only more rounds would ask is left out."""
    pack = assembly.prompts
    hashes = {pack.get(name).sha256 for name in pack.names()} if pack else set()
    return [
        [call for call in calls if call.site.round <= assembly.settings.rounds]
        for calls in memory.calls_of_finished(client.name, hashes, limit=LEARN_FROM)
        if not any(call.error for call in calls)
    ]


def _scales(questions: Sequence[_Question], past: Sequence[Sequence[LlmCall]]) -> dict[str, float]:
    """By node, how much longer the rendered prompts are than the remembered ones."""
    now, then = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for question in questions:
        now[question.node].append(question.text)
    for calls in past:
        for call in calls:
            if call.prompt != "repair":
                then[call.site.node].append(estimate_tokens(call.messages))
    return {node: float(np.mean(now[node]) / np.mean(then[node])) for node in now if node in then}


def _seen(calls: Sequence[LlmCall], scales: dict[str, float]) -> Amount:
    """What one remembered decision would cost now, with nothing known beforehand."""
    total = np.zeros(3)
    for call in calls:
        total += (1 + call.retries, call.input_tokens * scales.get(call.site.node, 1.0), call.output_tokens)
    return total


def _assumed(
    questions: Sequence[_Question], rounds: float, repairs: float, answers: Mapping[str, int], cap: int | None
) -> Amount:
    """One decision that asks each question once a round. The evidence reasoner, in whose company the prompts were
    rendered, proposes what exists and so hardly ever needs to revise or reflect: an LLM does."""
    total = np.zeros(3)
    usual = float(np.mean([q.whole for q in questions if q.node == "reason"] or [0]))
    for node, answer in answers.items():
        lengths = [float(q.whole) for q in questions if q.node == node]
        whole = float(np.mean(lengths or [_SHORT * usual]))
        total += np.array([1, whole, answer]) + repairs * np.array([1, whole + answer + _REPAIR_TEXT, answer])
    total *= rounds
    return total if cap is None else total * min(1.0, cap / total[0])


def _estimate(amount: Amount, client: LlmClient) -> Estimate:
    calls, tokens_in, tokens_out = (round(float(one)) for one in amount)
    usd = None if client.price is None else client.price.cost(tokens_in, tokens_out)
    return Estimate(calls, tokens_in, tokens_out, usd)


def _limits(client: LlmClient, total: Estimate, each: Estimate, users: int) -> tuple[LimitForecast, ...]:
    """All limits that are set, those of the run first."""
    found = []
    used = client.budget.ledger.total()
    for of, estimate in (("run", total), ("decision", each)):
        for unit in ("calls", "tokens", "usd"):
            limit = getattr(client.budget.limits, f"{unit}_per_{of}")
            if limit is None:
                continue
            spent, expected = (getattr(used, unit) if of == "run" else 0), getattr(estimate, unit) or 0.0
            meets = of == "run" and expected > 0 and spent + expected > limit
            after = int(max(0.0, limit - spent) / expected * users) if meets else None
            found.append(LimitForecast(f"{unit}_per_{of}", limit, spent, expected, after))
    return tuple(found)
