"""Every action against every grant: default deny, the rule in every permit, a reason an operator can act on in every refusal."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from leadglass.policy.decide import decide, kept_out
from leadglass.site.load import load
from leadglass.site.model import Site
from leadglass.terms import (
    EVERY_STUDY,
    Action,
    Commitment,
    Contained,
    Containment,
    Echo,
    Level,
    NotPermitted,
    Offer,
    Peer,
    Permit,
    Proposal,
    Query,
    Refused,
    Request,
    Retrieval,
    Role,
    Root,
    Subject,
    UnknownDestination,
    Unsupported,
    fingerprint_of,
)
from leadglass.wire import uids
from leadglass.wire.uids import EXPLICIT_VR_LITTLE_ENDIAN, storage_class_of
from tests.policy.callers import NOW, caller, person

CT, MR = (storage_class_of(f"{kind}ImageStorage") or "" for kind in ("CT", "MR"))
PIN = "sha256:" + "0" * 64

FILE = """
schema = 1
[site]
name = "lab"
[doors.dimse]
listen = "127.0.0.1:2762"
private_sop_classes = ["1.2.826.0.1"]
[zones.modalities]
networks = ["10.1.0.0/16"]
tags = ["phi"]
[zones.clinical]
networks = ["10.2.0.0/16"]
"""


def device(name: str, zone: str = "modalities", address: str = "", more: str = "") -> str:
    host = {"modalities": "10.1.0.1", "clinical": "10.2.0.1"}[zone]
    where = f'address = "{address}"\n' if address else ""
    return f'[devices.{name}]\nzone = "{zone}"\nnetwork = "{host}/32"\nae_titles = ["{name}"]\n{where}{more}\n'


def flow(name: str, source: str, may: str, more: str = "") -> str:
    words = ", ".join(f'"{word}"' for word in may.split(","))
    return f'[[flows]]\nid = "{name}"\nfrom = ["{source}"]\nto = ["archive"]\nservice = "dicom-tls"\nmay = [{words}]\nwhy = "a test"\n{more}\n'


def site(tmp_path: Path, *parts: str) -> Site:
    (tmp_path / "leadglass.toml").write_text(FILE + "\n".join(parts))
    return load(tmp_path)


def subject(place: Site, name: str, identity: int = 0) -> Subject:
    return Subject(
        place.devices[name],
        Peer("10.1.0.1", 1, "dimse"),
        Proposal(name, "LEADGLASS", user_identity_type=identity),
        "sha256:x",
    )


def request(who: Subject, action: Action, sop_class: str = CT, destination: str = "WS1") -> Request:
    match action:
        case Action.ECHO:
            return Echo(who)
        case Action.STORE:
            return Offer(who, sop_class, "1.2.3", EXPLICIT_VR_LITTLE_ENDIAN)
        case Action.FIND:
            return Query(who, Root.STUDY, Level.STUDY, {})
        case Action.GET:
            return Retrieval(who, Root.STUDY, Level.STUDY, {})
        case Action.MOVE:
            return Retrieval(who, Root.STUDY, Level.STUDY, {}, destination)
        case Action.COMMIT:
            return Commitment(who, "1.2.3", ())


def asked(
    place: Site, who: str, action: Action, containment: Containment | None = None, identity: int = 0, **words: str
) -> Permit:
    person = subject(place, who, identity)
    return decide(place, containment or Containment(), person, request(person, action, **words))


@pytest.mark.parametrize("granted", list(Action))
@pytest.mark.parametrize("action", list(Action))
def test_each_action_needs_its_own_word(tmp_path: Path, granted: Action, action: Action) -> None:
    place = site(tmp_path, device("CT1"), device("WS1", "clinical", "10.2.0.1:104"), flow("the-rule", "CT1", granted))
    if granted is action:
        permit = asked(place, "CT1", action)
        assert (permit.rule, permit.action) == ("the-rule", action)
    else:
        with pytest.raises(NotPermitted, match=f"--may {action}"):
            asked(place, "CT1", action)


def test_nobody_may_anything_by_default(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"))
    who = subject(place, "CT1")
    for action in Action:
        with pytest.raises(NotPermitted):
            decide(place, Containment(), who, request(who, action))
    with pytest.raises(NotPermitted, match="no flow leads from it"):
        decide(place, Containment(), who, who.proposal)


@pytest.mark.parametrize("source", ["CT1", "modalities", "#phi"])
def test_flows_name_devices_zones_and_tags(tmp_path: Path, source: str) -> None:
    place = site(tmp_path, device("CT1"), device("WS1", "clinical"), flow("f", source, "store"))
    assert asked(place, "CT1", Action.STORE).rule == "f"
    with pytest.raises(NotPermitted):
        asked(place, "WS1", Action.STORE)


def test_sop_classes_confine_what_is_stored_and_seen(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("ct-only", "CT1", "store,find", 'sop_classes = ["CTImageStorage"]'))
    assert asked(place, "CT1", Action.STORE).sop_classes == {CT}
    assert asked(place, "CT1", Action.FIND).sop_classes == {CT}
    with pytest.raises(NotPermitted, match="not MRImageStorage"):
        asked(place, "CT1", Action.STORE, sop_class=MR)


@pytest.mark.parametrize("action", [Action.FIND, Action.GET, Action.MOVE, Action.COMMIT])
def test_what_confined_grants_show_adds_up_and_each_that_adds_is_named(tmp_path: Path, action: Action) -> None:
    place = site(
        tmp_path,
        device("CT1"),
        device("WS1", "clinical", "10.2.0.1:104"),
        flow("mr", "CT1", action, 'sop_classes = ["MRImageStorage"]'),
        flow("both", "modalities", action, 'sop_classes = ["CTImageStorage", "RTPlanStorage"]'),
        flow("again", "CT1", action, 'sop_classes = ["CTImageStorage"]'),
        flow("elsewhere", "clinical", action),
    )
    permit = asked(place, "CT1", action)
    assert permit.sop_classes == {CT, MR, storage_class_of("RTPlanStorage")}
    assert permit.rule == "both+mr", "the third adds nothing"


def test_a_move_shows_only_what_may_go_there(tmp_path: Path) -> None:
    """Two flows to different destinations never lend each other their SOP classes."""
    place = site(
        tmp_path,
        device("CT1"),
        device("WS1", "clinical", "10.2.0.1:104"),
        device("WS2", "clinical", "10.2.0.1:105"),
        flow("one", "CT1", "move", 'sop_classes = ["CTImageStorage"]\ndestinations = ["WS1"]'),
        flow("two", "CT1", "move", 'sop_classes = ["MRImageStorage"]\ndestinations = ["WS2"]'),
    )
    one, two = (asked(place, "CT1", Action.MOVE, destination=title) for title in ("WS1", "WS2"))
    assert (one.rule, one.sop_classes, two.rule, two.sop_classes) == ("one", {CT}, "two", {MR})


def test_no_classes_and_no_destinations_are_none_not_all(tmp_path: Path) -> None:
    place = site(
        tmp_path, device("CT1"), device("WS1", "clinical", "10.2.0.1:104"),
        flow("f", "CT1", "store,find,move", "sop_classes = []\ndestinations = []"),
    )  # fmt: skip
    assert asked(place, "CT1", Action.FIND).sop_classes == frozenset()
    with pytest.raises(NotPermitted):
        asked(place, "CT1", Action.STORE)
    with pytest.raises(UnknownDestination):
        asked(place, "CT1", Action.MOVE)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ('auth = "mtls+mfa"', "can prove more than its certificate"),
        ('auth = "mfa"', "can prove more than its certificate"),
        ('on_demand = { approve = "radiologist", max = "4h", record = true }', "on demand of a radiologist"),
    ],
)
def test_what_an_association_cannot_prove_opens_nothing(tmp_path: Path, more: str, why: str) -> None:
    """A user identity that nobody verifies is no second factor, whatever its type."""
    place = site(tmp_path, device("CT1"), flow("strict", "CT1", "find", more))
    who = subject(place, "CT1", identity=2)
    for question in (request(who, Action.FIND), who.proposal):
        with pytest.raises(NotPermitted, match=why) as caught:
            decide(place, Containment(), who, question)
        assert caught.value.rule == "strict"


def test_a_flow_for_another_service_opens_nothing_here(tmp_path: Path) -> None:
    services = '[services]\nhttps = "tcp/443"\ndimse = "tcp/2762"\n'
    place = site(tmp_path, services, device("CT1"), flow("web", "CT1", "find").replace("dicom-tls", "https"))
    with pytest.raises(NotPermitted, match="is for https"):
        asked(place, "CT1", Action.FIND)
    place = site(tmp_path, services, device("CT1"), flow("other-name", "CT1", "find").replace("dicom-tls", "dimse"))
    assert asked(place, "CT1", Action.FIND).rule == "other-name"


def test_reserved_words_open_nothing(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("f", "CT1", "worklist,mpps"))
    assert place.flows[0].reserved == {"worklist", "mpps"}
    who = subject(place, "CT1")
    for question in (who.proposal, *(request(who, action) for action in Action)):
        with pytest.raises(NotPermitted):
            decide(place, Containment(), who, question)


def test_an_association_outlives_neither_its_device_nor_its_pins(tmp_path: Path) -> None:
    pin = "spki-sha256:" + "0" * 64
    old = site(tmp_path, device("CT1", more=f'certificate = "{pin}"'), flow("f", "modalities", "store"))
    who = subject(old, "CT1")
    offer = request(who, Action.STORE)
    assert decide(old, Containment(), who, offer)
    with pytest.raises(Contained, match="every pin"):
        decide(old, Containment(revoked={pin: "stolen"}), who, offer)
    with pytest.raises(Contained, match="enabled = true"):
        decide(
            site(tmp_path, device("CT1", more="enabled = false"), flow("f", "modalities", "store")),
            Containment(),
            who,
            offer,
        )
    with pytest.raises(NotPermitted, match="no device of this site any more"):
        decide(site(tmp_path, flow("f", "modalities", "store")), Containment(), who, offer)


def test_grants_add_up(tmp_path: Path) -> None:
    place = site(
        tmp_path,
        device("CT1"),
        flow("ct", "CT1", "store,find", 'sop_classes = ["CTImageStorage"]'),
        flow("mr", "CT1", "store,find"),
    )
    assert asked(place, "CT1", Action.STORE, sop_class=MR).rule == "mr"
    assert asked(place, "CT1", Action.FIND).sop_classes is None


def test_only_storage_classes_are_stored_and_private_ones_by_setting(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("f", "CT1", "store"))
    assert asked(place, "CT1", Action.STORE, sop_class="1.2.826.0.1").rule == "f"
    with pytest.raises(Unsupported, match="private_sop_classes"):
        asked(place, "CT1", Action.STORE, sop_class="1.2.826.0.2")


@pytest.mark.parametrize(
    ("target", "more", "why"),
    [
        ("NOBODY", "", "no enrolled device"),
        ("SILENT", "", "no address"),
        ("OFF", "", "disabled"),
        ("LOST", "", "revoked"),
        ("WS1", 'destinations = ["SILENT"]', "does not name WS1"),
    ],
)
def test_where_a_move_may_not_go(tmp_path: Path, target: str, more: str, why: str) -> None:
    place = site(
        tmp_path, device("CT1"), device("WS1", "clinical", "10.2.0.1:104"), device("SILENT", "clinical"),
        device("OFF", "clinical", "10.2.0.1:105", "enabled = false"), flow("f", "CT1", "move", more),
        device("LOST", "clinical", "10.2.0.1:106", f'certificate = "{PIN}"'),
    )  # fmt: skip
    with pytest.raises(UnknownDestination, match=why):
        asked(place, "CT1", Action.MOVE, Containment(revoked={PIN: "stolen"}), destination=target)
    if target == "WS1":
        return
    with pytest.raises(UnknownDestination):
        asked(place, "CT1", Action.MOVE, Containment(revoked={PIN: "x"}, disabled={"WS1": "odd"}), destination="WS1")


def test_a_move_goes_where_it_may(tmp_path: Path) -> None:
    place = site(
        tmp_path,
        device("CT1"),
        device("WS1", "clinical", "10.2.0.1:104"),
        flow("f", "CT1", "move", 'destinations = ["clinical"]'),
    )
    assert asked(place, "CT1", Action.MOVE).destination is place.devices["WS1"]


def test_user_identity_where_a_flow_requires_it(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("f", "CT1", "find", "require_user_identity = true"))
    for identity in range(6):
        with pytest.raises(NotPermitted, match="proven to sit") as caught:
            asked(place, "CT1", Action.FIND, identity=identity)
        assert ("is said, not proven" in caught.value.reason) is (identity > 0) and caught.value.rule == "f"
        with pytest.raises(NotPermitted, match="proven to sit"):
            decide(place, Containment(), who := subject(place, "CT1", identity), who.proposal)
    sits = replace(subject(place, "CT1"), caller=caller(person(Role.RADIOLOGIST, departments=["CARDIOLOGY"])))
    permit = decide(place, Containment(), sits, request(sits, Action.FIND), now_ns=NOW)
    assert permit.rule.split("+") == ["f", "cedar:radiologist-sees"] and permit.studies != EVERY_STUDY
    assert decide(place, Containment(), sits, sits.proposal, now_ns=NOW).rule == "f"
    gone = replace(sits, caller=replace(sits.caller, until_ns=NOW))  # type: ignore[type-var]
    with pytest.raises(NotPermitted, match="their time is over"):
        decide(place, Containment(), gone, request(gone, Action.FIND), now_ns=NOW)


def test_containment_comes_first_and_read_only_still_takes_new_images(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("f", "CT1", "store,find"))
    for state in (Containment(revoked={"sha256:x": "stolen"}), Containment(disabled={"CT1": "odd"})):
        with pytest.raises(Contained):
            asked(place, "CT1", Action.STORE, state)
    calm = Containment(read_only="ransomware", generation=7)
    assert asked(place, "CT1", Action.STORE, calm).generation == 7
    assert asked(place, "CT1", Action.FIND, calm)


def test_nobody_calls_from_a_contained_zone_or_device(tmp_path: Path) -> None:
    der = b"a certificate"
    shown = fingerprint_of(Peer("", 0, "web", der))
    pinned = site(tmp_path, device("CT1"), device("WS1", "clinical", more=f'certificate = "{shown}"'))

    def kept(state: Containment, address: str, certificate: bytes | None = None, here: Site = pinned) -> str:
        return kept_out(here, state, Peer(address, 40_000, "web", certificate))

    zone, ws = Containment(zones={"clinical": "a worm"}), Containment(disabled={"WS1": "odd", "GONE": "x"})
    assert (
        "a worm" in kept(zone, "10.2.0.77") and kept(zone, "10.1.0.1") == "" and kept(Containment(), "10.2.0.1") == ""
    )
    assert "WS1" in kept(ws, "10.2.0.1"), "its own address"
    assert "WS1" in kept(ws, "10.2.0.99", der), "its certificate, wherever it is"
    assert kept(ws, "10.2.0.99") == "" == kept(ws, "not an address")
    revoked = Containment(revoked={shown: "stolen"})
    assert "stolen" in kept(revoked, "10.1.0.9", der)
    wide = replace(pinned, devices={"WS1": replace(pinned.devices["WS1"], networks=(ip_network("10.2.0.0/24"),))})
    assert kept(ws, "10.2.0.1", here=wide) == "", "that network is not its alone"
    assert kept(ws, "10.2.0.1", here=replace(pinned, loopback=True)) == "", "where all devices may share an address"


def test_on_demand_flows_are_closed_until_somebody_opens_them(tmp_path: Path) -> None:
    place = site(
        tmp_path,
        device("CT1"),
        flow("f", "CT1", "find", 'on_demand = { approve = "biomedical-engineer", max = "4h", record = true }'),
    )
    with pytest.raises(NotPermitted):
        asked(place, "CT1", Action.FIND)


def test_every_refusal_says_something(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("f", "CT1", "echo"))
    for action in Action:
        if action is not Action.ECHO:
            with pytest.raises(Refused) as caught:
                asked(place, "CT1", action)
            assert len(caught.value.reason) > 20 and caught.value.subject is not None


def test_a_subject_of_another_site_has_no_grants(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("f", "CT1", "echo"))
    stranger = replace(subject(place, "CT1"), device=replace(place.devices["CT1"], name="CT9"))
    with pytest.raises(NotPermitted):
        decide(place, Containment(), stranger, Echo(stranger))


def test_where_it_cannot_be_read_who_is_contained_only_what_stores_is_let_in(tmp_path: Path) -> None:
    place = site(tmp_path, device("CT1"), flow("stores", "CT1", "store,find,commit"))
    who = subject(place, "CT1")

    def proposing(*keywords: str) -> Proposal:
        return replace(who.proposal, abstract_syntaxes=tuple(str(getattr(uids, each, each)) for each in keywords))

    known = Containment(revoked={PIN: "stolen"})
    for proposal in (proposing(CT), proposing(CT, "VERIFICATION", "STORAGE_COMMITMENT_PUSH"), proposing("1.2.826.0.1")):
        assert decide(place, Containment(), who, proposal, unreadable=True).rule == "stores"
    for wanted in ("STUDY_ROOT_FIND", "PATIENT_ROOT_GET", "STUDY_ROOT_MOVE"):
        assert decide(place, Containment(), who, proposing(CT, wanted)).rule == "stores"
        with pytest.raises(Contained, match="only what stores is let in"):
            decide(place, Containment(), who, proposing(CT, wanted), unreadable=True)
    with pytest.raises(Contained, match="stolen"):
        decide(place, known, replace(who, fingerprint=PIN), proposing(CT), unreadable=True)
    assert decide(place, Containment(), who, request(who, Action.FIND), unreadable=True).rule == "stores", (
        "care goes on"
    )
