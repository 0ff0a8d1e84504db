"""Who gains and who loses what in the network when this site file acts instead of that one? Sets of packets compared, then told by their names."""

from __future__ import annotations

from collections.abc import Iterator

from leadglass.policy.firewall.boxes import OTHER, PORT_MAX, Box, Span, beyond, canonical, everything
from leadglass.policy.firewall.openings import Openings, of_shared, openings, spans
from leadglass.site.model import ARCHIVE, Site


def gains_and_losses(old: Site, new: Site) -> Iterator[str]:
    """`+` opens, `-` closes; nothing where both let the same packets through. What is open on demand is told apart."""
    was, now = openings(old), openings(new)
    for ending, before, after in (
        ("", _always(was), _always(now)),
        (", on demand", _on_demand(was), _on_demand(now)),
    ):
        yield from (f"+ {told(new, box)}{ending}" for box in beyond(after, before))
        yield from (f"- {told(old, box)}{ending}" for box in beyond(before, after))


def _always(opened: Openings) -> tuple[Box, ...]:
    return beyond((*opened.open(opened.forward), *of_shared(opened.shared)), _kept_apart(opened))


def _on_demand(opened: Openings) -> tuple[Box, ...]:
    """What needs an approval, where it is not open anyway."""
    waiting = canonical(each.box for each in opened.forward if each.on_demand)
    return beyond(waiting, (*_always(opened), *_kept_apart(opened)))


def _kept_apart(opened: Openings) -> Iterator[Box]:
    for span in opened.contained:
        whole = Span(span.version, 0, 2 ** (32 if span.version == 4 else 128) - 1)
        yield from everything(span, whole)
        yield from everything(whole, span)


def told(site: Site, box: Box) -> str:
    """A box by the names of the site file: who reaches whom by which service."""
    return f"{named(site, box.source)} to {named(site, box.target)} by {_service(site, box)}"


def _service(site: Site, box: Box) -> str:
    if box.protocol == OTHER:
        return "every protocol but tcp and udp"
    if (box.first_port, box.last_port) == (0, PORT_MAX):
        return f"all of {box.protocol}"
    names = [
        each.name
        for each in site.services.values()
        if each.protocol == box.protocol and box.first_port == each.port == box.last_port
    ]
    return f"{'/'.join(names)} ({box.protocol}/{box.ports})" if names else f"{box.protocol}/{box.ports}"


def named(site: Site, span: Span) -> str:
    """The name whose addresses these are; where no name has just these, the addresses and the smallest name around them."""
    for name in (ARCHIVE, *site.devices, *site.zones):
        if spans(site, name) == (span,) or span in spans(site, name):
            return name
    for name in (*site.devices, *site.zones):
        if any(
            each.version == span.version and each.first <= span.first and span.last <= each.last
            for each in spans(site, name)
        ):
            return f"{span} of {name}"
    return str(span)
