"""What does a patient, a regulator or a court ask for? Who was given a patient's images, and whom somebody's access touched: to print, and as a table."""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leadglass import gateway
from leadglass.audit.search import AuditAnswer
from leadglass.doors.audit_rows import PatientOf, columns_of, entry_row, touched_rows
from leadglass.doors.blocking import Entered
from leadglass.doors.command.audit_questions import catch_up
from leadglass.doors.web.pages.audit import FIELD_CHARACTERS_MAX, question_of
from leadglass.doors.web.pages.page import Page
from leadglass.doors.web.rendering import page
from leadglass.doors.web.streamed import Streamed
from leadglass.terms import Act, AuditQuestion, Found, Mismatched

if TYPE_CHECKING:
    from starlette.responses import Response

    from leadglass.doors.web.visit import Visit

SHOWN_MAX = 1000  # on a page; the table has all
ROWS_TOGETHER = 500
Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Report:
    """`field`: the one that says about whom. `rows`: of an answer."""

    name: str
    title: str
    field: str
    rows: Callable[[AuditAnswer, PatientOf], Iterator[Row]]


def _disclosed(answer: AuditAnswer, patient_of: PatientOf) -> Iterator[Row]:
    return (entry_row(each, patient_of) for each in answer.entries())


DISCLOSURES = Report("disclosures", "Who was given this patient's images", "patient", _disclosed)
BREACH = Report("breach", "Whom an access touched", "person", touched_rows)


def reports(visit: Visit, said: str = "", status: int = 200, *, report: Report | None = None) -> Response:
    """The two reports there are, to be asked for."""
    if report is None:
        visit.look(Act.AUDIT_REPORT)
    return page(visit, "reports.html", _facts(visit, report) | {"said": said}, status)


def disclosures(visit: Visit) -> Response:
    return _report(visit, DISCLOSURES)


def breach(visit: Visit) -> Response:
    return _report(visit, BREACH)


def _report(visit: Visit, report: Report) -> Response:
    asked = _asked(visit)
    if not asked[report.field]:
        return reports(visit)
    only = {name: asked[name] for name in ("from", "to", "issuer", report.field)}
    try:
        question = question_of(visit, {"patient": "", "person": "", **only}, report=True)
    except (Mismatched, OverflowError):
        visit.look(Act.AUDIT_REPORT)
        return reports(visit, "A date is written 2026-11-24.", 400, report=report)
    catch_up(visit.house)
    if visit.asked("as") == "csv":
        return _table(visit, report, question)
    with Entered(gateway.release(visit.house.do, question)) as found:
        assert isinstance(found, AuditAnswer)
        rows = list(itertools.islice(report.rows(found, visit.house.index.patient_of), SHOWN_MAX + 1))
        found.progress.total = found.progress.completed = len(rows)
        found.progress.succeed()
    made = f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M}"
    facts = {"rows": rows[:SHOWN_MAX], "more": len(rows) > SHOWN_MAX, "shown_max": SHOWN_MAX, "made": made}
    return page(visit, "reports.html", _facts(visit, report) | facts)


def _table(visit: Visit, report: Report, question: AuditQuestion) -> Response:
    """All rows, made while they leave."""
    release: Entered[Found] = Entered(gateway.release(visit.house.do, question))
    found = release.__enter__()
    assert isinstance(found, AuditAnswer)
    name = f"{report.name}-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M}.csv"
    headers = {"Content-Type": "text/csv; charset=utf-8", "Content-Disposition": f'attachment; filename="{name}"'}

    def still() -> None:
        visit.house.desk.again(visit.who)

    return Streamed(_lines(found, report, visit.house.index.patient_of), headers, still=still, leave=release.leave)


def _lines(found: AuditAnswer, report: Report, patient_of: PatientOf) -> Iterator[bytes]:
    table = columns_of(report.rows(found, patient_of))
    while together := list(itertools.islice(table, ROWS_TOGETHER)):
        written = io.StringIO()
        csv.writer(written).writerows(together)
        found.progress.completed += len(together)
        yield written.getvalue().encode()
    found.progress.completed = max(0, found.progress.completed - 1)  # its head is no row
    found.progress.succeed()


def _asked(visit: Visit) -> dict[str, str]:
    return {name: visit.asked(name)[:FIELD_CHARACTERS_MAX] for name in ("patient", "issuer", "person", "from", "to")}


def _facts(visit: Visit, report: Report | None) -> dict[str, object]:
    people = sorted(each.name for each in visit.house.people.every())
    return {
        "asked": _asked(visit),
        "report": report.name if report is not None else "",
        "title": report.title if report is not None else "",
        "people": [*people, *sorted(visit.house.site().devices)],
        "rows": None,
    }


PAGES = (
    Page("/reports", reports),
    Page("/reports/disclosures", disclosures),
    Page("/reports/breach", breach),
)
