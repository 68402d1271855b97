"""A plan for many users: what they take in bytes, calls, hours and writes, from figures that were measured, line by line.

Every line says how it is computed, in numbers, so that a reader can follow it and put in figures of their own. What was not
measured here is an assumption and stands among them by name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rolegen_errors import InputError

from ..tables import read_result
from .simulation import Decision, Fleet, Simulated, simulate

MEASURED = Path(__file__).with_name("measured.toml")
RESULTS = (Path(__file__).parents[2] / "results", Path(__file__).with_name("results"))
"""of a checkout; of an installed package"""
SEED = 1
SIMULATED_S, WARM_UP_S = 1200.0, 60.0


@dataclass(frozen=True)
class Measured:
    """A figure and where it comes from."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is planned for. Nothing in here was measured: these are the assumptions."""

    users: float
    """dormant users to decide on"""
    items: float
    events_per_user: float = 100.0
    llm_share: float = 0.05
    """of users for whom an LLM is asked, by `--llm-budget` or the gate; the others get the evidence reasoner"""
    days: float = 7.0
    """within which all are decided on"""
    returns: float = 2_000_000.0
    """past returns that the model learns from; more of them teach little"""
    epochs: float = 8.0
    llm_s: float = 2.0
    """median seconds of an answer"""
    llm_tokens_per_gpu_s: float = 5_000.0
    """tokens, read and written, that one GPU of your endpoint handles a second"""
    llm_concurrency: int = 16
    """[llm] concurrency of one worker"""
    cores_per_node: int = 4


@dataclass(frozen=True)
class Line:
    """One result with its arithmetic."""

    about: str
    what: str
    arithmetic: str
    result: str


def read_measured(results: Path | None = None) -> Mapping[str, Measured]:
    """The figures by name, from the files of results: of this checkout, or as they were when the package was built.

    Raises:
        InputError: a result is missing or lacks a figure.
    """
    folder = results or next((one for one in RESULTS if one.is_dir()), RESULTS[0])
    found = {}
    for name, told in tomllib.loads(MEASURED.read_text("utf-8")).items():
        result = read_result(folder / f"{told['result']}.json")
        missing = [key for key in told["figures"] if key not in result.figures]
        if missing:
            raise InputError(
                f"the result has no figure {missing[0]!r}",
                where=str(folder / f"{told['result']}.json"),
                fix=f"rolegen bench all --only {told['result']}",
            )
        value = told.get("times", 1.0) * sum(result.figures[key] for key in told["figures"])
        source = f"`rolegen bench {result.name}`, commit {result.commit}, {result.machine}"
        found[name] = Measured(value, told["unit"], source)
    return found


@dataclass(frozen=True)
class Plan:
    """Lines of arithmetic, the fleet that follows from them, and what a simulation of it saw."""

    wanted: Wanted
    measured: Mapping[str, Measured]

    def _of(self, name: str) -> float:
        return self.measured[name].value

    @property
    def events(self) -> float:
        return self.wanted.users * self.wanted.events_per_user

    @property
    def asked(self) -> float:
        """Users for whom the LLM is asked."""
        return self.wanted.users * self.wanted.llm_share

    @property
    def core_s(self) -> float:
        """Seconds of one core for all decisions."""
        plain = (self.wanted.users - self.asked) * self._of("decision_cpu_s")
        return plain + self.asked * self._of("llm_decision_cpu_s")

    @property
    def window_s(self) -> float:
        return self.wanted.days * 86_400

    @property
    def workers(self) -> int:
        """Cores that decide, a third of them in reserve for failures and for what goes wrong."""
        return max(1, -(-int(self.core_s * 1.5) // int(self.window_s)))

    @property
    def nodes(self) -> int:
        return -(-self.workers // self.wanted.cores_per_node)

    @property
    def fleet(self) -> Fleet:
        """What is simulated: whole nodes, an endpoint with a third of reserve, the database as it was measured."""
        calls_per_s = self.asked * self._of("calls_per_decision") / self.window_s
        return Fleet(
            nodes=self.nodes,
            workers_per_node=min(self.wanted.cores_per_node, self.workers),
            concurrency=self.wanted.llm_concurrency,
            llm_per_s=max(1.0, 1.5 * calls_per_s),
            llm_s=self.wanted.llm_s,
            commits_per_s=self._of("commits_per_s"),
            failures_per_hour=12.0,
        )

    @property
    def decision(self) -> Decision:
        calls = self._of("calls_per_decision")
        plain = self._of("decision_cpu_s")
        return Decision(
            llm_share=self.wanted.llm_share,
            calls=calls,
            cpu_s=plain,
            cpu_s_per_call=max(0.0, self._of("llm_decision_cpu_s") - plain) / calls,
            commits=self._of("commits_per_plain_decision"),
            commits_per_call=max(0.0, self._of("commits_per_llm_decision") - self._of("commits_per_plain_decision"))
            / calls,
        )

    def simulated(self, *, seconds: float = SIMULATED_S, seed: int = SEED) -> Simulated:
        """The fleet at work."""
        return simulate(self.fleet, self.decision, seconds=seconds, warm_up_s=WARM_UP_S, seed=seed)

    def lines(self) -> Iterator[Line]:
        """The arithmetic."""
        w, of = self.wanted, self._of
        users, items, events, asked = w.users, w.items, self.events, self.asked
        n = _number

        def line(about: str, what: str, arithmetic: str, result: str) -> Line:
            return Line(about, what, arithmetic, result)

        yield line(
            "store", "events", f"{n(users)} users x {n(w.events_per_user)} events x {n(of('bytes_per_event'))} bytes",
            _bytes(events * of("bytes_per_event")),
        )  # fmt: skip
        yield line(
            "store",
            "items",
            f"{n(items)} items x {n(of('bytes_per_item'))} bytes",
            _bytes(items * of("bytes_per_item")),
        )
        yield line(
            "store", "ingest", f"{n(events)} events / {n(of('ingest_rows_per_s'))} a second",
            f"{_hours(events / of('ingest_rows_per_s'))} of one core, reading spread over any number",
        )  # fmt: skip
        yield line(
            "evidence", "rows of users", f"{n(events)} events / {n(of('evidence_events_per_s'))} a second",
            f"{_hours(events / of('evidence_events_per_s'))} of one core, in ranges of users on any number of cores",
        )  # fmt: skip
        yield line(
            "evidence", "tables from the rows", f"{n(events)} events / {n(of('tables_events_per_s'))} a second",
            f"{_hours(events / of('tables_events_per_s'))} where the command runs, with {_bytes(events * of('row_bytes_per_event'))} of rows in memory",
        )  # fmt: skip
        sequences = w.returns * w.epochs * 2
        yield line(
            "training", "two cores", f"{n(w.returns)} returns x {n(w.epochs)} epochs x 2 (the second with what was kept out) / {n(of('train_sequences_per_s'))} a second",
            _hours(sequences / of("train_sequences_per_s")),
        )  # fmt: skip
        yield line(
            "training", "memory of the items", f"{n(items)} items x {n(of('model_bytes_per_item'))} bytes", _bytes(items * of("model_bytes_per_item"))
        )  # fmt: skip
        yield line(
            "decisions", "users asked about", f"{n(users)} x {w.llm_share:.0%}", n(asked)
        )  # fmt: skip
        yield line(
            "decisions", "processor", f"{n(users - asked)} x {of('decision_cpu_s'):.3f} s + {n(asked)} x {of('llm_decision_cpu_s'):.3f} s",
            f"{_hours(self.core_s)} of one core",
        )  # fmt: skip
        yield line(
            "decisions", "workers for the window", f"{_hours(self.core_s)} x 1.5 / {_hours(self.window_s)}",
            f"{self.workers} cores, {self.nodes} nodes of {w.cores_per_node}",
        )  # fmt: skip
        calls = asked * of("calls_per_decision")
        yield line("LLM", "calls", f"{n(asked)} x {of('calls_per_decision'):.2f}", n(calls))
        tokens = asked * of("tokens_per_decision")
        yield line("LLM", "tokens", f"{n(asked)} x {n(of('tokens_per_decision'))}", n(tokens))
        yield line("LLM", "calls a second", f"{n(calls)} / {_hours(self.window_s)}", f"{calls / self.window_s:.1f}")
        yield line(
            "LLM", "requests at once", f"{calls / self.window_s:.1f} a second x {w.llm_s:g} s (Little)", f"{calls / self.window_s * w.llm_s:.0f}"
        )  # fmt: skip
        yield line(
            "LLM", "GPU hours of the endpoint", f"{n(tokens)} / {n(w.llm_tokens_per_gpu_s)} a second (assumed)", f"{tokens / w.llm_tokens_per_gpu_s / 3600:,.0f}"
        )  # fmt: skip
        size = (users - asked) * of("bytes_per_plain_decision") + asked * of("bytes_per_llm_decision")
        yield line(
            "database", "size of one run", f"{n(users - asked)} x {n(of('bytes_per_plain_decision'))} + {n(asked)} x {n(of('bytes_per_llm_decision'))} bytes", _bytes(size)
        )  # fmt: skip
        commits = (users - asked) * of("commits_per_plain_decision") + asked * of("commits_per_llm_decision")
        yield line(
            "database", "transactions a second",
            f"({n(users - asked)} x {of('commits_per_plain_decision'):.1f} + {n(asked)} x {of('commits_per_llm_decision'):.1f}) / {_hours(self.window_s)}",
            f"{commits / self.window_s:,.0f}, of {n(of('commits_per_s'))} that were measured",
        )  # fmt: skip
        wal = (users - asked) * of("wal_bytes_per_plain_decision") + asked * of("wal_bytes_per_llm_decision")
        yield line(
            "database", "log written", f"{n(users - asked)} x {n(of('wal_bytes_per_plain_decision'))} + {n(asked)} x {n(of('wal_bytes_per_llm_decision'))} bytes",
            f"{_bytes(wal)}, {wal / self.window_s / 1e6:.1f} MB a second",
        )  # fmt: skip


def markdown(plan: Plan) -> str:
    """The plan as the page has it: arithmetic, simulation, and the figures behind them."""
    rows = ["| | | arithmetic | result |", "|---|---|---|---|"]
    rows += [f"| {one.about} | {one.what} | {one.arithmetic} | **{one.result}** |" for one in plan.lines()]
    fleet, seen = plan.fleet, plan.simulated()
    rate = seen.decisions_per_s
    rows += [
        "",
        f"Simulated for {SIMULATED_S:.0f} s with seed {SEED}: {fleet.nodes} nodes of {fleet.workers_per_node} workers, {fleet.concurrency} requests at once each, an endpoint that takes "
        f"{fleet.llm_per_s:.1f} requests a second and answers in {fleet.llm_s:g} s at the median, a database that takes {_number(fleet.commits_per_s)} transactions a second, and a node that dies every "
        f"{3600 / fleet.failures_per_hour:.0f} s, hundreds of times as often as nodes die.",
        "",
        "| simulated | |",
        "|---|---|",
        f"| decisions a second | {rate:,.1f} |",
        f"| days for {_number(plan.wanted.users)} users | {plan.wanted.users / rate / 86_400:.1f} |",
        f"| cores, endpoint, database busy | {seen.cores_busy:.0%}, {seen.endpoint_busy:.0%}, {seen.database_busy:.0%} |",
        f"| seconds of a decision, half and 99 of 100 below | {seen.seconds_p50:.2f}, {seen.seconds_p99:.2f} |",
        f"| nodes that died, decisions taken back, calls put again | {seen.failures}, {seen.redone:,}, {seen.repeated_calls:,} |",
        "",
        "| measured | | where |",
        "|---|---|---|",
    ]
    rows += [f"| {name} | {_number(one.value)} {one.unit} | {one.source} |" for name, one in plan.measured.items()]
    return "\n".join(rows)


def _number(value: float) -> str:
    if value >= 1e9:
        return f"{value / 1e9:,.4g} billion"
    if value >= 1e6:
        return f"{value / 1e6:,.4g} million"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:,.3g} {unit}"
    return f"{value:,.0f} bytes"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds:,.0f} s"
