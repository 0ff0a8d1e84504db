"""What does the DIMSE door offer? Abstract syntaxes with their transfer syntaxes and roles; who may use them is decided per operation."""

from __future__ import annotations

from collections.abc import Callable

from leadglass.wire import uids
from leadglass.wire.negotiation import Supported
from leadglass.wire.user_information import ExtendedNegotiation

NATIVE = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)

# Stored as sent, in every transfer syntax but deflated and big endian ones: there is no budgeted path for a deflate bomb,
# and big endian is retired. The peer's first wins.
STORED = frozenset(
    syntax.uid for syntax in uids.TRANSFER_SYNTAXES.values() if not syntax.deflated and not syntax.big_endian
)


_QUERY_RETRIEVE = frozenset(
    {
        uids.PATIENT_ROOT_FIND,
        uids.PATIENT_ROOT_MOVE,
        uids.PATIENT_ROOT_GET,
        uids.STUDY_ROOT_FIND,
        uids.STUDY_ROOT_MOVE,
        uids.STUDY_ROOT_GET,
    }
)
_SERVICES = _QUERY_RETRIEVE | {uids.VERIFICATION, uids.STORAGE_COMMITMENT_PUSH}
_EXTENDED_LENGTH_MAX_BYTES = 6  # of what PS3.4 C.5.1.1.1 and B.3.1 define
# PS3.4 B.3.1: level 2, all attributes are kept; signature level 3, bit for bit; no element is coerced. Every second byte is reserved.
_STORAGE_EXTENDED = bytes((2, 0, 3, 0, 0, 0))


def extended(proposed: ExtendedNegotiation) -> bytes | None:
    """What we say to SOP class extended negotiation (PS3.7 D.3.3.5), for `negotiation.accept`.

    Of queries and retrievals every option that the peer asks for is declined, which is the baseline behaviour: hierarchical, no combined
    date and time, names matched literally, times as they stand, multi-frame instances as they are.
    """
    if proposed.sop_class_uid in _QUERY_RETRIEVE:
        return bytes(min(len(proposed.information), _EXTENDED_LENGTH_MAX_BYTES))
    if uids.is_storage(proposed.sop_class_uid):
        return _STORAGE_EXTENDED
    return None


def supported_by(private_sop_classes: tuple[str, ...]) -> Callable[[str], Supported | None]:
    """For `negotiation.accept`. Storage in both roles: the peer is SCP of it in a C-GET, if it says so by role selection."""
    service = Supported(NATIVE, as_scp=True, as_scu=False)
    storage = Supported(STORED, as_scp=True, as_scu=True)
    private = frozenset(private_sop_classes)

    def supported(abstract_syntax: str) -> Supported | None:
        if abstract_syntax in _SERVICES:
            return service
        if uids.is_storage(abstract_syntax) or abstract_syntax in private:
            return storage
        return None

    return supported
