"""What the reports ask of a site. Each goes through the gateway like a release, so that reading the audit is itself in the audit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from leadglass import gateway
from leadglass.audit.search import AuditAnswer
from leadglass.audit.transcript import Transcript
from leadglass.doors.audit_rows import entry_row, touched_rows
from leadglass.doors.blocking import Entered
from leadglass.doors.command.desk import user_name
from leadglass.doors.command.exits import Exit, Stopped
from leadglass.doors.house import House
from leadglass.doors.transcripts import asked, granted_row, how_it_ended, line_row
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


def transcript(house: House, arguments: Mapping[str, Any]) -> Iterator[Row]:
    """What was done under one grant: first what was granted and how it ended, then a row an event, oldest first. Raises Stopped."""
    about = asked(house, str(arguments["request"]))
    if about is None:
        hint = "the console's page Requests shows the id of each: the end of its transcript's address"
        raise Stopped(Exit.FAILED, f"there is no request {str(arguments['request'])[:64]!r}", hint=hint)
    catch_up(house)
    with Entered(gateway.release(house.do, about.question(_operator(arguments)))) as answer:
        assert isinstance(answer, Transcript)
        yield granted_row(about, answer, how_it_ended(house, about, answer, time.time_ns()))
        for line in answer.lines():
            answer.progress.completed += 1
            yield line_row(line, house.index.patient_of)
        answer.progress.succeed()


def _operator(arguments: Mapping[str, Any]) -> Operator:
    uid = int(arguments["operator_uid"])
    return Operator(uid, user_name(uid))


@contextmanager
def _asked(
    house: House, arguments: Mapping[str, Any], *, patient: PatientIdentity | None = None, who: str = ""
) -> Iterator[AuditAnswer]:
    catch_up(house)
    span = int(arguments["from_ns"]), int(arguments["until_ns"])
    question = AuditQuestion(_operator(arguments), patient, who, *span, report=True)
    with Entered(gateway.release(house.do, question)) as found:
        assert isinstance(found, AuditAnswer)
        yield found


def catch_up(house: House) -> None:
    """What happened until now is in the answer, whether the keeper runs or not."""
    search = house.search()
    try:
        search.catch_up(house.journal)
    finally:
        search.close()
