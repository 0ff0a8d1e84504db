"""What would have allowed it: tried, wherever it is a flow, by adding just that and asking again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from leadglass.policy.decide import by_flows
from leadglass.policy.firewall.compile import ruleset
from leadglass.policy.firewall.lookup import Lookup
from leadglass.policy.refusals import Wanted, wanted
from leadglass.site.model import Flow, Origin, Site
from leadglass.terms import Action, Containment, Level, Offer, Peer, Permit, Proposal, Query, Role, Root, Subject
from leadglass.wire.uids import IMPLICIT_VR_LITTLE_ENDIAN, storage_class_of
from tests.policy.firewall.sites import written
from tests.policy.test_tighten import PLACE

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


@dataclass(frozen=True)
class Denied:
    who: str = ""
    source: str = ""
    target: str = ""
    action: str = ""
    what: str = ""
    why: str = "NotPermitted"
    times: int = 1
    last_ns: int = 5


@pytest.fixture
def site(tmp_path: Path) -> Site:
    text = PLACE.replace(
        'may = ["echo", "store", "commit"]', f'may = ["echo", "store", "commit"]\nsop_classes = ["{CT}"]'
    )
    return written(tmp_path, text)


def asked(site: Site, *denied: Denied, roles: Mapping[str, frozenset[Role]] | None = None) -> list[Wanted]:
    return list(wanted(site, denied, roles or {}))


def one(site: Site, denied: Denied, **more: Any) -> Wanted:
    (found,) = asked(site, denied, **more)
    return found


def with_flow(site: Site, keys: Mapping[str, Any]) -> Site:
    """As somebody would write it into the file."""
    classes = keys.get("sop_classes")
    flow = Flow(
        "added",
        tuple(keys["from"]),
        tuple(keys["to"]),
        keys["service"],
        "mtls",
        frozenset(map(Action, keys.get("may", ()))),
        "it is needed",
        Origin("leadglass.toml", 1),
        sop_classes=frozenset(str(storage_class_of(each)) for each in classes) if classes else None,
    )
    return replace(site, flows=(*site.flows, flow))


def subject(site: Site, name: str) -> Subject:
    device = site.devices[name]
    return Subject(device, Peer(str(device.networks[0].network_address), 0, "dimse"), Proposal(name, "LEADGLASS"), "")


def test_an_action_without_a_flow(site: Site) -> None:
    found = one(site, Denied("CT1", action="find"))
    assert found.would == "a flow from CT1 to archive that may find" and found.asked == ("CT1 find",)
    assert found.flow is not None
    query = Query(subject(site, "CT1"), Root.STUDY, Level.STUDY, {})
    assert isinstance(
        by_flows(with_flow(site, found.flow), Containment(), query.subject, query, somebody=False), Permit
    )


def test_a_class_that_is_missing_in_a_flow_and_one_that_no_flow_has(site: Site) -> None:
    assert one(site, Denied("CT1", action="store", what=MR)).would == "MRImageStorage in sop_classes of images"
    found = one(site, Denied("WS1", action="store", what=MR))
    assert found.would == "a flow from WS1 to archive that may store MRImageStorage" and found.flow is not None
    offer = Offer(subject(site, "WS1"), MR, "1.2.3", IMPLICIT_VR_LITTLE_ENDIAN)
    assert by_flows(with_flow(site, found.flow), Containment(), offer.subject, offer, somebody=False).rule == "added"
    assert one(site, Denied("CT1", action="store", what=CT)).would == "nothing any more: images gives it now"


def test_destinations(site: Site) -> None:
    unknown = one(site, Denied("WS1", action="move", what="NOWHERE", why="UnknownDestination"))
    assert unknown.would == "one device with the AE title 'NOWHERE' and an address"
    confined = replace(site, flows=tuple(replace(each, destinations=frozenset({"CT1"})) if each.id == "reads" else each for each in site.flows))  # fmt: skip
    assert one(confined, Denied("WS1", action="move", what="WS1")).would == "WS1 in destinations of reads"


def test_somebody_must_sit_there(site: Site) -> None:
    manned = replace(site, flows=tuple(replace(each, require_user_identity=True) for each in site.flows))
    assert one(manned, Denied("WS1", action="find")).would == "somebody who is proven to sit at WS1"


def test_strangers(site: Site) -> None:
    told = {
        ("10.1.0.77", "XA9"): "an enrolment of XA9 at 10.1.0.77 in rooms: leadglass device enroll",
        ("192.0.2.1", ""): "an enrolment of whoever calls at 192.0.2.1, which is in no zone: leadglass device enroll",
        ("10.1.0.77", "CT1"): "10.1.0.77 in network of CT1, if it is that one",
        ("10.1.0.1", "CT1"): "a certificate of CT1 that holds: leadglass device renew CT1",
    }
    for (address, title), would in told.items():
        assert one(site, Denied(source=address, what=title, why="NotIdentified")).would == would


def test_a_known_certificate_with_something_that_does_not_fit_it(site: Site) -> None:
    told = {
        ("10.1.0.2", "CT1"): "'CT1' among the AE titles of MR1, if it is that one",
        ("10.1.0.77", "MR1"): "10.1.0.77 in network of MR1, if it is that one",
        ("10.1.0.2", "MR1"): "a certificate of MR1, or a token of whoever sits there, that holds",
    }
    for (address, title), would in told.items():
        found = one(site, Denied("MR1", address, action="associate", what=title, why="NotIdentified"))
        assert found.would == would and found.flow is None


def test_packets(site: Site) -> None:
    found = one(site, Denied(source="desks", target="archive", action="packets", what="tcp/22", why="input"))
    assert found.would == "a flow from desks to archive by ssh with a why" and found.flow is not None
    addresses = [4, int.from_bytes(bytes([10, 2, 0, 9])), int.from_bytes(bytes([10, 9, 0, 1])), "tcp", 22]
    assert not Lookup(ruleset(site)).opens(*addresses)  # type: ignore[arg-type]
    assert Lookup(ruleset(with_flow(site, found.flow))).opens(*addresses)  # type: ignore[arg-type]
    told = {
        (
            "desks",
            "archive",
            "tcp/8080",
            "input",
        ): "a flow from desks to archive by tcp/8080, which is no service of the site file yet, with a why",
        ("192.0.2.7", "archive", "tcp/22", "input"): "a zone that 192.0.2.7 belongs to",
        ("wards", "CT1", "tcp/22", "forward"): "an approval of visit by a biomedical-engineer",
        ("desks", "archive", "tcp/443", "input"): "nothing any more: console gives it now",
        ("desks", "archive", "icmp", "input"): "nothing: no flow opens icmp",
        ("desks", "archive", "tcp/443", "spoofed"): "nothing: it came from an address that does not live there",
        ("CT1", "archive", "tcp/443", "contained"): "the end of the containment of one of both",
    }
    for (source, target, what, why), would in told.items():
        assert one(site, Denied(source=source, target=target, action="packets", what=what, why=why)).would == would


def test_people(site: Site) -> None:
    roles = {"person:one": frozenset({Role.RADIOLOGIST}), "person:two": frozenset({Role.AUDITOR})}
    reads = one(site, Denied("person:one", action="study-read"), roles=roles)
    assert reads.would.startswith("for study-read of radiologist: the relation ") and reads.flow is None
    grants = one(site, Denied("person:one", action="role-grant"), roles=roles)
    assert "the role security-officer" in grants.would
    assert one(site, Denied("person:one", action="study-find"), roles=roles).would.startswith("for study-find")
    assert one(site, Denied("person:three", action="study-read")).would == "an account that holds"
    assert (
        one(site, Denied("person:two", action="policy-read"), roles=roles).would
        == "nothing any more: the rules give it now"
    )


def test_they_are_grouped_and_the_most_often_come_first(site: Site) -> None:
    found = asked(
        site,
        Denied("CT1", action="find", times=2, last_ns=7),
        Denied("MR1", action="store", what=MR, times=3, last_ns=9),
        Denied("CT1", action="store", what=MR, times=4, last_ns=3),
    )
    assert [(each.would, each.times, each.last_ns) for each in found] == [
        ("MRImageStorage in sop_classes of images", 7, 9),
        ("a flow from CT1 to archive that may find", 2, 7),
    ]
    assert found[0].asked == ("CT1 store MRImageStorage", "MR1 store MRImageStorage")
