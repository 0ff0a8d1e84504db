"""Who sits at a workstation: by a lease, or by a token in the association; with real clients over real sockets."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from leadglass.lab.corpus import Image
from leadglass.lab.peers import associated, storing
from leadglass.terms import ChangeKind, Event, EventKind, NotChanged, Role
from tests.running import RunningSite, running, until
from tests.staff import Staff, staff
from tests.synthetic import image

pytestmark = pytest.mark.xdist_group("people_dimse")  # one site for all of it
DESKS = itertools.count(1)
CUT_SECONDS = 1.0
FLOW = """
[[flows]]
id = "people"
from = ["DESK1", "DESK2"]
to = ["archive"]
service = "dicom-tls"
auth = "mtls"
may = ["find", "get"]
require_user_identity = true
why = "a person asks"
"""
FIND = StudyRootQueryRetrieveInformationModelFind


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    with running(tmp_path_factory.mktemp("seats")) as site:
        site.enroll("CT1", "echo,store")
        for name in ("DESK1", "DESK2"):
            site.enroll(name, "")
        file = site.directory / "leadglass.toml"
        file.write_text(file.read_text() + FLOW)
        site.command("apply")
        site.up()
        yield site
        print(site.log())


@pytest.fixture(scope="module")
def people(site: RunningSite) -> Iterator[Staff]:
    with staff(site) as people:
        people.hire("reader", Role.RADIOLOGIST)
        people.hire("other", Role.RADIOLOGIST)
        yield people


@pytest.fixture(scope="module")
def seen(people: Staff) -> Image:
    """A study of a patient whom the reader treats; there is another's besides."""
    own, others = (image(random.Random(seed), patient=f"SEAT-{seed}") for seed in (1, 2))
    with associated(people.at("CT1"), people.archive, storing([own, others])) as session:
        assert [session.store(each).status for each in (own, others)] == [0, 0]
    people.relate("reader", "care-team", "SEAT-1")
    return own


@contextmanager
def client(
    site: RunningSite, device: str, kind: int = 0, said: bytes = b"", wants: bool = True
) -> Iterator[Association]:
    """pynetdicom's, with a user identity that asks to be answered."""
    ae = AE(device)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context(FIND)
    identity = UserIdentityNegotiation()
    if kind:
        identity.user_identity_type, identity.primary_field, identity.positive_response_requested = kind, said, wants
        if kind == 2:
            identity.secondary_field = b"passcode"
    association = ae.associate(
        "127.0.0.1",
        site.port,
        ae_title="LEADGLASS",
        bind_address=(f"127.66.0.{next(DESKS)}", 0),  # its own: refusals of one address are counted, not told
        tls_args=(site.bundles[device].client_context(), "localhost"),
        ext_neg=[identity] if kind else [],
    )
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        ae.shutdown()
        left = association.dul.socket
        if left is not None and left.socket is not None:
            left.socket.close()  # pynetdicom leaves it open where the peer ended the connection


def patients(association: Association) -> set[str]:
    query = Dataset()
    query.QueryRetrieveLevel, query.PatientID, query.StudyInstanceUID = "STUDY", "", ""
    *rows, (status, _) = association.send_c_find(query, FIND)
    assert status.Status == 0
    return {row.PatientID for _, row in rows}


@contextmanager
def refused(people: Staff) -> Iterator[list[Event]]:
    """What the block's association was refused for, once it is written."""
    before, told = len(people.events(EventKind.ASSOCIATION_REFUSED)), list[Event]()
    yield told
    assert until(lambda: len(people.events(EventKind.ASSOCIATION_REFUSED)) > before, 5)
    told.append(people.events(EventKind.ASSOCIATION_REFUSED)[-1])


def token(people: Staff, name: str, device: str = "DESK1", **arguments: str) -> bytes:
    return str(people.do(name, ChangeKind.TOKEN_MINT, device, **arguments)["token"]).encode()


@pytest.mark.parametrize(
    ("kind", "said"),
    [(0, b""), (1, b"anna"), (2, b"anna"), (3, b"ticket"), (4, b"<saml/>"), (5, b"a.b.c"), (5, b"\xff")],
)
def test_where_somebody_is_demanded_what_is_only_said_counts_for_nothing(
    site: RunningSite, people: Staff, kind: int, said: bytes
) -> None:
    with refused(people) as told, client(site, "DESK1", kind, said) as association:
        assert not association.is_established
    (event,) = told
    assert ("token" in event.reason) if kind == 5 else ("proven to sit" in event.reason)
    assert event.details.get("claimed_user", "") == ("anna" if kind in (1, 2) else "")
    assert "passcode" not in str(event) and "a.b.c" not in str(event)


def test_a_token_says_who_sits_there_and_is_answered(site: RunningSite, people: Staff, seen: Image) -> None:
    minted = token(people, "reader")
    for wants in (True, False):
        with client(site, "DESK1", 5, minted, wants) as association:
            assert association.is_established
            answered = association.acceptor.user_identity
            assert (answered is not None) is wants and (not wants or not answered.server_response)
            assert patients(association) == {"SEAT-1"}
    assert until(lambda: len(people.events(EventKind.RELEASE_ENDED, "DESK1")) >= 2, 5)
    admitted, found = (
        people.events(kind, "DESK1")[-1] for kind in (EventKind.ASSOCIATION_ADMITTED, EventKind.RELEASE_ENDED)
    )
    assert admitted.rule == "people" and admitted.details["person"] == "person:reader"
    assert found.details["person"] == "person:reader" and found.rule == "people+cedar:radiologist-sees"
    assert minted.decode() not in str(site.events()) and minted.decode() not in site.log()


def test_a_token_is_worth_nothing_elsewhere_or_changed(site: RunningSite, people: Staff, seen: Image) -> None:
    minted = token(people, "reader")
    head, middle, signature = minted.split(b".")
    forged = b".".join((head, middle, signature[::-1]))
    for device, said, reason in [
        ("DESK2", minted, "another certificate"),
        ("DESK1", forged, "not ours"),
        ("DESK1", minted + b"A" * 5000, "longer than"),
        ("DESK1", b"", "not ours"),
    ]:
        with refused(people) as told, client(site, device, 5, said) as association:
            assert not association.is_established
        assert reason in told[0].reason
    with pytest.raises(NotChanged, match="1 that serve"):
        token(people, "reader", certificate="sha256:" + "0" * 64)


def test_a_token_ends_with_its_session(site: RunningSite, people: Staff, seen: Image) -> None:
    minted = token(people, "reader")
    try:
        with client(site, "DESK1", 5, minted) as association:
            assert patients(association) == {"SEAT-1"}
            people.order("reader", ChangeKind.SESSION_END, session="all", why="went home")
            assert until(lambda: not association.is_established, CUT_SECONDS), "an association that rests is cut too"
        with refused(people) as told, client(site, "DESK1", 5, minted) as association:
            assert not association.is_established
        assert "ended by operator: went home" in told[0].reason
    finally:
        people.sign_in("reader")


def test_a_lease_says_who_sits_there(site: RunningSite, people: Staff, seen: Image) -> None:
    with client(site, "DESK2") as association:
        assert not association.is_established
    people.sit("reader", "DESK2")
    with client(site, "DESK2") as association:
        assert patients(association) == {"SEAT-1"}
        with client(site, "DESK2", 1, b"anna") as claims:
            assert patients(claims) == {"SEAT-1"}, "a name that is only said neither helps nor hinders"
        people.sit("other", "DESK2")
        assert until(lambda: not association.is_established, CUT_SECONDS)
    with client(site, "DESK2") as association:
        assert patients(association) == set()
    minted = token(people, "reader", "DESK2")
    with refused(people) as told, client(site, "DESK2", 5, minted) as association:
        assert not association.is_established
    assert "other sits at DESK2, and the token is reader's" in told[0].reason
    people.leave("other", "DESK2")
    with client(site, "DESK2") as association:
        assert not association.is_established


def test_what_a_technologist_may_is_less(site: RunningSite, people: Staff, seen: Image) -> None:
    people.hire("maker", Role.TECHNOLOGIST)
    people.relate("maker", "care-team", "SEAT-1")
    with client(site, "DESK1", 5, token(people, "maker")) as association:
        assert patients(association) == set()
