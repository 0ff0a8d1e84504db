"""What can be asked of the DIMSE door? One module a service class; `services` says which command starts which."""

from __future__ import annotations

from collections.abc import Mapping

from leadglass.doors.dimse.conversation import Service
from leadglass.doors.dimse.services.commitment import Pending, n_action_into
from leadglass.doors.dimse.services.move import Dial, c_move_through
from leadglass.doors.dimse.services.query import c_find
from leadglass.doors.dimse.services.retrieve import c_get
from leadglass.doors.dimse.services.storage import c_echo, c_store
from leadglass.wire.dimse import CommandField


def services(dial: Dial, pending: Pending) -> Mapping[CommandField, Service]:
    """`dial` calls devices; `pending` keeps storage commitments that are not reported yet."""
    return {
        CommandField.C_ECHO_RQ: c_echo,
        CommandField.C_STORE_RQ: c_store,
        CommandField.C_FIND_RQ: c_find,
        CommandField.C_GET_RQ: c_get,
        CommandField.C_MOVE_RQ: c_move_through(dial),
        CommandField.N_ACTION_RQ: n_action_into(pending),
    }
