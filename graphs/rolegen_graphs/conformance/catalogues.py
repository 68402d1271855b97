"""The rules of a :class:`~rolegen_graphs.ports.Catalogue`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..ports import Catalogue
from ..words import ItemSpec, Observation
from .rules import Rules

ABSURD = ItemSpec(
    role="complement",
    category="no category of this name",
    price_low=1e9,
    price_high=2e9,
    text="\u202e<script>x</script>" * 50,
)


def check_catalogue(
    catalogue: Catalogue, *, specs: Sequence[ItemSpec], seen: Sequence[Observation], items: Collection[str]
) -> None:
    """Hold a catalogue against its rules, with wishes of yours of which some can be met.

    - One candidate for each spec, in order, with its path, step and spec.
    - What is accepted or mapped has an item that exists; what is rejected has none, and a reason.
    - No wish is an error: an absurd one is rejected or mapped.
    - At least one of ``specs`` is met.
    - The same question has the same answer; no spec, no candidate.

    Args:
        items: ids of everything that can be grounded in at those times.

    Raises:
        ConformanceError: with every rule that does not hold.
    """
    with Rules(catalogue) as rules:
        met = 0
        for one in seen:
            asked = [(number, 0, spec) for number, spec in enumerate((*specs, ABSURD))]
            found = rules.ask("wishes", catalogue.ground, asked, one)
            if found is None:
                continue
            told = [(candidate.path, candidate.step, candidate.spec) for candidate in found]
            rules.hold("one candidate for each spec, in order", told == asked, told)
            for candidate in found:
                if candidate.fate == "rejected":
                    rules.hold("a rejected spec has no item", candidate.item is None, candidate.item)
                    rules.hold("a rejected spec has a reason", bool(candidate.reason))
                else:
                    rules.hold("a met wish has an item that exists", candidate.item in items, candidate.item)
            met += sum(candidate.fate != "rejected" for candidate in found[:-1])
            again = rules.ask("twice", catalogue.ground, asked, one)
            rules.hold("the same question has the same answer", again == found)
            nothing = rules.ask("no wishes", catalogue.ground, (), one)
            rules.hold("no spec, no candidate", not nothing, nothing)
        rules.hold("meets at least one of the given wishes", met > 0)
