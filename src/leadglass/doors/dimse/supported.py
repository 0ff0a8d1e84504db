"""What does the DIMSE door offer? Abstract syntaxes with their transfer syntaxes and roles; who may use them is decided per operation."""

from __future__ import annotations

from collections.abc import Callable

from leadglass.wire import uids
from leadglass.wire.negotiation import Supported

NATIVE = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)

# Stored as sent, in every transfer syntax but deflated and big endian ones: there is no budgeted path for a deflate bomb,
# and big endian is retired. The peer's first wins.
STORED = frozenset(
    syntax.uid for syntax in uids.TRANSFER_SYNTAXES.values() if not syntax.deflated and not syntax.big_endian
)

_SERVICES = frozenset(
    {
        uids.VERIFICATION,
        uids.PATIENT_ROOT_FIND,
        uids.PATIENT_ROOT_MOVE,
        uids.PATIENT_ROOT_GET,
        uids.STUDY_ROOT_FIND,
        uids.STUDY_ROOT_MOVE,
        uids.STUDY_ROOT_GET,
        uids.STORAGE_COMMITMENT_PUSH,
    }
)


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
