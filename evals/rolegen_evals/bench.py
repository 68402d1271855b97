"""The benchmarks by name. Each is a function from an :class:`Order` to a ``Result``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rolegen_errors import ProjectError

from .results import Result

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What ``rolegen bench NAME`` was asked for; a benchmark refuses what it cannot do with :meth:`only`."""

    progress: Progress
    data: Path | None = None
    """folder of data sets that are not shipped"""
    quick: bool = False
    """at most about a minute, for the shape only"""
    work: Path | None = None
    """folder in which finished parts are kept, so that a stopped run goes on"""
    report: Path | None = None
    """where to write a page with charts"""
    validation: bool = False
    """run on the validation period, not on the test period"""
    without: tuple[str, ...] = ()
    """systems to leave out"""
    users: float | None = None
    """to plan for"""
    items: float | None = None
    """of the catalogue to plan for"""
    seeds: int | None = None
    """trainings of each trained system; None: as many as the benchmark has by itself"""

    def only(self, name: str, *possible: str) -> None:
        """Refuse every option that was given but is not in ``possible``.

        Raises:
            ProjectError: there is one.
        """
        for option in ("work", "report", "validation", "without", "seeds", "users", "items"):
            if getattr(self, option) and option not in possible:
                raise ProjectError(f"benchmark {name!r} knows no --{option}", fix=f"leave out --{option}")


Benchmark = Callable[[Order], Result]


def demo(order: Order) -> Result:
    """The demo's own table, from scratch in a folder of its own."""
    from .demo import run_demo

    order.only("demo")
    with TemporaryDirectory() as folder:
        finished = run_demo(Path(folder), progress=order.progress, quick=order.quick)
        finished.shop.close()
        return finished.result("demo")


def reactivation(order: Order) -> Result:
    """Who ranks best what dormant customers buy when they come back: all systems on Online Retail II."""
    from .reactivation.benchmark import run_reactivation
    from .reactivation.page import write_reactivation_page
    from .reactivation.protocol import TEST, VALIDATION

    order.only("reactivation", "work", "report", "validation", "without", "seeds")
    outcome = run_reactivation(
        work=order.work or Path(".rolegen-bench") / "reactivation",
        progress=order.progress,
        period=VALIDATION if order.validation else TEST,
        quick=order.quick,
        without=order.without,
        seeds=order.seeds or 3,
    )
    if order.report is not None:
        write_reactivation_page(order.report, outcome)
    return outcome.result()


def speed(order: Order) -> Result:
    """Users per second beside T5, share of the matrix rate, cost over catalogue and history."""
    from .speed import bench_speed

    order.only("speed")
    return bench_speed(quick=order.quick, progress=order.progress)


def grounding(order: Order) -> Result:
    """Milliseconds a spec, recall against the exact search, building time and memory, from 1,000 to a million items."""
    from .grounding import bench_grounding

    order.only("grounding")
    return bench_grounding(quick=order.quick, progress=order.progress)


def beauty(order: Order) -> Result:
    """Amazon Beauty, leave-one-out, full ranking: ours beside baselines of the run and what others published."""
    from .beauty.benchmark import run_beauty

    order.only("beauty", "work", "validation", "without", "seeds")
    return run_beauty(
        data=order.data,
        work=order.work or Path(".rolegen-bench") / "beauty",
        progress=order.progress,
        split="validation" if order.validation else "test",
        quick=order.quick,
        without=order.without,
        seeds=order.seeds or 1,
    )


def reasoning(order: Order) -> Result:
    """Planted worlds: are effects and roles right, and what do good, useless, hostile and broken LLMs do to the slate?"""
    from .reasoning.benchmark import run_reasoning

    order.only("reasoning", "work", "seeds")
    return run_reasoning(
        work=order.work or Path(".rolegen-bench") / "reasoning",
        progress=order.progress,
        quick=order.quick,
        seeds=order.seeds,
    )


def student(order: Order) -> Result:
    """How much of a teacher's gain its student keeps in planted shops, without asking anybody."""
    from .student.benchmark import run_student

    order.only("student", "work", "validation", "seeds")
    return run_student(
        work=order.work or Path(".rolegen-bench") / "student",
        progress=order.progress,
        quick=order.quick,
        validation=order.validation,
        seeds=order.seeds,
    )


def value(order: Order) -> Result:
    """Off-policy estimates against known values: planted shops and slates, and with --data the Open Bandit Dataset."""
    from .value import run_value

    order.only("value", "seeds")
    return run_value(data=order.data, quick=order.quick, seeds=order.seeds, progress=order.progress)


def lessons(order: Order) -> Result:
    """How often lessons are false where nothing has an effect, and how often they are found where something has."""
    from .lessons import bench_lessons

    order.only("lessons", "seeds")
    return bench_lessons(quick=order.quick, seeds=order.seeds, progress=order.progress)


def load(order: Order) -> Result:
    """Many writers on one memory, a batch beside what its endpoint can do, and what the loop costs the processor."""
    from .load.benchmark import run_load

    order.only("load")
    return run_load(quick=order.quick, progress=order.progress)


def durability(order: Order) -> Result:
    """Batches killed at random points a hundred times on each database, and what the memory shows of it."""
    from .load.benchmark import run_durability

    order.only("durability")
    return run_durability(quick=order.quick, progress=order.progress)


def scale(order: Order) -> Result:
    """Decisions a second by workers (processes, Ray) and their number, with a scripted LLM; bytes and transactions of a decision."""
    from .scale.benchmark import run_scale

    order.only("scale", "work", "without")
    return run_scale(
        work=order.work or Path(".rolegen-bench") / "scale",
        quick=order.quick,
        without=order.without,
        progress=order.progress,
    )


def costs(order: Order) -> Result:
    """Bytes, processor seconds and transactions of an event, of a decision, and of one with an LLM: what the plan is made of."""
    from .scale.costs import run_costs

    order.only("costs")
    return run_costs(quick=order.quick, progress=order.progress)


def plan(order: Order) -> Result:
    """What many users take, from measured figures: bytes, calls, hours, writes; and a simulation of the fleet."""
    from .scale.page import run_plan

    order.only("plan", "report", "users", "items")
    return run_plan(users=order.users, items=order.items, report=order.report)


def pages(order: Order) -> Result:
    """Milliseconds of every trace page over a million decisions in PostgreSQL and 100,000 in SQLite."""
    from .browsing.benchmark import bench_pages

    order.only("pages", "work")
    work = order.work or Path(".rolegen-bench") / "pages"
    return bench_pages(work=work, quick=order.quick, progress=order.progress)


def loop(order: Order) -> Result:
    """The closed loop, in orders: rounds of decide, outcome and improve in planted shops beside static policies, and a real log month by month."""
    from .loop.benchmark import run_loop
    from .loop.page import write_loop_page

    order.only("loop", "work", "report", "seeds")
    result = run_loop(
        work=order.work or Path(".rolegen-bench") / "loop",
        progress=order.progress,
        quick=order.quick,
        seeds=order.seeds,
    )
    if order.report is not None:
        write_loop_page(order.report, result)
    return result


def evals(order: Order) -> Result:
    """Whether comparisons of prompts are to be believed: power, false alarms and gate where the true difference is planted; seconds of a run."""
    from .prompt_trials.benchmark import run_evals

    order.only("evals", "work")
    return run_evals(work=order.work or Path(".rolegen-bench") / "evals", progress=order.progress, quick=order.quick)


def serve(order: Order) -> Result:
    """Milliseconds of a server under 200 requests a second over 5,000 items, and the highest rate that stays within 20 ms at p99."""
    from .serving.benchmark import bench_serve

    order.only("serve", "work")
    work = order.work or Path(".rolegen-bench") / "serve"
    return bench_serve(work=work, quick=order.quick, progress=order.progress)


BENCHMARKS: Mapping[str, Benchmark] = {
    "speed": speed,
    "grounding": grounding,
    "reasoning": reasoning,
    "student": student,
    "value": value,
    "lessons": lessons,
    "evals": evals,
    "loop": loop,
    "demo": demo,
    "reactivation": reactivation,
    "beauty": beauty,
    "load": load,
    "durability": durability,
    "pages": pages,
    "serve": serve,
    "scale": scale,
    "costs": costs,
    "plan": plan,
}


def run(name: str, order: Order) -> Result:
    """Run one benchmark.

    Raises:
        ProjectError: there is none of that name, or it does not know an option that was given.
    """
    if name not in BENCHMARKS:
        raise ProjectError(f"there is no benchmark {name!r}", fix=f"the benchmarks are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name](order)
