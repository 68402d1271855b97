"""What a server counts and times, for Prometheus and for its health."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence

from rolegen_errors import MissingExtraError

try:
    from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
    from prometheus_client import Counter as Counted
except ImportError as error:
    raise MissingExtraError("prometheus-client", "serve") from error

LATEST = 4_096
"""requests whose milliseconds the health tells percentiles of"""
MOST_NAMED, MOST_SHOWN = 1_000, 20
"""unknown items that are counted by name, and of them those that are shown"""
_BUCKETS = (0.001, 0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Figures:
    """Counters of one server."""

    def __init__(self, waiting: Callable[[], float], users: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "rolegen_slate_seconds",
            "From a request's arrival to its answer.",
            ["source"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._events = Counted(
            "rolegen_events", "Told events by what became of them.", ["fate"], registry=self._registry
        )
        self._refused = Counted(
            "rolegen_refused", "Requests that were not answered, by why.", ["why"], registry=self._registry
        )
        self._faults = Counted(
            "rolegen_faults", "What did not work behind the answers.", ["what"], registry=self._registry
        )
        self._shown = Counted(
            "rolegen_shown", "Shown slates by what became of them.", ["fate"], registry=self._registry
        )
        self._late = Counted(
            "rolegen_late", "Slates that were not ranked in time, and came from memory.", registry=self._registry
        )
        Gauge("rolegen_waiting", "Requests under way.", registry=self._registry).set_function(waiting)
        Gauge("rolegen_users", "Users held in RAM.", registry=self._registry).set_function(users)
        self._latest: deque[float] = deque(maxlen=LATEST)
        self._unknown: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answered(self, source: str, seconds: float) -> None:
        """A request was answered."""
        self._seconds.labels(source).observe(seconds)
        self._latest.append(seconds)

    def late(self) -> None:
        """A ranking was not ready in time."""
        self._late.inc()

    def refused(self, why: str) -> None:
        """A request was not answered."""
        self._refused.labels(why).inc()

    def events(self, fate: str, number: int) -> None:
        """So many told events were recorded, known, refused, late, ahead or of an unknown item."""
        if number:
            self._events.labels(fate).inc(number)

    def unknown(self, items: Sequence[str]) -> None:
        """Told events name items that the catalogue does not know."""
        self.events("unknown_item", len(items))
        with self._lock:
            for item in items:
                if item in self._unknown or len(self._unknown) < MOST_NAMED:
                    self._unknown[item] += 1

    def unknown_items(self) -> dict[str, int]:
        """The unknown items that were told most often, and how often."""
        with self._lock:
            return dict(self._unknown.most_common(MOST_SHOWN))

    def fault(self, what: str) -> None:
        """Something behind the answers failed."""
        self._faults.labels(what).inc()

    def shown(self, fate: str, number: int = 1) -> None:
        """So many shown slates were recorded, or lost."""
        self._shown.labels(fate).inc(number)

    def milliseconds(self, share: float) -> float | None:
        """The time within which ``share`` of the latest requests were answered; None before the first."""
        latest = sorted(self._latest)
        return 1000 * latest[min(len(latest) - 1, int(share * len(latest)))] if latest else None

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self._registry)
