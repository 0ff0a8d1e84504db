"""PDUs: what is read, written and read again is equal; pynetdicom reads the same; what does not fit is refused in the right words."""

from __future__ import annotations

import random
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import pdu as oracle

from leadglass.wire.errors import LocalProtocolError, RemoteProtocolError
from leadglass.wire.items import write_item
from leadglass.wire.limits import AssociationLimits
from leadglass.wire.pdu import (
    Abort,
    AssociateAC,
    AssociateRJ,
    AssociateRQ,
    ContextResult,
    PData,
    Pdu,
    PduType,
    PresentationContext,
    PresentationContextResult,
    PresentationDataValue,
    ReleaseRP,
    ReleaseRQ,
    decode,
    encode,
)
from leadglass.wire.user_information import (
    AsynchronousWindow,
    CommonExtendedNegotiation,
    ExtendedNegotiation,
    RoleSelection,
    UserIdentity,
    UserInformation,
    write_user_information,
)

LIMITS = AssociationLimits()
CT, IMPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2"

uids = st.from_regex(r"[12](\.(0|[1-9][0-9]{0,6})){1,7}", fullmatch=True)
ae_titles = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"), min_size=1, max_size=16
).filter(lambda title: title == title.strip(" "))
names = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"), max_size=16).map(
    lambda name: name.strip(" ")
)
uint16 = st.integers(0, 0xFFFF)
user_information = st.builds(
    UserInformation,
    maximum_length=st.none() | st.integers(0, 0xFFFFFFFF),
    implementation_class_uid=st.just("") | uids,
    implementation_version_name=names,
    asynchronous_window=st.none() | st.builds(AsynchronousWindow, uint16, uint16),
    role_selections=st.lists(
        st.builds(RoleSelection, uids, st.booleans(), st.booleans()),
        max_size=3,
        unique_by=lambda role: role.sop_class_uid,
    ).map(tuple),
    extended_negotiations=st.lists(st.builds(ExtendedNegotiation, uids, st.binary(max_size=9)), max_size=3).map(tuple),
    common_extended_negotiations=st.lists(
        st.builds(CommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    user_identity=st.none()
    | st.builds(UserIdentity, st.integers(0, 255), st.booleans(), st.binary(max_size=20), st.binary(max_size=20)),
    user_identity_response=st.none() | st.binary(max_size=20),
)
odd_ids = st.integers(0, 127).map(lambda number: 2 * number + 1)
contexts = st.lists(
    st.builds(PresentationContext, odd_ids, uids, st.lists(uids, min_size=1, max_size=3).map(tuple)),
    min_size=1,
    max_size=4,
    unique_by=lambda context: context.id,
).map(tuple)
results = st.lists(
    st.builds(PresentationContextResult, odd_ids, st.just(ContextResult.ACCEPTANCE), uids)
    | st.builds(PresentationContextResult, odd_ids, st.sampled_from(list(ContextResult)[1:])),
    max_size=4,
    unique_by=lambda result: result.id,
).map(tuple)
byte = st.integers(0, 255)
values = st.builds(PresentationDataValue, byte, st.booleans(), st.booleans(), st.binary(max_size=30))
pdus: st.SearchStrategy[Pdu] = (
    st.builds(AssociateRQ, ae_titles, ae_titles, contexts, user_information, protocol_version=st.just(1) | st.just(3))
    | st.builds(AssociateAC, ae_titles | st.just(""), ae_titles, results, user_information)
    | st.builds(AssociateRJ, byte, byte, byte)
    | st.builds(PData, st.lists(values, min_size=1, max_size=4).map(tuple))
    | st.builds(ReleaseRQ)
    | st.builds(ReleaseRP)
    | st.builds(Abort, byte, byte)
)


def read(data: bytes, limits: AssociationLimits = LIMITS) -> Pdu:
    assert int.from_bytes(data[2:6], "big") == len(data) - 6
    return decode(PduType(data[0]), data[6:], limits)


def request(**changes: object) -> AssociateRQ:
    fields: dict[str, object] = {
        "called_ae_title": "ARCHIVE",
        "calling_ae_title": "CT 1",
        "presentation_contexts": (PresentationContext(1, CT, (IMPLICIT,)),),
        "user_information": UserInformation(16384, "1.2.3", "CT_1"),
    }
    return AssociateRQ(**(fields | changes))  # type: ignore[arg-type]


def refusal(data: bytes, limits: AssociationLimits = LIMITS) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        read(data, limits)
    assert (caught.value.abort is None) is not (caught.value.reject is None)
    return caught.value


@given(pdus)
def test_what_was_written_reads_the_same(pdu: Pdu) -> None:
    written = encode(pdu)
    assert read(written) == pdu
    assert encode(read(written)) == written


def test_reserved_bytes_are_not_tested() -> None:
    data = bytearray(encode(request()))
    data[1] = 7
    data[8:10] = b"\xff\xff"
    data[42:74] = b"\xee" * 32
    assert read(bytes(data)) == request()


def test_unknown_items_are_skipped() -> None:
    data = encode(request())
    assert decode(PduType.ASSOCIATE_RQ, data[6:] + write_item(0x77, b"junk"), LIMITS) == request()


def test_spaces_around_ae_titles_mean_nothing_and_case_does() -> None:
    data = encode(request()).replace(b"ARCHIVE         ", b"  archive       ")
    pdu = read(data)
    assert isinstance(pdu, AssociateRQ)
    assert (pdu.called_ae_title, pdu.calling_ae_title) == ("archive", "CT 1")


@pytest.mark.parametrize("title", [b"A\\B", b"A\0", b"../A\n", b"\xc3\x84", b"   "])
@pytest.mark.parametrize(("field", "reason"), [(slice(10, 26), 7), (slice(26, 42), 3)])
def test_what_is_no_ae_title_is_rejected_by_name(title: bytes, field: slice, reason: int) -> None:
    data = bytearray(encode(request()))
    data[field] = title.ljust(16)
    error = refusal(bytes(data))
    assert error.reject is not None
    assert (error.reject.result, error.reject.source, error.reject.reason) == (1, 1, reason)


def test_uids_lose_their_padding_and_nothing_else() -> None:
    data = encode(request()).replace(
        pack(">BxH", 0x40, 17) + b"1.2.840.10008.1.2", pack(">BxH", 0x40, 17) + b"1.2.840.1000.1.2\0"
    )
    pdu = read(data)
    assert isinstance(pdu, AssociateRQ)
    assert pdu.presentation_contexts[0].transfer_syntaxes == ("1.2.840.1000.1.2",)


@pytest.mark.parametrize(
    ("changes", "triple"),
    [
        ({"protocol_version": 2}, (1, 2, 2)),
        ({"application_context_name": "1.2.3"}, (1, 1, 2)),
        ({"presentation_contexts": ()}, (1, 2, 1)),
        ({"presentation_contexts": tuple(PresentationContext(i, CT, (IMPLICIT,)) for i in (1, 3, 1))}, (1, 2, 1)),
        ({"presentation_contexts": (PresentationContext(2, CT, (IMPLICIT,)),)}, (1, 2, 1)),
        ({"presentation_contexts": tuple(PresentationContext(i, CT, (IMPLICIT,)) for i in range(129))}, (1, 2, 1)),
        ({"presentation_contexts": (PresentationContext(1, CT, (IMPLICIT,) * 65),)}, (1, 2, 1)),
        ({"user_information": UserInformation(0, user_identity=UserIdentity(3, True, bytes(40_000)))}, (1, 2, 1)),
    ],
)
def test_a_request_that_reads_well_and_cannot_be_granted(
    changes: dict[str, object], triple: tuple[int, int, int]
) -> None:
    error = refusal(encode(request(**changes)))
    assert error.reject is not None
    assert (error.reject.result, error.reject.source, error.reject.reason) == triple


def test_as_many_contexts_as_there_are_identifiers() -> None:
    full = request(presentation_contexts=tuple(PresentationContext(i, CT, (IMPLICIT,)) for i in range(1, 256, 2)))
    assert read(encode(full)) == full


def associate(kind: PduType, *items: bytes) -> bytes:
    body = pack(">H2x16s16s32x", 1, b"A".ljust(16), b"B".ljust(16)) + b"".join(items)
    return pack(">BxL", kind, len(body)) + body


NAME = write_item(0x10, b"1.2.840.10008.3.1.1.1")
INFORMATION = write_item(0x50, write_user_information(UserInformation(0)))
ABSTRACT, TRANSFER = write_item(0x30, b"1.2"), write_item(0x40, b"1.2")
CONTEXT = write_item(0x20, bytes((1, 0, 0, 0)) + ABSTRACT + TRANSFER)


def sub_item(kind: int, body: bytes) -> bytes:
    return associate(PduType.ASSOCIATE_RQ, NAME, CONTEXT, write_item(0x50, write_item(kind, body)))


BROKEN = {
    "short": pack(">BxL", 1, 4) + bytes(4),
    "no application context": associate(PduType.ASSOCIATE_RQ, CONTEXT, INFORMATION),
    "two application contexts": associate(PduType.ASSOCIATE_RQ, NAME, NAME, CONTEXT, INFORMATION),
    "no user information": associate(PduType.ASSOCIATE_RQ, NAME, CONTEXT),
    "item beyond the end": associate(PduType.ASSOCIATE_RQ, NAME, CONTEXT, pack(">BxH", 0x50, 9)),
    "half an item header": associate(PduType.ASSOCIATE_RQ, NAME, CONTEXT, INFORMATION, b"\x50\x00"),
    "context without identifier": associate(PduType.ASSOCIATE_RQ, NAME, write_item(0x20, b"\1\0"), INFORMATION),
    "context without abstract syntax": associate(
        PduType.ASSOCIATE_RQ, NAME, write_item(0x20, bytes((1, 0, 0, 0)) + TRANSFER), INFORMATION
    ),
    "context without transfer syntax": associate(
        PduType.ASSOCIATE_RQ, NAME, write_item(0x20, bytes((1, 0, 0, 0)) + ABSTRACT), INFORMATION
    ),
    "a UID that is none": associate(PduType.ASSOCIATE_RQ, write_item(0x10, b"../etc"), CONTEXT, INFORMATION),
    "a UID of 65 characters": associate(PduType.ASSOCIATE_RQ, write_item(0x10, b"1" * 65), CONTEXT, INFORMATION),
    "maximum length of 3 bytes": sub_item(0x51, bytes(3)),
    "window of 5 bytes": sub_item(0x53, bytes(5)),
    "513 sub-items": associate(
        PduType.ASSOCIATE_RQ, NAME, CONTEXT, write_item(0x50, write_item(0x56, b"\0\x031.2") * 513)
    ),
    "role without roles": sub_item(0x54, b"\0\x031.2"),
    "role of 2": sub_item(0x54, b"\0\x031.2\2\0"),
    "role with a UID beyond the end": sub_item(0x54, b"\xff\xff1.2\0\0"),
    "version name of 65": sub_item(0x55, b"V" * 65),
    "extended negotiation of nothing": sub_item(0x56, b"\0"),
    "common extended negotiation cut": sub_item(0x57, b"\0\x031.2\0\x031.2\0\x04\0\x091."),
    "identity of one byte": sub_item(0x58, b"\1"),
    "identity with a tail": sub_item(0x58, b"\1\0\0\0\0\0!"),
    "identity beyond the end": sub_item(0x58, b"\1\0\xff\xff"),
    "response with a tail": sub_item(0x59, b"\0\0!"),
    "two maximum lengths": associate(
        PduType.ASSOCIATE_RQ, NAME, CONTEXT, write_item(0x50, write_item(0x51, bytes(4)) * 2)
    ),
    "two roles for one class": associate(
        PduType.ASSOCIATE_RQ, NAME, CONTEXT, write_item(0x50, write_item(0x54, b"\0\x031.2\1\0") * 2)
    ),
    "answered twice": associate(
        PduType.ASSOCIATE_AC,
        NAME,
        write_item(0x21, bytes((1, 0, 3, 0))),
        write_item(0x21, bytes((1, 0, 3, 0))),
        INFORMATION,
    ),
    "answered without identifier": associate(PduType.ASSOCIATE_AC, NAME, write_item(0x21, b"\1"), INFORMATION),
    "answered with result 5": associate(PduType.ASSOCIATE_AC, NAME, write_item(0x21, bytes((1, 0, 5, 0))), INFORMATION),
    "accepted with no syntax": associate(
        PduType.ASSOCIATE_AC, NAME, write_item(0x21, bytes((1, 0, 0, 0))), INFORMATION
    ),
    "rejection of 5 bytes": pack(">BxL", 3, 5) + bytes(5),
    "release of 3 bytes": pack(">BxL", 5, 3) + bytes(3),
    "abort of nothing": pack(">BxL", 7, 0),
    "no value": pack(">BxL", 4, 0),
    "half a value header": pack(">BxL", 4, 3) + bytes(3),
    "value of length 1": pack(">BxLLBB", 4, 6, 1, 1, 0),
    "value beyond the end": pack(">BxLLBB", 4, 6, 3, 1, 0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_decode_is_aborted(name: str) -> None:
    error = refusal(BROKEN[name])
    assert (error.abort_source, error.abort_reason) == (2, 6)
    assert error.message


def test_odd_version_names_are_made_printable() -> None:
    pdu = read(sub_item(0x55, b"V\x1b[1\xff \0"))
    assert isinstance(pdu, AssociateRQ)
    assert pdu.user_information.implementation_version_name == "V?[1?"


def test_unknown_sub_items_are_skipped() -> None:
    pdu = read(sub_item(0x7F, b"whatever"))
    assert isinstance(pdu, AssociateRQ)
    assert pdu.user_information == UserInformation(None)


def test_secrets_stay_out_of_repr() -> None:
    shown = repr(
        request(user_information=UserInformation(0, user_identity=UserIdentity(2, True, b"alice", b"hunter2")))
    )
    assert "hunter2" not in shown
    assert "alice" not in shown


@pytest.mark.parametrize(
    "pdu",
    [
        request(called_ae_title=""),
        request(calling_ae_title="SEVENTEEN LETTERS"),
        request(calling_ae_title="A\\B"),
        request(calling_ae_title="Ä"),
        request(application_context_name="x"),
        request(user_information=UserInformation(0, implementation_version_name="V" * 65)),
        request(user_information=UserInformation(0, user_identity=UserIdentity(5, False, bytes(70_000)))),
        request(user_information=UserInformation(0, extended_negotiations=(ExtendedNegotiation(CT, bytes(65_530)),))),
    ],
)
def test_what_cannot_be_said_is_our_defect(pdu: AssociateRQ) -> None:
    with pytest.raises(LocalProtocolError):
        encode(pdu)


def test_a_rejection_speaks_to_people() -> None:
    assert str(AssociateRJ(1, 1, 7)) == "rejected-permanent, service-user, called-AE-title-not-recognized (1, 1, 7)"
    assert "?" in str(AssociateRJ(9, 9, 9))


@settings(max_examples=50)
@given(st.builds(AssociateRQ, ae_titles, ae_titles, contexts, user_information))
def test_pynetdicom_reads_our_request(pdu: AssociateRQ) -> None:
    theirs = oracle.A_ASSOCIATE_RQ()
    theirs.decode(encode(pdu))
    assert theirs.calling_ae_title.strip() == pdu.calling_ae_title
    assert theirs.called_ae_title.strip() == pdu.called_ae_title
    assert [context.context_id for context in theirs.presentation_context] == [c.id for c in pdu.presentation_contexts]
    assert theirs.user_information is not None
    assert theirs.user_information.maximum_length == pdu.user_information.maximum_length
    assert len(theirs.user_information.role_selection) == len(pdu.user_information.role_selections)


def test_pynetdicom_writes_what_we_read() -> None:
    for pdu in (
        request(),
        AssociateAC(
            "A", "B", (PresentationContextResult(1, ContextResult.ACCEPTANCE, IMPLICIT),), UserInformation(0, "1.2")
        ),
        AssociateRJ(1, 1, 3),
        ReleaseRQ(),
        ReleaseRP(),
        Abort(2, 6),
        PData((PresentationDataValue(1, True, True, b"abcd"), PresentationDataValue(3, False, False, b"ef"))),
    ):
        written = encode(pdu)
        theirs = {
            1: oracle.A_ASSOCIATE_RQ,
            2: oracle.A_ASSOCIATE_AC,
            3: oracle.A_ASSOCIATE_RJ,
            4: oracle.P_DATA_TF,
            5: oracle.A_RELEASE_RQ,
            6: oracle.A_RELEASE_RP,
            7: oracle.A_ABORT_RQ,
        }[written[0]]()
        theirs.decode(written)
        assert read(theirs.encode()) == pdu


def test_mutated_bytes_raise_nothing_but_typed_errors() -> None:
    dice = random.Random(9_3)
    seeds = [*BROKEN.values(), encode(request()), encode(PData((PresentationDataValue(1, True, True, b"abcd"),)))]
    refused = 0
    for _ in range(3_000):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 4)):
            position = dice.randrange(6, len(data)) if len(data) > 6 else 0
            match dice.randrange(3):
                case 0 if len(data) > 6:
                    data[position] = dice.randrange(256)
                case 1 if len(data) > 6:
                    del data[position:]
                case _:
                    data += dice.randbytes(dice.randint(1, 9))
        for kind in PduType:
            try:
                decode(kind, bytes(data[6:]), LIMITS)
            except RemoteProtocolError:
                refused += 1
    assert refused > 3_000


@pytest.mark.parametrize(
    "changes", [{"receive_buffer_bytes": 1_000}, {"peer_pdu_length_min_bytes": 6}, {"pdu_length_max_bytes": 1}]
)
def test_limits_that_contradict_each_other_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        AssociationLimits(**changes)
