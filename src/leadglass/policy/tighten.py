"""What did nobody use in so many days? As edits of the site file that are proven, and never more than the evidence reaches. Pure.

Of each flow somebody must have been able to see its use for the whole time, and the flow must have stood for that long: only then is silence
evidence. The DIMSE door's journal sees who did what by which flow; the web door's, from which address people came; the kernel's counters, packets of
flows that pass archive's own host; the register, which flows on demand were opened. What the file's own tests promise is kept, used or not.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from leadglass.policy.firewall.seen import visible
from leadglass.policy.flows import compiled, members
from leadglass.policy.observers import at_dimse, at_web, comes_from
from leadglass.policy.proof import prove
from leadglass.site.draft import Disable, Drop, Edit, Rewrite, edited
from leadglass.site.model import ARCHIVE, DIMSE_SERVICE, Flow, Site, name_problem
from leadglass.site.since import DEVICE, FLOW
from leadglass.terms import Action, Device
from leadglass.wire.uids import keyword_of_class, storage_class_of

GROUPS_MAX = (
    8  # into how many a flow is split at most for what its devices store; beyond that their SOP classes are joined
)
_READS = frozenset({Action.FIND, Action.GET, Action.MOVE})


class Part(enum.StrEnum):
    FLOW = "flow"
    RIGHTS = "rights"
    DEVICE = "device"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the time since `from_ns` (Unix nanoseconds). `journal_ns`: when the journal begins, 0: it is empty.

    `since`: as `site/since.py` tells it. `rights`: flow → device → what it did: an action with its SOP class or AE title ("" where that is not known).
    `addresses`: from which people came to the web door; `machines`: some come there unrecorded. `packets`: flows that the kernel saw; `watched`: it was
    heard on every day. `opened`: flows on demand that were open.
    """

    from_ns: int
    journal_ns: int
    since: Mapping[str, int]
    rights: Mapping[str, Mapping[str, Collection[tuple[str, str]]]]
    addresses: Collection[str] = ()
    machines: bool = False
    packets: Collection[str] = ()
    watched: bool = False
    opened: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that nobody used. `edit`: what would take it away; None where `kept` says why not."""

    part: Part
    name: str
    unused: tuple[str, ...]
    edit: Edit | None
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Of this nobody can say that it was not used, and nothing is proposed."""

    part: Part
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Tightened:
    """`site`: as it would be; what is in force stays in force."""

    site: Site
    findings: tuple[Finding, ...]
    unknown: tuple[Unknown, ...]

    @property
    def edits(self) -> tuple[Edit, ...]:
        return tuple(each.edit for each in self.findings if each.edit is not None)


def tighten(site: Site, evidence: Evidence) -> Tightened:
    look = _Look(site, evidence)
    findings, unknown = list(look.flows()), look.unknown
    findings += look.devices(findings)
    findings += _services(site, findings)
    proven = _proven(site, findings)
    return Tightened(edited(site, [each.edit for each in proven if each.edit is not None]), proven, tuple(unknown))


@dataclass(frozen=True, slots=True)
class _Rights:
    """What a device keeps of a flow. None: as the flow says. No actions: nothing."""

    actions: frozenset[Action]
    sop_classes: frozenset[str] | None
    destinations: frozenset[str] | None


@dataclass(slots=True)
class _Look:
    site: Site
    evidence: Evidence
    unknown: list[Unknown] = field(default_factory=list)
    _visible: frozenset[str] = frozenset()
    _concerned: dict[str, set[str]] = field(default_factory=dict)  # devices by flow

    def __post_init__(self) -> None:
        self._visible = visible(self.site)
        self._concerned = {flow.id: set(self._concerns(flow)) for flow in self.site.flows}

    # ---- flows

    def flows(self) -> Iterator[Finding]:
        for flow in self.site.flows:
            if self._used(flow):
                finding = (
                    self._narrowed(flow)
                    if at_dimse(self.site, flow)
                    else self._fewer(flow)
                    if at_web(self.site, flow)
                    else None
                )
                if finding is not None:
                    yield finding
            elif why := self._unseen(flow):
                self.unknown.append(Unknown(Part.FLOW, flow.id, why))
            else:
                yield Finding(Part.FLOW, flow.id, (_port(self.site, flow),), Rewrite(flow.id, ()))

    def _used(self, flow: Flow) -> bool:
        known = self.evidence
        by_people = at_web(self.site, flow) and any(self._in(flow.sources, address) for address in known.addresses)
        return bool(known.rights.get(flow.id)) or by_people or flow.id in known.packets

    def _unseen(self, flow: Flow) -> str:
        """Why silence is no evidence here; "" where it is."""
        known = self.evidence
        if self._stands(FLOW, flow.id) > known.from_ns:
            return "it has not stood for so long as it stands now"
        if flow.on_demand is not None and flow.id not in known.opened:
            return ""  # it was shut all the time
        if not 0 < known.journal_ns <= known.from_ns and (at_dimse(self.site, flow) or at_web(self.site, flow)):
            return "the journal does not reach back so far"
        if at_dimse(self.site, flow):
            return ""
        if at_web(self.site, flow):
            return "machines that read metrics there are in no event" if known.machines else ""
        if flow.id in self._visible:
            return "" if known.watched else "the kernel's counters were not heard on every one of these days"
        return "it does not pass archive's host: nobody who tells us sees it"

    def _in(self, names: Sequence[str], address: str) -> bool:
        return comes_from(self.site, names, address)

    def _stands(self, kind: str, name: str) -> int:
        """Since when; what is not known stands since now."""
        return self.evidence.since.get(kind + name, 1 << 63)

    # ---- what devices keep of a flow

    def _fewer(self, flow: Flow) -> Finding | None:
        """Of the web door: without those names in `from` whom nobody came from."""
        came = [name for name in flow.sources if any(self._in([name], address) for address in self.evidence.addresses)]
        if not came or len(came) == len(flow.sources) or not self._complete(flow):
            return None
        unused = tuple(f"nobody came from {name}" for name in flow.sources if name not in came)
        return Finding(Part.RIGHTS, flow.id, unused, Rewrite(flow.id, (replace(flow, sources=tuple(came)),)))

    def _complete(self, flow: Flow) -> bool:
        """Whether what is not seen of a flow that is used was not there."""
        if why := self._unseen(flow):
            self.unknown.append(Unknown(Part.RIGHTS, flow.id, why))
        return not why

    def _narrowed(self, flow: Flow) -> Finding | None:
        """None where every device uses all of it, or nobody can say."""
        if not self._complete(flow):
            return None
        devices = sorted(members(self.site, flow.sources))
        kept = {name: self._kept(flow, self.site.devices[name]) for name in devices}
        whole = _Rights(flow.may, flow.sop_classes, flow.destinations)
        if all(each == whole for each in kept.values()):
            return None
        unused = [line for name in devices for line in _lost(name, whole, kept[name])]
        into = tuple(self._split(flow, _grouped(kept)))
        return Finding(Part.RIGHTS, flow.id, tuple(unused), Rewrite(flow.id, into))

    def _kept(self, flow: Flow, device: Device) -> _Rights:
        whole = _Rights(flow.may, flow.sop_classes, flow.destinations)
        did = self.evidence.rights[flow.id].get(device.name, ())
        done = {*did, *_promised(self.site, device)}
        actions = frozenset(action for action in flow.may if any(word == action for word, _ in done))
        if self._stands(DEVICE, device.name) > self.evidence.from_ns:
            self.unknown.append(
                Unknown(Part.RIGHTS, f"{flow.id}: {device.name}", "the device has not stood for so long")
            )
            return whole
        if not actions and did:
            return whole  # it was let in, and did nothing that has a name
        return _Rights(actions, self._classes(flow, actions, done), self._destinations(flow, actions, done))

    def _classes(self, flow: Flow, actions: frozenset[Action], done: set[tuple[str, str]]) -> frozenset[str] | None:
        """Of whoever stores and does not read: what a query showed is in no event."""
        stored = frozenset(what for word, what in done if word == Action.STORE)
        if Action.STORE not in actions or actions & _READS or "" in stored:
            return flow.sop_classes if actions else None
        return stored if flow.sop_classes is None else stored & flow.sop_classes

    def _destinations(
        self, flow: Flow, actions: frozenset[Action], done: set[tuple[str, str]]
    ) -> frozenset[str] | None:
        """Names of devices in the place of the AE titles that were moved to."""
        moved = {what for word, what in done if word == Action.MOVE}
        if Action.MOVE not in actions or "" in moved:
            return flow.destinations if actions else None
        by_title = compiled(self.site).by_ae_title
        meant = [[each.name for each in by_title.get(title, ()) if each.address] for title in moved]
        if any(len(names) != 1 for names in meant):
            return flow.destinations
        return frozenset(name for names in meant for name in names)

    def _split(self, flow: Flow, groups: Mapping[_Rights, list[str]]) -> Iterator[Flow]:
        """One flow for each group; where all keep the same, the names in `from` stay as they are."""
        taken = {each.id for each in self.site.flows}
        for number, (rights, names) in enumerate(groups.items()):
            alone = len(groups) == 1 and len(names) == len(members(self.site, flow.sources))
            name = flow.id if not number else _free(f"{flow.id}-{names[0]}", taken)
            taken.add(name)
            yield replace(
                flow,
                id=name,
                sources=flow.sources if alone else tuple(names),
                may=rights.actions,
                sop_classes=rights.sop_classes,
                destinations=rights.destinations,
            )

    # ---- devices

    def devices(self, found: Sequence[Finding]) -> Iterator[Finding]:
        """Those of which every flow that concerns them would tell, and none does."""
        going = {each.name for each in found if each.part is Part.FLOW}
        for device in self.site.devices.values():
            if not device.enabled:
                continue
            concerned = [
                flow for flow in self.site.flows if flow.id not in going and device.name in self._concerned[flow.id]
            ]
            unheard = [flow.id for flow in concerned if not self._would_tell(flow)]
            if any(self._tells(flow, device) for flow in concerned):
                continue
            if self._stands(DEVICE, device.name) > self.evidence.from_ns:
                self.unknown.append(Unknown(Part.DEVICE, device.name, "it has not stood for so long as it stands now"))
            elif unheard:
                self.unknown.append(
                    Unknown(Part.DEVICE, device.name, f"nobody sees whether it uses {', '.join(unheard)}")
                )
            else:
                what = f"it did nothing by {', '.join(flow.id for flow in concerned)}" if concerned else "no flow that is used concerns it"  # fmt: skip
                yield Finding(Part.DEVICE, device.name, (what,), Disable(device.name))

    def _concerns(self, flow: Flow) -> Iterator[str]:
        """The devices that are named at one of its ends, or to which images could be moved by it."""
        yield from members(self.site, (*flow.sources, *flow.targets))
        if Action.MOVE in flow.may:
            ends = self.site.devices if flow.destinations is None else members(self.site, flow.destinations)
            yield from (name for name in ends if self.site.devices[name].address)

    def _tells(self, flow: Flow, device: Device) -> bool:
        """Of this device."""
        known = self.evidence
        rights = known.rights.get(flow.id, {})
        moved = any((Action.MOVE, title) in done for done in rights.values() for title in device.ae_titles)
        came = at_web(self.site, flow) and any(self._in([device.name], address) for address in known.addresses)
        return bool(rights.get(device.name)) or moved or came

    def _would_tell(self, flow: Flow) -> bool:
        """Of each device by itself: the kernel's counters do not, the doors do."""
        return (at_dimse(self.site, flow) or at_web(self.site, flow)) and not self._unseen(flow)


def _grouped(kept: Mapping[str, _Rights]) -> dict[_Rights, list[str]]:
    """Devices by what they keep, the largest group first; who keeps nothing is in none."""
    for joined in (False, True):
        groups: dict[_Rights, list[str]] = defaultdict(list)
        for name, rights in kept.items():
            if rights.actions:
                groups[_joined(kept, rights) if joined else rights].append(name)
        if len(groups) <= GROUPS_MAX:
            break
    return dict(sorted(groups.items(), key=lambda each: (-len(each[1]), each[1][0])))


def _joined(kept: Mapping[str, _Rights], rights: _Rights) -> _Rights:
    """With the SOP classes and destinations of all who do the same."""
    same = [each for each in kept.values() if each.actions == rights.actions]
    classes, ends = ([getattr(each, name) for each in same] for name in ("sop_classes", "destinations"))
    return _Rights(
        rights.actions,
        None if None in classes else frozenset().union(*classes),
        None if None in ends else frozenset().union(*ends),
    )


def _lost(name: str, whole: _Rights, kept: _Rights) -> Iterator[str]:
    if not kept.actions:
        yield f"{name} did nothing by it"
        return
    if unused := whole.actions - kept.actions:
        yield f"{name} did not {', '.join(sorted(unused))}"
    if kept.sop_classes != whole.sop_classes and kept.sop_classes is not None:
        yield f"{name} stored {', '.join(sorted(map(keyword_of_class, kept.sop_classes)))}, and nothing else"
    if kept.destinations != whole.destinations and kept.destinations is not None:
        yield f"{name} moved to {', '.join(sorted(kept.destinations))}, and nowhere else"


def _promised(site: Site, device: Device) -> Iterator[tuple[str, str]]:
    """What the file's own tests say that it may."""
    for test in site.tests:
        if test.who not in (device.name, device.zone):
            continue
        for expression in test.accept:
            target, _, wanted = expression.partition(":")
            word, _, about = wanted.partition(" ")
            if target in (ARCHIVE, "*"):
                for action in Action if word == "*" else [word]:
                    yield str(action), storage_class_of(about) or about


def _free(name: str, taken: Collection[str]) -> str:
    """An id that no flow has."""
    name = name[:60]
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(each for each in (name, *numbered) if each not in taken and not name_problem(each))


def _port(site: Site, flow: Flow) -> str:
    service = site.services[flow.service]
    ends = f"{', '.join(flow.sources)} to {', '.join(flow.targets)}"
    return f"nobody used {service.protocol}/{service.port} ({service.name}) from {ends}"


def _services(site: Site, found: Sequence[Finding]) -> Iterator[Finding]:
    """Whose last flow goes, or that no flow ever named."""
    going = {each.name for each in found if each.part is Part.FLOW}
    named = {flow.service for flow in site.flows if flow.id not in going}
    for service in site.services.values():
        if service.name not in named and service.name != DIMSE_SERVICE:
            what = f"no flow is left for {service.protocol}/{service.port}"
            yield Finding(Part.SERVICE, service.name, (what,), Drop(service.name))


def _proven(site: Site, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each as far as the site file's own promises still hold with it and with those before it: the same proof as `leadglass check`."""
    every = [each.edit for each in findings if each.edit is not None]
    if not _broken(site, every):
        return tuple(findings)
    taken: list[Edit] = []
    told: list[Finding] = []
    for finding in findings:
        broken = _broken(site, [*taken, finding.edit]) if finding.edit is not None else ""
        if broken:
            told.append(replace(finding, edit=None, kept=broken))
            continue
        taken += [finding.edit] if finding.edit is not None else []
        told.append(finding)
    return tuple(told)


def _broken(site: Site, edits: Sequence[Edit]) -> str:
    """The first promise that would not hold any more; "" where all do."""
    after = edited(site, edits)
    if missing := sorted({flow.service for flow in after.flows} - after.services.keys()):
        return f"flows still name {missing[0]}"
    return next((str(each) for each in prove(after)), "")
