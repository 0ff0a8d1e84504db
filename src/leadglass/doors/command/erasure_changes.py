"""How is an erasure ordered, undone and done? Ordered by one person, approved by another, as exactly this; done by the keeper when its time has come.

The keeper's three changes look at the register alone, and at what holds when they are made: who ordered and who approved must be able to still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from leadglass.archive.erasing import Eraser
from leadglass.audit.codec import study_token
from leadglass.doors.command.people_changes import PeopleParts
from leadglass.policy import erasing
from leadglass.policy import people as policy
from leadglass.site.erasures import Erasure, Erasures
from leadglass.site.model import Limits
from leadglass.terms import Act, Caller, Change, ChangeKind, NotChanged, PatientIdentity

Result = Mapping[str, object]
Arguments = Mapping[str, Any]
STUDIES_MAX = 100  # of one order
WHY_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class ErasureParts:
    """What these changes act on. `limits()`: what holds now; `clock`: Unix nanoseconds."""

    erasures: Erasures
    eraser: Eraser
    people: PeopleParts
    limits: Callable[[], Limits]
    clock: Callable[[], int] = time.time_ns


def wanted(patient: PatientIdentity, studies: Collection[str]) -> dict[str, object]:
    """The arguments of STUDY_ERASE, which are what somebody else approves."""
    return {"issuer": patient.issuer, "patient_id": patient.patient_id, "studies": sorted(set(studies))}


def digest_of(erasure_id: str, caller: Caller, arguments: Mapping[str, object]) -> str:
    """What an approval of exactly that is bound to."""
    return Change("", caller, ChangeKind.STUDY_ERASE, erasure_id, arguments).digest


def misnamed(eraser: Eraser, patient: PatientIdentity, studies: Collection[str]) -> str:
    """Why these are not studies of that patient that are here; "" where they are."""
    if not studies or len(studies) > STUDIES_MAX:
        return f"an erasure names 1 to {STUDIES_MAX} studies"
    for uid in studies:
        owner = eraser.index.patient_of(uid)
        if owner is None and not eraser.keys({uid}):
            return f"there is no study {uid[:64]}"
        if owner is not None and owner != patient:
            return f"study {uid[:64]} is not that patient's"
    return ""


def _order(parts: ErasureParts, change: Change, arguments: Arguments) -> Result:
    """`about`: the erasure's id, as it was approved."""
    caller, now_ns = change.caller, parts.clock()
    request = parts.people.people.access.exactly(caller.person.id, Act.STUDY_ERASE, change.digest, now_ns)
    patient = PatientIdentity(str(arguments["patient_id"]), str(arguments["issuer"]))
    studies = [str(each) for each in arguments["studies"]]
    if wrong := misnamed(parts.eraser, patient, studies):
        raise NotChanged(wrong)
    limits = parts.limits()
    due_ns = erasing.due_ns(limits, now_ns)
    erasure = Erasure(change.about, request.id, caller.person.id, patient, tuple(studies), request.why, now_ns, due_ns)
    parts.erasures.order(erasure, lambda ordered: erasing.judge(limits, ordered, len(studies)))
    parts.people.people.access.settle(request.id, "done", now_ns)
    return {"erasure": erasure.id, "studies": len(studies), "due_ns": due_ns}


def _undo(parts: ErasureParts, change: Change, arguments: Arguments) -> Result:
    """`about`: the erasure; `why`."""
    why = " ".join(str(arguments.get("why") or "").split())[:WHY_CHARACTERS_MAX]
    parts.erasures.undo(change.about, f"by {change.operator.name}: {why or 'no reason was given'}", parts.clock())
    return {"erasure": change.about, "state": "undone"}


def _close(parts: ErasureParts, change: Change, arguments: Arguments) -> Result:
    erasure, now_ns = _known(parts, change.about), parts.clock()
    if erasure.state == "waiting" and now_ns < erasure.due_ns:
        raise NotChanged("its time has not come: until then it may be undone")
    if why := _lost(parts, erasure, now_ns):
        parts.erasures.undo(erasure.id, why, now_ns)
        return {"erasure": erasure.id, "state": "undone"}
    parts.erasures.close(erasure.id)
    parts.people.raise_generation(change)
    return {"erasure": erasure.id, "state": "closing"}


def _lost(parts: ErasureParts, erasure: Erasure, now_ns: int) -> str:
    """Why it is not done after all; "" where who ordered it and who approved it could do so today."""
    people = parts.people.people
    orders, request = people.get(erasure.person), people.access.request(erasure.request)
    if orders is None or not policy.still_may(orders, Act.STUDY_ERASE, now_ns):
        return "who ordered it may not any more"
    said = [people.get(each.person) for each in (request.decisions if request else ()) if each.decision == "approved"]
    if not any(each and policy.still_approves(each, Act.STUDY_ERASE, orders, now_ns) for each in said):
        return "who approved it may not any more"
    return ""


def _destroy(parts: ErasureParts, change: Change, arguments: Arguments) -> Result:
    erasure = _known(parts, change.about)
    if erasure.state != "closing" or parts.eraser.busy(erasure.studies):
        raise NotChanged("something of it is in flight still, or its time has not come")
    keys = parts.eraser.keys(erasure.studies)
    parts.erasures.destroy(erasure.id, keys)
    parts.people.raise_generation(change)
    return {"erasure": erasure.id, "state": "destroying", "keys": len(keys)}


def _finish(parts: ErasureParts, change: Change, arguments: Arguments) -> Result:
    erasure = _known(parts, change.about)
    if erasure.state != "destroying" or parts.eraser.left(erasure.keys):
        raise NotChanged("its keys are not all destroyed yet")
    instances = parts.eraser.finish(erasure.studies)
    tokens = {study_token(parts.eraser.keyring, each).hex() for each in erasure.studies}
    parts.erasures.finish(erasure.id, tokens, instances, parts.clock())
    parts.people.raise_generation(change)
    return {"erasure": erasure.id, "state": "done", "instances": instances}


def _known(parts: ErasureParts, erasure_id: str) -> Erasure:
    erasure = parts.erasures.get(erasure_id)
    if erasure is None:
        raise NotChanged(f"there is no erasure {erasure_id[:64]!r}")
    return erasure


ERASURE_KINDS: Mapping[ChangeKind, Callable[[ErasureParts, Change, Arguments], Result]] = {
    ChangeKind.ERASURE_CLOSE: _close,
    ChangeKind.ERASURE_DESTROY: _destroy,
    ChangeKind.ERASURE_FINISH: _finish,
    ChangeKind.ERASURE_UNDO: _undo,
    ChangeKind.STUDY_ERASE: _order,
}
