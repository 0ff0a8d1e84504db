"""Which events are told to people who are not looking, and in which words? Pure.

A notice says what happened, who did it and when, and where to look; all of it from the catalogue and from the fields below. An event's reason
and details stay behind: somebody may have typed a patient's name there, and mail is read in trains.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from leadglass.audit.catalogue import CATALOGUE
from leadglass.terms import ChangeKind, Event, EventKind, Severity

ITEMS_SHOWN_MAX = 50
ACTOR_SHOWN_CHARACTERS = 64

# Changes that somebody must hear of when they are done, and what each means to who reads it.
TOLD_CHANGES: Mapping[str, str] = {
    ChangeKind.GLASS_BREAK: "Somebody broke the glass: they see one patient's images without a treatment relationship, for an hour. Review it.",
    ChangeKind.ACCESS_REQUEST: "Somebody asks for access. Approve or deny it.",
    ChangeKind.ACCESS_APPROVE: "A request for access was decided.",
    ChangeKind.STUDY_ERASE: "Studies are to be erased: somebody ordered it and somebody else approved it. Until its time comes it can be undone.",
    ChangeKind.ERASURE_FINISH: "Studies were erased. Make a backup into every directory now: until then their copies have the keys.",
    ChangeKind.KIT_MAKE: "A recovery kit was made: its custodians fetch their shares within a week.",
    ChangeKind.PERSON_RESET: "Somebody's factors were taken away, and a new enrolment link was made.",
    ChangeKind.ROLE_GRANT: "Somebody was given a role.",
    ChangeKind.DEVICE_DISABLE: "A device is kept out.",
    ChangeKind.DEVICE_ENABLE: "A device that was kept out is let in again.",
    ChangeKind.SITE_APPLY: "A changed site file acts.",
    ChangeKind.SITE_ASK: "Somebody asks that a changed site file acts. Approve or deny it; where one alone may approve, it acts a day later.",
    ChangeKind.SITE_CONTAIN: "The site is read-only.",
    ChangeKind.SITE_RELEASE: "The site is no longer read-only.",
    ChangeKind.ZONE_CONTAIN: "A zone is kept out.",
    ChangeKind.ZONE_RELEASE: "A zone that was kept out is let in again.",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `count`: how often it happened since the last message. `first_ns`: when it first did, Unix nanoseconds."""

    kind: str
    action: str
    actor: str
    severity: Severity
    means: str
    mend: str
    first_ns: int
    count: int = 1


def notice_of(event: Event, at_ns: int) -> Notice | None:
    """What is to be told of an event, None where nothing is."""
    entry = CATALOGUE[event.kind]
    actor = event.actor[:ACTOR_SHOWN_CHARACTERS]
    if event.kind is EventKind.CHANGE_COMPLETED and event.action in TOLD_CHANGES:
        mend = "The console shows it: requests and reviews."
        return Notice(event.kind, event.action, actor, Severity.WARNING, TOLD_CHANGES[event.action], mend, at_ns)
    if entry.severity is not Severity.ALARM:
        return None
    return Notice(event.kind, event.action, actor, Severity.ALARM, entry.means, entry.mend, at_ns)


def together(notices: Iterable[Notice]) -> tuple[Notice, ...]:
    """The same thing by the same actor once, counted: a storm is one message."""
    found: dict[tuple[str, str, str], Notice] = {}
    for each in notices:
        key = (each.kind, each.action, each.actor)
        known = found.get(key)
        count = each.count + (known.count if known else 0)
        first = min(each.first_ns, known.first_ns) if known else each.first_ns
        found[key] = Notice(each.kind, each.action, each.actor, each.severity, each.means, each.mend, first, count)
    return tuple(found.values())


def subject_of(site_name: str, notices: tuple[Notice, ...]) -> str:
    """The subject line: the gravest first, and how many more."""
    gravest = min(notices, key=lambda each: (each.severity is not Severity.ALARM, each.first_ns))
    more = f" and {len(notices) - 1} more" if len(notices) > 1 else ""
    return f"[{site_name}] {gravest.severity}: {gravest.action or gravest.kind}{more}"


def text_of(site_name: str, notices: tuple[Notice, ...]) -> str:
    """The message's text, one paragraph a notice."""
    shown = [_paragraph(each) for each in notices[:ITEMS_SHOWN_MAX]]
    if len(notices) > ITEMS_SHOWN_MAX:
        shown.append(f"... and {len(notices) - ITEMS_SHOWN_MAX} more: `leadglass events` at {site_name} shows all.")
    return "\n\n".join(shown) + "\n"


def facts_of(site_name: str, notices: tuple[Notice, ...]) -> dict[str, object]:
    """The same for machines."""
    return {
        "site": site_name,
        "notices": [
            {"kind": each.kind, "action": each.action, "actor": each.actor, "severity": str(each.severity), "means": each.means,
             "mend": each.mend, "first": _time(each.first_ns), "count": each.count}
            for each in notices[:ITEMS_SHOWN_MAX]
        ],
        "more": max(0, len(notices) - ITEMS_SHOWN_MAX),
    }  # fmt: skip


def _paragraph(notice: Notice) -> str:
    times = f", {notice.count} times since" if notice.count > 1 else ""
    who = f" by {notice.actor}" if notice.actor else ""
    what = f"{notice.kind} {notice.action}".strip()
    return f"{notice.severity}: {what}{who}{times}, {_time(notice.first_ns)}\n  {notice.means}\n  To do: {notice.mend}"


def _time(at_ns: int) -> str:
    return dt.datetime.fromtimestamp(at_ns / 1e9, dt.UTC).isoformat(timespec="seconds")
