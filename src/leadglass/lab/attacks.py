"""What would somebody try who got into the network? Six attempts, what the attacker hears of them, and what the operator reads."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leadglass.lab.corpus import Image, tampered
from leadglass.lab.peers import Identity, TurnedAway, associated, echoing, querying, storing
from leadglass.lab.site import Enrolled, LabFailed, LabSite
from leadglass.wire import tags

CUT_SECONDS_MAX = 30.0  # the promise is one second; a slow machine is no broken promise
ECHO_EVERY_SECONDS = 0.1
RECORDED_TRIES_MAX = 5


@dataclass(frozen=True, slots=True)
class Attack:
    """`attempt` returns what was heard. `hears` and `records`: patterns that both must match for the attack to count as refused."""

    title: str
    attempt: Callable[[], str]
    hears: str
    kind: str
    records: str


@dataclass(frozen=True, slots=True)
class Outcome:
    attack: Attack
    heard: str
    reason: str

    @property
    def refused(self) -> bool:
        return bool(re.search(self.attack.hears, self.heard)) and bool(self.reason)


@dataclass(frozen=True, slots=True)
class Targets:
    """Who is there to be impersonated, and what to be stolen. `store_only` may store and nothing else; `reader` may query and retrieve."""

    store_only: Enrolled
    other: Enrolled
    reader: Enrolled
    lost: Enrolled
    image: Image  # kept already, sent by `other`


def attacks(site: LabSite, targets: Targets) -> tuple[Attack, ...]:
    return (
        Attack(
            "no certificate",
            lambda: _echo(site, _stranger(site, targets)),
            r"TLS alert|closed",
            "association:refused",
            r"(?i)did.not.return.a.certificate",
        ),
        Attack(
            f"a stolen AE title: {targets.other.name} calls itself {targets.store_only.name}",
            lambda: _echo(site, site.identity(targets.other, ae_title=targets.store_only.name)),
            r"A-ASSOCIATE-RJ",
            "association:refused",
            rf"calls itself '{targets.store_only.name}'",
        ),
        Attack(
            f"a lost device: {targets.lost.name}'s certificate is revoked while it is connected",
            lambda: _revoked(site, targets.lost),
            r"cut off; then A-ASSOCIATE-RJ",
            "association:refused",
            r"is revoked: reported lost",
        ),
        Attack(
            f"a modality that looks around: {targets.store_only.name} may store, and queries",
            lambda: _query(site, targets.store_only),
            r"^0124H",
            "request:refused",
            r"may not find",
        ),
        Attack(
            f"images to a stranger: {targets.reader.name} asks for a C-MOVE to STRANGER",
            lambda: _move(site, targets.reader, targets.image),
            r"^A801H",
            "request:refused",
            r"C-MOVE to 'STRANGER'",
        ),
        Attack(
            f"an image replaced: {targets.other.name} sends other bytes under a UID that is taken",
            lambda: _replace(site, targets.other, targets.image),
            r"^0111H",
            "request:refused",
            r"kept as held version",
        ),
    )


def carry_out(site: LabSite, planned: Sequence[Attack]) -> Iterator[Outcome]:
    """Attempts all, then reads once what was recorded of each."""
    since = max((str(event["at"]) for event in site.run("events")), default="")
    heard = [attack.attempt() for attack in planned]
    for _ in range(RECORDED_TRIES_MAX):  # what strangers do is synced within a second, not at once
        events = site.events(since)
        reasons = [_recorded(attack, events) for attack in planned]
        if all(reasons):
            break
        time.sleep(1)
    for attack, said, reason in zip(planned, heard, reasons, strict=True):
        yield Outcome(attack, said, reason)


def _recorded(attack: Attack, events: Sequence[Mapping[str, Any]]) -> str:
    """The reason of the newest event of that kind which matches."""
    for event in reversed(events):
        reason = str(event.get("reason", ""))
        if event["kind"] == attack.kind and re.search(attack.records, reason):
            return reason
    return ""


# ---- the attempts


def _stranger(site: LabSite, targets: Targets) -> Identity:
    """Knows names and addresses, and has no certificate."""
    known = site.identity(targets.store_only)
    assert known.stick is not None
    return dataclasses.replace(known, stick=None, authorities=known.stick / "ca.pem")


def _echo(site: LabSite, identity: Identity) -> str:
    try:
        with associated(identity, site.archive, echoing()) as session:
            return str(session.echo())
    except TurnedAway as away:
        return str(away)


def _revoked(site: LabSite, lost: Enrolled) -> str:
    try:
        with associated(site.identity(lost), site.archive, echoing()) as session:
            first = session.echo()
            if first.status:
                raise LabFailed(f"{lost.name} was to be let in before its revocation, and heard {first}")
            site.run("device", "revoke", lost.name, "--reason", "reported lost")
            until = time.monotonic() + CUT_SECONDS_MAX
            while time.monotonic() < until:
                session.echo()
                time.sleep(ECHO_EVERY_SECONDS)
    except TurnedAway:
        return f"cut off; then {_echo(site, site.identity(lost))}"
    return "the association was not cut"


def _query(site: LabSite, device: Enrolled) -> str:
    try:
        with associated(site.identity(device), site.archive, querying()) as session:
            return str(session.find("STUDY", {tags.PATIENT_ID: "", tags.STUDY_INSTANCE_UID: ""})[0])
    except TurnedAway as away:
        return str(away)


def _move(site: LabSite, device: Enrolled, image: Image) -> str:
    try:
        with associated(site.identity(device), site.archive, querying()) as session:
            return str(session.move("STUDY", {tags.STUDY_INSTANCE_UID: image.study_instance_uid}, "STRANGER"))
    except TurnedAway as away:
        return str(away)


def _replace(site: LabSite, device: Enrolled, image: Image) -> str:
    try:
        with associated(site.identity(device), site.archive, storing([image])) as session:
            return str(session.store(tampered(image)))
    except TurnedAway as away:
        return str(away)
