"""What can be asked of the DIMSE door? One module a service class; `SERVICES` says which command starts which."""

from __future__ import annotations

from collections.abc import Mapping

from leadglass.doors.dimse.conversation import Service
from leadglass.doors.dimse.services.query import c_find
from leadglass.doors.dimse.services.retrieve import c_get
from leadglass.doors.dimse.services.storage import c_echo, c_store
from leadglass.wire.dimse import CommandField

SERVICES: Mapping[CommandField, Service] = {
    CommandField.C_ECHO_RQ: c_echo,
    CommandField.C_STORE_RQ: c_store,
    CommandField.C_FIND_RQ: c_find,
    CommandField.C_GET_RQ: c_get,
}
