"""The seven checks that turn a connection into a device, each broken on its own."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from leadglass.identity.authority import Authority, KeyKind, new_key
from leadglass.identity.certificates import Enrolled, fingerprint, identify, pins_of, presents
from leadglass.identity.enrolment import enroll
from leadglass.terms import Contained, Containment, Device, NotIdentified, Peer, Proposal, Refused

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
AUTHORITY = Authority.create("test device CA", NOW - dt.timedelta(days=1))
ISSUED, _ = enroll(AUTHORITY, "CT1", KeyKind.EC, NOW)
OTHER, _ = enroll(AUTHORITY, "CT2", KeyKind.EC, NOW)
CT1 = Device("CT1", "modalities", (ip_network("127.0.0.0/24"),), ("CT1", "CT1B"), (ISSUED.fingerprint,))
CT2 = Device("CT2", "modalities", (ip_network("127.0.0.0/24"),), ("CT2",), (OTHER.fingerprint,))
PEER = Peer("127.0.0.7", 40000, "dimse", ISSUED.der)
PROPOSAL = Proposal("CT1", "LEADGLASS")


def enrolled(**changes: object) -> Enrolled:
    base = Enrolled({"CT1": CT1, "CT2": CT2}, "LEADGLASS", Containment(), {})
    return replace(base, **changes)  # type: ignore[arg-type]


def refusal(peer: Peer = PEER, proposal: Proposal = PROPOSAL, now: dt.datetime = NOW, **changes: object) -> Refused:
    with pytest.raises(Refused) as caught:
        identify(enrolled(**changes), peer, proposal, now)
    return caught.value


def test_all_agree() -> None:
    subject = identify(enrolled(), PEER, PROPOSAL, NOW)
    assert (subject.device, subject.fingerprint, subject.waiver) == (CT1, ISSUED.fingerprint, "")


def test_a_second_ae_title_of_the_device_is_welcome() -> None:
    assert identify(enrolled(), PEER, replace(PROPOSAL, calling_ae_title="CT1B"), NOW).device is CT1


def test_no_certificate() -> None:
    assert "no certificate" in refusal(replace(PEER, certificate=None)).reason


def test_a_certificate_that_nobody_pins() -> None:
    stranger, _ = enroll(AUTHORITY, "CT9", KeyKind.EC, NOW)
    why = refusal(replace(PEER, certificate=stranger.der))
    assert isinstance(why, NotIdentified) and "no enrolled device" in why.reason and why.subject is None


def test_a_certificate_that_two_devices_pin() -> None:
    twin = replace(CT2, certificates=(ISSUED.fingerprint,))
    assert "several devices" in refusal(devices={"CT1": CT1, "CT2": twin}).reason


@pytest.mark.parametrize("title", ["CT2", "ct1", "CT1 X", "", "CT1\0"])
def test_a_stolen_or_varied_calling_ae_title(title: str) -> None:
    why = refusal(proposal=replace(PROPOSAL, calling_ae_title=title))
    assert isinstance(why, NotIdentified) and why.subject is not None and why.subject.device is CT1


def test_another_called_ae_title() -> None:
    assert "this door is 'LEADGLASS'" in refusal(proposal=replace(PROPOSAL, called_ae_title="ANY-SCP")).reason


@pytest.mark.parametrize("address", ["127.0.1.7", "10.0.0.1", "::1"])
def test_another_network(address: str) -> None:
    assert address in refusal(replace(PEER, address=address)).reason


@pytest.mark.parametrize("field", ["revoked", "superseded"])
def test_a_contained_certificate(field: str) -> None:
    why = refusal(containment=replace(Containment(), **{field: {ISSUED.fingerprint: "stolen"}}))
    assert isinstance(why, Contained)


def test_a_disabled_device() -> None:
    assert isinstance(refusal(containment=Containment(disabled={"CT1": "maintenance"})), Contained)
    assert isinstance(refusal(devices={"CT1": replace(CT1, enabled=False)}), Contained)


def test_time_is_checked_here_because_openssl_was_told_not_to() -> None:
    after = ISSUED.certificate.not_valid_after_utc + dt.timedelta(seconds=1)
    before = ISSUED.certificate.not_valid_before_utc - dt.timedelta(seconds=1)
    assert "device renew CT1" in refusal(now=after).reason
    assert "not valid before" in refusal(now=before).reason


def test_a_waiver_covers_an_expired_certificate_for_its_time_only() -> None:
    after = ISSUED.certificate.not_valid_after_utc + dt.timedelta(hours=1)
    waivers = {ISSUED.fingerprint: ("w1", after + dt.timedelta(hours=2))}
    assert identify(enrolled(waivers=waivers), PEER, PROPOSAL, after).waiver == "w1"
    assert "expired" in refusal(now=after + dt.timedelta(hours=3), waivers=waivers).reason


def test_a_key_pin_survives_a_certificate_of_the_same_key() -> None:
    key = new_key(KeyKind.RSA)
    first, second = (AUTHORITY.issue(key.public_key(), "CT1", ["ct1"], NOW, days) for days in (10, 20))
    der = [each.public_bytes(Encoding.DER) for each in (first, second)]
    spki = next(pin for pin in pins_of(der[0]) if pin.startswith("spki-"))
    pinned = replace(CT1, certificates=(spki,))
    for each in der:
        assert (
            identify(enrolled(devices={"CT1": pinned}), replace(PEER, certificate=each), PROPOSAL, NOW).device is pinned
        )


def test_a_revoked_key_stays_revoked_under_another_certificate() -> None:
    key = new_key(KeyKind.EC)
    der = AUTHORITY.issue(key.public_key(), "CT1", ["ct1"], NOW, 20).public_bytes(Encoding.DER)
    spki = next(pin for pin in pins_of(der) if pin.startswith("spki-"))
    pinned, state = replace(CT1, certificates=(spki,)), Containment(revoked={spki: "stolen"})
    peer = replace(PEER, certificate=der)
    assert isinstance(refusal(peer, devices={"CT1": pinned}, containment=state), Contained)
    assert not presents(pinned, der, state)


def test_as_a_client_we_accept_that_device_only() -> None:
    assert presents(CT1, ISSUED.der, Containment())
    assert not presents(CT1, OTHER.der, Containment())
    assert not presents(CT1, None, Containment())
    assert not presents(CT1, ISSUED.der, Containment(revoked={fingerprint(ISSUED.der): "stolen"}))


def test_leaves_serve_both_roles_and_the_serving_authority_is_confined() -> None:
    usage = ISSUED.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH} == set(usage)
    serving = Authority.create("serving", NOW, names=["pacs.example", "127.0.0.0/8"]).certificate
    names = serving.extensions.get_extension_for_class(x509.NameConstraints)
    assert names.critical and len(names.value.permitted_subtrees or ()) == 2
