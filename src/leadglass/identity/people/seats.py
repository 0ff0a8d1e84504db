"""Who sits at this device? By an open lease, or by a token that the association brings; asked when it begins, and again for as long as it lasts. A
machine client is who its device is: it has what its account was granted, and nobody sits there.

Nobody is a device's own business and costs two reads of the register. A token that does not hold is refused, never left out: what a device may
alone can be more than what its person may. So is a token of somebody at a workstation where somebody else has the lease.
"""

from __future__ import annotations

from leadglass.identity.people.desk import Desk
from leadglass.terms import Caller, NotIdentified, Subject

USERNAME, USERNAME_PASSCODE, JWT = 1, 2, 5  # user identity types (PS3.7 D.3.3.7.1)


class Seats:
    """Thread-safe; blocks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def taken(self, device: Subject) -> Caller | None:
        """Who sits there at the beginning of an association; None where nobody does. Raises NotIdentified."""
        leased, machine = self._leased(device), self._machine(device)
        if machine is not None:
            if leased is not None or device.proposal.user_identity_type == JWT:
                raise NotIdentified(
                    f"{device.device.name} is {machine.name}, a machine: nobody sits there", subject=device
                )
            return machine
        if device.proposal.user_identity_type != JWT:
            return leased
        return self._alone(device, self._desk.associated(device.proposal.token, device.peer), leased)

    def still(self, subject: Subject) -> Caller | None:
        """As `taken` found, with what is in force for them now. Raises NotIdentified where they left, or somebody sat down since."""
        leased, caller, name = self._leased(subject), subject.caller, subject.device.name
        machine = self._machine(subject)
        if machine is not None and (caller is None or caller.person.id == machine.person.id):
            if caller is None:
                raise NotIdentified(f"{name} is {machine.name} now: what began before was not its own", subject=subject)
            return machine
        if caller is None:
            if leased is not None:
                raise NotIdentified(
                    f"{leased.name} sat down at {name}: what began before them is not theirs", subject=subject
                )
            return None
        if subject.proposal.user_identity_type == JWT:
            return self._alone(subject, self._desk.again(caller), leased)
        if leased is None or leased.session != caller.session:
            raise NotIdentified(f"{caller.name} does not sit at {name} any more", subject=subject)
        return leased

    def _machine(self, subject: Subject) -> Caller | None:
        return self._desk.machine_at(subject.device.name, subject.peer)

    def _leased(self, subject: Subject) -> Caller | None:
        return self._desk.sitting_at(subject.device.name, subject.peer)

    def _alone(self, subject: Subject, caller: Caller, leased: Caller | None) -> Caller:
        if leased is not None and leased.person.id != caller.person.id:
            raise NotIdentified(
                f"{leased.name} sits at {subject.device.name}, and the token is {caller.name}'s", subject=subject
            )
        return caller
