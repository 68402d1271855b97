"""Micro-batches: slates that are asked for while one batch is computed make up the next one.

A slate alone costs several times as much as one among ten, so under load batches grow and the cost of each slate falls;
nobody waits for a batch to fill. One thread computes, since two would only take turns at the same cores.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Question = TypeVar("Question")
Found = TypeVar("Found")


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
        self._jobs: queue.SimpleQueue[_Job[Question, Found] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="slates", daemon=True)
        self._closed = False
        self._thread.start()

    def submit(self, key: Hashable, questions: Sequence[Question]) -> Future[list[Found]]:
        """Answers to ``questions``, in order, as soon as the batch that they are in is computed."""
        job: _Job[Question, Found] = _Job(key, questions)
        if self._closed:
            job.future.cancel()
        else:
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Finish what was submitted, and end."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs, count, ended = [first], len(first.questions), False
            while count < self._largest and not ended:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    ended = True
                else:
                    jobs.append(job)
                    count += len(job.questions)
            for key in dict.fromkeys(job.key for job in jobs):
                self._answer(key, [job for job in jobs if job.key == key])
            if ended:
                return

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
