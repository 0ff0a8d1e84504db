"""What is an answer of the audit to a reader? Rows for the console, the reports and scripts; one shape for all of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from leadglass.audit.search import AuditAnswer, Entry, Seer, actor_of
from leadglass.terms import EventKind, PatientIdentity

PatientOf = Callable[[str], PatientIdentity | None]
"""Whose study it is, None where the archive does not know it."""


def seer_row(seer: Seer) -> dict[str, object]:
    """Who saw something of a patient."""
    return {"who": seer.actor, "times": seer.times, "first": moment(seer.first_ns), "last": moment(seer.last_ns)}


def entry_row(entry: Entry, patient_of: PatientOf) -> dict[str, object]:
    """One thing that was done: when, who, what, whose, how it ended and by which rule. `device`: where a person sat, "" at the console."""
    event = entry.event
    who = actor_of(event)
    patient = event.patient or (patient_of(event.study_instance_uid) if event.study_instance_uid else None)
    return {
        "at": moment(entry.at_ns),
        "who": who,
        "device": event.actor if who != event.actor else "",
        "what": event.kind if event.kind is not EventKind.RELEASE_STARTED else f"{event.action} began",
        "action": event.action,
        "patient": patient.patient_id if patient else "",
        "issuer": patient.issuer if patient else "",
        "study": event.study_instance_uid,
        "instances": event.details.get("completed", ""),
        "outcome": str(event.outcome),
        "rule": event.rule,
        "reason": event.reason,
        "from": event.address,
        "sealed": entry.sealed,
    }


@dataclass(slots=True)
class _Touched:
    studies: set[str] = field(default_factory=set)
    times: int = 0
    first_ns: int = 0
    last_ns: int = 0
    instances: int = 0


def touched_rows(answer: AuditAnswer, patient_of: PatientOf) -> Iterator[dict[str, object]]:
    """Whom it touched: a row for each patient whose images or names somebody was given, most recent first.

    A search that named no patient may have shown many: those are the last row, counted.
    """
    touched: dict[tuple[str, str], _Touched] = {}
    for entry in answer.entries():
        event = entry.event
        if event.kind is not EventKind.RELEASE_ENDED and event.kind is not EventKind.RELEASE_STARTED:
            continue
        patient = event.patient or (patient_of(event.study_instance_uid) if event.study_instance_uid else None)
        key = (patient.patient_id, patient.issuer) if patient else ("", "")
        each = touched.setdefault(key, _Touched(last_ns=entry.at_ns))
        each.first_ns = entry.at_ns
        if event.study_instance_uid:
            each.studies.add(event.study_instance_uid)
        if event.kind is EventKind.RELEASE_STARTED:
            each.times += 1
        elif event.action != "find":
            each.instances += int(event.details.get("completed", 0))
    for (patient_id, issuer), each in sorted(touched.items(), key=lambda pair: (pair[0] == ("", ""), -pair[1].last_ns)):
        yield {
            "patient": patient_id or "(searches that named no patient)",
            "issuer": issuer,
            "studies": sorted(each.studies),
            "times": each.times,
            "instances": each.instances,
            "first": moment(each.first_ns),
            "last": moment(each.last_ns),
        }


def moment(at_ns: int) -> str:
    """UTC, to the second."""
    return dt.datetime.fromtimestamp(at_ns / 1e9, dt.UTC).isoformat(timespec="seconds")


def columns_of(rows: Iterator[Mapping[str, object]]) -> Iterator[list[str]]:
    """The head and the rows of a table for a spreadsheet. A cell that a spreadsheet would take for a formula is told as text."""
    head: list[str] = []
    for row in rows:
        if not head:
            head = list(row)
            yield head
        yield [_cell(row.get(name, "")) for name in head]


def _cell(value: object) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
