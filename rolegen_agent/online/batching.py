"""Micro-batches: slates that are asked for while one batch is computed make up the next one.

A slate alone costs several times as much as one among ten, so under load batches grow and the cost of each slate falls;
nobody waits for a batch to fill. One thread computes, since two would only take turns at the same cores. Work that nobody
waits for yet is done one by one when there is nothing else to do.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Question = TypeVar("Question")
Found = TypeVar("Found")
MOST_AHEAD = 1_000
"""jobs that wait for an idle moment; the oldest ones are given up"""


@dataclass(frozen=True)
class _Job(Generic[Question, Found]):
    key: Hashable
    questions: Sequence[Question]
    future: Future[list[Found]] = field(default_factory=Future)


class Batcher(Generic[Question, Found]):
    """Computes questions of equal ``key`` together.

    Args:
        compute: from the key and questions to as many answers; only ever called by one thread.
        largest: questions of one batch, but for a single job that has more.
    """

    def __init__(self, compute: Callable[[Hashable, Sequence[Question]], Sequence[Found]], *, largest: int) -> None:
        self._compute, self._largest = compute, largest
        self._jobs: deque[_Job[Question, Found]] = deque()
        self._ahead: deque[_Job[Question, Found]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="slates", daemon=True)
        self._thread.start()

    def submit(self, key: Hashable, questions: Sequence[Question], *, ahead: bool = False) -> Future[list[Found]]:
        """Answers to ``questions``, in order, as soon as the batch that they are in is computed.

        Args:
            ahead: nobody waits for them yet; the future is cancelled where too much is to be done first.
        """
        job: _Job[Question, Found] = _Job(key, questions)
        with self._changed:
            if self._closed:
                job.future.cancel()
            elif ahead:
                if len(self._ahead) == MOST_AHEAD:
                    self._ahead.popleft().future.cancel()
                self._ahead.append(job)
            else:
                self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Finish what somebody waits for, and end."""
        with self._changed:
            self._closed = True
            for job in self._ahead:
                job.future.cancel()
            self._ahead.clear()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while jobs := self._next():
            for key in dict.fromkeys(job.key for job in jobs):
                self._answer(key, [job for job in jobs if job.key == key])

    def _next(self) -> list[_Job[Question, Found]]:
        """The jobs of the next batch; none: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._ahead or self._closed)
            jobs: list[_Job[Question, Found]] = []
            count = 0
            while self._jobs and count < self._largest:
                jobs.append(self._jobs.popleft())
                count += len(jobs[-1].questions)
            if not jobs and self._ahead:
                jobs.append(self._ahead.popleft())
            return jobs

    def _answer(self, key: Hashable, jobs: Sequence[_Job[Question, Found]]) -> None:
        wanted = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        try:
            found = self._compute(key, [one for job in wanted for one in job.questions]) if wanted else []
        except Exception as error:  # noqa: BLE001 - whoever asked gets it; this thread serves the others
            if len(wanted) == 1:
                wanted[0].future.set_exception(error)
                return
            for job in wanted:  # one bad question must not cost the others their answers
                self._alone(key, job)
            return
        start = 0
        for job in wanted:
            job.future.set_result(list(found[start : start + len(job.questions)]))
            start += len(job.questions)

    def _alone(self, key: Hashable, job: _Job[Question, Found]) -> None:
        try:
            job.future.set_result(list(self._compute(key, job.questions)))
        except Exception as error:  # noqa: BLE001 - as above
            job.future.set_exception(error)
