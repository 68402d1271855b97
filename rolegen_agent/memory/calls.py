"""LLM calls, the prompts that they used, and the artefacts that the loop ran on."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, case, func, or_, select
from sqlalchemy.orm import aliased
from sqlalchemy.sql import ColumnElement

from rolegen_graphs.words import LlmCall

from ..llm.usage import Spending
from . import rows
from .digests import refresh, tallied
from .models import ArtefactRow, BegunRow, DecisionRow, LlmCallRow, PromptRow
from .records import OUTSTANDING as OUTSTANDING
from .records import Artefact, PromptText, Usage
from .spending import SpendingStore
from .store import columns, now

_TOKENS = ("input_tokens", "output_tokens")
_ANSWERED = LlmCallRow.error == ""
_RECORDED = select(DecisionRow.decision).where(DecisionRow.decision == bindparam("key")).with_for_update(key_share=True)
_LATEST_ANSWER = (  # built once: it is asked for each call, and building it takes longer than running it
    select(*columns(LlmCallRow))
    .where(LlmCallRow.request_hash == bindparam("hash"), _ANSWERED)
    .order_by(LlmCallRow.at.desc(), LlmCallRow.decision, LlmCallRow.round, LlmCallRow.node)
    .limit(1)
)


class CallStore(SpendingStore):
    """The part of the memory that holds calls, prompts and artefacts."""

    def record_call(self, call: LlmCall) -> None:
        """Store a call, idempotent on (site, request hash). An answered call is never replaced: neither by a failure
        nor by its own cached answer, so that what was paid stays known."""
        with self._write() as connection:
            self._write_call(connection, call, unless=_ANSWERED)

    def _write_call(self, connection: Connection, call: LlmCall, unless: ColumnElement[bool] | None = None) -> None:
        key = call.site.decision
        recorded = connection.execute(_RECORDED, {"key": key}).first() is not None
        with tallied(connection, [key]) if recorded else nullcontext():
            self._upsert(connection, LlmCallRow, [rows.call_values(call)], unless=unless)
            if recorded:  # as a rule a decision is recorded after its calls
                refresh(connection, [key])

    def settle_call(self, call: LlmCall, run: str) -> bool:
        """Put the result of a nearline batch in the place of its request, and what it used in the place of what was reserved
        for it in ``run``, in one transaction. False, and nothing changes, where the request is answered already."""
        own = (getattr(LlmCallRow, name) == value for name, value in rows.fields_of(call.site).items())
        this = LlmCallRow.request_hash == call.request_hash
        query = select(LlmCallRow.error, LlmCallRow.input_tokens, LlmCallRow.output_tokens, LlmCallRow.cost_usd)
        with self._write() as connection:
            connection.execute(_RECORDED, {"key": call.site.decision})  # first, as whoever deletes it does
            was = connection.execute(query.where(this, *own).with_for_update()).one_or_none()
            if was is None or not was.error:
                return False
            self._write_call(connection, call)
            tokens, usd = call.input_tokens + call.output_tokens, call.cost_usd or 0.0
            if was.error == OUTSTANDING:  # else it was read before, with an error: its reservation is settled
                tokens, usd = tokens - was.input_tokens - was.output_tokens, usd - (was.cost_usd or 0.0)
            self._add_to_both(connection, run, call.site.decision, Spending(0, tokens, usd))
        return True

    def find_call(self, request_hash: str) -> LlmCall | None:
        """The latest answered call with that hash, or None. A call is answered when its ``error`` is empty."""
        with self._read_once() as connection:
            found = connection.execute(_LATEST_ANSWER, {"hash": request_hash}).mappings().one_or_none()
        return None if found is None else rows.to_call(found)

    def find_request(self, request_hash: str) -> tuple[LlmCall, str] | None:
        """The call with that hash and the run it was made for (empty if unknown); None if there is none.

        An answered call is preferred, then one that a nearline batch is to answer, then the latest that failed.
        """
        run = func.coalesce(DecisionRow.run, BegunRow.run, "").label("run")
        rank = case((LlmCallRow.error == "", 0), (LlmCallRow.error == OUTSTANDING, 1), else_=2)
        query = (
            select(*columns(LlmCallRow), run)
            .outerjoin(DecisionRow, DecisionRow.decision == LlmCallRow.decision)
            .outerjoin(BegunRow, BegunRow.decision == LlmCallRow.decision)
            .where(LlmCallRow.request_hash == request_hash)
            .order_by(rank, LlmCallRow.at.desc(), LlmCallRow.decision, LlmCallRow.round, LlmCallRow.node)
            .limit(1)
        )
        with self._read() as connection:
            found = connection.execute(query).mappings().one_or_none()
        return None if found is None else (rows.to_call(found), found["run"])

    def calls(self, *, decision: str | None = None, run: str | None = None) -> tuple[LlmCall, ...]:
        """The calls of one decision, of one run (unfinished decisions included), or all; oldest first."""
        query = _of_calls(select(*columns(LlmCallRow)), run)
        if decision is not None:
            query = query.where(LlmCallRow.decision == decision)
        order = (LlmCallRow.at, LlmCallRow.decision, LlmCallRow.round, LlmCallRow.node, LlmCallRow.request_hash)
        with self._read() as connection:
            return tuple(rows.to_call(row) for row in connection.execute(query.order_by(*order)).mappings())

    def calls_of_finished(
        self, model: str, prompt_hashes: Collection[str], *, limit: int
    ) -> tuple[tuple[LlmCall, ...], ...]:
        """The calls of the ``limit`` latest recorded decisions that asked ``model`` with one of the prompts, grouped by
        decision, as if nothing had been known before their run: a call that repeats one of another run comes with the
        tokens of that one, and a call that repeats one of its own run is left out."""
        asked = (
            select(LlmCallRow.decision)
            .join(DecisionRow, DecisionRow.decision == LlmCallRow.decision)
            .where(LlmCallRow.model == model, LlmCallRow.prompt_hash.in_(prompt_hashes))
            .group_by(LlmCallRow.decision)
            .order_by(func.max(DecisionRow.recorded_at).desc(), LlmCallRow.decision)
            .limit(limit)
        )
        first, first_of = aliased(LlmCallRow), aliased(DecisionRow)
        paid = (
            select(first.request_hash, first_of.run, *(getattr(first, name) for name in _TOKENS))
            .join(first_of, first_of.decision == first.decision)
            .where(first.cached.is_(False), first.error == "")
            .subquery()
        )
        repeats = LlmCallRow.cached.is_(True)
        tokens = [case((repeats, paid.c[name]), else_=getattr(LlmCallRow, name)).label(name) for name in _TOKENS]
        query = (
            select(*columns(LlmCallRow, without=_TOKENS), *tokens)
            .join(DecisionRow, DecisionRow.decision == LlmCallRow.decision)
            .outerjoin(paid, and_(repeats, paid.c.request_hash == LlmCallRow.request_hash))
            .where(
                LlmCallRow.decision.in_(asked),
                LlmCallRow.model == model,
                LlmCallRow.prompt_hash.in_(prompt_hashes),
                LlmCallRow.error != OUTSTANDING,
                or_(~repeats, paid.c.run != DecisionRow.run),
            )
            .order_by(LlmCallRow.decision, LlmCallRow.at)
        )
        with self._read() as connection:
            found = [rows.to_call(row) for row in connection.execute(query).mappings()]
        return tuple(tuple(calls) for _, calls in groupby(found, key=lambda call: call.site.decision))

    def usage(self, run: str | None = None) -> Usage:
        """Totals over the calls of one run (unfinished decisions included), or of all runs."""
        out = LlmCallRow.error == OUTSTANDING  # its numbers are what was reserved for it
        sent = and_(LlmCallRow.cached.is_(False), ~out)

        def total(*conditions: ColumnElement[bool]) -> Any:
            return func.coalesce(func.sum(case((and_(*conditions), 1), else_=0)), 0)

        query = select(
            total(~out).label("calls"),
            total(LlmCallRow.cached.is_(True)).label("cached"),
            total(LlmCallRow.error != "", ~out).label("failed"),
            total(out).label("outstanding"),
            func.coalesce(func.sum(case((sent, LlmCallRow.input_tokens), else_=0)), 0).label("input_tokens"),
            func.coalesce(func.sum(case((sent, LlmCallRow.output_tokens), else_=0)), 0).label("output_tokens"),
            func.coalesce(func.sum(case((sent, LlmCallRow.cost_usd), else_=0.0)), 0.0).label("cost_usd"),
            total(sent, LlmCallRow.error == "", LlmCallRow.cost_usd.is_(None)).label("unpriced"),
        ).select_from(LlmCallRow)
        with self._read() as connection:
            return Usage(**connection.execute(_of_calls(query, run)).mappings().one())

    def record_prompt(self, name: str, version: str, hash: str, text: str) -> None:
        """Keep a prompt's text for as long as traces may show it; idempotent on (name, version, hash)."""
        values = {"name": name, "version": version, "hash": hash, "text": text, "recorded_at": now()}
        with self._write() as connection:
            self._upsert(connection, PromptRow, [values], keep=("recorded_at",))

    def find_prompt(self, name: str, version: str, hash: str) -> PromptText | None:
        """The text of one prompt as it was used, or None."""
        query = select(*columns(PromptRow)).where(
            PromptRow.name == name, PromptRow.version == version, PromptRow.hash == hash
        )
        with self._read() as connection:
            found = connection.execute(query).mappings().one_or_none()
        return None if found is None else rows.to_word(PromptText, found)

    def unattributed_calls(self) -> int:
        """How many LLM calls belong to no decision that was begun or recorded, so that no user or run is known."""
        known = select(DecisionRow.decision).union(select(BegunRow.decision))
        with self._read() as connection:
            query = select(func.count()).select_from(LlmCallRow).where(LlmCallRow.decision.not_in(known))
            return connection.execute(query).scalar_one()

    def record_artefact(
        self, kind: str, as_of: datetime, fingerprint: str, path: str | Path, manifest: dict[str, Any]
    ) -> None:
        """Note a file that was made from the log before ``as_of``; idempotent on (kind, as_of, fingerprint)."""
        values = {"kind": kind, "as_of": as_of, "fingerprint": fingerprint, "path": str(path)}
        with self._write() as connection:
            made = {**values, "manifest": manifest, "created": now()}
            self._upsert(connection, ArtefactRow, [made], keep=("created",))

    def artefacts(self, kind: str | None = None) -> tuple[Artefact, ...]:
        """All artefacts, or those of one kind; by ``as_of``, then oldest first."""
        query = select(*columns(ArtefactRow)).order_by(ArtefactRow.as_of, ArtefactRow.created, ArtefactRow.fingerprint)
        if kind is not None:
            query = query.where(ArtefactRow.kind == kind)
        with self._read() as connection:
            return tuple(rows.to_word(Artefact, row) for row in connection.execute(query).mappings())


def _of_calls(query: Select[Any], run: str | None) -> Select[Any]:
    if run is None:
        return query
    recorded = select(DecisionRow.decision).where(DecisionRow.run == run)
    return query.where(LlmCallRow.decision.in_(recorded.union(select(BegunRow.decision).where(BegunRow.run == run))))
