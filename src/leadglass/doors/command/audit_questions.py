"""What the reports ask of a site. Each goes through the gateway like a release, so that reading the audit is itself in the audit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from leadglass import gateway
from leadglass.audit.search import AuditAnswer
from leadglass.doors.audit_rows import entry_row, touched_rows
from leadglass.doors.blocking import Entered
from leadglass.doors.command.desk import user_name
from leadglass.doors.house import House
from leadglass.terms import AuditQuestion, Operator, PatientIdentity

Row = Mapping[str, object]


def disclosures(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """What concerns one patient, newest first."""
    patient = PatientIdentity(str(arguments["patient"]), str(arguments.get("issuer", "")))
    with _asked(house, arguments, patient=patient) as answer:
        for entry in answer.entries():
            answer.progress.completed += 1
            yield entry_row(entry, house.index.patient_of)
        answer.progress.succeed()


def breach(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """Whom somebody's access touched."""
    with _asked(house, arguments, who=str(arguments["who"])) as answer:
        for row in touched_rows(answer, house.index.patient_of):
            answer.progress.completed += 1
            yield row
        answer.progress.succeed()


def _operator(arguments: Mapping[str, Any]) -> Operator:
    uid = int(arguments["operator_uid"])
    return Operator(uid, user_name(uid))


@contextmanager
def _asked(
    house: House, arguments: Mapping[str, Any], *, patient: PatientIdentity | None = None, who: str = ""
) -> Iterator[AuditAnswer]:
    search = house.search()  # what happened until now is in the answer, whether the keeper runs or not
    try:
        search.catch_up(house.journal)
    finally:
        search.close()
    span = int(arguments["from_ns"]), int(arguments["until_ns"])
    question = AuditQuestion(_operator(arguments), patient, who, *span, report=True)
    with Entered(gateway.release(house.do, question)) as found:
        assert isinstance(found, AuditAnswer)
        yield found
