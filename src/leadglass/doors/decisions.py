"""What policy says with what holds at this moment: site, containment, people, what was exported and asked for."""

from __future__ import annotations

import time
from functools import partial

from leadglass.doors.command.applying import second_of
from leadglass.doors.present import Present
from leadglass.identity.people.use import RightsUsed
from leadglass.policy import exports
from leadglass.policy.authorise import NOBODY, authorise, decide_operator, inquire
from leadglass.policy.decide import decide, outside_containment
from leadglass.policy.enrolment import Asked
from leadglass.policy.people import Recheck, decide_person, rechecker
from leadglass.site.enrolments import Enrolments
from leadglass.site.erasures import Erasures
from leadglass.site.exports import Exports
from leadglass.site.people import People
from leadglass.site.register import Register
from leadglass.terms import (
    Asker,
    Caller,
    Change,
    ChangeKind,
    ChangePermit,
    Export,
    Operator,
    Permit,
    Proposal,
    Request,
    Subject,
)


class Decisions:
    """What policy says with what holds at this moment; and of people, which of their rights they use."""

    def __init__(self, present: Present, people: People, enrolments: Enrolments, register: Register) -> None:
        self._present, self._used = present, RightsUsed(people, time.time_ns)
        self._people, self.enrolments = people, enrolments
        self.exports, self.erasures = Exports(register), Erasures(register)

    def generation(self) -> int:
        return self._present.containment().generation

    def decide(self, subject: Asker | Operator, request: Request | Proposal) -> Permit:
        present, now_ns = self._present, time.time_ns()
        containment = present.containment()
        if isinstance(subject, Operator):
            return decide_operator(present.site(), containment, subject, request, present.owner_uid)
        if isinstance(subject, Subject):
            subject = present.asker(subject)
        if isinstance(subject, Caller):
            outside_containment(present.site(), containment, subject)
            over = isinstance(request, Export) and exports.over_budget(
                present.site().limits, self.exports.spent(request, now_ns)
            )
            permit = decide_person(subject, request, containment.generation, now_ns, over_budget=over)
            exports.not_in_bulk(containment, bulk=permit.bulk)
            self._used.note(subject, permit.rule)
            return permit
        permit = decide(present.site(), containment, subject, request, unreadable=present.unreadable(), now_ns=now_ns)
        if subject.caller is not None:
            self._used.note(subject.caller, permit.rule)
        return permit

    def rechecker(self, permit: Permit) -> Recheck | None:
        def again(who: Asker) -> Asker:
            now, containment = self._present.asker(who), self._present.containment()
            if isinstance(now, Caller):
                outside_containment(self._present.site(), containment, now)
                exports.not_in_bulk(containment, bulk=permit.bulk)
            return now

        return rechecker(permit, time.time_ns, again)

    def spend(self, request: Export, permit: Permit) -> None:
        """Before the first byte leaves. Raises SecondPersonNeeded, Overloaded."""
        exports.well_said(request)
        limits = self._present.site().limits
        judge = partial(exports.judge, request, limits, bulk=permit.bulk)
        self.exports.spend(request, time.time_ns(), judge)

    def authorise(self, change: Change) -> ChangePermit:
        present = self._present
        containment, now_ns = present.containment_at_once(), time.time_ns()
        site = present.site()
        applies = change.kind is ChangeKind.SITE_APPLY
        second = second_of(self._people, present.site_dir, change, now_ns) if applies else NOBODY
        permit = authorise(site, containment, change, present.owner_uid, now_ns, self._asked(change), second)
        if isinstance(change.operator, Caller):
            self._used.note(change.operator, permit.rule)
        return permit

    def inquire(self, operator: Operator, question: str) -> str:
        return inquire(self._present.site(), operator, question, self._present.owner_uid)

    def _asked(self, change: Change) -> Asked | None:
        """The enrolment that a change names, and who asked for it."""
        named = change.arguments.get("enrolment")
        found = self.enrolments.get(str(named)) if named else None
        return Asked(found, self._people.get(found.asked_by)) if found else None
