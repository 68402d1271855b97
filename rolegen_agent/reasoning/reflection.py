"""Deterministic reflection: signals become typed corrections, and at most one lesson is proposed."""

from __future__ import annotations

from collections.abc import Sequence

from rolegen_graphs.nodes.feedback import MAPPED_TOO_OFTEN
from rolegen_graphs.words import (
    Candidate,
    Correction,
    CorrectionKind,
    Effect,
    ItemSpec,
    Path,
    Reflection,
    Signal,
    Trajectory,
)


def reflect_on(
    trajectory: Trajectory,
    paths: Sequence[Path],
    candidates: Sequence[Candidate],
    effects: Sequence[Effect],
    signals: Sequence[Signal],
) -> Reflection:
    """One correction for each finding that another round can act on; costs are not."""
    corrections: list[Correction] = []
    by_path = {path.path: path for path in paths}
    for signal in signals:
        if signal.kind == "ungrounded" and signal.path is not None:
            lost = [c for c in candidates if c.path == signal.path and c.item is None]
            if len(lost) == len(by_path[signal.path].specs() if signal.path in by_path else lost):
                corrections.append(Correction(kind="ungrounded", path=signal.path, detail=signal.detail))
        elif signal.kind == "negative_effect":
            # An LLM numbers its paths as it likes, so that the role tells what the number does not.
            early = signal.path in by_path and by_path[signal.path].intervention.role == "replenishment"
            kind: CorrectionKind = "too_early" if early else "wrong_role"
            corrections.append(Correction(kind=kind, path=signal.path, detail=signal.detail))
        elif signal.kind == "disagreement":
            corrections.append(
                Correction(kind="wrong_role", path=signal.path, event=signal.event, detail=signal.detail)
            )
        elif signal.kind == "collapse":
            corrections.append(Correction(kind="collapsed", detail=signal.detail))
    for number in by_path:
        mapped = [c for c in candidates if c.path == number and c.fate == "mapped"]
        moved = [c for c in mapped if "category" in c.reason]
        if len(moved) >= MAPPED_TOO_OFTEN:
            corrections.append(Correction(kind="wrong_category", path=number, detail=moved[0].reason))
        elif len(mapped) >= MAPPED_TOO_OFTEN:
            corrections.append(Correction(kind="wrong_price", path=number, detail=mapped[0].reason))
    unique = {(c.kind, c.path, c.event): c for c in reversed(corrections)}
    return Reflection(corrections=tuple(reversed(unique.values())), lessons=_lesson(trajectory, by_path, effects))


def _lesson(trajectory: Trajectory, paths: dict[int, Path], effects: Sequence[Effect]) -> tuple[str, ...]:
    """The clearest finding about a kind of path for this cohort: an interval that leaves out zero."""
    clear = [e for e in effects if e.path in paths and (e.high < 0 or e.low > 0)]
    if not clear:
        return ()
    effect = max(clear, key=lambda e: (abs(e.change), -e.path))
    path = paths[effect.path]
    kind = path.kind or path.intervention.role
    verb = "Lead with" if effect.low > 0 else "Do not lead with"
    return (
        f"{verb} the path '{kind}' for {trajectory.cohort}: estimated change of conversion "
        f"{effect.change:+.3f} ({effect.low:+.3f} to {effect.high:+.3f}).",
    )


def relaxed(spec: ItemSpec) -> ItemSpec | None:
    """The same wish with one demand less: first the price band, then the category; None when nothing is left."""
    if spec.price_low is not None or spec.price_high is not None:
        return spec.model_copy(update={"price_low": None, "price_high": None})
    if spec.category is not None and spec.text:
        return spec.model_copy(update={"category": None})
    return None
