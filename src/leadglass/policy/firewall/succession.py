"""One table takes the place of another: what is lost by it, what stays contained, and what is open for a time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from leadglass.policy.firewall.boxes import Box, beyond, canonical
from leadglass.policy.firewall.readback import contents
from leadglass.policy.firewall.ruleset import FAMILY, TABLE, AddressSet, FlowSet, Ruleset, element

LEFT_MIN_MILLISECONDS = 50  # what is less is left out: to a kernel that rounds it down, no time is for ever


@dataclass(frozen=True, slots=True)
class Opened:
    """What is open for a time: packets of one set, until then (Unix nanoseconds). `record`: only where who begins a connection can be told."""

    set: str
    box: Box
    until_ns: int
    record: bool = True


def closes(old: Ruleset, new: Ruleset) -> bool:
    """Does anything end that was open? What is contained counts for nothing here: that acts whoever loses by it."""
    before, after = {each.name: each for each in old.sets}, {each.name: each for each in new.sets}
    return any(
        beyond(contents(of), contents(after[name]) if name in after else ())
        for name, of in before.items()
        if not isinstance(of, AddressSet)
    )


def contained_as(table: Ruleset, other: Ruleset) -> Ruleset:
    """The flows of the one with the containment of the other: going back to what was open lets nobody in who is contained."""
    inside = {each.name: each for each in other.sets if isinstance(each, AddressSet)}
    return replace(table, sets=tuple(inside.get(each.name, each) for each in table.sets))


def elements(table: Ruleset, left: Mapping[Opened, float]) -> str:
    """For `nft -f`: the sets of what is open for a time hold just this, from now on, in one transaction. `left`: for how many seconds."""
    every = sorted(left, key=lambda each: (-left[each], each.set, each.box))
    lines = []
    for each in table.sets:
        if not isinstance(each, FlowSet) or not each.timed:
            continue
        lines.append(f"flush set {FAMILY} {TABLE} {each.name}")
        inside = [one for one in every if one.set == each.name]
        for box, milliseconds in _apart(inside, left):
            time = "{}s{}ms".format(*divmod(milliseconds, 1000))
            lines.append(f"add element {FAMILY} {TABLE} {each.name} {{ {element(box)} timeout {time} }}")
    return "\n".join([*lines, ""])


def _apart(opened: Iterable[Opened], left: Mapping[Opened, float]) -> Iterator[tuple[Box, int]]:
    """Disjoint, as a set of ranges must be: of what overlaps, the later end counts."""
    taken: tuple[Box, ...] = ()
    for each in opened:
        milliseconds = int(left[each] * 1000)
        if milliseconds < LEFT_MIN_MILLISECONDS:
            continue
        for box in beyond((each.box,), taken):
            yield box, milliseconds
        taken = canonical((*taken, each.box))
