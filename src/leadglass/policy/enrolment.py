"""What may whoever signs for the console do? Enrol or renew exactly what a person asked for who may ask for it still; nothing else, and ask nothing else.

Pure. What is asked for is the register's word, never the signer's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from leadglass.policy.people import still_may
from leadglass.site.device_facts import device_table, flow_table
from leadglass.site.enrolments import Enrolment
from leadglass.terms import Act, Caller, Change, ChangeKind, NotPermitted, Person

RULE = "operator:enrolment"
KINDS = frozenset({ChangeKind.DEVICE_DECLINE, ChangeKind.DEVICE_ENROLL, ChangeKind.DEVICE_RENEW})
QUESTIONS = frozenset({"enrolments"})


@dataclass(frozen=True, slots=True)
class Asked:
    """An enrolment as the register has it, and who asked for it as they are now; None where they are gone."""

    enrolment: Enrolment
    person: Person | None


def bound(change: Change, asked: Asked | None, now_ns: int) -> str:
    """The rule by which an enrolment that somebody asked for is signed or declined. Raises NotPermitted."""
    if change.kind not in KINDS:
        raise _no(f"{change.operator.name} signs enrolments, and may {change.kind} nothing")
    if asked is None or asked.enrolment.state != "asked":
        raise _no(f"nobody asked for this enrolment of {change.about[:64]!r}, or it is settled already")
    enrolment, told = asked.enrolment, change.arguments
    if change.about != enrolment.name or told.get("digest") != enrolment.digest:
        raise _no(f"what is to be signed for {change.about[:64]!r} is not what was asked for")
    if change.kind is ChangeKind.DEVICE_DECLINE:
        return RULE
    certificate = told.get("certificate")
    if not isinstance(certificate, dict) or told.get("kind") != "issued":  # a pinned one would vouch for itself
        raise _no("an enrolment that was asked for gets a certificate of the site's own authority")
    if (change.kind is ChangeKind.DEVICE_RENEW) is not enrolment.renewal:
        raise _no(f"what is to be done to {enrolment.name} is not what was asked for")
    if not _as_asked(enrolment, told, str(certificate.get("fingerprint"))):
        raise _no(f"the device and what it may are not what was asked for {enrolment.name}")
    if enrolment.certificate and certificate != enrolment.certificate:
        raise _no(f"{enrolment.name} has a certificate already: it is not signed twice")
    if asked.person is None or not still_may(asked.person, Act.DEVICE_ENROLL, now_ns):
        raise _no(f"who asked for {enrolment.name} may enrol no device any more: somebody else asks for it")
    return RULE


def _as_asked(enrolment: Enrolment, told: Mapping[str, object], fingerprint: str) -> bool:
    """A renewal says nothing of the device but its certificate: which others stay good is the register's word."""
    if enrolment.renewal:
        return not {"device", "flow", "pins"} & told.keys()
    return told.get("device") == device_table(enrolment.facts, fingerprint) and told.get("flow") == flow_table(
        enrolment.facts
    )


def collection(caller: Caller, change: Change, asked: Asked | None) -> None:
    """A bundle is for whoever asked for it. Raises NotPermitted."""
    if asked is None or asked.enrolment.asked_by != caller.person.id or change.about != asked.enrolment.name:
        raise NotPermitted(f"{caller.name} did not ask for that bundle: it is for whoever did", rule="enrolment:own")


def _no(reason: str) -> NotPermitted:
    return NotPermitted(reason, rule=RULE)
